//! In front of everything: counts and times each call, whoever answers it.
//!
//! A call is over when its answer is ready, or, if that is a stream, when the stream has been sent
//! or given up. One whose caller goes away is dropped half way, and counts as cancelled.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use futures::FutureExt as _;
use futures::future::{Join, Map, Ready, join, ready};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;
use tower::{Layer, Service};

use crate::metrics::{Code, MethodKind, Metrics, Recorder, Running};

/// Puts the watch in front of all services of one shard.
#[derive(Debug, Clone)]
pub struct ObserveLayer {
    recorder: Recorder,
}

impl ObserveLayer {
    /// Records into these metrics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { recorder: Recorder::new(metrics) }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observed { inner, layer: self.clone() }
    }
}

/// A service behind [`ObserveLayer`].
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    layer: ObserveLayer,
}

type Outcome = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    /// What is known of the call travels with it, and is dropped with it.
    type Future = Map<Join<S::Future, Ready<Running>>, fn((Outcome, Running)) -> Outcome>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let running = self.layer.recorder.begin(request.uri().path());
        join(self.inner.call(request), ready(running)).map(answered)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the future of a service has it")]
fn answered((outcome, running): (Outcome, Running)) -> Outcome {
    let Ok(response) = outcome;
    if let Some(code) = code_of(response.headers()) {
        finish(running, code, response.headers());
    } else if !response.status().is_success() {
        running.end(Code::Unknown);
    } else if running.kind() == MethodKind::Stream {
        return Ok(response.map(|body| Body::new(Watched { body, running: Some(running) })));
    } else {
        running.end(Code::Ok);
    }
    Ok(response)
}

/// Ends a call by headers or trailers that say how.
fn finish(running: Running, code: Code, headers: &HeaderMap) {
    if code != Code::Ok {
        // The reason is read back from what the caller gets, whoever of all those in front of and
        // behind the methods refused it. Failures are rare, or cheap compared to what they save.
        let details = Status::from_header_map(headers).map(|status| status.get_error_details());
        let reason = details.as_ref().and_then(|details| details.error_info());
        running.failed(reason.map_or("", |info| info.reason.as_str()));
    }
    running.end(code);
}

/// The code that headers or trailers hold, if any.
fn code_of(headers: &HeaderMap) -> Option<Code> {
    let number = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok());
    Some(number.map_or(Code::Unknown, Code::of_number))
}

/// A stream of answers until its trailers.
#[derive(Debug)]
struct Watched {
    body: Body,
    /// `None` once it is known how it ended.
    running: Option<Running>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(running) = self.running.take()
                {
                    finish(running, code_of(trailers).unwrap_or(Code::Unknown), trailers);
                }
            }
            Some(Err(status)) => {
                if let Some(running) = self.running.take() {
                    running.end(Code::of_number(status.code().into()));
                }
            }
            // Without trailers nobody said how it ended.
            None => self.running.take().into_iter().for_each(|running| running.end(Code::Unknown)),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
