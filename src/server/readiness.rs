//! Whether a node should be sent calls, and if not, every reason why. gRPC health and the
//! operations listener tell the same judgement.

use std::time::Duration;

use tokio::time::timeout;

use super::logging::cause;
use super::node::Node;
use super::status::Error;

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness(Vec<Unready>);

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
        Self(vec![unready(Concern::Starting, "the server is starting")])
    }

    /// Of a server that was asked to stop.
    #[must_use]
    pub fn stopping() -> Self {
        Self(vec![unready(Concern::Stopping, "the server is stopping")])
    }

    /// Whether there is nothing against it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything against it.
    #[must_use]
    pub fn reasons(&self) -> &[Unready] {
        &self.0
    }

    /// Judges a node now. `loaded` says whether what has to be in memory from the start has been
    /// there; once it has, losing it is judged by the feed.
    pub async fn of(node: &Node, loaded: bool) -> Self {
        let mut reasons: Vec<Unready> = database(node).await.into_iter().collect();
        reasons.extend(feed(node));
        // What is loaded comes from the database.
        if reasons.is_empty() && !loaded {
            reasons.extend(load(node).await);
        }
        Self(reasons)
    }
}

impl std::fmt::Display for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, reason) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", reason.message)?;
        }
        Ok(())
    }
}

fn unready(concern: Concern, message: impl Into<String>) -> Unready {
    Unready { concern, message: message.into() }
}

async fn database(node: &Node) -> Option<Unready> {
    let patience: Duration = node.config().health_timeout;
    let message = match timeout(patience, node.datastore().ping()).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => match cause(&error) {
            cause if cause.is_empty() => error.to_string(),
            cause => format!("{error}: {cause}"),
        },
        Err(_) => format!("the database has not answered within {patience:?}"),
    };
    Some(unready(Concern::Database, message))
}

fn feed(node: &Node) -> Vec<Unready> {
    let feed = node.feed().health();
    let mut reasons = Vec::new();
    if !feed.database_answers() {
        let silent = feed.database_silent_for;
        let message = format!("the changelog has not been followed for {silent:?}");
        reasons.push(unready(Concern::Feed, message));
    }
    if let Some((store, age)) = feed.stale.iter().max_by_key(|(_, age)| *age) {
        let others = match feed.stale.len() - 1 {
            0 => String::new(),
            others => format!(", nor {others} others for long"),
        };
        let message = format!("the copy of store {store} has not been proved current for {age:?}{others}");
        reasons.push(unready(Concern::Stale, message));
    }
    if let (false, Some(skew)) = (feed.clocks_agree(), feed.skew) {
        let message = format!("this node's clock is {:.3} s ahead of the database's", skew.ahead_seconds());
        reasons.push(unready(Concern::Clock, message));
    }
    reasons
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
        let readiness = Readiness(vec![unready(Concern::Database, "a"), unready(Concern::Stale, "b")]);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.to_string(), "a; b");
        assert!(Readiness(Vec::new()).is_ready());
    }
}
