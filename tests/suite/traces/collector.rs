//! A collector of a test: takes spans over OTLP as real ones do, and keeps them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How a collector answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// It takes a call and never answers it.
    Silent,
    Refusing,
    /// It takes all spans of a call but one.
    Picky,
}

/// A running collector. It ends with the test.
pub struct Collector {
    pub address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    mood: Mood,
    requests: Mutex<Vec<ExportTraceServiceRequest>>,
}

struct Taking(Arc<State>);

#[tonic::async_trait]
impl TraceService for Taking {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.requests.lock().expect("no panic").push(request.into_inner());
        let partial_success = match self.0.mood {
            Mood::Good => None,
            Mood::Silent => std::future::pending().await,
            Mood::Refusing => return Err(Status::resource_exhausted("too many")),
            Mood::Picky => {
                Some(ExportTracePartialSuccess { rejected_spans: 1, error_message: "ugly".into() })
            }
        };
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

impl Collector {
    pub async fn start(mood: Mood) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = tokio::net::TcpListener::bind(any).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { mood, requests: Mutex::default() });
        let service = TraceServiceServer::new(Taking(Arc::clone(&state)));
        let serving = tokio::spawn(async move {
            let served = Server::builder().add_service(service);
            served.serve_with_incoming(TcpIncoming::from(listener)).await.expect("served");
        });
        Self { address, state, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that has come so far.
    pub fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.state.requests.lock().expect("no panic").clone()
    }

    /// The spans that have come so far.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.requests();
        let resources = requests.into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }

    /// Waits until something has come.
    pub async fn until_asked(&self) {
        let begun = Instant::now();
        while self.requests().is_empty() {
            assert!(begun.elapsed() < Duration::from_mins(1), "the collector is asked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What a span says, as text.
pub fn attributes(said: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("an attribute is {other:?}"),
    };
    said.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}
