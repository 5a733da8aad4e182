//! One call: who makes it, how long it may take, and how it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::auth::Principal;
use super::deadline::Deadline;
use super::logging;
use super::status::Error;

/// What every method needs to know besides its request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method, for logs and digests.
    pub method: &'static str,
    /// Who calls; empty without authentication.
    pub principal: Arc<str>,
    /// When it must have been answered.
    pub deadline: Deadline,
}

/// A stream of answers as the transport takes it.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Call {
    /// Takes a call apart. `default` is the deadline of one that names none.
    pub fn begin<Q>(method: &'static str, request: Request<Q>, default: Option<Duration>) -> (Self, Q) {
        let (metadata, extensions, message) = request.into_parts();
        let principal =
            extensions.get::<Principal>().map_or_else(|| Arc::from(""), |caller| Arc::clone(&caller.0));
        let deadline = Deadline::of(metadata.as_ref(), default);
        (Self { method, principal, deadline }, message)
    }

    /// Ends a call with one answer, or with an error that is logged here and nowhere else.
    pub async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Response<T>, Status> {
        let span = tracing::debug_span!("call", method = self.method, principal = &*self.principal);
        match self.deadline.bound(work).instrument(span).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Ends a call with a stream of answers; its last item may be an error.
    pub async fn stream<T, S>(
        &self,
        work: impl Future<Output = Result<S, Error>>,
    ) -> Result<Response<Answers<T>>, Status>
    where
        T: Send + 'static,
        S: Stream<Item = Result<T, Error>> + Send + 'static,
    {
        let answers = self.answer(work).await?.into_inner();
        let call = self.clone();
        let answers = answers.map(move |answer| answer.map_err(|error| call.failed(error)));
        Ok(Response::new(Box::pin(answers)))
    }

    fn failed(&self, error: Error) -> Status {
        logging::failed(self.method, &self.principal, &error);
        error.into_status()
    }
}
