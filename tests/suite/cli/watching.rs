//! `tuple watch`: every revision once and in order, over a server that dies and comes back.

use super::on_each_record;
use crate::program::{Following, Record, Server, example};

on_each_record!(watching_goes_on_over_a_restart, a_watch_can_be_narrowed);

fn serve(record: &Record, address: &str) -> Server {
    Server::start_at(
        record,
        address,
        &["--bootstrap", &example("drive").join("store.fga.yaml").display().to_string()],
    )
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).expect(line)
}

fn watching_goes_on_over_a_restart(record: &Record) {
    let server = serve(record, "127.0.0.1:0");
    let start = server.ask("check doc:roadmap can_read user:beth -o json --full").json()["zookie"].clone();
    let mut watch = Following::start(server.command(&[
        "tuple",
        "watch",
        "--after",
        start.as_str().unwrap(),
        "--output",
        "jsonl",
    ]));
    server.ask("tuple write folder:product viewer user:one --note first").exits(0);
    let event = json(&watch.next());
    assert_eq!(event["note"], "first");
    assert_eq!(event["changes"][0]["operation"], "written");
    assert_eq!(event["changes"][0]["tuple"]["subject"], "user:one");
    server.ask("tuple delete folder:product viewer user:one").exits(0);
    let event = json(&watch.next());
    assert_eq!(event["changes"][0]["operation"], "deleted");

    let address = server.kill();
    let server = serve(record, &address);
    for number in 0..3 {
        server.ask(&format!("tuple write folder:product viewer user:after{number}")).exits(0);
    }
    for number in 0..3 {
        let event = json(&watch.next());
        assert_eq!(event["changes"][0]["tuple"]["subject"], format!("user:after{number}"));
    }
    assert!(watch.is_silent());
    assert_eq!(watch.interrupt(), 0);

    // From its start on, the same changes once more, as people read them.
    let mut again = Following::start(server.command(&["tuple", "watch", "--after", start.as_str().unwrap()]));
    let mut lines = Vec::new();
    while lines.len() < 5 {
        let line = again.next();
        if line.trim_start().starts_with(['+', '-']) {
            lines.push(line.trim().to_owned());
        }
    }
    assert_eq!(lines[0], "+ folder:product#viewer@user:one");
    assert_eq!(lines[1], "- folder:product#viewer@user:one");
    assert_eq!(lines[4], "+ folder:product#viewer@user:after2");
    assert_eq!(again.interrupt(), 0);
    assert_eq!(server.stop(), 0);
}

fn a_watch_can_be_narrowed(record: &Record) {
    let server = serve(record, "127.0.0.1:0");
    let start = server.ask("check doc:roadmap can_read user:beth -o json --full").json()["zookie"].clone();
    let start = start.as_str().unwrap();
    let mut docs = Following::start(
        server.command(&["tuple", "watch", "--after", start, "--type", "doc", "-o", "jsonl"]),
    );
    let mut schemas = Following::start(server.command(&[
        "tuple",
        "watch",
        "--after",
        start,
        "--schema-changes",
        "-o",
        "jsonl",
    ]));
    server.ask("tuple write folder:product viewer user:one").exits(0);
    let file = example("drive").join("schema.fga").display().to_string();
    server.run(&["schema", "write", &file, "--note", "again"]).exits(0);
    server.ask("tuple write doc:roadmap owner user:two").exits(0);

    assert_eq!(json(&docs.next())["changes"][0]["tuple"]["object"], "doc:roadmap");
    assert_eq!(json(&schemas.next())["changes"][0]["tuple"]["subject"], "user:one");
    let event = json(&schemas.next());
    assert!(event["schema_id"].as_str().is_some_and(|id| !id.is_empty()), "{event}");
    assert_eq!(json(&schemas.next())["changes"][0]["tuple"]["subject"], "user:two");

    server.run(&["tuple", "watch", "--after", "nonsense"]).exits(65).says("ZOOKIE_MALFORMED");
}
