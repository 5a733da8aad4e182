//! A key set as issuers publish it (RFC 7517).
//!
//! What is not understood is left out and does not spoil the rest: issuers publish keys for
//! encryption, and curves that not everybody knows, beside those that sign tokens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::{Algorithm, PublicKey};

/// Most keys of a set. Issuers have a handful.
const MAX_KEYS: usize = 64;
/// Longest name of a key, in bytes.
const MAX_ID_BYTES: usize = 256;

/// The keys of an issuer that verify tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Arc<Key>>);

/// One of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: Option<Box<str>>,
    /// The one algorithm that the issuer uses it with, if it says so.
    algorithm: Option<Algorithm>,
    public: PublicKey,
}

/// Why a text is no key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or without `keys`.
    #[error("it is not a key set")]
    Shape(#[from] serde_json::Error),
    /// More keys than anybody has.
    #[error("it has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The members of a key that matter (RFC 7517 §4, RFC 7518 §6).
#[derive(Deserialize)]
struct Entry {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that cannot verify a token are left out.
    pub fn read(text: &[u8]) -> Result<Self, KeySetError> {
        let Document { keys } = serde_json::from_slice(text)?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(keys.len()));
        }
        Ok(Self(keys.into_iter().filter_map(Key::read).map(Arc::new).collect()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key is still among them.
    #[must_use]
    pub fn holds(&self, key: &Arc<Key>) -> bool {
        self.0.contains(key)
    }

    /// The keys that may have signed a token with this header. A token that names no key is
    /// verified only where there is no choice: trying one after the other would let a token
    /// choose how much work it makes.
    pub fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a Arc<Key>> {
        let fitting = self.0.iter().filter(move |key| key.takes(algorithm));
        let unnamed = if id.is_none() { fitting.clone().count() } else { 0 };
        fitting.filter(move |key| match id {
            Some(id) => key.id.as_deref() == Some(id),
            None => unnamed == 1,
        })
    }
}

impl Key {
    /// `None` if it is not a key that verifies tokens.
    fn read(value: Value) -> Option<Self> {
        let entry: Entry = serde_json::from_value(value).ok()?;
        let verifies = entry.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && entry.key_ops.as_ref().is_none_or(|uses| uses.iter().any(|one| one == "verify"));
        if !verifies || entry.kid.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) {
            return None;
        }
        let public = entry.public()?;
        let algorithm = match &entry.alg {
            None => None,
            // A key for an algorithm that is not taken is not taken either.
            Some(name) => Some(name.parse().ok().filter(|algorithm: &Algorithm| algorithm.fits(&public))?),
        };
        Some(Self { id: entry.kid.map(Into::into), algorithm, public })
    }

    fn takes(&self, algorithm: Algorithm) -> bool {
        algorithm.fits(&self.public) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether `signature` is one of `message` under this key.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.takes(algorithm) && algorithm.verifies(&self.public, message, signature)
    }
}

impl Entry {
    fn public(&self) -> Option<PublicKey> {
        let point = |coordinate_bytes: usize| {
            let (x, y) = (bytes(self.x.as_deref())?, bytes(self.y.as_deref())?);
            let fits = x.len() == coordinate_bytes && y.len() == coordinate_bytes;
            fits.then(|| [&[4], x.as_slice(), y.as_slice()].concat())
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(self.n.as_deref())?, bytes(self.e.as_deref())?);
                // Some issuers begin with a zero, which RFC 7518 §2 forbids.
                let strip = |number: Vec<u8>| number.into_iter().skip_while(|byte| *byte == 0).collect();
                Some(PublicKey::Rsa { n: strip(n), e: strip(e) })
            }
            ("EC", Some("P-256")) => point(32).map(PublicKey::P256),
            ("EC", Some("P-384")) => point(48).map(PublicKey::P384),
            ("OKP", Some("Ed25519")) => {
                bytes(self.x.as_deref()).filter(|x| x.len() == 32).map(PublicKey::Ed25519)
            }
            _ => None,
        }
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ed25519(id: &str) -> Value {
        // RFC 8037 appendix A.2.
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": id})
    }

    fn with(mut key: Value, member: &str, value: Value) -> Value {
        key[member] = value;
        key
    }

    fn read(keys: &[Value]) -> KeySet {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).expect("a key set")
    }

    #[test]
    fn what_cannot_verify_is_left_out() {
        assert_eq!(read(&[ed25519("a")]).len(), 1);
        for stranger in [
            json!(null),
            json!({}),
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}),
            json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            with(ed25519("a"), "use", json!("enc")),
            with(ed25519("a"), "key_ops", json!(["sign"])),
            with(ed25519("a"), "alg", json!("HS256")),
            with(ed25519("a"), "alg", json!("RS256")),
            with(ed25519("a"), "x", json!("AAAA")),
            with(ed25519("a"), "x", json!("not base64!")),
            with(ed25519("a"), "kid", json!("x".repeat(300))),
            with(ed25519("a"), "crv", json!("X25519")),
        ] {
            let set = read(&[stranger.clone(), ed25519("good")]);
            assert_eq!(set.len(), 1, "{stranger}");
            assert_eq!(set.candidates(Some("good"), Algorithm::EdDsa).count(), 1);
        }
        for good in [
            with(ed25519("a"), "use", json!("sig")),
            with(ed25519("a"), "key_ops", json!(["verify"])),
            with(ed25519("a"), "alg", json!("EdDSA")),
            with(ed25519("a"), "x5c", json!(["whatever"])),
        ] {
            assert_eq!(read(std::slice::from_ref(&good)).len(), 1, "{good}");
        }
    }

    /// Some issuers write a modulus with a sign byte. *ring* takes no such key.
    #[test]
    fn zeros_before_a_number_do_not_count() {
        let key = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e)});
        let plain = read(&[key(&[200, 0, 7], &[1, 0, 1])]);
        assert_eq!(plain.len(), 1);
        assert!(plain == read(&[key(&[0, 200, 0, 7], &[0, 0, 1, 0, 1])]));
        assert!(plain != read(&[key(&[200, 7], &[1, 0, 1])]));
    }

    #[test]
    fn what_is_no_set_says_so() {
        for text in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": 1}"#, "<html>"] {
            assert!(matches!(KeySet::read(text.as_bytes()), Err(KeySetError::Shape(_))), "{text}");
        }
        let many: Vec<_> = (0..=MAX_KEYS).map(|number| ed25519(&number.to_string())).collect();
        let text = json!({ "keys": many }).to_string();
        assert!(matches!(KeySet::read(text.as_bytes()), Err(KeySetError::TooMany(65))));
        assert_eq!(read(&[]).len(), 0);
    }

    #[test]
    fn a_token_without_a_key_name_leaves_no_choice() {
        let count =
            |set: &KeySet, id: Option<&str>, algorithm: Algorithm| set.candidates(id, algorithm).count();
        let one = read(&[ed25519("a")]);
        assert_eq!(count(&one, None, Algorithm::EdDsa), 1);
        assert_eq!(count(&one, Some("b"), Algorithm::EdDsa), 0);
        assert_eq!(count(&one, Some("a"), Algorithm::Rs256), 0);
        let two = read(&[ed25519("a"), ed25519("b")]);
        assert_eq!(count(&two, None, Algorithm::EdDsa), 0);
        assert_eq!(count(&two, Some("b"), Algorithm::EdDsa), 1);
    }
}
