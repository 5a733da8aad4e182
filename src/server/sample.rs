//! Measurements that nobody makes by doing something: how things stand, looked at with each
//! judgement of health.

use std::time::Duration;

use super::node::Node;

/// Looks at how the node stands.
pub fn take(node: &Node) {
    let health = node.feed().health();
    let metrics = node.metrics();
    metrics.feed.staleness_seconds.set(health.oldest_proof.unwrap_or(Duration::ZERO).as_secs_f64());
    metrics.memory.stores_resident.set(count(health.resident));
    metrics.memory.stores_reloading.set(count(health.reloading.len()));
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
