//! gRPC health: SERVING only while the database answers and is migrated, and the feed is current.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::logging::cause;
use super::node::Node;
use super::store::DEFAULT;
use crate::proto::permission_service_server::SERVICE_NAME as PERMISSION;
use crate::proto::schema_service_server::SERVICE_NAME as SCHEMA;
use crate::proto::store_service_server::SERVICE_NAME as STORE;
use crate::proto::tuple_service_server::SERVICE_NAME as TUPLE;

/// The whole server, and each service by name: they serve or do not serve together.
const NAMES: [&str; 5] = ["", PERMISSION, SCHEMA, STORE, TUPLE];

/// Tells every service's watchers.
pub async fn announce(reporter: &HealthReporter, status: ServingStatus) {
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}

/// Ends the streams of those who watch health, a moment after they were told that it is over.
/// They would otherwise hold their connections open for as long as a stop may take.
pub async fn hang_up(mut reporter: HealthReporter) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    for name in NAMES {
        reporter.clear_service_status(name).await;
    }
}

/// Judges health at intervals until it is dropped.
pub async fn follow(node: Arc<Node>, reporter: HealthReporter) {
    let mut ticks = interval(node.config().health_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    let mut loaded = false;
    loop {
        ticks.tick().await;
        let verdict = match judge(&node).await {
            Ok(()) if !loaded => load(&node).await,
            verdict => verdict,
        };
        loaded |= verdict.is_ok();
        let status = if verdict.is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        if known != Some(status) {
            match verdict {
                Ok(()) => tracing::info!("serving"),
                Err(reason) => tracing::warn!("not serving: {reason}"),
            }
            announce(&reporter, status).await;
            known = Some(status);
        }
    }
}

/// Has the default store in memory before the first call needs it. Others are loaded when they
/// are asked for. The load goes on between two looks at it.
async fn load(node: &Node) -> Result<(), String> {
    match timeout(node.config().health_timeout, node.preload(DEFAULT)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the default store cannot be loaded: {error}")),
        Err(_) => Err("the default store is being loaded".to_owned()),
    }
}

/// Whether the node should be sent calls; the error says why not.
async fn judge(node: &Node) -> Result<(), String> {
    let patience: Duration = node.config().health_timeout;
    match timeout(patience, node.datastore().ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let cause = cause(&error);
            return Err(if cause.is_empty() { error.to_string() } else { format!("{error}: {cause}") });
        }
        Err(_) => return Err(format!("the database has not answered within {patience:?}")),
    }
    let feed = node.feed().health();
    if !feed.database_answers() {
        return Err(format!("the changelog has not been followed for {:?}", feed.database_silent_for));
    }
    match feed.stale.first() {
        Some((store, age)) => {
            Err(format!("the copy of store {store} has not been proved current for {age:?}"))
        }
        None => Ok(()),
    }
}
