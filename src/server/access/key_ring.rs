//! The API keys that this node knows: those of the record, as of a moment ago.
//!
//! A task asks the record every second whether the keys have changed and takes them all if so.
//! A key that is revoked is therefore gone from every node within that second, and at once from
//! the node that was asked to revoke it. A key that a node does not know is asked for before it
//! is refused, so a new one can be used anywhere at once.
//!
//! A node that has not reached the record for `max_staleness` cannot know what has been revoked.
//! It then refuses every key, with `KEYS_STALE`: a key does not outlive its revocation on a node
//! that is cut off, however old its answers may be by `allow_stale`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::api_key::ApiKey;
use super::authenticator::{Authenticator, Presented, Recognition};
use super::grants::Grants;
use super::principal::Principal;
use crate::datastore::{Datastore, DatastoreError, KeysStamp, LiveKey, LiveKeys};
use crate::metrics::Credential;
use crate::server::logging::cause;
use crate::server::status::Error;

/// How often the record is asked whether the keys have changed.
const POLL: Duration = Duration::from_secs(1);
/// The least time between two questions, however many unknown keys are presented.
const SPACING: Duration = Duration::from_millis(50);
/// How long a call with an unknown key may wait for the record.
const PATIENCE: Duration = Duration::from_secs(2);

/// Calls with unknown keys that may wait at once. Whoever sends many makes them up; beyond that a call
/// is refused at once, and told to try again, since its key may be new.
const MAX_WAITING: usize = 256;
/// When a call may try again that there was no room for.
const RETRY: Duration = Duration::from_millis(250);

/// The keys of the record, followed.
#[derive(Debug)]
pub struct KeyRing {
    known: ArcSwap<Known>,
    /// When the last question that was answered had been asked.
    current: watch::Sender<Instant>,
    wanted: Notify,
    /// Places of calls with unknown keys.
    waiting: Arc<Semaphore>,
    max_staleness: Duration,
}

/// One state of the keys.
#[derive(Debug)]
struct Known {
    stamp: KeysStamp,
    /// By id. The hash is seeded: strangers choose what is looked up.
    keys: HashMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    key: LiveKey,
    principal: Arc<Principal>,
}

impl KeyRing {
    /// Reads the keys and follows them on the current runtime, until the handle is aborted.
    pub async fn follow(
        record: Arc<dyn Datastore>,
        max_staleness: Duration,
    ) -> Result<(Arc<Self>, AbortHandle), DatastoreError> {
        let asked = Instant::now();
        let live = record.live_keys(None).await?;
        let live = live.ok_or_else(|| DatastoreError::Corrupt("the keys cannot be told".to_owned()))?;
        let ring = Arc::new(Self {
            known: ArcSwap::from_pointee(Known::after(None, live)),
            current: watch::Sender::new(asked),
            wanted: Notify::new(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            max_staleness,
        });
        let following = tokio::spawn(Arc::clone(&ring).run(record));
        Ok((ring, following.abort_handle()))
    }

    async fn run(self: Arc<Self>, record: Arc<dyn Datastore>) {
        let mut failing = false;
        loop {
            // Whether it was wanted or the time has come, the record is asked.
            let _ = timeout(POLL, self.wanted.notified()).await;
            let asked = Instant::now();
            let outcome = self.ask(&*record).await;
            match &outcome {
                Ok(()) => {
                    self.current.send_replace(asked);
                    if failing {
                        tracing::info!("the API keys are current again");
                    }
                }
                Err(error) if !failing => {
                    tracing::warn!(cause = cause(error), "the API keys cannot be followed: {error}");
                }
                Err(_) => {}
            }
            failing = outcome.is_err();
            sleep(SPACING).await;
        }
    }

    async fn ask(&self, record: &dyn Datastore) -> Result<(), DatastoreError> {
        let known = self.known.load_full();
        if let Some(live) = record.live_keys(Some(known.stamp)).await? {
            self.known.store(Arc::new(Known::after(Some(&known), live)));
        }
        Ok(())
    }

    /// Waits until the keys are those of a moment not before now: after they were changed, and
    /// before an unknown one is refused.
    pub async fn renew(&self) -> Result<(), Error> {
        let wanted = Instant::now();
        let mut current = self.current.subscribe();
        self.wanted.notify_one();
        let renewed = timeout(PATIENCE, current.wait_for(|asked| *asked >= wanted)).await;
        // The sender is ours, so the only failure is to be late.
        if renewed.is_ok() { Ok(()) } else { Err(self.stale()) }
    }

    fn stale(&self) -> Error {
        Error::KeysStale { age: self.current.borrow().elapsed(), bound: self.max_staleness }
    }

    /// Whose key a text is, if it is one of those known here.
    fn find(&self, text: &str) -> Option<Arc<Principal>> {
        let known = self.known.load();
        let entry = known.keys.get(ApiKey::id_in(text)?)?;
        // The id is no secret. What is, is compared by its digest, in constant time.
        let holds = entry.key.digest == ApiKey::digest_of(text) && !entry.principal.has_ended();
        holds.then(|| Arc::clone(&entry.principal))
    }

    fn look_up(self: &Arc<Self>, text: &str) -> Recognition {
        if self.current.borrow().elapsed() > self.max_staleness {
            return Recognition::Settled(Err(self.stale()));
        }
        if let Some(principal) = self.find(text) {
            return Recognition::Settled(Ok(principal));
        }
        if !ApiKey::is_whole(text) {
            return Recognition::Settled(Err(Error::MistypedKey));
        }
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Recognition::Settled(Err(Error::Overloaded { resource: "unknown_keys", retry: RETRY }));
        };
        let (ring, text) = (Arc::clone(self), text.to_owned());
        Recognition::Asked(Box::pin(async move {
            ring.renew().await?;
            drop(place);
            ring.find(&text).ok_or(Error::UnknownCredential)
        }))
    }
}

