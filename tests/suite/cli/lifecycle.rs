//! Starting, stopping, dying and starting again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::on_each_record;
use crate::program::{Record, Server, example, relata, run};

on_each_record!(
    a_killed_server_has_lost_nothing_it_acknowledged,
    an_example_is_loaded_once,
    tokens_are_asked_for,
    tables_are_made_by_migrate,
    a_copied_database_refuses_what_the_original_handed_out,
);

fn bootstrap() -> String {
    example("drive").join("store.fga.yaml").display().to_string()
}

fn a_killed_server_has_lost_nothing_it_acknowledged(record: &Record) {
    let server = Server::start(record, &["--bootstrap", &bootstrap()]);
    let stop = AtomicBool::new(false);
    let (acknowledged, server) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let mut acknowledged = Vec::new();
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let subject = format!("user:w{writer}n{number}");
                        let wrote = server.run(&["tuple", "write", "folder:product", "viewer", &subject]);
                        if wrote.code != 0 {
                            break;
                        }
                        acknowledged.push((subject, wrote.line().to_owned()));
                    }
                    acknowledged
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        server.signal("KILL");
        stop.store(true, Ordering::Relaxed);
        let acknowledged: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        (acknowledged, server.endpoint.clone())
    });
    assert!(acknowledged.len() > 5, "only {} writes were acknowledged", acknowledged.len());

    let address = server.trim_start_matches("http://").to_owned();
    let server = Server::start_at(record, &address, &["--bootstrap", &bootstrap()]);
    let read = server.ask("tuple read folder:product#viewer -o jsonl").exits(0).json_lines();
    let held: BTreeSet<&str> = read.iter().map(|tuple| tuple["subject"].as_str().unwrap()).collect();
    for (subject, zookie) in &acknowledged {
        assert!(held.contains(subject.as_str()), "{subject} was acknowledged and is gone");
        server.run(&["check", "doc:roadmap", "can_read", subject, "--at-least", zookie]).exits(0);
    }
}

fn an_example_is_loaded_once(record: &Record) {
    let server = Server::start(record, &["--bootstrap", &bootstrap()]);
    assert!(
        server.announced.iter().any(|line| line == "loaded drive: schema and 11 tuples"),
        "{:?}",
        server.announced
    );
    server.ask("tuple delete doc:roadmap owner user:charles").exits(0);
    let schemas = server.ask("schema list -o json").json()["schemas"].as_array().unwrap().len();
    let address = server.kill();

    // What was changed since stays changed.
    let server = Server::start_at(record, &address, &["--bootstrap", &bootstrap()]);
    assert!(
        server.announced.iter().any(|line| line.starts_with("kept what the store holds")),
        "{:?}",
        server.announced
    );
    server.ask("check doc:roadmap owner user:charles --full").exits(1);
    assert_eq!(server.ask("schema list -o json").json()["schemas"].as_array().unwrap().len(), schemas);
    assert_eq!(server.stop(), 0);

    let other = example("rbac").join("store.fga.yaml").display().to_string();
    let server = Server::start_at(record, &address, &["--bootstrap", &other]);
    assert!(
        server.announced.iter().any(|line| line.contains("its schema is not that of rbac")),
        "{:?}",
        server.announced
    );
    server.ask("check doc:roadmap can_read user:beth --full").exits(0);
    drop(server);

    let server = Server::start(record, &["--bootstrap", &other, "--store", "rbac"]);
    server.ask("check module:ledger can_view user:carla --store rbac").exits(0);
}

