//! A relation is added while everybody writes and reads.

use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use tonic::Code;

use super::SCHEMA;
use super::client::Client;
use crate::grpc::refused;

/// Adds `auditor` to drafts, on both servers at once. One must win, since both name the schema
/// they mean to replace. Returns the schemas there have been.
pub async fn add_a_relation(client: Client, first: String, after: Duration) -> Vec<String> {
    tokio::time::sleep(after).await;
    let text = |kinds: &str| format!("{SCHEMA}    define auditor: [{kinds}]\n");
    let (one, two) = (text("user"), text("user, group#member"));
    let node = client.home;
    let (one, two) = tokio::join!(
        client.write_schema(node, &one, &first),
        client.write_schema(client.other(node), &two, &first)
    );
    let (winner, loser) = if one.is_ok() { (one, two) } else { (two, one) };
    refused(loser, Code::FailedPrecondition, "SCHEMA_CHANGED", "");
    let written = winner.expect("one of two schemas");
    client.shared.acknowledge(&written.zookie);
    client.shared.auditing.store(true, Release);
    vec![first, written.schema_id]
}
