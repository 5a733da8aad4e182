//! Who is calling: bearer tokens, compared in constant time, in front of every method.
//!
//! The layer wraps all services alike, so streams and reflection are refused like any other
//! call. Health is the one exception: a load balancer that has no token must be able to tell a
//! node that serves from one that does not, and health says nothing else.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response, header};
use tonic::body::Body;
use tower::{Layer, Service};

use super::status::Error;

/// Shortest token accepted, in bytes: guessing one must be hopeless.
const MIN_TOKEN_BYTES: usize = 16;

const HEALTH: &str = "/grpc.health.v1.Health/";

/// Who makes a call, as the changelog names them: empty without authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(pub Arc<str>);

impl Principal {
    /// Whoever can connect, where no tokens are asked for.
    #[must_use]
    pub fn anybody() -> Self {
        Self(Arc::from(""))
    }
}

/// The tokens that may call. Only their digests are kept.
#[derive(Clone)]
pub struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    digest: blake3::Hash,
    principal: Principal,
}

impl std::fmt::Debug for Tokens {
    /// How many there are, and not the digests.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// Why a token file cannot be used. No message shows any part of a token.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("cannot read the token file `{}`", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A line is not `TOKEN [NAME]`.
    #[error("line {line} of the token file holds more than a token and a name")]
    Shape { line: usize },
    /// A token can be guessed.
    #[error(
        "the token on line {line} is shorter than {MIN_TOKEN_BYTES} bytes; make one with `openssl rand -hex 32`"
    )]
    TooShort { line: usize },
    /// The same token twice, which would make its name ambiguous.
    #[error("the token on line {line} is on an earlier line too")]
    Repeated { line: usize },
    /// No token at all would lock everybody out.
    #[error("the token file holds no token; write one per line")]
    Empty,
}

impl Tokens {
    /// Reads a token file.
    pub fn read(path: &Path) -> Result<Self, TokenFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| TokenFileError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Takes the text of a token file: one `TOKEN [NAME]` per line, `#` begins a comment. The
    /// name is what the changelog shows; without one it shows the first digits of the digest.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut tokens: Vec<Token> = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let mut words = raw.split_whitespace().take_while(|word| !word.starts_with('#'));
            let Some(token) = words.next() else { continue };
            let name = words.next();
            if words.next().is_some() {
                return Err(TokenFileError::Shape { line });
            }
            if token.len() < MIN_TOKEN_BYTES {
                return Err(TokenFileError::TooShort { line });
            }
            let digest = blake3::hash(token.as_bytes());
            if tokens.iter().any(|known| known.digest == digest) {
                return Err(TokenFileError::Repeated { line });
            }
            let principal = match name {
                Some(name) => name.to_owned(),
                None => format!("token-{}", digest.to_hex().chars().take(8).collect::<String>()),
            };
            tokens.push(Token { digest, principal: Principal(principal.into()) });
        }
        if tokens.is_empty() { Err(TokenFileError::Empty) } else { Ok(Self(tokens)) }
    }

    /// Who presents a token. Every digest is compared, each in constant time, so that the time
    /// taken says nothing of how close a guess came or which token it was.
    #[must_use]
    pub fn principal(&self, presented: &str) -> Option<&Principal> {
        let digest = blake3::hash(presented.as_bytes());
        self.0
            .iter()
            .fold(None, |found, token| if token.digest == digest { Some(&token.principal) } else { found })
    }
}

/// Puts the check in front of all services.
#[derive(Debug, Clone)]
pub struct AuthLayer {
    tokens: Option<Arc<Tokens>>,
}

impl AuthLayer {
    /// Asks for one of these tokens; `None` lets everybody in.
    #[must_use]
    pub fn new(tokens: Option<Arc<Tokens>>) -> Self {
        Self { tokens }
    }

    /// Who makes this call.
    fn identify<B>(&self, request: &Request<B>) -> Result<Principal, Error> {
        let Some(tokens) = &self.tokens else { return Ok(Principal::anybody()) };
        if request.uri().path().starts_with(HEALTH) {
            return Ok(Principal::anybody());
        }
        let header = request.headers().get(header::AUTHORIZATION).ok_or(Error::NoToken)?;
        let text = header.to_str().map_err(|_| Error::WrongToken)?;
        let (scheme, token) = text.split_once(' ').ok_or(Error::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::NoToken);
        }
        tokens.principal(token.trim()).cloned().ok_or(Error::WrongToken)
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated { inner, layer: self.clone() }
    }
}

/// A service behind [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct Authenticated<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Self::Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.layer.identify(&request) {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                Either::Left(self.inner.call(request))
            }
            Err(error) => {
                tracing::info!(method = request.uri().path(), code = ?error.code(), "{error}");
                Either::Right(ready(Ok(error.into_status().into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# deploy\n0123456789abcdef ci\n\n  fedcba9876543210   # no name\n";

    fn identify(header: Option<&str>, path: &str) -> Result<Principal, Error> {
        let layer = AuthLayer::new(Some(Arc::new(Tokens::parse(FILE).expect("tokens"))));
        let mut request = Request::builder().uri(path);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        layer.identify(&request.body(()).expect("a request"))
    }

    #[test]
    fn a_token_names_its_principal() {
        let method = "/relata.v1.PermissionService/Check";
        let named = identify(Some("Bearer 0123456789abcdef"), method).expect("known");
        assert_eq!(&*named.0, "ci");
        let unnamed = identify(Some("bearer fedcba9876543210"), method).expect("known");
        assert!(unnamed.0.starts_with("token-"), "{unnamed:?}");
    }

    #[test]
    fn everything_but_health_needs_a_token() {
        for path in
            ["/relata.v1.TupleService/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
        {
            assert!(matches!(identify(None, path), Err(Error::NoToken)));
            assert!(matches!(identify(Some("Basic abc"), path), Err(Error::NoToken)));
            assert!(matches!(identify(Some("Bearer 0123456789abcdeF"), path), Err(Error::WrongToken)));
            assert!(matches!(identify(Some("Bearer "), path), Err(Error::WrongToken)));
        }
        assert_eq!(identify(None, "/grpc.health.v1.Health/Check").ok(), Some(Principal::anybody()));
    }

    #[test]
    fn a_bad_token_file_is_refused_without_showing_it() {
        let check = |text: &str, expected: &str| {
            let message = Tokens::parse(text).expect_err("refused").to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        };
        check("", "no token");
        check("# only a comment\n", "no token");
        check("s3cret", "line 1 is shorter than 16 bytes");
        check("s3cret-s3cret-s3cret a b", "line 1 of the token file holds more");
        check("s3cret-s3cret-s3cret a\ns3cret-s3cret-s3cret b", "line 2 is on an earlier line");
    }
}
