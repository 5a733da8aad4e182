//! Cursors: where a page ended, and everything that must not change until the next one.
//!
//! A cursor pins revision, schema and `now`, so that the pages of one list are pages of one
//! answer, on whichever node they are asked. It is bound to its request by a digest and
//! authenticated by a keyed MAC, so that nobody can make one that reads at a time or a schema
//! they were not shown. The keys are in the database: any node continues any list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

use crate::datastore::{Identity, SchemaId};
use crate::revision::{Revision, StoreId};
use crate::time::Timestamp;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
const REQUEST_BYTES: usize = 8;

/// Longest text taken for a cursor, in characters: a subject and the pins fit several times.
const MAX_TEXT: usize = 4_096;

/// What stays fixed from page to page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The revision listed.
    pub revision: Revision,
    /// Its history: [`crate::revision::WriteId::tag`].
    pub write: [u8; 8],
    /// The schema the answer is derived with.
    pub schema: Option<SchemaId>,
    /// The moment that expiry and conditions are judged at.
    pub now: Timestamp,
}

impl Pin {
    /// Of a list that is not of one revision.
    pub const NONE: Self =
        Self { revision: Revision::ZERO, write: [0; 8], schema: None, now: Timestamp::from_micros(0) };
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// What stays fixed.
    pub pin: Pin,
    /// The last item of the page, in the form its RPC sorts by.
    pub after: String,
}

/// Identifies a request apart from its page: the method, the store and every other field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestDigest([u8; 32]);

impl RequestDigest {
    /// The digest of a request whose page size, cursor and store field have been cleared. The
    /// encoding is canonical: prost writes fields in order and keeps maps sorted.
    #[must_use]
    pub fn of(method: &str, store: Option<StoreId>, cleared: &impl Message) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(method.as_bytes()).update(&[0]);
        if let Some(StoreId(id)) = store {
            hasher.update(id.as_bytes());
        }
        hasher.update(&cleared.encode_to_vec());
        Self(*hasher.finalize().as_bytes())
    }

    /// All of it, for what is stored beside an idempotency key.
    #[must_use]
    pub fn into_bytes(self) -> [u8; 32] {
        self.0
    }

    fn tag(self) -> [u8; REQUEST_BYTES] {
        let mut tag = [0; REQUEST_BYTES];
        tag.copy_from_slice(self.0.split_at(REQUEST_BYTES).0);
        tag
    }
}

/// Why a text is not a cursor that can be used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not something this database ever handed out, or changed on the way.
    #[error("not a cursor of this database: pass one back exactly as the last page returned it")]
    Invalid,
    /// Handed out for another request.
    #[error("the cursor belongs to another request: only page size may change between pages")]
    OtherRequest,
}

/// Seals and opens cursors.
#[derive(Clone)]
pub struct CursorKeys {
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for CursorKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cursor keys")
    }
}

