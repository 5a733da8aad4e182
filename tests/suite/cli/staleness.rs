//! A server that cannot reach its database, and whoever asks it on the command line.

use std::time::{Duration, Instant};

use crate::faults::{Cut, Gate, Proxy};
use crate::program::{Record, Server, example, relata, run};

#[test]
fn an_answer_that_may_be_old_comes_with_a_warning() {
    let Some(record) = Record::postgres() else { return };
    let (proxy, url) = Proxy::before_database(&record.url);
    let record = Record::at(url);
    let bootstrap = example("drive").join("store.fga.yaml").display().to_string();
    let flags = ["--bootstrap", &bootstrap, "--max-staleness", "0.5", "--allow-stale", "600"];
    let server = Server::start(&record, &flags);
    let ask = || server.ask("check doc:roadmap can_read user:beth");
    assert_eq!(ask().exits(0).stderr, "");

    proxy.gate(Gate::Refuse);
    proxy.cut_all(Cut::Reset);
    let begun = Instant::now();
    let warned = loop {
        let answer = ask().exits(0);
        if !answer.stderr.is_empty() {
            break answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "no warning");
    };
    assert!(warned.stderr.starts_with("warning: the server has not reached its database for "), "{warned:?}");
    assert_eq!(warned.stdout, ask().stdout, "the answer itself is as ever");
    server.ask("check doc:roadmap can_read user:beth --full").exits(69);
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let serve = |flags: &[&str]| run(relata().args(["serve", "--listen", "127.0.0.1:0"]).args(flags), "");
    serve(&["--allow-stale", "5"]).exits(64).says("--max-staleness");
    serve(&["--max-staleness", "0"]).exits(64).says("--max-staleness");
    serve(&["--max-clock-skew=-1"]).exits(64).says("--max-clock-skew");
    let direct = ["--direct-datastore", "postgres://ann:hunter2@db/relata"];
    let told = serve(&direct).exits(64).says("--direct-datastore");
    assert!(!told.stderr.contains("hunter2"), "the password is shown: {}", told.stderr);
    let to_a_file = ["--datastore", "postgres://db/relata", "--direct-datastore", "sqlite:x.db"];
    serve(&to_a_file).exits(64).says("--direct-datastore");
}
