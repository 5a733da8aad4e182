//! Removing what matches, removing objects, and looking back at who did: as a person reads it.

use serde_json::json;

use super::on_each_record;
use crate::program::{Record, Server, example};

on_each_record!(
    what_matches_is_counted_then_removed,
    an_object_is_removed_on_both_sides,
    the_log_says_who_changed_what,
    a_removal_whose_server_is_killed_is_run_again,
);

fn serve(record: &Record) -> Server {
    let server = Server::start(record, &[]);
    let schema = example("drive").join("schema.fga").display().to_string();
    server.run(&["schema", "write", &schema]).exits(0);
    server
}

fn write(server: &Server, count: usize) {
    let lines: Vec<_> = (0..count).map(|number| format!("folder:{number}#viewer@user:ann")).collect();
    server.feed(&["tuple", "write", "-"], &lines.join("\n")).exits(0);
}

fn what_matches_is_counted_then_removed(record: &Record) {
    let server = serve(record);
    write(&server, 2_300);
    server.ask("tuple write folder:1 owner user:ann").exits(0);

    let counted = server.ask("tuple delete-matching folder#viewer@user:ann --dry-run").exits(0);
    assert_eq!(counted.stderr, "would delete 2300 tuples\n");
    let some = server.ask("tuple delete-matching folder#viewer@user:ann --limit 1200").exits(0);
    assert_eq!(some.stderr, "deleted 1200 tuples\nmore match: run it again to go on\n");
    let rest = server.ask("tuple delete-matching @user:ann --note left").exits(0);
    assert_eq!(rest.stderr, "deleted 1101 tuples\n");
    server.run(&["check", "folder:1", "owner", "user:ann", "--at-least", rest.line()]).exits(1);
    let nothing = server.ask("tuple delete-matching @user:ann -o json").exits(0).json();
    let expected = json!({ "deleted": 0, "complete": true, "dry_run": false, "zookie": rest.line() });
    assert_eq!(nothing, expected);

    // What would remove everything has to be said.
    server.ask("tuple delete-matching").exits(64);
    server.run(&["tuple", "delete-matching", ""]).exits(64).says("say --all if that is meant");
    server.ask("tuple delete-matching --all folder").exits(64);
    server.ask("tuple delete-matching #viewer").exits(65).says("names no object type");
    server.ask("tuple write folder:1 owner user:ann").exits(0);
    let one = server.ask("tuple delete-matching --all").exits(0);
    assert_eq!(one.stderr, "deleted 1 tuple\n");
    server.ask("tuple delete-matching --all --store nowhere").exits(65).says("STORE_NOT_FOUND");
}

fn an_object_is_removed_on_both_sides(record: &Record) {
    let server = serve(record);
    let tuples = "folder:1#owner@user:ann\n\
                  folder:1#viewer@folder:2#viewer\n\
                  folder:2#parent@folder:1\n\
                  folder:3#viewer@folder:1#viewer\n\
                  folder:3#owner@user:ann\n";
    server.feed(&["tuple", "write", "-"], tuples).exits(0);
    server.ask("object delete folder:1 --dry-run").exits(0).says("would delete 4 tuples");
    let removed = server.ask("object delete folder:1 --note dissolved -o json").exits(0).json();
    assert_eq!((&removed["deleted"], &removed["complete"]), (&json!(4), &json!(true)));
    let left = server.ask("tuple read -o jsonl").exits(0).json_lines();
    assert_eq!(left, [json!({ "object": "folder:3", "relation": "owner", "subject": "user:ann" })]);
    server.ask("object delete folder").exits(65);
    server.ask("tuple log --limit 1").exits(0).says("dissolved");
}

fn the_log_says_who_changed_what(record: &Record) {
    let server = serve(record);
    let first = server.ask("tuple write folder:1 owner user:ann --note granted").exits(0);
    let second = server.ask("tuple delete folder:1 owner user:ann --note revoked").exits(0);

    let log = server.ask("tuple log").exits(0);
    let lines: Vec<_> = log.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{}", log.stdout);
    for (line, note, zookie) in [(0, "revoked", second.line()), (2, "granted", first.line())] {
        let parts: Vec<_> = lines[line].split("  ").collect();
        assert_eq!(parts[1..], [note, zookie], "{}", lines[line]);
        assert!(parts[0].starts_with("20") && parts[0].ends_with('Z'), "when: {}", lines[line]);
    }
    assert_eq!((lines[1], lines[3]), ("  - folder:1#owner@user:ann", "  + folder:1#owner@user:ann"));
    assert!(lines[5].starts_with("  schema 0"), "{}", lines[5]);
    assert_eq!(log.stderr, "");

    let limited = server.ask("tuple log --limit 1").exits(0);
    assert_eq!(limited.stdout.lines().count(), 2);
    assert_eq!(limited.stderr, "more match: say --limit 0 for all\n");
    let since = server.run(&["tuple", "log", "--after", first.line(), "-o", "json"]).exits(0).json();
    assert_eq!((&since["complete"], &since["trimmed"]), (&json!(true), &json!(false)));
    let entries = since["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    let tuple = json!({ "object": "folder:1", "relation": "owner", "subject": "user:ann" });
    assert_eq!(entries[0]["changes"], json!([{ "before": tuple, "after": null }]));
    assert_eq!((&entries[0]["note"], &entries[0]["principal"]), (&json!("revoked"), &json!("")));
    let oldest = server.ask("tuple log folder:1#owner --oldest-first -o jsonl").exits(0).json_lines();
    assert_eq!(oldest.iter().map(|entry| &entry["note"]).collect::<Vec<_>>(), ["granted", "revoked"]);
    assert_eq!(server.ask("tuple log @user:bob").exits(0).stdout, "");
    assert_eq!(server.ask("tuple log --until 1h").exits(0).stdout, "", "all of it is younger");
    assert_eq!(server.ask("tuple log --since 1h --limit 0").exits(0).stdout, log.stdout);
    server.ask("tuple log --since yesterday").exits(65).says("is not a time");
    server.ask("tuple log --after x").exits(65).says("ZOOKIE_MALFORMED");
}

/// Some of the work done, some not; running it again does the rest.
fn a_removal_whose_server_is_killed_is_run_again(record: &Record) {
    let server = serve(record);
    write(&server, 8_000);
    let command = server.command(&["tuple", "delete-matching", "folder", "--note", "going"]);
    let removal = std::thread::spawn(move || crate::program::run(&mut { command }, ""));
    while !server.ask("tuple log --limit 1").exits(0).stdout.contains("going") {}
    server.kill();
    let ended = removal.join().unwrap();

    let server = Server::start(record, &[]);
    let counted = server.ask("tuple delete-matching folder --dry-run -o json").exits(0).json();
    let left = counted["deleted"].as_u64().unwrap();
    assert!(left > 0 && left < 8_000 && left.is_multiple_of(1_000), "{left} are left");
    ended.exits(69).says("run it again to go on");
    let rest = server.ask("tuple delete-matching folder").exits(0);
    assert!(rest.stderr.ends_with(&format!("deleted {left} tuples\n")), "{}", rest.stderr);
    assert_eq!(server.ask("tuple read folder -o jsonl").exits(0).stdout, "");
}
