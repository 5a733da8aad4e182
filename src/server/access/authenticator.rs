//! What an authenticator is: it recognises one kind of credential.
//!
//! A server may ask for several kinds at once. Each call is shown to one after the other until
//! one says that the credential is of its kind; that one decides.

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, header};

use super::principal::Principal;
use crate::metrics::Credential;
use crate::server::status::Error;

/// Longest credential looked at, in bytes. Signed tokens with many claims stay below it.
const MAX_CREDENTIAL_BYTES: usize = 8 << 10;

/// What a call shows of who makes it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The text after `Bearer`, at most 8 KiB of visible ASCII.
    pub bearer: Option<Bearer<'a>>,
    /// What the connection knows, such as the client's certificate.
    pub connection: &'a Extensions,
}

/// The text of a bearer credential. It does not print.
#[derive(Clone, Copy)]
pub struct Bearer<'a>(&'a str);

impl<'a> Bearer<'a> {
    /// A text that was presented.
    #[cfg(test)]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The text itself. Named so that every place that uses it can be searched for.
    #[must_use]
    pub fn expose(self) -> &'a str {
        self.0
    }
}

impl Debug for Bearer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What an authenticator says of a credential.
pub enum Recognition {
    /// It is not of this kind, or there is none: another one may know it.
    Foreign,
    /// It is of this kind, and this is who presents it, or why it is refused.
    Settled(Result<Arc<Principal>, Error>),
    /// It is of this kind, and whose it is has to be asked elsewhere. The future ends within a
    /// bound of its own and owns no connection to the database: a caller who goes away drops it.
    Asked(BoxFuture<'static, Result<Arc<Principal>, Error>>),
}

/// Recognises one kind of credential. It is asked before every call, so it answers from memory
/// wherever it can.
pub trait Authenticator: Debug + Send + Sync + 'static {
    /// The kind, for those who count calls.
    fn kind(&self) -> Credential;

    /// Whose credential this is.
    fn recognise(&self, presented: &Presented<'_>) -> Recognition;
}

/// The bearer credential among the headers of a call. Two of them are refused, and not decided
/// between: a proxy in front might have looked at the other one.
pub fn bearer(headers: &HeaderMap) -> Result<Option<Bearer<'_>>, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::UnknownCredential);
    }
    if value.len() > MAX_CREDENTIAL_BYTES {
        return Err(Error::UnknownCredential);
    }
    let text = value.to_str().map_err(|_| Error::UnknownCredential)?;
    let (scheme, credential) = text.split_once(' ').ok_or(Error::NoCredential)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::NoCredential);
    }
    Ok(Some(Bearer(credential.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented(values: &[&[u8]]) -> Result<Option<String>, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("authorization", http::HeaderValue::from_bytes(value).expect("a header"));
        }
        Ok(bearer(&headers)?.map(|bearer| bearer.expose().to_owned()))
    }

    #[test]
    fn one_bearer_credential_is_taken() {
        assert_eq!(presented(&[]).expect("none"), None);
        assert_eq!(presented(&[b"Bearer abc"]).expect("one"), Some("abc".into()));
        assert_eq!(presented(&[b"bEARER  abc "]).expect("one"), Some("abc".into()));
        for none in [&b"abc"[..], b"Basic abc", b"", b"Bearer\tabc"] {
            assert!(matches!(presented(&[none]), Err(Error::NoCredential)), "{none:?}");
        }
        let long = [b"Bearer ".as_slice(), &[b'x'; MAX_CREDENTIAL_BYTES]].concat();
        for wrong in [&b"Bearer \xc3\xa4"[..], b"Bearer \xff", &long] {
            assert!(matches!(presented(&[wrong]), Err(Error::UnknownCredential)));
        }
        assert!(matches!(presented(&[b"Bearer abc", b"Bearer abc"]), Err(Error::UnknownCredential)));
    }

    #[test]
    fn a_credential_does_not_print() {
        assert_eq!(format!("{:?}", Bearer::new("hunter2")), "***");
    }
}
