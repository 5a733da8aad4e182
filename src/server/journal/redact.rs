//! Ids as keyed hashes: the same id is always the same hash, so that lines can be joined, and without
//! the key nobody can tell which id it is, not even by trying all likely ones.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::tuple::TypeName;

/// Makes this key differ from whatever else the file's content may be used for.
const PURPOSE: &str = "relata 2026-11 redaction of ids in logs";
/// Less than this can be guessed.
const LEAST_BYTES: usize = 16;
/// Bytes of a hash that are shown: 96 bits, too many for two ids to meet by chance.
const SHOWN_BYTES: usize = 12;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// The file cannot be read.
    #[error("cannot read the key for redaction `{path}`")]
    Read {
        /// Its path.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is too short to be secret.
    #[error("the key for redaction `{path}` has {found} bytes, and needs {LEAST_BYTES} at least")]
    Short {
        /// Its path.
        path: String,
        /// How many it has.
        found: usize,
    },
}

/// Replaces ids. It does not print its key.
#[derive(Clone)]
pub struct Redactor([u8; 32]);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(***)")
    }
}

impl Redactor {
    /// With the key in a file; white space around it does not count.
    pub fn open(path: &Path) -> Result<Self, RedactError> {
        let name = || path.display().to_string();
        let content = fs::read(path).map_err(|source| RedactError::Read { path: name(), source })?;
        let key = content.trim_ascii();
        if key.len() < LEAST_BYTES {
            return Err(RedactError::Short { path: name(), found: key.len() });
        }
        Ok(Self::of(key))
    }

    /// With a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(blake3::derive_key(PURPOSE, key))
    }

    /// The hash of a text, such as `~0f3c…`.
    #[must_use]
    pub fn hash(&self, text: &str) -> String {
        let hash = blake3::keyed_hash(&self.0, text.as_bytes());
        let mut shown = String::with_capacity(1 + 2 * SHOWN_BYTES);
        shown.push('~');
        for byte in hash.as_bytes().iter().take(SHOWN_BYTES) {
            for digit in [byte >> 4, byte & 15] {
                shown.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        shown
    }

    /// An object or a subject with its id replaced: type and relation stay, and so does the `*` of a
    /// wildcard. Whatever is none is replaced as a whole.
    #[must_use]
    pub fn node(&self, text: &str) -> String {
        let Some((object_type, rest)) = text.split_once(':') else { return self.hash(text) };
        let (id, relation) = match rest.split_once('#') {
            Some((id, relation)) => (id, Some(relation)),
            None => (rest, None),
        };
        let plain = |name: &str| name.len() <= 254 && TypeName::new(name).is_ok();
        if !plain(object_type) || relation.is_some_and(|relation| !plain(relation)) {
            return self.hash(text);
        }
        let id = if id == "*" { "*".to_owned() } else { self.hash(&format!("{object_type}:{id}")) };
        match relation {
            Some(relation) => format!("{object_type}:{id}#{relation}"),
            None => format!("{object_type}:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_replaced_and_nothing_else() {
        let redactor = Redactor::of(b"0123456789abcdef");
        let ann = redactor.node("user:ann");
        assert!(ann.starts_with("user:~") && ann.len() == "user:~".len() + 24, "{ann}");
        assert_eq!(redactor.node("user:ann"), ann, "the same again");
        assert_eq!(redactor.node("user:ann#friend"), format!("{ann}#friend"));
        assert_ne!(redactor.node("user:bob"), ann);
        assert_ne!(redactor.node("bot:ann").trim_start_matches("bot"), ann.trim_start_matches("user"));
        assert_ne!(Redactor::of(b"another key 0123").node("user:ann"), ann, "with another key");
        assert_eq!(redactor.node("user:*"), "user:*");
        for nothing in ["ann", "ann smith:x", "", "user:x#ann smith", "a\u{0}b:c"] {
            let hidden = redactor.node(nothing);
            assert!(hidden.starts_with('~') && hidden.len() == 25, "{hidden}");
        }
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused_and_none_is_printed() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "  0123456789abcde \n").expect("written");
        let error = Redactor::open(file.path()).expect_err("short").to_string();
        assert!(error.contains("has 15 bytes"), "{error}");
        fs::write(file.path(), "0123456789abcdef\n").expect("written");
        let redactor = Redactor::open(file.path()).expect("a key");
        assert_eq!(redactor.node("user:ann"), Redactor::of(b"0123456789abcdef").node("user:ann"));
        assert_eq!(format!("{redactor:?}"), "Redactor(***)");
    }
}
