//! Writing and reading tuples: one, many, in every format, with what they carry.

use serde_json::json;

use super::on_each_record;
use crate::program::{Record, Server, example};

on_each_record!(
    one_tuple_is_written_touched_and_deleted,
    files_of_every_format_are_written_and_bad_lines_are_named,
    what_is_read_can_be_written_again,
    filters_choose_tuples,
    preconditions_and_idempotency_keys_hold,
);

fn serve(record: &Record, name: &str) -> Server {
    let server = Server::start(record, &[]);
    let schema = example(name).join("schema.fga").display().to_string();
    server.run(&["schema", "write", &schema]).exits(0);
    server
}

fn one_tuple_is_written_touched_and_deleted(record: &Record) {
    let server = serve(record, "banking");
    let written = server.ask("tuple write account:1 owner user:ann").exits(0);
    assert_eq!(written.stderr, "wrote: account:1#owner@user:ann\n");
    let zookie = written.line();
    server.run(&["check", "account:1", "owner", "user:ann", "--at-least", zookie]).exits(0);

    server.ask("tuple write account:1 owner user:ann").exits(65).says("TUPLE_EXISTS");
    server.ask("tuple touch account:1 owner user:ann").exits(0);
    server.ask("tuple write account:1#owner@user:bob").exits(0);
    let json = server.ask("tuple delete account:1 owner user:bob -o json").exits(0).json();
    assert_eq!((&json["done"], &json["replayed"], &json["refused"]), (&json!(1), &json!(false), &json!([])));
    server.ask("check account:1 owner user:bob --full").exits(1);
    server.ask("tuple delete account:1 owner user:bob").exits(0);
    server.ask("tuple delete account:1 owner user:bob --must-exist").exits(65).says("TUPLE_NOT_FOUND");

    let limit = r#"{"limit": 500}"#;
    let attorney = ["tuple", "write", "account:1", "attorney", "user:paul", "--condition", "within_limit"];
    server.run(&[&attorney[..], &["--condition-context", limit]].concat()).exits(0);
    server.ask("check account:1 can_pay user:paul --full").exits(2);
    server
        .run(&["tuple", "touch", r#"account:1#attorney@user:paul with within_limit {"limit":900}"#])
        .exits(0);
    server
        .run(&["check", "account:1", "can_pay", "user:paul", "--full", "--context", r#"{"amount":800}"#])
        .exits(0);

    server.ask("tuple write account:1 accountant user:ada --expires-in 8h").exits(0);
    server.ask("check account:1 can_view user:ada --full").exits(0);
    server.ask("tuple touch account:1 accountant user:ada --expires-at 2999-01-31T12:00:00Z").exits(0);
    let read = server.ask("tuple read account:1#accountant -o json").exits(0).json();
    assert_eq!(read["tuples"][0]["expires_at"], "2999-01-31T12:00:00Z");
    server.ask("tuple touch account:1 accountant user:ada --expires-in 1ms").exits(0);
    std::thread::sleep(std::time::Duration::from_millis(20));
    server.ask("check account:1 can_view user:ada --full").exits(1);
}

fn files_of_every_format_are_written_and_bad_lines_are_named(record: &Record) {
    let server = serve(record, "drive");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };

    let lines = file(
        "tuples.txt",
        "# owners\nfolder:1#owner@user:a\nfolder:1#owner@user:b\nnonsense\nfolder:1#nonsense@user:a\nfolder:1#owner@folder:2\nfolder:2#owner@user:a\n",
    );
    let wrote = server.run(&["tuple", "write", &lines]).exits(65);
    assert!(wrote.stderr.contains("wrote 3 tuples, refused 3 lines"), "{}", wrote.stderr);
    for (line, why) in [(4, "object#relation@subject"), (5, "UNKNOWN_RELATION"), (6, "TUPLE_NOT_ALLOWED")] {
        let told = wrote.stderr.lines().find(|told| told.contains(&format!("tuples.txt:{line}:")));
        assert!(told.is_some_and(|told| told.contains(why)), "line {line}: {}", wrote.stderr);
    }
    assert!(!wrote.line().is_empty(), "a zookie is printed for what was written");

    let again = server.run(&["tuple", "write", &lines, "-o", "json"]).exits(65).json();
    assert_eq!((&again["done"], again["refused"].as_array().unwrap().len()), (&json!(0), 6));
    assert_eq!(again["refused"][0]["line"], 2);
    let touched = server.run(&["tuple", "touch", &lines, "-o", "json"]).exits(65).json();
    assert_eq!(touched["done"], 3);

    let jsonl = file("t.jsonl", "{\"object\":\"folder:3\",\"relation\":\"owner\",\"subject\":\"user:c\"}\n");
    server.run(&["tuple", "write", &jsonl]).exits(0).says("wrote 1 tuple");
    let array = file("t.json", r#"[{"object":"folder:4","relation":"owner","user":"user:c"}]"#);
    server.run(&["tuple", "write", &array]).exits(0);
    let csv = file(
        "t.csv",
        "user_type,user_id,user_relation,relation,object_type,object_id\nuser,c,,owner,folder,5\n",
    );
    server.run(&["tuple", "write", &csv]).exits(0);
    let yaml = file("t.yaml", "- {object: 'folder:6', relation: owner, user: 'user:c'}\n");
    server.run(&["tuple", "write", &yaml]).exits(0);
    server.feed(&["tuple", "write", "-"], "folder:7#owner@user:c\n").exits(0);
    server.feed(&["tuple", "write", "-"], "object,relation,subject\nfolder:8,owner,user:c\n").exits(0);
    let objects = server.ask("list-objects user:c owner folder -o jsonl --full").exits(0).json_lines();
    assert_eq!(objects.len(), 6);

    // Many, with repetitions, in several steps, all of them written.
    let many = joined((0..2_500).map(|number| format!("folder:{}#viewer@user:m", number % 2_400)));
    let wrote = server.feed(&["tuple", "touch", "-", "-o", "json"], &many).exits(0).json();
    assert_eq!(wrote["done"], 2_500);
    let objects = server.ask("tuple read folder#viewer@user:m -o jsonl").exits(0).json_lines();
    assert_eq!(objects.len(), 2_400);
    let deleted = server.feed(&["tuple", "delete", "-"], &many).exits(0);
    assert!(deleted.stderr.contains("deleted 2500 tuples"), "{}", deleted.stderr);
    assert_eq!(server.ask("tuple read folder#viewer@user:m -o jsonl").exits(0).stdout, "");
}

fn what_is_read_can_be_written_again(record: &Record) {
    let server = serve(record, "banking");
    let tuples = "account:1#owner@user:ann\n\
                  account:1#attorney@user:paul with within_limit {\"limit\":500} until 2999-01-31T12:00:00Z\n\
                  account:1#frozen@user:*\n";
    server.feed(&["tuple", "write", "-"], tuples).exits(0);
    let read = server.ask("tuple read -o jsonl").exits(0).stdout;
    assert_eq!(read.lines().count(), 3);

    server.ask("store create copy").exits(0);
    let schema = example("banking").join("schema.fga").display().to_string();
    server.run(&["schema", "write", &schema, "--store", "copy"]).exits(0);
    server.feed(&["tuple", "write", "-", "--store", "copy"], &read).exits(0);
    assert_eq!(server.ask("tuple read -o jsonl --store copy").exits(0).stdout, read);

    let table = server.ask("tuple read account:1#attorney").exits(0);
    assert_eq!(
        table.stdout.lines().map(str::trim_end).collect::<Vec<_>>(),
        [
            "OBJECT     RELATION  SUBJECT    CONDITION                   EXPIRES",
            "account:1  attorney  user:paul  within_limit {\"limit\":500}  2999-01-31T12:00:00Z",
        ]
    );
    assert!(table.stderr.starts_with("1 tuple at "), "{}", table.stderr);
}

fn filters_choose_tuples(record: &Record) {
    let server = Server::start(
        record,
        &["--bootstrap", &example("code-hosting").join("store.fga.yaml").display().to_string()],
    );
    let count =
        |filter: &str| server.run(&["tuple", "read", filter, "-o", "jsonl"]).exits(0).json_lines().len();
    assert_eq!(count("team"), 8);
    assert_eq!(count("team:platform"), 3);
    assert_eq!(count("team:platform#member"), 1);
    assert_eq!(count("team#member@team"), 2);
    assert_eq!(count("team#member@user"), 2);
    assert_eq!(count("@user:mia"), 3);
    assert_eq!(count("@team:platform#member"), 2);
    assert_eq!(count("@user:*"), 1);
    assert_eq!(count("nonexistent"), 0);
    server.ask("tuple read #member").exits(65).says("names no object type");

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut arguments = vec!["tuple", "read", "team", "--page-size", "3", "-o", "json"];
        if !cursor.is_empty() {
            arguments.extend(["--cursor", &cursor]);
        }
        let page = server.run(&arguments).exits(0).json();
        seen.extend(page["tuples"].as_array().unwrap().iter().map(ToString::to_string));
        page["cursor"].as_str().unwrap().clone_into(&mut cursor);
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 8);
    seen.dedup();
    assert_eq!(seen.len(), 8);
}

fn preconditions_and_idempotency_keys_hold(record: &Record) {
    let server = serve(record, "drive");
    let guarded = ["tuple", "write", "folder:1", "owner", "user:a", "--must-not-match", "folder:1#owner"];
    server.run(&guarded).exits(0);
    let second = ["tuple", "write", "folder:1", "owner", "user:b", "--must-not-match", "folder:1#owner"];
    server.run(&second).exits(65).says("PRECONDITION_FAILED");
    server.ask("tuple write folder:1 viewer user:b --must-match folder:1#owner@user:a").exits(0);

    let keyed = ["tuple", "write", "folder:2", "owner", "user:a", "--idempotency-key", "k1", "-o", "json"];
    let first = server.run(&keyed).exits(0).json();
    let replayed = server.run(&keyed).exits(0).json();
    assert_eq!((&first["replayed"], &replayed["replayed"]), (&json!(false), &json!(true)));
    assert_eq!(first["zookie"], replayed["zookie"]);
    let other = ["tuple", "write", "folder:3", "owner", "user:a", "--idempotency-key", "k1"];
    server.run(&other).exits(65).says("IDEMPOTENCY_KEY_REUSED");

    let bulk = ["tuple", "write", "-", "--idempotency-key", "k2", "-o", "json"];
    let input = joined((0..1_500).map(|number| format!("folder:bulk{number}#owner@user:a")));
    let first = server.feed(&bulk, &input).exits(0).json();
    let replayed = server.feed(&bulk, &input).exits(0).json();
    assert_eq!((&first["replayed"], &replayed["replayed"]), (&json!(false), &json!(true)));
    assert_eq!((&first["done"], &replayed["done"]), (&json!(1_500), &json!(1_500)));
}

fn joined(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}
