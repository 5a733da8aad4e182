//! What calls take up, in all and by caller.
//!
//! A caller gets no more than four times what is still free: alone, four fifths of everything, and
//! less the more others take. So one caller can never take up all there is, and no share is
//! kept for callers who are not there.
//!
//! A caller is a name: whoever has ten keys of one name, or gets a new token every minute, has one
//! share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::config::AdmissionLimits;
use crate::metrics::{Label as _, Metrics, Resource};
use crate::server::access::Principal;
use crate::server::status::Error;

/// How many times what is free one caller may have.
const SHARE: usize = 4;
/// Streams that one connection may have without a credential. Whoever watches health watches the
/// server or a few of its services.
const ANONYMOUS_OF_ONE: usize = 16;
/// When a refused caller may try again: most calls end sooner.
const RETRY: Duration = Duration::from_millis(250);

/// What the calls of one caller take up, by resource.
#[derive(Debug, Default)]
pub struct Account([AtomicUsize; 5]);

impl Account {
    /// Whether a stream is open that asked for no credential.
    #[must_use]
    pub fn has_anonymous_streams(&self) -> bool {
        self.of(Resource::Anonymous).load(Ordering::Relaxed) > 0
    }

    fn of(&self, resource: Resource) -> &AtomicUsize {
        // INVARIANT: there is one for each resource.
        #[expect(clippy::indexing_slicing, reason = "there is one for each resource")]
        &self.0[resource.index()]
    }
}

/// Accounts by the names of their callers, as long as anybody has them.
#[derive(Debug, Default)]
struct Accounts(HashMap<Arc<str>, Weak<Account>>);

impl Accounts {
    fn find(&mut self, name: &Arc<str>) -> Arc<Account> {
        if let Some(account) = self.0.get(name).and_then(Weak::upgrade) {
            return account;
        }
        // Names that nobody has any more go when there is no room, so there are at most about twice
        // as many as callers.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|_, account| account.strong_count() > 0);
            self.0.reserve(self.0.len().max(16));
        }
        let account = Arc::default();
        self.0.insert(Arc::clone(name), Arc::downgrade(&account));
        account
    }
}

/// What all calls take up, and how much that may be.
#[derive(Debug)]
pub struct Ledger {
    limits: AdmissionLimits,
    total: Account,
    accounts: Mutex<Accounts>,
    metrics: Arc<Metrics>,
}

/// Something taken up by a call of a caller. It is given back when dropped.
#[derive(Debug)]
pub struct Held {
    ledger: Arc<Ledger>,
    account: Arc<Account>,
    resource: Resource,
    amount: AtomicUsize,
}

impl Ledger {
    /// Nothing is taken up.
    #[must_use]
    pub fn new(limits: AdmissionLimits, metrics: Arc<Metrics>) -> Arc<Self> {
        let (total, accounts) = (Account::default(), Mutex::default());
        Arc::new(Self { limits, total, accounts, metrics })
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &AdmissionLimits {
        &self.limits
    }

    /// Where refusals are counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn limit(&self, resource: Resource) -> usize {
        match resource {
            Resource::Calls => self.limits.calls,
            Resource::Streams => self.limits.streams,
            Resource::Anonymous => self.limits.anonymous_streams,
            Resource::Bytes => self.limits.bytes,
            // Not counted: there is nothing to give back.
            Resource::Time => usize::MAX,
        }
    }

    /// Takes something up for a caller, if there is so much.
    pub fn take(
        self: &Arc<Self>,
        caller: &Arc<Principal>,
        resource: Resource,
        amount: usize,
    ) -> Result<Held, Error> {
        self.take_in(Arc::clone(self.account(caller)), resource, amount)
    }

    /// The same in an account that is no caller's.
    pub fn take_in(
        self: &Arc<Self>,
        account: Arc<Account>,
        resource: Resource,
        amount: usize,
    ) -> Result<Held, Error> {
        let held = Held { ledger: Arc::clone(self), account, resource, amount: AtomicUsize::new(0) };
        held.more(amount)?;
        Ok(held)
    }

    /// The account of a caller's name. It is looked up at the first call of a credential only.
    fn account<'a>(&self, caller: &'a Principal) -> &'a Arc<Account> {
        // A lock poisoned by a panic still guards a map that can be read.
        caller.account(|name| self.accounts.lock().unwrap_or_else(PoisonError::into_inner).find(name))
    }

    /// A refusal, counted.
    pub fn refuse(&self, resource: Resource) -> Error {
        self.metrics.admission.refusals.of(resource).inc();
        Error::Overloaded { resource: resource.value(), retry: RETRY }
    }

    fn show(&self, resource: Resource, more: usize, less: usize) {
        let amount = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let gauge = self.metrics.admission.held.of(resource);
        gauge.inc_by(amount(more));
        gauge.dec_by(amount(less));
    }
}

