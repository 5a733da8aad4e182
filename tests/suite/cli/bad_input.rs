//! Bad input of every kind gets its exit code and a message that says what is wrong.

use super::on_each_record;
use crate::program::{Record, Server, example};

on_each_record!(every_mistake_is_told);

fn every_mistake_is_told(record: &Record) {
    let server = Server::start(
        record,
        &["--bootstrap", &example("drive").join("store.fga.yaml").display().to_string()],
    );
    let long = "x".repeat(300);
    let long_object = format!("doc:{long}");
    let stray = format!("{}x", "A".repeat(39));
    let mistakes: &[(&[&str], &str)] = &[
        (&["check", "doc", "can_read", "user:beth"], "type:id"),
        (&["check", "doc:", "can_read", "user:beth"], "empty"),
        (&["check", "doc:a b", "can_read", "user:beth"], "space"),
        (&["check", "doc:a\u{7}", "can_read", "user:beth"], "U+0007"),
        (&["check", "doc:*", "can_read", "user:beth"], "wildcard"),
        (&["check", &long_object, "can_read", "user:beth"], "at most 256"),
        (&["check", "dok:1", "can_read", "user:beth"], "dok"),
        (&["check", "doc:1", "can_reed", "user:beth"], "can_reed"),
        (&["check", "doc:1", "can_read", "robot:1"], "robot"),
        (&["check", "doc:1", "can_read", "folder:1#nonsense"], "nonsense"),
        (&["check", "doc:1", "can_read", "user:beth", "--at-least", "nonsense"], "ZOOKIE_MALFORMED"),
        (&["check", "doc:1", "can_read", "user:beth", "--exact", &stray], "ZOOKIE_MALFORMED"),
        (&["check", "doc:1", "can_read", "user:beth", "--context", "{"], "--context"),
        (&["check", "doc:1", "can_read", "user:beth", "--context", "[]"], "--context"),
        (&["check", "doc:1", "can_read", "user:beth", "--context", "@/nonexistent"], "/nonexistent"),
        (&["check", "doc:1", "can_read", "user:beth", "--contextual", "nonsense"], "--contextual"),
        (
            &["check", "doc:1", "can_read", "user:beth", "--contextual", "doc:1#nonsense@user:beth"],
            "nonsense",
        ),
        (&["check", "doc:1", "can_read", "user:beth", "--schema", "nonsense"], "schema"),
        (
            &["check", "doc:1", "can_read", "user:beth", "--schema", "01JD3K6W7Q8Z9X0V1B2N3M4P5R"],
            "SCHEMA_NOT_FOUND",
        ),
        (&["check", "doc:1", "can_read", "user:beth", "--store", "nowhere"], "STORE_NOT_FOUND"),
        (&["expand", "doc:1", "nonsense"], "nonsense"),
        (&["list-objects", "user:beth", "can_read", "dok"], "dok"),
        (
            &["list-objects", "user:beth", "can_read", "doc", "--page-size", "5", "--cursor", "forged"],
            "CURSOR_INVALID",
        ),
        (&["list-subjects", "doc:1", "can_read", "robot"], "robot"),
        (&["list-subjects", "folder:1", "viewer", "folder#"], "after `#`"),
        (&["list-relations", "dok:1", "user:beth"], "dok"),
        (&["tuple", "write", "doc:1", "owner", "group:1"], "group"),
        (&["tuple", "write", "doc:1", "can_read", "user:a"], "TUPLE_NOT_ALLOWED"),
        (&["tuple", "write", "doc:1", "owner", "user:*"], "TUPLE_NOT_ALLOWED"),
        (&["tuple", "write", "doc:1#owner@user:a with nonsense"], "nonsense"),
        (&["tuple", "write", "doc:1", "owner", "user:a", "--expires-at", "tomorrow"], "--expires-at"),
        (&["tuple", "write", "doc:1", "owner", "user:a", "--expires-in", "soon"], "--expires-in"),
        (&["tuple", "write", "/nonexistent.jsonl"], "/nonexistent.jsonl"),
        (&["tuple", "write", "doc:1", "owner", "user:a", "--must-match", "#owner"], "names no object type"),
        (&["tuple", "read", "doc", "--page-size", "5", "--cursor", "forged"], "CURSOR_INVALID"),
        (&["schema", "read", "nonsense"], "schema"),
    ];
    for (arguments, told) in mistakes {
        let ran = server.run(arguments);
        assert_eq!(ran.code, 65, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(told), "{arguments:?} does not say `{told}`: {}", ran.stderr);
        assert!(
            !ran.stderr.contains("Status {") && !ran.stderr.contains("::"),
            "{arguments:?}: {}",
            ran.stderr
        );
    }
    // For programs the same is JSON.
    let told = server.ask("check doc:1 can_reed user:beth -o json").exits(65).stderr;
    let told: serde_json::Value = serde_json::from_str(&told).expect(&told);
    assert_eq!((&told["reason"], &told["exit"]), (&"UNKNOWN_RELATION".into(), &65.into()));
    assert!(told["error"].as_str().unwrap().contains("can_reed"), "{told}");

    // Nothing of it was written.
    assert_eq!(server.ask("tuple read -o jsonl").exits(0).json_lines().len(), 11);
}
