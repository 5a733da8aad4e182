//! A signed token (RFC 7515 compact form, RFC 7519), taken apart and held against what its issuer
//! is configured to say.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use crate::time::Timestamp;

/// Longest subject, in bytes: it goes into the log of changes.
const MAX_SUBJECT_BYTES: usize = 255;
/// The kinds of token that let somebody in: plain ones, and access tokens (RFC 9068). Others, such as
/// those that announce a logout, are signed by the same keys and mean something else.
const KINDS: [&str; 2] = ["jwt", "at+jwt"];

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url with JSON in the first two.
    #[error("the token cannot be read")]
    Malformed,
    /// `none`, a symmetric algorithm, or one that the issuer is not to use.
    #[error("the token is signed by an algorithm that is not taken from this issuer")]
    Algorithm,
    /// A token for something else than calling a service.
    #[error("the token is of a kind that lets nobody in")]
    Kind,
    /// Its header asks for something that is not understood here (RFC 7515 §4.1.11).
    #[error("the token's header demands an extension")]
    Critical,
    /// It says that it is from somebody else.
    #[error("the token is from an issuer that is not configured")]
    Issuer,
    /// No key of the issuer has that name and takes that algorithm.
    #[error("the token is signed with a key that its issuer does not publish")]
    Key,
    /// The signature is not one of the issuer.
    #[error("the signature of the token does not hold")]
    Signature,
    /// It would be valid for ever.
    #[error("the token does not say when it expires")]
    NoExpiry,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// It is for later.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its issuer's clock or this one is wrong.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// It is older than tokens of this issuer may be here.
    #[error("the token was issued too long ago")]
    TooOld,
    /// Its age is bounded, and it does not say when it was issued.
    #[error("the token does not say when it was issued")]
    NoIssueTime,
    /// It is for another service.
    #[error("the token is for another audience than this server")]
    Audience,
    /// It does not say who presents it.
    #[error("the token names no subject that can be used")]
    Subject,
    /// The rules give it more grants than a caller may have.
    #[error("the token carries more grants than a caller may have")]
    Grants,
}

impl TokenError {
    /// Whether the one who presents the token is told. Whoever has a token that its issuer signed
    /// may know what is wrong with it; whoever has made one up learns nothing.
    #[must_use]
    pub const fn is_told(self) -> bool {
        match self {
            Self::Malformed
            | Self::Algorithm
            | Self::Kind
            | Self::Critical
            | Self::Issuer
            | Self::Key
            | Self::Signature => false,
            Self::NoExpiry
            | Self::Expired
            | Self::NotYet
            | Self::IssuedInFuture
            | Self::TooOld
            | Self::NoIssueTime
            | Self::Audience
            | Self::Subject
            | Self::Grants => true,
        }
    }
}

/// Whether a bearer text is meant to be a signed token: its first part is base64url of `{"`. What
/// is wrong with it is then said here and not by others that know other credentials.
#[must_use]
pub fn is_one(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A token of which nothing has been verified yet.
pub struct Token<'a> {
    /// What the signature is over.
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

/// The members of a header that matter. Keys and addresses of keys that a header may bring along
/// (`jwk`, `jku`, `x5c`, `x5u`) are not looked at: a token does not say by what it is to be judged.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// What is expected of a token besides its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The names by which an issuer means this server; a token is for one of them.
    pub audience: Vec<String>,
    /// The claim that says who presents it.
    pub subject: String,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// How long ago it may have been issued.
    pub max_age: Option<Duration>,
}

