//! Keeps the keys of an issuer fresh: now and then, at SIGHUP, and when a token names a key that is
//! not known. One task per issuer does all the fetching, so there is never more than one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::fetch::{Fetcher, PATIENCE};
use super::issuer::Issuer;
use crate::metrics::{Metrics, Outcome};
use crate::server::changes::Hangups;
use crate::server::logging::with_cause;

/// Calls that may wait for keys at once. Beyond it a token with an unknown key is refused at once:
/// whoever sends many makes them up.
const MAX_WAITING: usize = 256;
/// The first wait after a failure, which doubles from then on, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_mins(1);

/// The way to ask for an issuer's keys.
pub struct Asking {
    /// At least so long lies between two fetches.
    pause: Duration,
    wake: Notify,
    state: watch::Sender<State>,
    waiting: Semaphore,
    /// Whether anybody fetches keys: not where they are in a file.
    heard: bool,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Fetches that have ended, well or not.
    ended: u64,
    running: bool,
    begun: Option<Instant>,
}

impl Asking {
    /// Asks at most once in this time; never, if nobody hears it.
    pub fn new(pause: Duration, heard: bool) -> Self {
        let waiting = Semaphore::new(MAX_WAITING);
        Self { pause, wake: Notify::new(), state: watch::Sender::default(), waiting, heard }
    }

    /// Whether asking now would bring anything: not, if keys were fetched a moment ago or too many
    /// are waiting already.
    pub fn is_open(&self) -> bool {
        let State { running, begun, .. } = *self.state.borrow();
        let rested = begun.is_none_or(|begun| begun.elapsed() >= self.pause);
        self.heard && (running || rested) && self.waiting.available_permits() > 0
    }

    /// Asks, and waits until keys were fetched or could not be. The wait is bounded.
    pub async fn ask(&self) {
        let Ok(_place) = self.waiting.try_acquire() else { return };
        let mut state = self.state.subscribe();
        let State { ended: seen, running, .. } = *state.borrow();
        if !running {
            self.wake.notify_one();
        }
        // However it ends, the token is looked at once more.
        let _ = timeout(PATIENCE + Duration::from_secs(1), state.wait_for(|state| state.ended > seen)).await;
    }

    /// Waits until keys are due: after `interval`, or when they are asked for. An operator who asks
    /// by SIGHUP has them fetched at once.
    async fn due(&self, interval: Duration, hangups: &mut Hangups) {
        let by_itself = async {
            let _ = timeout(interval, self.wake.notified()).await;
            let begun = self.state.borrow().begun;
            if let Some(begun) = begun {
                sleep(self.pause.saturating_sub(begun.elapsed())).await;
            }
        };
        tokio::select! {
            () = by_itself => {}
            () = hangups.next() => {}
        }
        self.state.send_modify(|state| {
            state.running = true;
            state.begun = Some(Instant::now());
        });
    }

    fn done(&self) {
        self.state.send_modify(|state| {
            state.running = false;
            state.ended += 1;
        });
    }
}

/// Fetches an issuer's keys until it is dropped, at once for the first time.
pub async fn follow(issuer: Arc<Issuer>, fetcher: Fetcher, metrics: Arc<Metrics>) {
    let settings = issuer.settings();
    let (mut interval, mut retry, mut hangups) = (Duration::ZERO, FIRST_RETRY, Hangups::heard());
    loop {
        issuer.asking().due(interval, &mut hangups).await;
        let outcome = fetcher.keys().await;
        metrics.access.oidc_key_fetches.of(Outcome::from(&outcome)).inc();
        match outcome {
            Ok(keys) => {
                let (issuer_name, count) = (&*settings.issuer, keys.len());
                if issuer.key_count() != count {
                    tracing::info!(issuer = issuer_name, keys = count, "fetched the issuer's keys");
                }
                hold(&issuer, &metrics, |issuer| issuer.take(keys));
                (interval, retry) = (settings.refresh, FIRST_RETRY);
            }
            Err(error) => {
                let (issuer_name, cause) = (&*settings.issuer, with_cause(&error));
                tracing::warn!(issuer = issuer_name, "cannot fetch the issuer's keys: {cause}");
                let left = issuer.age().map(|age| settings.keep_keys.saturating_sub(age));
                if left == Some(Duration::ZERO) {
                    tracing::error!(
                        issuer = issuer_name,
                        "its keys are too old to go on with; refusing its tokens"
                    );
                    hold(&issuer, &metrics, Issuer::forget_keys);
                }
                interval = left.filter(|left| !left.is_zero()).map_or(retry, |left| left.min(retry));
                retry = (retry * 2).min(LAST_RETRY);
            }
        }
        issuer.asking().done();
    }
}

/// Changes an issuer's keys, and the count of all keys with them. What changes is counted by the
/// issuer: keys that arrive while it is retired would be subtracted twice here.
pub fn hold(issuer: &Issuer, metrics: &Metrics, change: impl FnOnce(&Issuer) -> (usize, usize)) {
    let (before, now) = change(issuer);
    metrics.access.oidc_keys.inc_by(i64::try_from(now).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
}
