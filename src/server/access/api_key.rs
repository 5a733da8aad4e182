//! The text of an API key.
//!
//! ```text
//! relata_7k3m9q2x1abc_0123456789abcdefghjkmnpqrstvwxyz01234567h4n8w2c
//! └─┬──┘ └────┬─────┘ └─────────────────┬────────────────────┘└──┬──┘
//!   │         id: which key it is       │                        checksum of all before
//!   so that scanners of source code know it                      so that a typing mistake is told
//!                                       200 random bits          apart from a revoked key
//! ```
//!
//! The digits are Crockford's, in lower case: no `i`, `l`, `o` or `u`. An id begins with a digit
//! and a name with a letter, so that one cannot be taken for the other.

use super::grants::Grants;
use crate::datastore::{KeyDigest, KeyId, NewKey};
use crate::server::convert::clip;
use crate::time::Timestamp;

/// What every key begins with.
const PREFIX: &str = "relata_";
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 40;
const CHECKSUM_DIGITS: usize = 7;
/// Longest name of a key, in characters.
const MAX_NAME_CHARS: usize = 64;

/// A key. It does not print; [`ApiKey::expose`] is the one way to the text.
#[derive(Clone)]
pub struct ApiKey(String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "API key {}", self.id())
    }
}

impl ApiKey {
    /// A key that nobody can guess.
    #[must_use]
    pub fn generate() -> Self {
        let random: [u8; ID_DIGITS + SECRET_DIGITS] = rand::random();
        let (id, secret) = random.split_at(ID_DIGITS);
        let first = id.first().map_or(b'0', |byte| b'0' + byte % 10);
        let mut text = String::from(PREFIX);
        text.push(char::from(first));
        text.extend(id.iter().skip(1).map(|byte| digit(*byte)));
        text.push('_');
        text.extend(secret.iter().map(|byte| digit(*byte)));
        text.push_str(&checksum(&text));
        Self(text)
    }

    /// Whether a text wants to be a key, right or wrong.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The id in a text, if the text has the form of a key. The checksum is not looked at: a key
    /// that is known by its digest needs none.
    #[must_use]
    pub fn id_in(text: &str) -> Option<&str> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let formed = id.len() == ID_DIGITS && secret.len() == SECRET_DIGITS + CHECKSUM_DIGITS;
        formed.then_some(id)
    }

    /// Whether a text may be a key: a mistyped one is not.
    #[must_use]
    pub fn is_whole(text: &str) -> bool {
        let body = text.len().checked_sub(CHECKSUM_DIGITS).and_then(|end| text.split_at_checked(end));
        body.is_some_and(|(body, sum)| Self::id_in(text).is_some() && checksum(body) == sum)
    }

    /// What the record keeps of a text, and compares.
    #[must_use]
    pub fn digest_of(text: &str) -> KeyDigest {
        KeyDigest(blake3::hash(text.as_bytes()))
    }

    /// Which key it is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(Self::id_in(&self.0).unwrap_or_default().into())
    }

    /// What the record keeps of it.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        Self::digest_of(&self.0)
    }

    /// What the record is given of it.
    #[must_use]
    pub fn for_the_record(
        &self,
        name: &str,
        grants: &Grants,
        expires_at: Option<Timestamp>,
        created_by: &str,
    ) -> NewKey {
        NewKey {
            id: self.id(),
            digest: self.digest(),
            name: name.into(),
            grants: grants.to_string().into(),
            expires_at,
            created_by: created_by.into(),
        }
    }

    /// The text itself. Named so that every place that uses it can be searched for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Whether a text could be the id of a key, as opposed to the name of one.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether keys may have this name; the error says why not. It may not look like an id.
pub fn check_key_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '/');
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err(format!("the name of a key has 1 to {MAX_NAME_CHARS} characters"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
        return Err(format!(
            "`{}` is not the name of a key: use letters, digits, `-`, `_`, `.`, `@` and `/`, and begin with a letter",
            clip(name)
        ));
    }
    Ok(())
}

fn digit(value: u8) -> char {
    // INVARIANT: 32 digits, and an index below 32.
    DIGITS.get(usize::from(value % 32)).map_or('0', |digit| char::from(*digit))
}

/// The first 35 bits of the BLAKE3 of a text, as digits.
fn checksum(text: &str) -> String {
    let mut bits = [0; 8];
    bits.copy_from_slice(blake3::hash(text.as_bytes()).as_bytes().split_at(8).0);
    let bits = u64::from_be_bytes(bits);
    (1..=CHECKSUM_DIGITS).map(|place| digit((bits >> (64 - 5 * place) & 31) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_key_has_its_form_and_tells_its_id() {
        let keys: Vec<ApiKey> = (0..100).map(|_| ApiKey::generate()).collect();
        assert_eq!(keys.iter().map(ApiKey::id).collect::<HashSet<_>>().len(), keys.len());
        for key in &keys {
            let text = key.expose();
            assert_eq!(text.len(), 67);
            assert!(ApiKey::is_whole(text) && is_key_id(&key.id().0), "{text}");
            assert!(
                text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
            );
            assert_eq!(key.digest(), ApiKey::digest_of(text));
            let shown = format!("{key:?}");
            assert!(shown.contains(&*key.id().0) && !text.contains(&shown) && shown.len() < 25, "{shown}");
        }
    }

    #[test]
    fn a_name_is_short_and_plain_and_no_id() {
        for name in ["ci", "team-a/deploy_1.2", "ann@example.org"] {
            assert!(check_key_name(name).is_ok() && !is_key_id(name), "{name}");
        }
        for name in ["", "1ci", "a b", "ä", "a|b", "a:b", "-a", &"x".repeat(65)] {
            assert!(check_key_name(name).is_err(), "{name}");
        }
        assert!(check_key_name(&ApiKey::generate().id().0).is_err());
    }

    /// Scanners that check the checksum rely on how it is made.
    #[test]
    fn the_checksum_is_made_as_documented() {
        assert_eq!(checksum("relata_0_"), {
            let hash = blake3::hash(b"relata_0_");
            let bits: Vec<u8> =
                hash.as_bytes().iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
            let value = |five: &[u8]| five.iter().fold(0, |value, bit| 2 * value + bit);
            bits.chunks(5).take(7).map(|five| digit(value(five))).collect::<String>()
        });
    }

    #[test]
    fn a_mistyped_key_is_told_apart() {
        let key = ApiKey::generate();
        let text = key.expose();
        for at in PREFIX.len()..text.len() {
            let mut typed = text.as_bytes().to_vec();
            typed[at] = if typed[at] == b'x' { b'y' } else { b'x' };
            let typed = String::from_utf8(typed).expect("ASCII");
            assert!(!ApiKey::is_whole(&typed), "{typed}");
        }
        for other in ["", "relata_", "relata__", &text[1..], &text[..66], &format!("{text}0"), "relata_äöü"]
        {
            assert!(!ApiKey::is_whole(other), "{other}");
        }
    }
}
