//! The file of issuers: what a server starts with, and how it changes while it runs.

use std::path::Path;

use relata::proto;
use tonic::Code;

use super::issuer::{AUDIENCE, Issuer, Key};
use super::{Guarded, PATIENCE, entry, settings};
use crate::grpc::refused;
use crate::program::{Ran, Record, relata, run};

fn start(record: &Record, folder: &Path, text: &str) -> Ran {
    let path = folder.join("oidc.yaml");
    std::fs::write(&path, text).expect("a file");
    let mut command = relata();
    command.args(["serve", "--listen", "0.0.0.0:0", "--datastore", &record.url, "--oidc-config"]).arg(path);
    run(&mut command, "")
}

/// A server that would let too many in does not start.
#[test]
fn a_server_does_not_start_with_settings_that_are_not_safe() {
    let (record, folder) = (Record::sqlite(), tempfile::tempdir().expect("a folder"));
    let check = |text: &str, expected: &str| {
        start(&record, folder.path(), text).exits(65).says(expected);
    };
    check("issuers:\n  - issuer: https://login.example.com\n", "`audience` is missing");
    check(
        "issuers:\n  - issuer: http://login.example.com\n    audience: relata\n",
        "must begin with https://",
    );
    check(
        "issuers:\n  - issuer: https://login.example.com\n    audience: relata\n    algorithms: [HS256]\n",
        "`HS256` is not",
    );
    check("issuers: []\n", "names no issuer");
    std::fs::write(folder.path().join("ca.pem"), "no certificate").expect("a file");
    check(
        "issuers:\n  - issuer: https://login.example.com\n    audience: relata\n    ca_file: ca.pem\n",
        "`ca_file` holds no certificate",
    );
    check("issuers:\n  - isuer: https://login.example.com\n", "cannot be understood");
    let mut command = relata();
    command.args(["serve", "--datastore", &record.url, "--oidc-config", "/nowhere/oidc.yaml"]);
    run(&mut command, "").exits(65).says("cannot read `/nowhere/oidc.yaml`");
    let mut command = relata();
    command.args(["serve", "--datastore", &record.url, "--insecure", "--oidc-config", "/nowhere/oidc.yaml"]);
    run(&mut command, "").exits(64);
    assert!(!record.path().exists(), "nothing was begun");
}

/// New rules take effect while the server runs, on callers that are in already too; broken ones
/// change nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_while_the_server_runs() {
    let (issuer, other) = (Issuer::start(Key::ed25519()).await, Issuer::start(Key::ed25519()).await);
    let both = |first: &str| format!("issuers:\n{first}{}", entry(&other, ""));
    let guarded = Guarded::start(&both(&entry(&issuer, ""))).await;
    let (token, others) = (issuer.token("ann"), other.token("bob"));
    guarded.ask(&token).await.expect("let in");
    let mut watched =
        guarded.tuples(&token).watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
    let mut kept =
        guarded.tuples(&others).watch(proto::WatchRequest::default()).await.expect("a stream").into_inner();
    let fetched = other.asked();

    // Readers are no more what they were.
    guarded.configure(&both(&entry(&issuer, "").replace("contains: readers", "contains: writers")));
    guarded.becomes(&token, Code::PermissionDenied).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Err(status) = watched.message().await {
                return status;
            }
        }
    });
    refused::<()>(Err(ended.await.expect("ended in time")), Code::Unauthenticated, "UNAUTHENTICATED", "");

    // What cannot be used changes nothing, whatever it would have said of others.
    guarded.configure(&both(&entry(&issuer, "").replace("audience:", "audiense:")));
    guarded.configure(&both(&entry(&issuer, "").replace(AUDIENCE, "''")));
    std::fs::remove_file(guarded.path("oidc.yaml")).expect("removed");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let status = guarded.ask(&token).await.expect_err("still no right");
    assert_eq!(status.code(), Code::PermissionDenied);

    // Back to what it was, under another audience.
    guarded.configure(&both(&entry(&issuer, "").replace(AUDIENCE, "another")));
    guarded.becomes(&token, Code::Unauthenticated).await;
    guarded.configure(&both(&entry(&issuer, "")));
    guarded.becomes(&token, Code::Ok).await;

    // The other issuer was the same all the time: its callers notice nothing.
    guarded.ask(&others).await.expect("let in");
    assert_eq!(other.asked(), fetched);
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(200), async {
        loop {
            kept.message().await.expect("the other stream goes on");
        }
    });
    assert!(quiet.await.is_err());
    drop(kept);
    guarded.stop().await;
}

/// An issuer that is taken out of the file is known no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_can_be_removed() {
    let (issuer, other) = (Issuer::start(Key::ed25519()).await, Issuer::start(Key::ed25519()).await);
    let guarded = Guarded::start(&format!("issuers:\n{}{}", entry(&issuer, ""), entry(&other, ""))).await;
    let token = issuer.token("ann");
    guarded.ask(&token).await.expect("let in");
    guarded.configure(&settings(&other, ""));
    guarded.becomes(&token, Code::Unauthenticated).await;
    guarded.ask(&other.token("ann")).await.expect("let in");
    // The last one too.
    guarded.configure("issuers: []\n");
    guarded.becomes(&other.token("ann"), Code::Unauthenticated).await;
    guarded.configure(&settings(&other, ""));
    guarded.becomes(&other.token("ann"), Code::Ok).await;
    guarded.stop().await;
}