/// What a token says once it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Who presents it.
    pub subject: String,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub fn read(text: &'a str) -> Result<Self, TokenError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = part(header)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        if header.typ.is_some_and(|kind| !is_kind(&kind)) {
            return Err(TokenError::Kind);
        }
        Ok(Self {
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?,
            algorithm: header.alg.parse().map_err(|_| TokenError::Algorithm)?,
            key_id: header.kid,
            claims: part(claims)?,
        })
    }

    /// Who it says has signed it.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// How it says it is signed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Which key it says has signed it.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// What it claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// What the signature is over, and the signature.
    pub fn signature(&self) -> (&[u8], &[u8]) {
        (self.signed.as_bytes(), &self.signature)
    }

    /// Holds what it claims against what is expected, at a moment.
    pub fn says(&self, expected: &Expected, now: Timestamp) -> Result<Said, TokenError> {
        let (earliest, latest) = (earlier(now, expected.leeway), now.saturating_add(expected.leeway));
        let expiry = self.moment("exp")?.ok_or(TokenError::NoExpiry)?;
        if expiry <= earliest {
            return Err(TokenError::Expired);
        }
        if self.moment("nbf")?.is_some_and(|begin| begin > latest) {
            return Err(TokenError::NotYet);
        }
        let issued = self.moment("iat")?;
        if issued.is_some_and(|issued| issued > latest) {
            return Err(TokenError::IssuedInFuture);
        }
        let mut expires_at = expiry.saturating_add(expected.leeway);
        if let Some(max_age) = expected.max_age {
            let end = issued.ok_or(TokenError::NoIssueTime)?.saturating_add(max_age);
            if end <= earliest {
                return Err(TokenError::TooOld);
            }
            expires_at = expires_at.min(end.saturating_add(expected.leeway));
        }
        if !self.is_for(&expected.audience) {
            return Err(TokenError::Audience);
        }
        let subject = self.claims.get(&expected.subject).and_then(Value::as_str);
        let subject = subject.filter(|subject| is_subject(subject)).ok_or(TokenError::Subject)?;
        Ok(Said { subject: subject.to_owned(), expires_at })
    }

    /// A moment in seconds since 1970, with or without a fraction; `None` if it is not claimed.
    fn moment(&self, claim: &str) -> Result<Option<Timestamp>, TokenError> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let seconds = seconds.ok_or(TokenError::Malformed)?;
        Ok(Some(Timestamp::from_micros(0).saturating_add(seconds)))
    }

    /// An audience is one text or a list of them (RFC 7519 §4.1.3).
    fn is_for(&self, audience: &[String]) -> bool {
        let is_ours =
            |value: &Value| value.as_str().is_some_and(|one| audience.iter().any(|ours| ours == one));
        match self.claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// A kind may be written as a media type (RFC 7515 §4.1.9), in any case.
fn is_kind(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    KINDS.contains(&kind.strip_prefix("application/").unwrap_or(&kind))
}

fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_SUBJECT_BYTES && !text.chars().any(char::is_control)
}

fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(moment.as_micros().saturating_sub(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn read(header: &Value, claims: &Value) -> Result<(), TokenError> {
        let text = format!("{}.{}.c2ln", encode(header), encode(claims));
        assert!(is_one(&text), "{text}");
        Token::read(&text).map(drop)
    }

    fn expected() -> Expected {
        Expected {
            audience: vec!["relata".into(), "other-name".into()],
            subject: "sub".into(),
            leeway: Duration::from_secs(30),
            max_age: None,
        }
    }

    fn says(expected: &Expected, adapt: impl FnOnce(&mut Value)) -> Result<Said, TokenError> {
        let mut claims = json!({"exp": NOW + 60, "aud": "relata", "sub": "ann"});
        adapt(&mut claims);
        let text = format!("{}.{}.c2ln", encode(&json!({"alg": "ES256"})), encode(&claims));
        let token = Token::read(&text)?;
        token.says(expected, Timestamp::from_micros(0).saturating_add(Duration::from_secs(NOW)))
    }

    #[test]
    fn headers_are_read_strictly() {
        let claims = json!({});
        for good in [
            json!({"alg": "RS256"}),
            json!({"alg": "EdDSA", "kid": "a", "typ": "JWT"}),
            json!({"alg": "ES256", "typ": "at+jwt", "jku": "https://evil.example/keys", "jwk": {}}),
            json!({"alg": "ES256", "typ": "application/AT+JWT"}),
        ] {
            assert_eq!(read(&good, &claims), Ok(()), "{good}");
        }
        for (bad, error) in [
            (json!({"alg": "none"}), TokenError::Algorithm),
            (json!({"alg": "nOnE"}), TokenError::Algorithm),
            (json!({"alg": "HS256"}), TokenError::Algorithm),
            (json!({"alg": ""}), TokenError::Algorithm),
            (json!({"alg": null}), TokenError::Malformed),
            (json!({"kid": "a"}), TokenError::Malformed),
            (json!({"alg": "ES256", "kid": 7}), TokenError::Malformed),
            (json!({"alg": "ES256", "typ": "logout+jwt"}), TokenError::Kind),
            (json!({"alg": "ES256", "typ": "dpop+jwt"}), TokenError::Kind),
            (json!({"alg": "ES256", "crit": ["b64"], "b64": false}), TokenError::Critical),
            (json!({"alg": "ES256", "crit": []}), TokenError::Critical),
        ] {
            assert_eq!(read(&bad, &claims), Err(error), "{bad}");
        }
        // The same member twice: which one counts must not be a question.
        let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"none"}"#);
        let text = format!("{twice}.{}.c2ln", encode(&claims));
        assert_eq!(Token::read(&text).err(), Some(TokenError::Malformed));
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        for other in ["", "a.b.c", "relata_abc", "eyJ", "eyJ.eyJ", "eyJ.a.b.c.d", "ey.a.b.c"] {
            assert!(!is_one(other), "{other}");
        }
        for broken in
            ["eyJ..", "eyJ.e30.", "e30.e30.c2ln", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln=", "eyJ\u{e9}.e30.c2ln"]
        {
            assert_eq!(Token::read(broken).err(), Some(TokenError::Malformed), "{broken}");
        }
        let array = format!("{}.{}.c2ln", encode(&json!({"alg": "ES256"})), encode(&json!([])));
        assert_eq!(Token::read(&array).err(), Some(TokenError::Malformed));
    }

    #[test]
    fn time_is_kept_to_the_leeway() {
        let check = |claim: &str, value: Value, expected_outcome: Result<(), TokenError>| {
            let outcome = says(&expected(), |claims| claims[claim] = value.clone());
            assert_eq!(outcome.map(drop), expected_outcome, "{claim} = {value}");
        };
        check("exp", json!(NOW - 29), Ok(()));
        check("exp", json!(NOW - 30), Err(TokenError::Expired));
        check("exp", json!(1_799_999_970.5), Ok(()));
        check("exp", json!(0), Err(TokenError::Expired));
        check("exp", json!(1e18), Ok(()));
        for odd in [json!(null), json!("soon"), json!(-1), json!([NOW]), json!(1e300)] {
            check("exp", odd, Err(TokenError::Malformed));
        }
        check("nbf", json!(NOW + 30), Ok(()));
        check("nbf", json!(NOW + 31), Err(TokenError::NotYet));
        check("nbf", json!("now"), Err(TokenError::Malformed));
        check("iat", json!(NOW + 30), Ok(()));
        check("iat", json!(NOW + 31), Err(TokenError::IssuedInFuture));
        let without = says(&expected(), |claims| {
            claims.as_object_mut().expect("an object").remove("exp");
        });
        assert_eq!(without, Err(TokenError::NoExpiry));
        let said = says(&expected(), |_| {}).expect("a good token");
        assert_eq!(said.expires_at.as_micros(), i64::try_from((NOW + 90) * 1_000_000).expect("fits"));
    }

    #[test]
    fn age_is_bounded_where_it_is_to_be() {
        let brief = Expected { max_age: Some(Duration::from_secs(100)), ..expected() };
        let issued = |at: u64| says(&brief, |claims| claims["iat"] = json!(at));
        assert_eq!(says(&brief, |_| {}), Err(TokenError::NoIssueTime));
        assert_eq!(issued(NOW - 130), Err(TokenError::TooOld));
        // The age ends before the token does.
        let said = issued(NOW - 129).expect("young enough");
        assert_eq!(said.expires_at.as_micros(), i64::try_from((NOW + 1) * 1_000_000).expect("fits"));
    }

    #[test]
    fn the_audience_is_this_server_exactly() {
        let check = |value: Value, good: bool| {
            let outcome = says(&expected(), |claims| claims["aud"] = value.clone()).map(drop);
            assert_eq!(outcome, if good { Ok(()) } else { Err(TokenError::Audience) }, "{value}");
        };
        check(json!("relata"), true);
        check(json!(["a", "other-name"]), true);
        for other in [
            json!("Relata"),
            json!("relata "),
            json!("relata2"),
            json!(""),
            json!([]),
            json!(["a", ["relata"]]),
            json!({"relata": true}),
            json!(null),
            json!(true),
            json!("relata other-name"),
        ] {
            check(other, false);
        }
        let without = says(&expected(), |claims| {
            claims.as_object_mut().expect("an object").remove("aud");
        });
        assert_eq!(without, Err(TokenError::Audience));
    }

    #[test]
    fn a_subject_is_a_text_that_a_log_can_show() {
        for (value, good) in [
            (json!("auth0|1 2"), true),
            (json!(""), false),
            (json!(7), false),
            (json!("a\nb"), false),
            (json!("x".repeat(256)), false),
        ] {
            let outcome = says(&expected(), |claims| claims["sub"] = value.clone()).map(drop);
            assert_eq!(outcome, if good { Ok(()) } else { Err(TokenError::Subject) }, "{value}");
        }
        let by_mail = Expected { subject: "email".into(), ..expected() };
        let said = says(&by_mail, |claims| claims["email"] = json!("ann@example.com")).expect("a good token");
        assert_eq!(said.subject, "ann@example.com");
    }
}
