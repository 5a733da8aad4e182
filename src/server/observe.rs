//! In front of everything: counts and times each call, whoever answers it, and begins its span if it
//! is to be recorded.
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

use crate::metrics::{Code, Label as _, MethodKind, Metrics, Recorder, Running};
use crate::trace::{self, Caller, Parent, Span, Tracer, Within};

/// Puts the watch in front of all services of one shard. Each shard makes one of its own: its clones
/// count themselves with every call.
#[derive(Debug, Clone)]
pub struct ObserveLayer(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    recorder: Recorder,
    tracer: Option<Arc<Tracer>>,
}

impl ObserveLayer {
    /// Records into these metrics, and by this tracer if there is one.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, tracer: Option<Arc<Tracer>>) -> Self {
        Self(Arc::new(Watch { recorder: Recorder::new(metrics), tracer }))
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
    type Future = Map<Join<Within<S::Future>, Ready<Observation>>, fn((Outcome, Observation)) -> Outcome>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Watch { recorder, tracer } = &*self.layer.0;
        let running = recorder.begin(request.uri().path());
        let span = tracer.as_ref().and_then(|tracer| tracer.begin(caller_of(request.headers())));
        let parent = span.as_ref().map(Span::as_parent);
        let work = trace::under(parent, self.inner.call(request));
        join(work, ready(Observation { running, span })).map(answered)
    }
}

/// Where the caller is in a trace, if it says so once.
fn caller_of(headers: &HeaderMap) -> Option<Caller> {
    let mut said = headers.get_all("traceparent").iter();
    let (first, None) = (said.next()?, said.next()) else { return None };
    Caller::parse(first.to_str().ok()?)
}

/// A call under way. Dropped before it is known how it ended, it was cancelled.
#[derive(Debug)]
pub struct Observation {
    running: Running,
    span: Option<Span>,
}

impl Observation {
    /// Ends the call by headers or trailers that say how.
    fn finish(mut self, code: Code, headers: &HeaderMap) {
        if code != Code::Ok {
            // The reason is read back from what the caller gets, whoever of all those in front of
            // and behind the methods refused it. Failures are rare, or cheap compared to what they
            // save.
            let details = Status::from_header_map(headers).map(|status| status.get_error_details());
            let reason = details.as_ref().and_then(|details| details.error_info());
            let reason = reason.map_or("", |info| info.reason.as_str());
            self.running.failed(reason);
            if let (Some(span), false) = (&mut self.span, reason.is_empty()) {
                span.say("error.type", reason.to_owned());
            }
        }
        self.end(code);
    }

    fn end(mut self, code: Code) {
        self.running.ended(code);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let Some(span) = &mut self.span else { return };
        let (method, code) = (self.running.method_name(), self.running.code());
        span.rename(method.to_owned());
        span.say("rpc.system.name", "grpc");
        span.say("rpc.method", method.to_owned());
        span.say("rpc.response.status_code", code.value());
        if is_ours(code) {
            span.fail();
        }
    }
}

/// Whether a code speaks of a fault of the server and not of its caller, as the conventions of
/// OpenTelemetry for RPC have it.
fn is_ours(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as the future of a service has it")]
fn answered((outcome, call): (Outcome, Observation)) -> Outcome {
    let Ok(response) = outcome;
    if let Some(code) = code_of(response.headers()) {
        call.finish(code, response.headers());
    } else if !response.status().is_success() {
        call.end(Code::Unknown);
    } else if call.running.kind() == MethodKind::Stream {
        let parent = call.span.as_ref().map(Span::as_parent);
        return Ok(response.map(|body| Body::new(Watched { body, call: Some(call), parent })));
    } else {
        call.end(Code::Ok);
    }
    Ok(response)
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
    call: Option<Observation>,
    /// What the answers are parts of.
    parent: Option<Parent>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, parent, .. } = &mut *self;
        let frame = match parent {
            None => Pin::new(body).poll_frame(context),
            Some(parent) => trace::inside(Some(parent.clone()), || Pin::new(body).poll_frame(context)),
        };
        let frame = std::task::ready!(frame);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(call) = self.call.take()
                {
                    call.finish(code_of(trailers).unwrap_or(Code::Unknown), trailers);
                }
            }
            Some(Err(status)) => {
                if let Some(call) = self.call.take() {
                    call.end(Code::of_number(status.code().into()));
                }
            }
            // Without trailers nobody said how it ended.
            None => self.call.take().into_iter().for_each(|call| call.end(Code::Unknown)),
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
