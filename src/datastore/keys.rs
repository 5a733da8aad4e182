//! API keys as the record holds them: never their text, only a digest of it.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::time::Timestamp;

/// The public part of a key: tells it from others and opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub Arc<str>);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// BLAKE3 of the whole text of a key. A key is random enough that its digest can be kept
/// without salt or stretching: it cannot be guessed. It compares in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub blake3::Hash);

impl fmt::Debug for KeyDigest {
    /// Not the digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key digest")
    }
}

/// A key to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Its public part.
    pub id: KeyId,
    /// What a presented key is compared with.
    pub digest: KeyDigest,
    /// Who the changelog says wrote. Several keys may share one.
    pub name: Arc<str>,
    /// What it may do: `STORE:RIGHT,RIGHT` between spaces.
    pub grants: Arc<str>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Who made it.
    pub created_by: Arc<str>,
}

/// A key for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public part.
    pub id: KeyId,
    /// Who the changelog says wrote.
    pub name: Arc<str>,
    /// What it may do: `STORE:RIGHT,RIGHT` between spaces.
    pub grants: Arc<str>,
    /// When it was made, by the database's clock.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Arc<str>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back, by the database's clock.
    pub revoked_at: Option<Timestamp>,
    /// Who took it back.
    pub revoked_by: Option<Arc<str>>,
}

/// A key that a call may present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveKey {
    /// Its public part.
    pub id: KeyId,
    /// What a presented key is compared with.
    pub digest: KeyDigest,
    /// Who the changelog says wrote.
    pub name: Arc<str>,
    /// What it may do: `STORE:RIGHT,RIGHT` between spaces.
    pub grants: Arc<str>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Names one state of all keys. Random and not counted: when a failover loses the last change,
/// the next one would get the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysStamp(pub Uuid);

/// All keys that have been neither revoked nor outlived, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveKeys {
    /// Of this state.
    pub stamp: KeysStamp,
    /// In no order.
    pub keys: Vec<LiveKey>,
}

/// Which keys to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyFilter {
    /// Only keys of this name.
    pub name: Option<Arc<str>>,
    /// Only this key.
    pub id: Option<KeyId>,
    /// Revoked ones too.
    pub revoked: bool,
}
