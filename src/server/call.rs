//! One call: who makes it, how long it may take, and how it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::unfold;
use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::access::{Addressed, Admitted, Principal, Scope, enter};
use super::admission::{Charge, Purse};
use super::deadline::Deadline;
use super::logging;
use super::node::Node;
use super::status::Error;

/// What every method needs to know besides its request.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method, for logs and digests.
    pub method: &'static str,
    /// Who calls, as the changelog names them; empty without authentication.
    pub principal: Arc<str>,
    /// Who calls, with what they may do.
    pub caller: Arc<Principal>,
    /// When it must have been answered.
    pub deadline: Deadline,
    /// The id of the trace it is part of, where that is written down.
    pub trace: Option<Arc<str>>,
    /// What it may reach.
    scope: Scope,
    /// What its bytes are counted in.
    purse: Purse,
    /// How old the answer may be, in milliseconds, if that is more than usual; otherwise zero.
    staleness: Arc<AtomicU64>,
}

/// Tells with an answer that the node has not been able to prove itself current for longer than
/// usual, and for how many milliseconds.
pub const STALENESS: &str = "relata-staleness-ms";

/// A stream of answers as the transport takes it.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Call {
    /// Takes a call apart and lets it reach its store, if the caller may. `default` is the
    /// deadline of a call that names none. There is no other way to a `Call`, and none to a
    /// store or replica without one.
    pub async fn begin<Q: Addressed>(
        node: &Node,
        method: &'static str,
        request: Request<Q>,
        default: Option<Duration>,
    ) -> Result<(Self, Q), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let deadline = Deadline::of(metadata.as_ref(), default);
        let (Some(admitted), Some(purse)) = (extensions.get::<Admitted>(), extensions.get::<Purse>()) else {
            let error = Error::Internal(anyhow::anyhow!("a call came in past access control or admission"));
            logging::failed(method, "", &error);
            return Err(error.into_status());
        };
        match deadline.bound(enter(node, admitted, message.store())).await {
            Ok(scope) => {
                let caller = Arc::clone(&admitted.caller);
                let principal = Arc::clone(caller.name());
                let (staleness, purse) = (Arc::default(), purse.clone());
                let wanted = node.journal().is_wanted();
                let trace = if wanted { trace_id(metadata.as_ref()) } else { None };
                Ok((Self { method, principal, caller, deadline, trace, scope, purse, staleness }, message))
            }
            Err(error) => {
                logging::failed(method, admitted.caller.name(), &error);
                Err(error.into_status())
            }
        }
    }

    /// The same call, to be answered within that time at the latest.
    #[must_use]
    pub fn within(&self, duration: Duration) -> Self {
        Self { deadline: self.deadline.at_most(duration), ..self.clone() }
    }

    /// Counts bytes of an answer that has been made and that nobody has asked for yet; refuses if too
    /// many are.
    pub fn charge(&self, bytes: usize) -> Result<Charge, Error> {
        self.purse.charge(bytes)
    }

    /// The store it may reach, as it is to be looked up.
    pub fn store(&self) -> Result<&Arc<str>, Error> {
        self.scope.store()
    }

    /// Ends a call with one answer, or with an error that is logged here and nowhere else.
    pub async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<Response<T>, Status> {
        let span = tracing::debug_span!("call", method = self.method, principal = &*self.principal);
        match self.deadline.bound(work).instrument(span).await {
            Ok(answer) => {
                let mut response = Response::new(answer);
                match self.staleness.load(Ordering::Relaxed) {
                    0 => {}
                    age => drop(response.metadata_mut().insert(STALENESS, age.into())),
                }
                Ok(response)
            }
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
        let (metadata, answers, extensions) = self.answer(work).await?.into_parts();
        let call = self.clone();
        let answers = while_it_holds(answers, Arc::clone(&self.caller))
            .map(move |answer| answer.map_err(|error| call.failed(error)));
        Ok(Response::from_parts(metadata, Box::pin(answers), extensions))
    }

    /// Takes note that the answer may be older than usual, for the caller to be told.
    pub fn may_be_older(&self, age: Duration) {
        self.staleness.fetch_max(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn failed(&self, error: Error) -> Status {
        logging::failed(self.method, &self.principal, &error);
        error.into_status()
    }
}

/// The trace that the caller is in, as W3C's trace context has it:
/// <https://www.w3.org/TR/trace-context/#traceparent-header>.
fn trace_id(metadata: &HeaderMap) -> Option<Arc<str>> {
    let mut parts = metadata.get("traceparent")?.to_str().ok()?.split('-');
    let (_version, id) = (parts.next()?, parts.next()?);
    let is_one = id.len() == 32
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && id.bytes().any(|byte| byte != b'0');
    is_one.then(|| id.into())
}

/// The answers, until the credential that they were asked for with ends.
fn while_it_holds<T>(
    answers: impl Stream<Item = Result<T, Error>>,
    caller: Arc<Principal>,
) -> impl Stream<Item = Result<T, Error>> {
    let ended = async move { caller.ended().await };
    unfold(Some((Box::pin(answers), Box::pin(ended))), |open| async move {
        let (mut answers, mut ended) = open?;
        tokio::select! {
            // First, so that a stream that always has something to say ends too.
            biased;
            () = &mut ended => Some((Err(Error::CredentialEnded), None)),
            answer = answers.next() => answer.map(|answer| (answer, Some((answers, ended)))),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::stream::{iter, pending};

    use super::*;
    use crate::server::access::Grants;

    #[test]
    fn only_what_can_be_a_trace_is_one() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().expect("a header"));
            trace_id(&headers)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        for none in ["", "00", "00-xyz-1-1", &format!("00-{}-1-1", "0".repeat(32)), &id.to_uppercase()] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_credential() {
        let caller = Arc::new(Principal::new("key:ci", Grants::everything()));
        let endless = iter([Ok(1), Ok(2)]).chain(pending());
        let mut answers = Box::pin(while_it_holds(endless, Arc::clone(&caller)));
        assert!(matches!(answers.next().await, Some(Ok(1))));
        caller.withdraw();
        assert!(matches!(answers.next().await, Some(Err(Error::CredentialEnded))), "what waits is not sent");
        assert!(answers.next().await.is_none());

        let caller = Arc::new(Principal::new("key:ci", Grants::everything()));
        let complete: Vec<_> = while_it_holds(iter([Ok(1), Ok(2)]), caller).collect().await;
        assert!(matches!(complete[..], [Ok(1), Ok(2)]));
    }
}
