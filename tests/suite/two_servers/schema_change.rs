//! A relation is added while everybody writes and reads.

use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use tonic::Code;

use super::SCHEMA;
use super::client::Client;
use super::writer::untold;
use crate::grpc::refused;

/// Adds `auditor` to drafts, on both servers at once. One must win, since both name the schema
/// they mean to replace. Returns the schemas there have been.
pub async fn add_a_relation(client: Client, first: String, after: Duration) -> Vec<String> {
    tokio::time::sleep(after).await;
    let node = client.home;
    let (one, two) = tokio::join!(
        add(&client, node, "user", &first),
        add(&client, client.other(node), "user, group#member", &first)
    );
    assert!(one != Told::Won || two != Told::Won, "both replaced the same schema");
    assert!([one, two] != [Told::Lost; 2], "neither replaced the schema");
    let (second, zookie) = client.schema_in_force().await;
    assert_ne!(first, second);
    client.shared.acknowledge(&zookie);
    client.shared.auditing.store(true, Release);
    vec![first, second]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Won,
    Lost,
    /// It lost, maybe to an earlier attempt of its own.
    Uncertain,
}

async fn add(client: &Client, node: usize, kinds: &str, replaced: &str) -> Told {
    let text = format!("{SCHEMA}    define auditor: [{kinds}]\n");
    let mut lost = Told::Lost;
    loop {
        match client.write_schema(node, &text, replaced).await {
            Ok(_) => return Told::Won,
            Err(status) if untold(&status) => client.pause().await,
            outcome @ Err(_) => {
                refused(outcome, Code::FailedPrecondition, "SCHEMA_CHANGED", "");
                return lost;
            }
        }
        lost = Told::Uncertain;
    }
}
