//! The one layer in front of every method, streams and reflection included.
//!
//! It finds the method's row, asks who calls, and refuses what the headers are enough to refuse.
//! The right on a store needs the request's body: [`super::enter`] is asked for it when the
//! call begins, and without it there is no [`crate::server::call::Call`].

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either, Ready, ready};
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::authenticator::{Authenticator, Presented, Recognition, bearer};
use super::methods::{self, Method, Needs};
use super::principal::Principal;
use crate::metrics::{Credential, Metrics};
use crate::server::connection::Peer;
use crate::server::convert::clip;
use crate::server::logging;
use crate::server::status::Error;

/// What the layer found out, put among the request's extensions.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The method called.
    pub method: &'static Method,
    /// Who calls.
    pub caller: Arc<Principal>,
}

/// Who is let in.
#[derive(Debug, Clone)]
pub enum Gate {
    /// Whoever can connect.
    Open,
    /// Whoever one of these recognises, asked in this order.
    Guarded(Vec<Arc<dyn Authenticator>>),
}

impl Gate {
    /// The same, asking one more.
    #[must_use]
    pub fn and(self, authenticator: Arc<dyn Authenticator>) -> Self {
        match self {
            Self::Open => Self::Open,
            Self::Guarded(mut authenticators) => {
                authenticators.push(authenticator);
                Self::Guarded(authenticators)
            }
        }
    }
}

/// Puts the check in front of all services.
#[derive(Debug, Clone)]
pub struct AccessLayer {
    gate: Gate,
    anybody: Arc<Principal>,
    metrics: Arc<Metrics>,
}

/// Whether a call goes on.
enum Decision {
    Now(Result<Admitted, Error>),
    Later(BoxFuture<'static, Result<Admitted, Error>>),
}

impl AccessLayer {
    /// A layer at this gate.
    #[must_use]
    pub fn new(gate: Gate, metrics: Arc<Metrics>) -> Self {
        Self { gate, anybody: Arc::new(Principal::anybody()), metrics }
    }

    fn decide<B>(&self, request: &Request<B>) -> Decision {
        let method = methods::find(request.uri().path());
        // Who may not call at all is not told which methods there are.
        let (kind, recognition) = match method {
            Some(Method { needs: Needs::Nothing, .. }) => self.nobody_asked(),
            Some(_) | None => self.recognise(request),
        };
        match recognition {
            Recognition::Settled(outcome) => {
                count(&self.metrics, kind, &outcome);
                Decision::Now(outcome.and_then(|caller| admit(method, caller)))
            }
            Recognition::Asked(asked) => {
                let metrics = Arc::clone(&self.metrics);
                Decision::Later(Box::pin(async move {
                    let outcome = asked.await;
                    count(&metrics, kind, &outcome);
                    outcome.and_then(|caller| admit(method, caller))
                }))
            }
            Recognition::Foreign => Decision::Now(Err(Error::UnknownCredential)),
        }
    }

    fn nobody_asked(&self) -> (Credential, Recognition) {
        (Credential::Open, Recognition::Settled(Ok(Arc::clone(&self.anybody))))
    }

    /// Who makes a call, and how that is known.
    fn recognise<B>(&self, request: &Request<B>) -> (Credential, Recognition) {
        let refused = |error| (Credential::Refused, Recognition::Settled(Err(error)));
        let Gate::Guarded(authenticators) = &self.gate else { return self.nobody_asked() };
        let bearer = match bearer(request.headers()) {
            Ok(bearer) => bearer,
            Err(error) => return refused(error),
        };
        let presented = Presented { bearer, connection: request.extensions() };
        for authenticator in authenticators {
            match authenticator.recognise(&presented) {
                Recognition::Foreign => {}
                recognition @ (Recognition::Settled(_) | Recognition::Asked(_)) => {
                    return (authenticator.kind(), recognition);
                }
            }
        }
        refused(if presented.bearer.is_some() { Error::UnknownCredential } else { Error::NoCredential })
    }
}

fn count(metrics: &Metrics, kind: Credential, outcome: &Result<Arc<Principal>, Error>) {
    let kind = if outcome.is_ok() { kind } else { Credential::Refused };
    metrics.access.authentications.of(kind).inc();
}

/// Refuses what needs no look at the request's body, and what has no row.
fn admit(method: Option<&'static Method>, caller: Arc<Principal>) -> Result<Admitted, Error> {
    let method = method.ok_or(Error::UnknownMethod)?;
    match method.needs {
        Needs::OnAll(wanted) if !caller.grants().on_all(wanted) => Err(Error::Denied { wanted, store: None }),
        Needs::Nothing | Needs::Credential | Needs::OnAll(_) | Needs::OnStore(_) => {
            Ok(Admitted { method, caller })
        }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, layer: self.clone() }
    }
}

/// Services behind [`AccessLayer`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        S::Future,
        Either<
            Ready<Result<Self::Response, Infallible>>,
            BoxFuture<'static, Result<Self::Response, Infallible>>,
        >,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.layer.decide(&request) {
            Decision::Now(Ok(admitted)) => {
                let_in(&mut request, admitted);
                Either::Left(self.inner.call(request))
            }
            Decision::Now(Err(error)) => Either::Right(Either::Left(ready(Ok(refuse(&request, error))))),
            Decision::Later(decided) => {
                // The service that is ready goes along; the one that stays gets ready anew.
                let unready = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, unready);
                Either::Right(Either::Right(Box::pin(async move {
                    match decided.await {
                        Ok(admitted) => {
                            let_in(&mut request, admitted);
                            inner.call(request).await
                        }
                        Err(error) => Ok(refuse(&request, error)),
                    }
                })))
            }
        }
    }
}