impl Known {
    /// The state after another one. Who stays the same stays the same principal; who is gone has
    /// their streams ended.
    fn after(before: Option<&Self>, live: LiveKeys) -> Self {
        let mut keys = HashMap::with_capacity(live.keys.len());
        for key in live.keys {
            let same = before
                .and_then(|before| before.keys.get(&key.id.0))
                .filter(|entry| entry.key == key)
                .map(|entry| Arc::clone(&entry.principal));
            let principal = match same {
                Some(principal) => principal,
                None => match key.grants.parse::<Grants>() {
                    Ok(grants) => {
                        Arc::new(Principal::new(format!("key:{}", key.name), grants).until(key.expires_at))
                    }
                    Err(error) => {
                        tracing::error!(key = %key.id, "a key is not taken, its grants cannot be understood: {error}");
                        continue;
                    }
                },
            };
            keys.insert(Arc::clone(&key.id.0), Entry { key, principal });
        }
        for (id, entry) in before.into_iter().flat_map(|before| &before.keys) {
            if !keys.get(id).is_some_and(|now| Arc::ptr_eq(&now.principal, &entry.principal)) {
                entry.principal.withdraw();
            }
        }
        Self { stamp: live.stamp, keys }
    }
}

/// Recognises API keys.
#[derive(Debug)]
pub struct ApiKeys(pub Arc<KeyRing>);

impl Authenticator for ApiKeys {
    fn kind(&self) -> Credential {
        Credential::Key
    }

