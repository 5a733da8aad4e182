//! Whether a node should be sent calls, and if not, every reason why. gRPC health and the
//! operations listener tell the same judgement.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::logging::cause;
use super::node::Node;
use super::status::Error;
use crate::datastore::DatastoreError;

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    reasons: Vec<Unready>,
    /// Whether questions are answered from memory all the same.
    answers: bool,
}

/// What was known of a node before it is judged once more.
#[derive(Debug, Default)]
pub struct Past {
    /// What has to be in memory from the start has been there; losing it is judged by the feed.
    loaded: bool,
    /// When the database last answered and took writes.
    pinged: Option<Instant>,
}

/// A reason not to send calls to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// For programs.
    pub concern: Concern,
    /// For people.
    pub message: String,
}

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The server has not been started completely.
    Starting,
    /// The database does not answer, is not migrated, or takes no writes.
    Database,
    /// The changelog is not being followed.
    Feed,
    /// A store may be behind.
    Stale,
    /// This node's clock is not the database's.
    Clock,
    /// A store that is needed is not in memory yet.
    Loading,
    /// The server is being stopped.
    Stopping,
}

impl Concern {
    /// As `/readyz` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Database => "DATABASE",
            Self::Feed => "FEED",
            Self::Stale => "STALE",
            Self::Clock => "CLOCK",
            Self::Loading => "LOADING",
            Self::Stopping => "STOPPING",
        }
    }
}

impl Readiness {
    /// Of a server that has only begun.
    #[must_use]
    pub fn starting() -> Self {
        Self::absent(vec![unready(Concern::Starting, "the server is starting")])
    }

    /// Of a server that was asked to stop.
    #[must_use]
    pub fn stopping() -> Self {
        Self::absent(vec![unready(Concern::Stopping, "the server is stopping")])
    }

    /// Whether there is nothing against it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Whether questions are answered, if need be as old as the settings allow.
    #[must_use]
    pub fn answers_questions(&self) -> bool {
        self.is_ready() || self.answers
    }

    fn absent(reasons: Vec<Unready>) -> Self {
        Self { reasons, answers: false }
    }

    /// Everything against it.
    #[must_use]
    pub fn reasons(&self) -> &[Unready] {
        &self.reasons
    }

    /// Judges a node now.
    pub async fn of(node: &Node, past: &mut Past) -> Self {
        let (database, unanswered) = database(node, past).await;
        let mut reasons: Vec<Unready> = database.into_iter().collect();
        let (feed, behind) = feed(node);
        reasons.extend(feed);
        // What is loaded comes from the database.
        if reasons.is_empty() && !past.loaded {
            reasons.extend(load(node).await);
            past.loaded = reasons.is_empty();
        }
        let of_age = |reason: &Unready| match reason.concern {
            Concern::Database | Concern::Feed | Concern::Stale => true,
            Concern::Starting | Concern::Clock | Concern::Loading | Concern::Stopping => false,
        };
        let allowed = node.config().allow_stale.is_some_and(|allowed| unanswered.max(behind) <= allowed);
        Self { answers: past.loaded && allowed && reasons.iter().all(of_age), reasons }
    }
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, reason) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", reason.message)?;
        }
        Ok(())
    }
}

fn unready(concern: Concern, message: impl Into<String>) -> Unready {
    Unready { concern, message: message.into() }
}

/// What is wrong with the database, and for how long it has been.
///
/// Answers go on while they are not too old, so a short absence of the database is none of the
/// node: a failover would otherwise take all nodes away at once.
async fn database(node: &Node, past: &mut Past) -> (Option<Unready>, Duration) {
    let (patience, bound) = (node.config().health_timeout, node.config().feed.max_staleness);
    let asked = Instant::now();
    let (message, passes) = match timeout(patience, node.datastore().ping()).await {
        Ok(Ok(())) => {
            past.pinged = Some(asked);
            return (None, Duration::ZERO);
        }
        Ok(Err(error)) => {
            let passes = matches!(error, DatastoreError::Unavailable(_));
            let message = match cause(&error) {
                cause if cause.is_empty() => error.to_string(),
                cause => format!("{error}: {cause}"),
            };
            (message, passes)
        }
        Err(_) => (format!("the database has not answered within {patience:?}"), true),
    };
    match past.pinged.filter(|_| passes).map(|moment| moment.elapsed()) {
        Some(age) if age <= bound => (None, age),
        Some(age) => (Some(unready(Concern::Database, message)), age),
        None => (Some(unready(Concern::Database, message)), Duration::MAX),
    }
}

/// What is wrong with what is in memory, and how old it may be.
fn feed(node: &Node) -> (Vec<Unready>, Duration) {
    let feed = node.feed().health();
    let (mut reasons, mut behind) = (Vec::new(), feed.database_silent_for);
    if !feed.database_answers() {
        let message = format!("the changelog has not been followed for {behind:?}");
        reasons.push(unready(Concern::Feed, message));
    }
    if let Some((store, age)) = feed.stale.iter().max_by_key(|(_, age)| *age) {
        let others = match feed.stale.len() - 1 {
            0 => String::new(),
            others => format!(", nor {others} others for long"),
        };
        let message = format!("the copy of store {store} has not been proved current for {age:?}{others}");
        reasons.push(unready(Concern::Stale, message));
        behind = behind.max(*age);
    }
    if let (false, Some(skew)) = (feed.clocks_agree(), feed.skew) {
        let message = format!(
            "this node's clock is {:.3} s {} the database's, which is more than {:?}",
            skew.ahead_seconds().abs(),
            if skew.ahead_micros < 0 { "behind" } else { "ahead of" },
            node.config().feed.max_clock_skew,
        );
        reasons.push(unready(Concern::Clock, message));
    }
    (reasons, behind)
}

/// Has the pinned stores in memory before the first call needs them. Others are loaded when they
/// are asked for. The loads go on between two looks at them.
async fn load(node: &Node) -> Option<Unready> {
    let patience = node.config().health_timeout;
    for store in &node.config().pinned_stores {
        match node.preload(store, patience).await {
            Ok(()) => {}
            // Whoever creates it later finds it pinned.
            Err(Error::StoreNotFound { .. }) => {
                tracing::warn!(store, "a store that is to be pinned does not exist");
            }
            Err(error) => {
                let message = format!("the pinned store `{store}` is not in memory: {error}");
                return Some(unready(Concern::Loading, message));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told() {
        let readiness =
            Readiness::absent(vec![unready(Concern::Database, "a"), unready(Concern::Stale, "b")]);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.to_string(), "a; b");
        assert!(!readiness.answers_questions());
        assert!(Readiness::absent(Vec::new()).answers_questions());
    }
}
