//! Making and revoking keys in the record: for the service, and for whoever works on the
//! database without a server.

use std::sync::Arc;

use super::api_key::{ApiKey, check_key_name, is_key_id};
use super::grants::Grants;
use crate::datastore::{Datastore, DatastoreError, KeyFilter, KeyId, StoredKey};
use crate::time::Timestamp;

/// Most live keys of a database: every node holds them all.
const MAX_KEYS: usize = 10_000;
/// Most keys of one name that are revoked at once.
const MAX_AT_ONCE: u32 = 1_000;

/// Why a key was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeyWorkError {
    /// Keys cannot have that name.
    #[error("{0}")]
    Name(String),
    /// There are as many as there may be.
    #[error("there are {MAX_KEYS} live keys, the most a database may have; revoke some")]
    TooMany,
    /// There is no key of that id, or no live one of that name.
    #[error("there is no API key `{0}`")]
    NotFound(String),
    /// Several live keys have that name.
    #[error("several live keys are named `{name}`: name one of {} by its id, or revoke all", texts(.ids))]
    Ambiguous {
        /// The name.
        name: String,
        /// The keys.
        ids: Vec<KeyId>,
    },
    /// The record could not be asked or changed.
    #[error(transparent)]
    Record(#[from] DatastoreError),
}

fn texts(ids: &[KeyId]) -> String {
    ids.iter().map(|id| &*id.0).collect::<Vec<_>>().join(", ")
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct KeyWish {
    /// Who will be said to write with it.
    pub name: String,
    /// What it may do.
    pub grants: Grants,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Makes a key.
pub async fn make_key(
    record: Arc<dyn Datastore>,
    wish: KeyWish,
    by: Arc<str>,
) -> Result<(ApiKey, StoredKey), KeyWorkError> {
    check_key_name(&wish.name).map_err(KeyWorkError::Name)?;
    if record.live_keys(None).await?.is_some_and(|live| live.keys.len() >= MAX_KEYS) {
        return Err(KeyWorkError::TooMany);
    }
    let key = ApiKey::generate();
    let new = key.for_the_record(&wish.name, &wish.grants, wish.expires_at, &by);
    let stored = record.create_key(new).await?;
    tracing::info!(
        principal = &*by, key = %stored.id, name = &*stored.name, grants = &*stored.grants, "made an API key"
    );
    Ok((key, stored))
}

/// Revokes the key of an id, or the keys of a name: one, unless `all` are meant.
pub async fn revoke_keys(
    record: Arc<dyn Datastore>,
    key: String,
    all: bool,
    by: Arc<str>,
) -> Result<Vec<StoredKey>, KeyWorkError> {
    let ids = if is_key_id(&key) {
        vec![KeyId(key.as_str().into())]
    } else {
        let filter = KeyFilter { name: Some(key.as_str().into()), ..KeyFilter::default() };
        record.keys(&filter, None, MAX_AT_ONCE).await?.into_iter().map(|key| key.id).collect()
    };
    if ids.len() > 1 && !all {
        return Err(KeyWorkError::Ambiguous { name: key, ids });
    }
    let mut revoked = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(key) = record.revoke_key(&id, &by).await? {
            tracing::info!(principal = &*by, key = %key.id, name = &*key.name, "revoked an API key");
            revoked.push(key);
        }
    }
    if revoked.is_empty() { Err(KeyWorkError::NotFound(key)) } else { Ok(revoked) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::sqlite::Sqlite;
    use crate::metrics::Metrics;

    async fn make(record: &Arc<dyn Datastore>, name: &str) -> Result<StoredKey, KeyWorkError> {
        let wish = KeyWish { name: name.to_owned(), grants: Grants::everything(), expires_at: None };
        make_key(Arc::clone(record), wish, "test".into()).await.map(|(_, stored)| stored)
    }

    async fn revoke(record: &Arc<dyn Datastore>, key: &str, all: bool) -> Result<Vec<KeyId>, KeyWorkError> {
        let revoked = revoke_keys(Arc::clone(record), key.to_owned(), all, "test".into()).await?;
        Ok(revoked.into_iter().map(|key| key.id).collect())
    }

    #[tokio::test]
    async fn one_key_or_all_of_a_name_are_revoked() {
        let record: Arc<dyn Datastore> = Arc::new(Sqlite::temporary(Metrics::new()).expect("a database"));
        record.migrate().await.expect("migrated");
        let one = make(&record, "one").await.expect("made");
        let (first, second) =
            (make(&record, "ci").await.expect("made"), make(&record, "ci").await.expect("made"));
        let third = make(&record, "ci").await.expect("made");
        assert!(matches!(make(&record, "1").await, Err(KeyWorkError::Name(_))));

        assert_eq!(revoke(&record, "one", false).await.expect("revoked"), std::slice::from_ref(&one.id));
        assert!(matches!(revoke(&record, "one", false).await, Err(KeyWorkError::NotFound(_))), "not live");
        assert_eq!(
            revoke(&record, &one.id.0, false).await.expect("still"),
            [one.id],
            "by id it stays revoked"
        );
        let ambiguous = revoke(&record, "ci", false).await.expect_err("three");
        assert!(ambiguous.to_string().contains(&*first.id.0), "{ambiguous}");
        assert_eq!(revoke(&record, &second.id.0, false).await.expect("revoked"), [second.id]);
        let mut rest = revoke(&record, "ci", true).await.expect("revoked");
        rest.sort();
        let mut expected = vec![first.id, third.id];
        expected.sort();
        assert_eq!(rest, expected);
        for gone in ["", "nobody", "0", "0123456789ab"] {
            assert!(matches!(revoke(&record, gone, true).await, Err(KeyWorkError::NotFound(_))), "{gone}");
        }
    }
}
