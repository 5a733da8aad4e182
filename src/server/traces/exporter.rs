//! Sends spans that have ended to a collector, from a thread of its own.
//!
//! Nobody waits for it: while the collector is slow or away, the queue fills, and what does not fit
//! is dropped where it would have been put. A batch is sent once. What a collector does not take is
//! lost and counted: a trace is a sample, and nothing depends on it.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{timeout, timeout_at};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::wire::Resource;
use crate::config::TraceSettings;
use crate::metrics::Metrics;
use crate::server::convert::without_userinfo;
use crate::server::logging::with_cause;
use crate::server::tls;
use crate::trace::{Ended, Tracer};

/// Spans that wait at most; about 300 bytes each.
const WAITING: usize = 8_192;
/// Spans sent at once.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHERING: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long all that waits may take to be sent when the server stops.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// How often at most the log says that a collector takes nothing.
const COMPLAINTS: Duration = Duration::from_mins(1);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The collector's address is not one.
    #[error(
        "`{endpoint}` is not the address of a collector: write `http://HOST:4317` or `https://HOST:4317`, without a name or password"
    )]
    Endpoint {
        /// What was given, without what may be a password.
        endpoint: String,
    },
    /// TLS cannot be set up.
    #[error("no connection to the collector can be made")]
    Tls(#[source] tonic::transport::Error),
    /// There is no thread for it.
    #[error("cannot start a thread that sends traces")]
    Thread(#[source] io::Error),
}

/// The thread that sends. It ends when the tracer is gone, or is asked to end.
#[derive(Debug)]
pub struct Exporter {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Exporter {
    /// Starts a thread that sends what the tracer records. Whether the collector can be reached is
    /// not looked at: a server starts without it.
    pub fn start(
        settings: &TraceSettings,
        metrics: &Arc<Metrics>,
    ) -> Result<(Arc<Tracer>, Self), TracesError> {
        let endpoint = endpoint(&settings.endpoint)?;
        let (tracer, spans) = Tracer::new(settings.ratio, WAITING, Arc::clone(metrics));
        let (stop, stopping) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let metrics = Arc::clone(metrics);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TracesError::Thread)?;
        let work = move || {
            runtime.block_on(async {
                let collector = TraceServiceClient::new(endpoint.connect_lazy());
                let resource = Resource::of_this_process();
                let sending = Sending { collector, resource, metrics, complained: None };
                sending.run(spans, stopping).await;
            });
            runtime.shutdown_background();
            let _ = ending.send(());
        };
        thread::Builder::new().name("relata-traces".to_owned()).spawn(work).map_err(TracesError::Thread)?;
        Ok((tracer, Self { stop, ended }))
    }

    /// Sends what waits, within a bounded time, and ends the thread.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        let _ = timeout(LAST_PATIENCE + Duration::from_secs(1), self.ended).await;
    }
}

fn endpoint(text: &str) -> Result<Endpoint, TracesError> {
    let wrong = || TracesError::Endpoint { endpoint: without_userinfo(text) };
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    // A password would not be sent, and would be shown with the address.
    let has_userinfo = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if has_userinfo || uri.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    let endpoint = Endpoint::from(uri.clone()).connect_timeout(PATIENCE).timeout(PATIENCE);
    match uri.scheme_str() {
        Some("http") => Ok(endpoint),
        Some("https") => {
            tls::install();
            let roots = ClientTlsConfig::new().with_native_roots();
            endpoint.tls_config(roots).map_err(TracesError::Tls)
        }
        Some(_) | None => Err(wrong()),
    }
}

struct Sending {
    collector: TraceServiceClient<Channel>,
    resource: Resource,
    metrics: Arc<Metrics>,
    /// When the log last said that the collector takes nothing; `None` while it does.
    complained: Option<Instant>,
}

impl Sending {
    async fn run(mut self, mut spans: mpsc::Receiver<Ended>, mut stopping: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let goes_on = tokio::select! {
                goes_on = gather(&mut spans, &mut batch) => goes_on,
                _ = &mut stopping => false,
            };
            if !goes_on {
                break;
            }
            self.send(std::mem::take(&mut batch)).await;
        }
        spans.close();
        let rest = async {
            while !batch.is_empty() || spans.recv_many(&mut batch, BATCH).await > 0 {
                self.send(std::mem::take(&mut batch)).await;
            }
        };
        if timeout(LAST_PATIENCE, rest).await.is_err() {
            self.metrics.traces.spans_dropped.inc_by((batch.len() + spans.len()) as u64);
        }
    }

    async fn send(&mut self, batch: Vec<Ended>) {
        let mut fate = Fate { left: batch.len() as u64, metrics: Arc::clone(&self.metrics) };
        let request = self.resource.request(batch);
        let answer = timeout(PATIENCE, self.collector.export(request)).await;
        let refused = match answer {
            Ok(Ok(response)) => {
                let partial = response.into_inner().partial_success.unwrap_or_default();
                let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0).min(fate.left);
                fate.taken(fate.left - rejected);
                (rejected > 0).then_some(partial.error_message)
            }
            Ok(Err(status)) => Some(with_cause(&status)),
            Err(_elapsed) => Some(format!("no answer within {PATIENCE:?}")),
        };
        match refused {
            Some(why) => self.complain(&why),
            None if self.complained.take().is_some() => tracing::info!("the collector takes spans again"),
            None => {}
        }
    }

    fn complain(&mut self, why: &str) {
        if self.complained.is_none_or(|since| since.elapsed() >= COMPLAINTS) {
            self.complained = Some(Instant::now());
            tracing::warn!("the collector does not take spans, which are lost: {why}");
        }
    }
}

/// Counts what becomes of a batch, whatever that is.
struct Fate {
    left: u64,
    metrics: Arc<Metrics>,
}

impl Fate {
    fn taken(&mut self, spans: u64) {
        self.left -= spans;
        self.metrics.traces.spans_exported.inc_by(spans);
    }
}

impl Drop for Fate {
    fn drop(&mut self) {
        self.metrics.traces.spans_dropped.inc_by(self.left);
    }
}

/// Gathers a batch: full, or as many as came within a while of the first. `false` when no more can
/// come. Dropping the future loses none.
async fn gather(spans: &mut mpsc::Receiver<Ended>, batch: &mut Vec<Ended>) -> bool {
    if spans.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let until = tokio::time::Instant::now() + GATHERING;
    while batch.len() < BATCH {
        match timeout_at(until, spans.recv_many(batch, BATCH - batch.len())).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_elapsed) => break,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for good in ["http://127.0.0.1:4317", "http://collector:4317/", "https://collector.example.com"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for wrong in ["", "collector:4317", "127.0.0.1:4317", "ftp://collector:4317", "http://", "/a b"] {
            assert!(matches!(endpoint(wrong), Err(TracesError::Endpoint { .. })), "{wrong}");
        }
        for secret in ["https://user:hunter2@collector:4317", "http://user:hunter2@", "user:hunter2@a b"] {
            let error = endpoint(secret).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