impl CursorKeys {
    /// The keys of a database. Its id is mixed in, so that a database copied from another one
    /// and given a new identity no longer accepts the other's cursors.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let keys = identity.cursor_keys.iter().map(|key| {
            *blake3::Hasher::new_keyed(key)
                .update(b"relata cursor")
                .update(identity.database.0.as_bytes())
                .finalize()
                .as_bytes()
        });
        Self { keys: keys.collect() }
    }

    /// The text form of a cursor, authenticated by the newest key.
    #[must_use]
    pub fn seal(&self, request: RequestDigest, cursor: &Cursor) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&request.tag());
        bytes.extend_from_slice(&cursor.pin.revision.0.to_be_bytes());
        bytes.extend_from_slice(&cursor.pin.write);
        bytes.extend_from_slice(&cursor.pin.schema.map_or(0, |SchemaId(id)| id.0).to_be_bytes());
        bytes.extend_from_slice(&cursor.pin.now.as_micros().to_be_bytes());
        bytes.extend_from_slice(cursor.after.as_bytes());
        // A database without keys cannot be: the first migration makes one. Were it so, a key
        // nobody holds would make cursors that nobody accepts.
        let mac = self.keys.first().map_or_else(|| blake3::hash(&[]), |key| blake3::keyed_hash(key, &bytes));
        bytes.extend_from_slice(mac.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Takes a text for a cursor of this request.
    pub fn open(&self, request: RequestDigest, text: &str) -> Result<Cursor, CursorError> {
        if text.len() > MAX_TEXT {
            return Err(CursorError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Invalid)?;
        let (body, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(CursorError::Invalid)?;
        // The comparison of hashes takes constant time.
        let authentic = self
            .keys
            .iter()
            .fold(false, |authentic, key| authentic | (blake3::keyed_hash(key, body) == *mac));
        if !authentic {
            return Err(CursorError::Invalid);
        }
        let mut rest = body;
        let [version] = take::<1>(&mut rest)?;
        if version != VERSION {
            return Err(CursorError::Invalid);
        }
        if take::<REQUEST_BYTES>(&mut rest)? != request.tag() {
            return Err(CursorError::OtherRequest);
        }
        let revision = Revision(u64::from_be_bytes(take(&mut rest)?));
        let write = take(&mut rest)?;
        let schema = match u128::from_be_bytes(take(&mut rest)?) {
            0 => None,
            id => Some(SchemaId(ulid::Ulid(id))),
        };
        let now = Timestamp::from_micros(i64::from_be_bytes(take(&mut rest)?));
        let after = std::str::from_utf8(rest).map_err(|_| CursorError::Invalid)?.to_owned();
        Ok(Cursor { pin: Pin { revision, write, schema, now }, after })
    }
}

/// Takes the next `N` bytes off the front.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CursorError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(CursorError::Invalid)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ListObjectsRequest;
    use crate::revision::DatabaseId;
    use uuid::Uuid;

    fn keys(keys: &[u8]) -> CursorKeys {
        let identity = Identity {
            database: DatabaseId(Uuid::nil()),
            cursor_keys: keys.iter().map(|key| [*key; 32]).collect(),
        };
        CursorKeys::new(&identity)
    }

    fn request(subject: &str) -> RequestDigest {
        RequestDigest::of(
            "ListObjects",
            None,
            &ListObjectsRequest { subject: subject.into(), ..Default::default() },
        )
    }

    fn cursor() -> Cursor {
        let pin = Pin {
            revision: Revision(7),
            write: [1; 8],
            schema: Some(SchemaId(ulid::Ulid(9))),
            now: Timestamp::from_micros(-5),
        };
        Cursor { pin, after: "doc:überplan".into() }
    }

    #[test]
    fn a_cursor_round_trips_and_outlives_a_rotation() {
        let text = keys(&[1]).seal(request("user:ann"), &cursor());
        assert_eq!(keys(&[1]).open(request("user:ann"), &text), Ok(cursor()));
        assert_eq!(keys(&[2, 1]).open(request("user:ann"), &text), Ok(cursor()));
        let bare = Cursor { pin: Pin { schema: None, ..cursor().pin }, after: String::new() };
        let text = keys(&[1]).seal(request("user:ann"), &bare);
        assert_eq!(keys(&[1]).open(request("user:ann"), &text), Ok(bare));
    }

    #[test]
    fn what_is_forged_or_foreign_is_refused() {
        let text = keys(&[1]).seal(request("user:ann"), &cursor());
        assert_eq!(keys(&[2]).open(request("user:ann"), &text), Err(CursorError::Invalid));
        assert_eq!(keys(&[1]).open(request("user:eve"), &text), Err(CursorError::OtherRequest));
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("base64");
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert_eq!(keys(&[1]).open(request("user:ann"), &forged), Err(CursorError::Invalid), "byte {at}");
        }
        for malformed in ["", "x", "not base64!", &"A".repeat(MAX_TEXT + 1)] {
            assert_eq!(keys(&[1]).open(request("user:ann"), malformed), Err(CursorError::Invalid));
        }
    }

    #[test]
    fn another_database_has_other_keys() {
        let other = Identity { database: DatabaseId(Uuid::from_u128(1)), cursor_keys: vec![[1; 32]] };
        let text = keys(&[1]).seal(request("user:ann"), &cursor());
        assert_eq!(CursorKeys::new(&other).open(request("user:ann"), &text), Err(CursorError::Invalid));
    }
}
