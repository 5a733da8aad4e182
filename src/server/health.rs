//! gRPC health: SERVING only while the database answers and is migrated, the feed is current, and
//! the clocks agree.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::node::Node;
use super::readiness::{Past, Readiness};
use super::sample;
use crate::proto::key_service_server::SERVICE_NAME as KEY;
use crate::proto::permission_service_server::SERVICE_NAME as PERMISSION;
use crate::proto::schema_service_server::SERVICE_NAME as SCHEMA;
use crate::proto::store_service_server::SERVICE_NAME as STORE;
use crate::proto::tuple_service_server::SERVICE_NAME as TUPLE;

/// The whole server, and each service by name. They serve or do not serve together, except that
/// questions may be answered for longer than anything else.
const NAMES: [&str; 6] = ["", PERMISSION, SCHEMA, STORE, TUPLE, KEY];

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

/// Judges health at intervals until it is dropped, and tells who watches it.
pub async fn follow(node: Arc<Node>, reporter: HealthReporter, readiness: watch::Sender<Readiness>) {
    let mut ticks = interval(node.config().health_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    let mut past = Past::default();
    loop {
        ticks.tick().await;
        sample::take(&node);
        let judged = Readiness::of(&node, &mut past).await;
        let verdict = (judged.is_ready(), judged.answers_questions());
        if known.replace(verdict) != Some(verdict) {
            match verdict {
                (true, _) => tracing::info!("serving"),
                (false, true) => tracing::warn!("only questions are answered: {judged}"),
                (false, false) => tracing::warn!("not serving: {judged}"),
            }
            for name in NAMES {
                let serves = if name == PERMISSION { verdict.1 } else { verdict.0 };
                let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                reporter.set_service_status(name, status).await;
            }
        }
        readiness.send_replace(judged);
    }
}