fn let_in<B>(request: &mut Request<B>, admitted: Admitted) {
    if admitted.method.needs != Needs::Nothing
        && let Some(Peer::Network { standing, .. }) = request.extensions().get()
    {
        standing.vouch();
    }
    request.extensions_mut().insert(admitted);
}

fn refuse<B>(request: &Request<B>, error: Error) -> Response<Body> {
    logging::turned_away(&clip(request.uri().path()), &error);
    error.into_status().into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: &str = "/relata.v1.PermissionService/Check";
    const CREATE: &str = "/relata.v1.StoreService/CreateStore";

    /// Knows `sync-NAME` at once and `async-NAME` after a while, each with the grants of a name.
    #[derive(Debug)]
    struct Known(&'static str, &'static str);

    impl Authenticator for Known {
        fn kind(&self) -> Credential {
            Credential::Token
        }

        fn recognise(&self, presented: &Presented<'_>) -> Recognition {
            let Some(bearer) = presented.bearer else { return Recognition::Foreign };
            let Some(name) = bearer.expose().strip_prefix(self.0) else { return Recognition::Foreign };
            let outcome = match name {
                "wrong" => Err(Error::UnknownCredential),
                name => Ok(Arc::new(Principal::new(name, self.1.parse().expect("grants")))),
            };
            match self.0 {
                "sync-" => Recognition::Settled(outcome),
                _ => Recognition::Asked(Box::pin(async {
                    tokio::task::yield_now().await;
                    outcome
                })),
            }
        }
    }

    async fn decided(gate: Gate, path: &str, credential: Option<&str>) -> Result<String, Error> {
        let mut request = Request::builder().uri(path);
        if let Some(credential) = credential {
            request = request.header("authorization", format!("Bearer {credential}"));
        }
        let request = request.body(()).expect("a request");
        let metrics = Metrics::new();
        let admitted = match AccessLayer::new(gate, Arc::clone(&metrics)).decide(&request) {
            Decision::Now(outcome) => outcome,
            Decision::Later(decided) => decided.await,
        };
        let known: u64 = [Credential::Token, Credential::Key, Credential::Open]
            .map(|kind| metrics.access.authentications.of(kind).get())
            .iter()
            .sum();
        let refused = metrics.access.authentications.of(Credential::Refused).get();
        assert_eq!(known + refused, 1, "each call is counted once");
        let nobody = matches!(admitted, Err(Error::UnknownCredential | Error::NoCredential));
        assert_eq!(refused == 1, nobody, "{admitted:?}");
        admitted.map(|admitted| format!("{}@{}", admitted.caller.name(), admitted.method.path))
    }

    fn guarded() -> Gate {
        Gate::Guarded(vec![Arc::new(Known("sync-", "a:read")), Arc::new(Known("async-", "*:admin"))])
    }

    #[tokio::test]
    async fn the_first_that_knows_the_kind_decides() {
        assert_eq!(decided(guarded(), CHECK, Some("sync-ann")).await.ok(), Some(format!("ann@{CHECK}")));
        assert_eq!(decided(guarded(), CHECK, Some("async-bob")).await.ok(), Some(format!("bob@{CHECK}")));
        for wrong in ["sync-wrong", "async-wrong", "else", ""] {
            let refused = decided(guarded(), CHECK, Some(wrong)).await;
            assert!(matches!(refused, Err(Error::UnknownCredential)), "{wrong}: {refused:?}");
        }
        assert!(matches!(decided(guarded(), CHECK, None).await, Err(Error::NoCredential)));
    }

    #[tokio::test]
    async fn what_concerns_all_stores_is_refused_by_the_headers_alone() {
        assert!(matches!(decided(guarded(), CREATE, Some("sync-ann")).await, Err(Error::Denied { .. })));
        assert!(decided(guarded(), CREATE, Some("async-bob")).await.is_ok());
    }

    #[tokio::test]
    async fn what_has_no_row_goes_nowhere() {
        for path in ["/relata.v1.PermissionService/Chek", "//relata.v1.PermissionService/Check", "/"] {
            assert!(matches!(decided(Gate::Open, path, None).await, Err(Error::UnknownMethod)), "{path}");
            assert!(matches!(decided(guarded(), path, Some("sync-ann")).await, Err(Error::UnknownMethod)));
            assert!(matches!(decided(guarded(), path, None).await, Err(Error::NoCredential)), "{path}");
            let asked = decided(guarded(), path, Some("async-bob")).await;
            assert!(matches!(asked, Err(Error::UnknownMethod)), "{path}");
        }
    }

    #[tokio::test]
    async fn health_needs_no_credential_and_looks_at_none() {
        let health = "/grpc.health.v1.Health/Check";
        assert_eq!(decided(guarded(), health, None).await.ok(), Some(format!("@{health}")));
        assert!(decided(guarded(), health, Some("else")).await.is_ok());
        assert_eq!(decided(Gate::Open, CREATE, None).await.ok(), Some(format!("@{CREATE}")));
    }
}