fn tokens_are_asked_for(record: &Record) {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(
        &tokens,
        "# services\n0123456789abcdef0123456789abcdef ann\nfedcba9876543210fedcba9876543210 bob\n",
    )
    .unwrap();
    let file = tokens.display().to_string();
    let server = Server::start(record, &["--bootstrap", &bootstrap(), "--token-file", &file]);
    let check = "check doc:roadmap can_read user:beth";
    server.ask(check).exits(77).says("--token");
    server.ask(&format!("{check} --token 00000000000000000000000000000000")).exits(77);
    server.ask(&format!("{check} --token fedcba9876543210fedcba9876543210")).exits(0);
    let server = server.with_token("0123456789abcdef0123456789abcdef");
    server.ask(check).exits(0);

    std::fs::write(&tokens, "short\n").unwrap();
    let refused = run(
        relata().args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--datastore",
            "sqlite:/nonexistent/x",
            "--token-file",
            &file,
        ]),
        "",
    );
    refused.exits(65).says("shorter than");
}

fn tables_are_made_by_migrate(record: &Record) {
    let migrate = || run(relata().args(["migrate", "--datastore", &record.url]), "");
    if record.url.starts_with("postgres") {
        let refused =
            run(relata().args(["serve", "--listen", "127.0.0.1:0", "--datastore", &record.url]), "")
                .exits(65);
        assert!(refused.stderr.contains("relata migrate"), "{}", refused.stderr);
    }
    migrate().exits(0).says("migrated");
    migrate().exits(0);
    let server = Server::start(record, &[]);
    server.ask("store list").exits(0);
}

fn a_copied_database_refuses_what_the_original_handed_out(record: &Record) {
    let server = Server::start(record, &["--bootstrap", &bootstrap()]);
    let zookie = server.ask("tuple write folder:product viewer user:zoe").exits(0).line().to_owned();
    server.run(&["check", "doc:roadmap", "can_read", "user:zoe", "--at-least", &zookie]).exits(0);
    let list = "list-objects user:beth can_read doc --page-size 1 -o json";
    let cursor = server.ask(list).exits(0).json()["cursor"].as_str().unwrap().to_owned();
    server.ask(&format!("{list} --cursor {cursor}")).exits(0);
    assert_eq!(server.stop(), 0);

    // The tables are here already: an identity is all that a copy lacks.
    run(relata().args(["migrate", "--new-identity", "--datastore", &record.url]), "")
        .exits(0)
        .says("new identity");
    let server = Server::start(record, &[]);
    server
        .run(&["check", "doc:roadmap", "can_read", "user:zoe", "--at-least", &zookie])
        .exits(65)
        .says("another database");
    server.ask(&format!("{list} --cursor {cursor}")).exits(65).says("not a cursor of this database");
    let zookie = server.ask("check doc:roadmap can_read user:zoe -o json").exits(0).json()["zookie"].clone();
    let zookie = zookie.as_str().unwrap();
    server.run(&["check", "doc:roadmap", "can_read", "user:zoe", "--at-least", zookie]).exits(0);
}

#[test]
fn a_server_is_not_open_to_a_network_by_accident() {
    let record = Record::sqlite();
    let serve =
        |arguments: &[&str]| run(relata().args(["serve", "--datastore", &record.url]).args(arguments), "");
    serve(&["--listen", "0.0.0.0:0"]).exits(64).says("--token-file").says("--insecure");
    let server = Server::start_at(&record, "0.0.0.0:0", &["--insecure"]);
    let port = server.endpoint.rsplit(':').next().unwrap().to_owned();
    run(relata().args(["store", "list", "--endpoint", &format!("http://127.0.0.1:{port}")]), "").exits(0);
    // The port is taken, and so is the file.
    let elsewhere = Record::sqlite();
    let taken = ["serve", "--listen", &format!("127.0.0.1:{port}"), "--datastore", &elsewhere.url];
    run(relata().args(taken), "").exits(69).says("--listen");
    serve(&["--listen", "127.0.0.1:0"]).exits(69).says("in use");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_database_that_is_not_there_is_69() {
    let url = "postgres://relata:hunter2@127.0.0.1:1/relata";
    let told = run(relata().args(["serve", "--listen", "127.0.0.1:0", "--datastore", url]), "").exits(69);
    assert!(!told.stderr.contains("hunter2"), "the password is shown: {}", told.stderr);
    run(relata().args(["migrate", "--datastore", url]), "").exits(69).says("--datastore");
}