    fn recognise(&self, presented: &Presented<'_>) -> Recognition {
        match presented.bearer {
            Some(bearer) if ApiKey::is_meant_by(bearer.expose()) => self.0.look_up(bearer.expose()),
            Some(_) | None => Recognition::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::NewKey;
    use crate::datastore::sqlite::Sqlite;
    use crate::metrics::Metrics;
    use crate::server::access::now;

    async fn record() -> Arc<dyn Datastore> {
        let record = Sqlite::temporary(Metrics::new()).expect("a database");
        record.migrate().await.expect("migrated");
        Arc::new(record)
    }

    async fn make(record: &Arc<dyn Datastore>, name: &str, lasting: Option<Duration>) -> ApiKey {
        let key = ApiKey::generate();
        let expires_at = lasting.map(|lasting| now().saturating_add(lasting));
        let grants = "default:read".parse().expect("grants");
        let new = key.for_the_record(name, &grants, expires_at, "test");
        record.create_key(new).await.expect("made");
        key
    }

    async fn name_of(ring: &Arc<KeyRing>, text: &str) -> Result<String, Error> {
        let principal = match ring.look_up(text) {
            Recognition::Settled(outcome) => outcome,
            Recognition::Asked(asked) => asked.await,
            Recognition::Foreign => panic!("a key is meant"),
        };
        principal.map(|principal| principal.name().to_string())
    }

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_new_key_is_known_at_once_and_a_revoked_one_is_not() {
        let record = record().await;
        let old = make(&record, "old", None).await;
        let (ring, _following) = KeyRing::follow(Arc::clone(&record), LONG).await.expect("keys");
        assert_eq!(name_of(&ring, old.expose()).await.expect("known"), "key:old");
        // Made behind the ring's back, as another node does.
        let new = make(&record, "new", None).await;
        assert_eq!(name_of(&ring, new.expose()).await.expect("known"), "key:new");

        let Recognition::Settled(Ok(principal)) = ring.look_up(old.expose()) else { panic!("known") };
        record.revoke_key(&old.id(), "test").await.expect("revoked");
        ring.renew().await.expect("current");
        assert!(matches!(name_of(&ring, old.expose()).await, Err(Error::UnknownCredential)));
        assert!(principal.has_ended(), "streams opened with it end");
        let Recognition::Settled(Ok(kept)) = ring.look_up(new.expose()) else { panic!("known") };
        assert!(!kept.has_ended(), "others are not disturbed");
    }

    /// Without anybody asking, as on a node where nothing happens.
    #[tokio::test]
    async fn a_revocation_is_noticed_by_itself() {
        let record = record().await;
        let key = make(&record, "ci", None).await;
        let (ring, _following) = KeyRing::follow(Arc::clone(&record), LONG).await.expect("keys");
        let Recognition::Settled(Ok(principal)) = ring.look_up(key.expose()) else { panic!("known") };
        record.revoke_key(&key.id(), "test").await.expect("revoked");
        timeout(Duration::from_secs(30), principal.ended()).await.expect("within a poll");
    }

    #[tokio::test]
    async fn an_expired_key_is_refused_by_the_clock_alone() {
        let record = record().await;
        let key = make(&record, "short", Some(Duration::from_secs(1))).await;
        let (ring, following) = KeyRing::follow(Arc::clone(&record), LONG).await.expect("keys");
        let Recognition::Settled(Ok(principal)) = ring.look_up(key.expose()) else { panic!("known") };
        following.abort();
        principal.ended().await;
        assert!(ring.find(key.expose()).is_none());
    }

    #[tokio::test]
    async fn what_differs_in_the_secret_is_another_key() {
        let record = record().await;
        let key = make(&record, "ci", None).await;
        let (ring, _following) = KeyRing::follow(Arc::clone(&record), LONG).await.expect("keys");
        // A stranger can copy the id and compute a checksum.
        let other = ApiKey::generate();
        let forged = other.expose().replace(&*other.id().0, &key.id().0);
        assert!(matches!(name_of(&ring, &forged).await, Err(Error::MistypedKey)));
        assert!(matches!(name_of(&ring, other.expose()).await, Err(Error::UnknownCredential)));
        assert!(ring.find(&forged).is_none());
        for odd in ["relata_", "relata_1_2", "relata_äöü"] {
            assert!(matches!(name_of(&ring, odd).await, Err(Error::MistypedKey)), "{odd}");
        }
    }

    /// The record does not answer, and somebody makes up keys.
    #[tokio::test]
    async fn few_calls_wait_for_keys_that_nobody_knows() {
        let record = record().await;
        let known = make(&record, "ci", None).await;
        let (ring, following) = KeyRing::follow(Arc::clone(&record), LONG).await.expect("keys");
        following.abort();
        let made_up = || ring.look_up(ApiKey::generate().expose());
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| made_up()).collect();
        assert!(waiting.iter().all(|one| matches!(one, Recognition::Asked(_))));
        let refused = made_up();
        assert!(matches!(
            refused,
            Recognition::Settled(Err(Error::Overloaded { resource: "unknown_keys", .. }))
        ));
        assert!(matches!(ring.look_up(known.expose()), Recognition::Settled(Ok(_))), "others are let in");
        drop(waiting);
        assert!(matches!(made_up(), Recognition::Asked(_)), "there is room again");
    }

    #[tokio::test]
    async fn a_ring_that_is_cut_off_refuses_all_keys() {
        let record = record().await;
        let key = make(&record, "ci", None).await;
        let bound = Duration::from_millis(300);
        let (ring, following) = KeyRing::follow(Arc::clone(&record), bound).await.expect("keys");
        following.abort();
        let begun = Instant::now();
        loop {
            match name_of(&ring, key.expose()).await {
                Ok(_) => {}
                Err(Error::KeysStale { age, .. }) => {
                    assert!(age > bound);
                    break;
                }
                Err(other) => panic!("{other}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(30));
            sleep(Duration::from_millis(10)).await;
        }
        assert!(matches!(ring.renew().await, Err(Error::KeysStale { .. })));
    }

    /// Written by a version that knows more, or by hand.
    #[tokio::test]
    async fn grants_that_cannot_be_understood_grant_nothing() {
        let record = record().await;
        let key = ApiKey::generate();
        let known = key.for_the_record("odd", &Grants::everything(), None, "test");
        let new = NewKey { grants: "*:own".into(), ..known };
        record.create_key(new).await.expect("made");
        let (ring, _following) = KeyRing::follow(Arc::clone(&record), LONG).await.expect("keys");
        assert!(matches!(name_of(&ring, key.expose()).await, Err(Error::UnknownCredential)));
    }
}
