//! The rows of a deleted store go, however often those who remove them die.

use relata::proto;

use super::node::{Apart, serve};
use super::until;
use crate::datastore::fixture::{Place, on_each_place};
use crate::grpc::{self, SCHEMA};

on_each_place!(a_purge_whose_server_is_killed_is_resumed);

const TABLES: [&str; 4] = ["tuple", "change", "revision", "schema"];

async fn a_purge_whose_server_is_killed_is_resumed(place: Place) {
    // Prepared by a server with other things to do: its purge would be over before it is killed.
    let server = super::node::serve_with(&place, |config| {
        config.upkeep.purge_interval = std::time::Duration::from_hours(1);
    })
    .await;
    server.with_schema().await;
    server.touch(&["doc:1#owner@user:ann", "doc:2#owner@user:ann"]).await;
    let large = "large".to_owned();
    let request = proto::CreateStoreRequest { name: large.clone() };
    server.stores().create_store(request).await.expect("a store");
    let schema =
        proto::WriteSchemaRequest { store: large.clone(), text: SCHEMA.to_owned(), ..Default::default() };
    server.schemas().write_schema(schema).await.expect("a schema");
    for some in 0..5 {
        let tuple = |number| format!("doc:{some}-{number}#owner@user:ann");
        let update = |number| grpc::update(proto::update::Operation::Touch, &tuple(number));
        let updates = (0..800).map(update).collect();
        let request = proto::WriteRequest { store: large.clone(), updates, ..Default::default() };
        server.tuples().write(request).await.expect("written");
    }
    let request = proto::DeleteStoreRequest { store: large.clone() };
    server.stores().delete_store(request).await.expect("deleted");
    server.stop().await;
    let counts = async || {
        let mut counts = Vec::new();
        for table in TABLES {
            counts.push(place.number(&format!("SELECT count(*) FROM {{{table}}}")).await);
        }
        counts
    };
    assert_eq!(counts().await, [4_002, 4_002, 8, 2]);

    // Killed twice, each time after it has done some of it.
    for _ in 0..2 {
        let before: i64 = counts().await.iter().sum();
        let killed = Apart::start(&place, 20).await;
        while counts().await.iter().sum::<i64>() > before - 500 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        killed.kill();
    }
    let left: i64 = counts().await.iter().sum();
    assert!(left > 12, "the purge was over before it could be interrupted");

    let server = serve(&place, 1_000).await;
    until(&place, "SELECT count(*) FROM {store} WHERE deleted_at IS NOT NULL", 0).await;
    assert_eq!(counts().await, [2, 2, 2, 1], "the other store's");
    server.check(grpc::question("doc:2#owner@user:ann")).await.expect("an answer");
    server.stop().await;
}
