//! One issuer: the keys in force, and who was let in by which of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use super::keys::{Key, KeySet};
use super::refresh::Asking;
use super::rules;
use super::settings::{IssuerSettings, Source};
use super::token::{Token, TokenError};
use crate::server::access::principal::{Principal, now};

/// Most keys tried for one token. Keys of one name are rare, and each try costs a tenth of a
/// millisecond.
const MAX_TRIES: usize = 4;

/// An issuer whose tokens are taken.
pub struct Issuer {
    settings: IssuerSettings,
    /// `None` until they were fetched, and again once they are too old.
    held: ArcSwapOption<Held>,
    guests: Mutex<Guests>,
    asking: Asking,
}

#[derive(Default)]
struct Guests {
    admitted: Vec<Admitted>,
    /// Whether the issuer is in force no more, and takes no keys.
    retired: bool,
}

struct Held {
    keys: KeySet,
    since: Instant,
}

/// Somebody who was let in, as long as anybody remembers.
struct Admitted {
    by: Arc<Key>,
    principal: Weak<Principal>,
}

/// What comes of a token.
#[derive(Debug)]
pub enum Judgement {
    /// Who presents it.
    Admitted(Arc<Principal>),
    /// Why it is refused.
    Refused(TokenError),
    /// It names a key that is not known, perhaps not yet.
    UnknownKey,
    /// There are no keys to judge it by.
    NoKeys,
}

impl Issuer {
    /// An issuer, with its keys if they are in a file.
    pub fn new(settings: IssuerSettings, keys: Option<KeySet>) -> Self {
        let held = keys.map(|keys| Arc::new(Held { keys, since: Instant::now() }));
        Self {
            asking: Asking::new(settings.refetch, settings.source != Source::File),
            settings,
            held: ArcSwapOption::new(held),
            guests: Mutex::default(),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &IssuerSettings {
        &self.settings
    }

    /// How its keys are asked for.
    pub fn asking(&self) -> &Asking {
        &self.asking
    }

    /// How many keys it has.
    pub fn key_count(&self) -> usize {
        self.held.load().as_ref().map_or(0, |held| held.keys.len())
    }

    /// How old its keys are; `None` if there are none.
    pub fn age(&self) -> Option<std::time::Duration> {
        self.held.load().as_ref().map(|held| held.since.elapsed())
    }

    /// Takes new keys. Whoever was let in by one that is gone is sent away. Returns how many keys
    /// there were before, and how many there are now.
    pub fn take(&self, keys: KeySet) -> (usize, usize) {
        self.hold(Some(Arc::new(Held { keys, since: Instant::now() })))
    }

    /// Has no keys any more, and sends everybody away. Returns what [`Self::take`] does.
    pub fn forget_keys(&self) -> (usize, usize) {
        self.hold(None)
    }

    /// Is in force no more: sends everybody away and lets nobody in. Returns what [`Self::take`] does.
    pub fn retire(&self) -> (usize, usize) {
        self.guests().retired = true;
        self.hold(None)
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, held: Option<Arc<Held>>) -> (usize, usize) {
        let mut guests = self.guests();
        let before = self.key_count();
        self.held.store(held.filter(|_| !guests.retired));
        // Whoever is let in meanwhile is remembered after this, and then looks for the key again.
        guests.admitted.retain(|admitted| {
            let stays = self.holds(&admitted.by);
            if !stays && let Some(principal) = admitted.principal.upgrade() {
                principal.withdraw();
            }
            stays
        });
        (before, self.key_count())
    }

    fn holds(&self, key: &Arc<Key>) -> bool {
        self.held.load().as_ref().is_some_and(|held| held.keys.holds(key))
    }

    /// Judges a token that says it is of this issuer.
    pub fn judge(&self, token: &Token<'_>) -> Judgement {
        if !self.settings.algorithms.contains(&token.algorithm()) {
            return Judgement::Refused(TokenError::Algorithm);
        }
        let Some(held) = self.held.load_full() else { return Judgement::NoKeys };
        let mut candidates =
            held.keys.candidates(token.key_id(), token.algorithm()).take(MAX_TRIES).peekable();
        if candidates.peek().is_none() {
            return Judgement::UnknownKey;
        }
        let (signed, signature) = token.signature();
        match candidates.find(|key| key.verifies(token.algorithm(), signed, signature)) {
            None => Judgement::Refused(TokenError::Signature),
            Some(key) => match self.admit(token, key) {
                Ok(principal) => Judgement::Admitted(principal),
                Err(error) => Judgement::Refused(error),
            },
        }
    }

    /// Lets in whoever presents a token whose signature holds under `key`.
    fn admit(&self, token: &Token<'_>, key: &Arc<Key>) -> Result<Arc<Principal>, TokenError> {
        let said = token.says(&self.settings.expected, now())?;
        let grants = rules::grants(&self.settings.rules, token.claims())?;
        let name = format!("oidc:{}|{}", self.settings.issuer, said.subject);
        let principal = Arc::new(Principal::new(name, grants).until(Some(said.expires_at)));
        self.remember(key, &principal);
        // The key may have gone since it was looked up, before this caller was remembered.
        if self.holds(key) { Ok(principal) } else { Err(TokenError::Key) }
    }

    fn remember(&self, key: &Arc<Key>, principal: &Arc<Principal>) {
        let admitted = &mut self.guests().admitted;
        // Whoever is forgotten elsewhere goes when there is no room, so there are at most twice as
        // many as are remembered.
        if admitted.len() == admitted.capacity() {
            admitted.retain(|one| one.principal.strong_count() > 0);
            let room = admitted.len().max(16);
            admitted.reserve(room);
        }
        admitted.push(Admitted { by: Arc::clone(key), principal: Arc::downgrade(principal) });
    }
}

/// Issuers by the name that their tokens have.
pub type ByName<T> = HashMap<Box<str>, T>;
