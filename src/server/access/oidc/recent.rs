//! Tokens that were verified a moment ago.
//!
//! Verifying costs 30 to 140 µs, looking up a fraction of one. What is kept is a keyed digest, so
//! that nobody can make two tokens meet, and never the token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::access::principal::Principal;

/// How long a token is taken without being verified anew. Its own end comes first, and so does the
/// loss of its key: the principal says so.
const KEEP: Duration = Duration::from_mins(5);
/// Tokens of one half. Each takes about 200 bytes.
const HALF: usize = 8_192;

/// Tokens in two halves: the newer one fills, and then takes the place of the older one.
pub struct Recent {
    key: [u8; 32],
    halves: Mutex<[HashMap<blake3::Hash, Entry>; 2]>,
}

#[derive(Clone)]
struct Entry {
    principal: Arc<Principal>,
    verified: Instant,
}

impl Recent {
    /// Remembers nothing yet, under a key of its own.
    pub fn new() -> Self {
        Self { key: rand::random(), halves: Mutex::default() }
    }

    /// What a token is remembered by.
    pub fn digest(&self, token: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.key, token.as_bytes())
    }

    /// Who presents a token that was verified a moment ago and still holds.
    pub fn find(&self, digest: &blake3::Hash) -> Option<Arc<Principal>> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let [newer, older] = &mut *halves;
        let entry = if let Some(entry) = newer.get(digest) {
            entry.clone()
        } else {
            // What is used belongs to the newer half.
            let entry = older.remove(digest)?;
            put(&mut halves, *digest, entry.clone());
            entry
        };
        drop(halves);
        let holds = entry.verified.elapsed() < KEEP && !entry.principal.has_ended();
        holds.then_some(entry.principal)
    }

    /// Remembers who presents a token that has just been verified.
    pub fn remember(&self, digest: blake3::Hash, principal: &Arc<Principal>) {
        let entry = Entry { principal: Arc::clone(principal), verified: Instant::now() };
        put(&mut self.halves.lock().unwrap_or_else(PoisonError::into_inner), digest, entry);
    }
}

fn put(halves: &mut [HashMap<blake3::Hash, Entry>; 2], digest: blake3::Hash, entry: Entry) {
    let [newer, older] = halves;
    if newer.len() >= HALF {
        *older = std::mem::take(newer);
    }
    newer.insert(digest, entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::grants::Grants;
    use crate::server::access::principal::now;

    fn principal() -> Arc<Principal> {
        Arc::new(Principal::new("oidc:a|b", Grants::nothing()))
    }

    #[test]
    fn what_was_verified_is_found_until_it_ends() {
        let recent = Recent::new();
        let digest = recent.digest("token");
        assert!(recent.find(&digest).is_none());
        let ann = principal();
        recent.remember(digest, &ann);
        assert!(recent.find(&digest).is_some_and(|found| Arc::ptr_eq(&found, &ann)));
        assert!(recent.find(&recent.digest("tokem")).is_none());
        ann.withdraw();
        assert!(recent.find(&digest).is_none());

        let over = Arc::new(Principal::new("oidc:a|b", Grants::nothing()).until(Some(now())));
        recent.remember(digest, &over);
        assert!(recent.find(&digest).is_none());
        assert_ne!(Recent::new().digest("token"), digest, "every process has a key of its own");
    }

    #[test]
    fn it_does_not_grow_and_forgets_the_oldest() {
        let recent = Recent::new();
        let (ann, kept) = (principal(), recent.digest("kept"));
        recent.remember(kept, &ann);
        let first = recent.digest("0");
        for number in 0..HALF * 5 {
            recent.remember(recent.digest(&number.to_string()), &ann);
            // What is used stays.
            assert!(recent.find(&kept).is_some(), "{number}");
        }
        assert!(recent.find(&first).is_none());
        let halves = recent.halves.lock().expect("no panic");
        assert!(halves.iter().map(HashMap::len).sum::<usize>() <= 2 * HALF);
    }
}
