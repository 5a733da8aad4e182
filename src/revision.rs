//! Revisions, write ids and zookies (Zanzibar paper §2.2, §2.4).
//!
//! A revision is our own number, gapless per store and in commit order. A number alone does not
//! say which history it belongs to: after a failover that lost commits, the same number may be
//! given out again. The random write id beside it does.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// A point in the total order of a store's writes. Zero is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The state before any write.
    pub const ZERO: Self = Self(0);

    /// The revision that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Identifies one committed write among all that ever used its revision number: a UUID v7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub Uuid);

impl WriteId {
    /// The write id of [`Revision::ZERO`].
    pub const NIL: Self = Self(Uuid::nil());

    /// A fresh write id.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The eight bytes a zookie carries: the random half.
    #[must_use]
    pub fn tag(self) -> [u8; 8] {
        let bytes = self.0.as_bytes();
        let mut tag = [0; 8];
        tag.copy_from_slice(bytes.split_at(8).1);
        tag
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The random identity of a database, made when it is first migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DatabaseId(pub Uuid);

/// The identity of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub Uuid);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The opaque token a client holds: a revision of one store of one database, in one history.
///
/// It needs no secret. A forged one can only ask for more freshness than exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zookie {
    database: [u8; DATABASE_BYTES],
    store: [u8; STORE_BYTES],
    /// The revision it wraps.
    pub revision: Revision,
    /// [`WriteId::tag`] of the write that made the revision.
    pub write: [u8; 8],
}

/// Why a text is not a zookie, or not one that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZookieError {
    /// Not something Relata ever handed out.
    #[error("not a zookie: pass one back exactly as a write or an answer returned it")]
    Malformed,
    /// Handed out by another database.
    #[error("the zookie belongs to another database")]
    OtherDatabase,
    /// Handed out for another store.
    #[error("the zookie belongs to another store")]
    OtherStore,
}

const VERSION: u8 = 1;
const DATABASE_BYTES: usize = 4;
const STORE_BYTES: usize = 6;
const CHECKSUM_BYTES: usize = 3;
const BODY_BYTES: usize = 1 + DATABASE_BYTES + STORE_BYTES + 8 + 8;

fn tail<const N: usize>(id: Uuid) -> [u8; N] {
    let mut tag = [0; N];
    tag.copy_from_slice(id.as_bytes().split_at(16 - N).1);
    tag
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(blake3::hash(body).as_bytes().split_at(CHECKSUM_BYTES).0);
    sum
}

impl Zookie {
    /// The zookie of a revision.
    #[must_use]
    pub fn new(database: DatabaseId, store: StoreId, revision: Revision, write: WriteId) -> Self {
        Self::tagged(database, store, revision, write.tag())
    }

    /// The zookie of a revision whose write id is known by its tag only.
    #[must_use]
    pub fn tagged(database: DatabaseId, store: StoreId, revision: Revision, write: [u8; 8]) -> Self {
        Self { database: tail(database.0), store: tail(store.0), revision, write }
    }

    /// Whether it was handed out by this database for this store.
    ///
    /// # Errors
    /// [`ZookieError::OtherDatabase`] or [`ZookieError::OtherStore`].
    pub fn belongs_to(&self, database: DatabaseId, store: StoreId) -> Result<(), ZookieError> {
        if self.database != tail(database.0) {
            return Err(ZookieError::OtherDatabase);
        }
        if self.store != tail(store.0) {
            return Err(ZookieError::OtherStore);
        }
        Ok(())
    }
}

impl fmt::Display for Zookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BODY_BYTES + CHECKSUM_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.database);
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.revision.0.to_be_bytes());
        bytes.extend_from_slice(&self.write);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Takes the next `N` bytes off the front.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ZookieError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(ZookieError::Malformed)?;
    *rest = tail;
    Ok(*head)
}

impl FromStr for Zookie {
    type Err = ZookieError;

    fn from_str(text: &str) -> Result<Self, ZookieError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| ZookieError::Malformed)?;
        if bytes.len() != BODY_BYTES + CHECKSUM_BYTES {
            return Err(ZookieError::Malformed);
        }
        let (body, sum) = bytes.split_at(BODY_BYTES);
        if sum != checksum(body) {
            return Err(ZookieError::Malformed);
        }
        let mut rest = body;
        let [version] = take::<1>(&mut rest)?;
        if version != VERSION {
            return Err(ZookieError::Malformed);
        }
        Ok(Self {
            database: take(&mut rest)?,
            store: take(&mut rest)?,
            revision: Revision(u64::from_be_bytes(take(&mut rest)?)),
            write: take(&mut rest)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zookie_round_trips_and_stays_short() {
        let (database, store) = (DatabaseId(Uuid::new_v4()), StoreId(Uuid::new_v4()));
        let zookie = Zookie::new(database, store, Revision(u64::MAX), WriteId::fresh());
        let text = zookie.to_string();
        assert!(text.len() < 60, "{} bytes", text.len());
        assert_eq!(text.parse(), Ok(zookie));
        assert_eq!(zookie.belongs_to(database, store), Ok(()));
        assert_eq!(zookie.belongs_to(database, StoreId(Uuid::new_v4())), Err(ZookieError::OtherStore));
        assert_eq!(zookie.belongs_to(DatabaseId(Uuid::new_v4()), store), Err(ZookieError::OtherDatabase));
    }

    #[test]
    fn what_we_never_handed_out_is_refused() {
        let zookie = Zookie::new(DatabaseId(Uuid::nil()), StoreId(Uuid::nil()), Revision(7), WriteId::NIL);
        let mut text = zookie.to_string();
        assert_eq!("".parse::<Zookie>(), Err(ZookieError::Malformed));
        assert_eq!("ünïcode".parse::<Zookie>(), Err(ZookieError::Malformed));
        let last = text.pop().expect("not empty");
        text.push(if last == 'A' { 'B' } else { 'A' });
        assert_eq!(text.parse::<Zookie>(), Err(ZookieError::Malformed));
    }
}