impl Held {
    /// Takes up more for the same call, if there is so much.
    pub fn more(&self, amount: usize) -> Result<(), Error> {
        let Self { ledger, account, resource, .. } = self;
        let (total, mine) = (ledger.total.of(*resource), account.of(*resource));
        let all = total.fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
        let own = mine.fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
        let free = ledger.limit(*resource).checked_sub(all);
        if free.is_none_or(|free| own > share(*resource, free)) {
            total.fetch_sub(amount, Ordering::Relaxed);
            mine.fetch_sub(amount, Ordering::Relaxed);
            return Err(ledger.refuse(*resource));
        }
        self.amount.fetch_add(amount, Ordering::Relaxed);
        ledger.show(*resource, amount, 0);
        Ok(())
    }

    /// Gives some of it back.
    pub fn less(&self, amount: usize) {
        let Self { ledger, account, resource, .. } = self;
        self.amount.fetch_sub(amount, Ordering::Relaxed);
        ledger.total.of(*resource).fetch_sub(amount, Ordering::Relaxed);
        account.of(*resource).fetch_sub(amount, Ordering::Relaxed);
        ledger.show(*resource, 0, amount);
    }
}

/// How much one account may have while so much is free.
fn share(resource: Resource, free: usize) -> usize {
    match resource {
        Resource::Anonymous => ANONYMOUS_OF_ONE,
        Resource::Calls | Resource::Streams | Resource::Bytes | Resource::Time => free.saturating_mul(SHARE),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.less(self.amount.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::Grants;

    fn ledger(calls: usize) -> Arc<Ledger> {
        Ledger::new(AdmissionLimits { calls, bytes: 1_000, ..AdmissionLimits::default() }, Metrics::new())
    }

    fn caller(name: &str) -> Arc<Principal> {
        Arc::new(Principal::new(name, Grants::everything()))
    }

    fn as_many_as_possible(ledger: &Arc<Ledger>, caller: &Arc<Principal>) -> Vec<Held> {
        std::iter::from_fn(|| ledger.take(caller, Resource::Calls, 1).ok()).collect()
    }

    #[test]
    fn a_caller_never_gets_all_there_is() {
        let ledger = ledger(100);
        let (greedy, polite) = (caller("greedy"), caller("polite"));
        let held = as_many_as_possible(&ledger, &greedy);
        assert_eq!(held.len(), 80, "four fifths");
        let others = as_many_as_possible(&ledger, &polite);
        assert_eq!(others.len(), 16, "four fifths of the rest");
        assert!(matches!(
            ledger.take(&greedy, Resource::Calls, 1),
            Err(Error::Overloaded { resource: "calls", .. })
        ));
        drop(held);
        assert_eq!(as_many_as_possible(&ledger, &polite).len(), 64);
        drop(others);
    }

    #[test]
    fn ten_keys_of_one_name_have_one_share() {
        let ledger = ledger(100);
        let keys: Vec<_> = (0..10).map(|_| caller("key:ci")).collect();
        let held: Vec<_> = keys.iter().flat_map(|key| as_many_as_possible(&ledger, key)).collect();
        assert_eq!(held.len(), 80, "four fifths");
        drop((held, keys));
        assert_eq!(as_many_as_possible(&ledger, &caller("key:ci")).len(), 80, "all of it again");
    }

    #[test]
    fn names_that_nobody_has_are_forgotten() {
        let ledger = ledger(100);
        for index in 0..1_000 {
            ledger.take(&caller(&index.to_string()), Resource::Calls, 1).expect("room");
        }
        assert!(ledger.accounts.lock().expect("a lock").0.len() < 100);
    }

    #[test]
    fn everything_is_given_back() {
        let ledger = ledger(10);
        let ann = caller("ann");
        let bytes = ledger.take(&ann, Resource::Bytes, 300).expect("room");
        bytes.more(500).expect("room");
        assert!(bytes.more(1).is_err());
        bytes.less(400);
        bytes.more(400).expect("room again");
        let shown = || ledger.metrics.admission.held.of(Resource::Bytes).get();
        assert_eq!((shown(), ledger.metrics.admission.refusals.of(Resource::Bytes).get()), (800, 1));
        drop(bytes);
        assert_eq!(shown(), 0);
        assert_eq!(ledger.total.of(Resource::Bytes).load(Ordering::Relaxed), 0);
        assert_eq!(ledger.account(&ann).of(Resource::Bytes).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_amount_beyond_all_counting_is_refused() {
        let ledger = ledger(10);
        assert!(ledger.take(&caller("ann"), Resource::Bytes, usize::MAX / 2).is_err());
        assert!(ledger.take(&caller("ann"), Resource::Bytes, 10).is_ok());
    }
}
