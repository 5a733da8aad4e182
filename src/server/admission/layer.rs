//! The layer.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, Either, Ready, ready};
use http::{Request, Response};
use tokio::time::timeout;
use tonic::body::Body;
use tower::{Layer, Service};

use super::body::{Answer, Counted, Own, Placed, Shared};
use super::lag;
use super::ledger::{Held, Ledger};
use super::readers::Readers;
use crate::metrics::{MethodKind, Resource, Vocabulary};
use crate::server::access::{Admitted, Needs};
use crate::server::connection::Peer;
use crate::server::deadline::Deadline;
use crate::server::logging;
use crate::server::status::Error;

/// What part of its time a call may wait for its thread.
const PATIENCE: u32 = 4;
/// How long it may take until a call is answered that asks for no credential, or its stream begins.
/// Whoever sends only half of a request takes longer.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_secs(10);

/// Puts admission behind access control: who may not call takes nothing up, and who calls is
/// known.
#[derive(Debug, Clone)]
pub struct AdmissionLayer(Arc<Parts>);

/// Each shard has them for itself: its calls count them.
#[derive(Debug)]
struct Parts {
    ledger: Arc<Ledger>,
    readers: Arc<Readers>,
    /// Paths of the methods that answer with a stream.
    streams: HashSet<String>,
}

impl AdmissionLayer {
    /// A layer over these counts.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, readers: Arc<Readers>, vocabulary: &Vocabulary) -> Self {
        let streams = vocabulary.methods.iter().filter(|(_, kind)| *kind == MethodKind::Stream);
        let streams = streams.map(|(name, _)| format!("/{name}")).collect();
        Self(Arc::new(Parts { ledger, readers, streams }))
    }
}

impl Parts {
    /// Takes up a call's place and none of its bytes yet.
    fn place(&self, admitted: &Admitted, is_stream: bool) -> Result<(Held, Arc<Held>), Error> {
        let resource = if is_stream { Resource::Streams } else { Resource::Calls };
        let place = self.ledger.take(&admitted.caller, resource, 1)?;
        let bytes = self.ledger.take(&admitted.caller, Resource::Bytes, 0)?;
        Ok((place, Arc::new(bytes)))
    }

    /// Takes up the place of a stream that asks for no credential, in the account of its connection.
    fn place_unasked<B>(&self, request: &Request<B>) -> Result<Held, Error> {
        let account = match request.extensions().get() {
            Some(Peer::Network { standing, .. }) => Arc::clone(standing.account()),
            Some(Peer::Inside) | None => Arc::default(),
        };
        self.ledger.take_in(account, Resource::Anonymous, 1)
    }

    fn answer(
        &self,
        response: Response<Body>,
        is_stream: bool,
        bytes: Arc<Held>,
        place: Held,
    ) -> Response<Body> {
        response.map(|body| {
            let answer = Answer::new(body, bytes, place);
            if !is_stream {
                return Body::new(Own(answer));
            }
            let answer = Arc::new(Mutex::new(answer));
            self.readers.watch(&answer);
            Body::new(Shared(answer))
        })
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Limited { inner, parts: Arc::clone(&self.0) }
    }
}

/// Services behind [`AdmissionLayer`].
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    parts: Arc<Parts>,
}

/// Among a request's extensions: what the bytes of its call are counted in.
#[derive(Debug, Clone)]
pub struct Purse(Arc<Held>);

impl Purse {
    /// Counts bytes of an answer that has been made and that nobody has asked for yet.
    pub fn charge(&self, bytes: usize) -> Result<Charge, Error> {
        self.0.more(bytes)?;
        Ok(Charge { held: Arc::clone(&self.0), bytes })
    }
}

/// Bytes that are counted until it is dropped.
#[derive(Debug)]
pub struct Charge {
    held: Arc<Held>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.less(self.bytes);
    }
}

type Outcome = Result<Response<Body>, Infallible>;
type Refusable = Either<Ready<Outcome>, BoxFuture<'static, Outcome>>;

impl<S> Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    /// Health. A single question is never refused, streams are bounded.
    fn answer_unasked(&mut self, path: &'static str, request: Request<Body>) -> Refusable {
        let place = if self.parts.streams.contains(path) {
            match self.parts.place_unasked(&request) {
                Ok(place) => Some(place),
                Err(error) => return Either::Left(ready(Ok(refuse(path, error)))),
            }
        } else {
            None
        };
        let call = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let Ok(response) = timeout(PATIENCE_WITH_STRANGERS, call).await else {
                return Ok(refuse(path, Error::DeadlineExceeded));
            };
            Ok(response?.map(|body| match place {
                Some(place) => Body::new(Placed { body, _place: place }),
                None => body,
            }))
        }))
    }
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Refusable>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(admitted) = request.extensions().get::<Admitted>() else {
            // What came in past access control is refused where the call begins.
            return Either::Left(self.inner.call(request));
        };
        if admitted.method.needs == Needs::Nothing {
            return Either::Right(self.answer_unasked(admitted.method.path, request));
        }
        let parts = Arc::clone(&self.parts);
        let path = admitted.method.path;
        let refused = |error| Either::Right(Either::Left(ready(Ok(refuse(path, error)))));
        let waited = lag::begin();
        parts.ledger.metrics().admission.lag_seconds.observe(waited);
        let allowed = Deadline::of(request.headers(), None).left().saturating_add(waited);
        if lag::is_standing(parts.ledger.limits().lag.min(allowed / PATIENCE)) {
            return refused(parts.ledger.refuse(Resource::Time));
        }
        let is_stream = parts.streams.contains(path);
        let (place, bytes) = match parts.place(admitted, is_stream) {
            Ok(taken) => taken,
            Err(error) => return refused(error),
        };
        request.extensions_mut().insert(Purse(Arc::clone(&bytes)));
        let counted = Arc::clone(&bytes);
        let call = self.inner.call(request.map(|body| Body::new(Counted { body, bytes: counted })));
        Either::Right(Either::Right(Box::pin(async move {
            let response = call.await?;
            Ok(parts.answer(response, is_stream, bytes, place))
        })))
    }
}

fn refuse(path: &'static str, error: Error) -> Response<Body> {
    logging::refused(path, &error);
    error.into_status().into_http()
}
