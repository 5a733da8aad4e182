//! Who makes a call.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::sleep;

use super::grants::Grants;
use crate::server::admission::Account;
use crate::time::Timestamp;

/// Longest wait for the end of a credential before the clock is looked at again: a clock that is
/// set forward is noticed after this long.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Who makes a call, and what they may do: the same value for as long as their credential holds.
#[derive(Debug)]
pub struct Principal {
    name: Arc<str>,
    grants: Grants,
    expires_at: Option<Timestamp>,
    withdrawn: watch::Sender<bool>,
    /// Once something was taken up in this name.
    account: OnceLock<Arc<Account>>,
}

impl Principal {
    /// Somebody. The name is what the changelog shows; its first part says where it comes from:
    /// `key:ci`, `token:deployer`, `oidc:ISSUER|SUBJECT`.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, grants: Grants) -> Self {
        let withdrawn = watch::Sender::new(false);
        Self { name: name.into(), grants, expires_at: None, withdrawn, account: OnceLock::new() }
    }

    /// Whoever can connect, where no credentials are asked for. The name is empty.
    #[must_use]
    pub fn anybody() -> Self {
        Self::new("", Grants::everything())
    }

    /// The same, until a moment.
    #[must_use]
    pub fn until(mut self, expires_at: Option<Timestamp>) -> Self {
        self.expires_at = expires_at;
        self
    }

    /// As the changelog shows it; empty without authentication.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What they may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What the calls of everybody of this name take up, found once.
    pub fn account(&self, find: impl FnOnce(&Arc<str>) -> Arc<Account>) -> &Arc<Account> {
        self.account.get_or_init(|| find(&self.name))
    }

    /// When the credential ends by itself.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Takes the credential back: streams opened with it end.
    pub fn withdraw(&self) {
        self.withdrawn.send_replace(true);
    }

    /// Whether the credential has been taken back or has expired.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.withdrawn.borrow() || self.expires_at.is_some_and(|expiry| expiry <= now())
    }

    /// Ends when the credential does.
    pub async fn ended(&self) {
        let mut withdrawn = self.withdrawn.subscribe();
        loop {
            if self.has_ended() {
                return;
            }
            let patience = self.expires_at.map(|expiry| expiry.saturating_since(now()).min(LOOK_AGAIN));
            let expiry = async {
                match patience {
                    Some(patience) => sleep(patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is ours, so this ends by a change only.
                _ = withdrawn.changed() => {}
                () = expiry => {}
            }
        }
    }
}

/// The clock of this machine.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0).saturating_add(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_credential_ends_by_time_or_by_hand() {
        let lasting = Arc::new(Principal::new("key:ci", Grants::nothing()));
        assert!(!lasting.has_ended());
        let waiting = tokio::spawn({
            let lasting = Arc::clone(&lasting);
            async move { lasting.ended().await }
        });
        lasting.withdraw();
        waiting.await.expect("ended");
        assert!(lasting.has_ended());

        let soon = now().saturating_add(Duration::from_millis(20));
        let short = Principal::new("key:ci", Grants::nothing()).until(Some(soon));
        short.ended().await;
        assert!(short.has_ended() && now() >= soon);
    }
}
