//! Questions: verdicts and exit codes, explanations, expansions and lists.

use serde_json::json;

use super::on_each_record;
use crate::program::{Record, Server, example};

on_each_record!(
    verdicts_are_words_and_exit_codes,
    a_conditional_answer_names_what_it_needs,
    explanations_are_trees,
    expansions_are_trees,
    lists_are_complete_and_paged,
    contextual_tuples_and_freshness_are_taken,
);

fn serve(record: &Record, name: &str) -> Server {
    let file = example(name).join("store.fga.yaml");
    Server::start(record, &["--bootstrap", &file.display().to_string()])
}

fn verdicts_are_words_and_exit_codes(record: &Record) {
    let server = serve(record, "drive");
    let allowed = server.ask("check doc:roadmap can_read user:beth").exits(0);
    assert_eq!(allowed.stdout, "allowed\n");
    let denied = server.ask("check doc:roadmap can_read user:erik").exits(1);
    assert_eq!(denied.stdout, "denied\n");
    server.ask("check folder:handbook viewer folder:product#viewer").exits(0);

    let json = server.ask("check doc:roadmap can_read user:beth --output json").exits(0).json();
    assert_eq!(json["verdict"], "allowed");
    assert_eq!(json["missing"], json!([]));
    assert!(json["zookie"].as_str().is_some_and(|zookie| zookie.len() > 20), "{json}");
    assert!(json["work"]["goals"].as_u64().is_some_and(|goals| goals > 0), "{json}");
    let line = server.ask("check doc:roadmap can_read user:erik --output jsonl").exits(1);
    assert_eq!(line.json_lines()[0]["verdict"], "denied");
}

fn a_conditional_answer_names_what_it_needs(record: &Record) {
    let server = serve(record, "banking");
    let answer = server.ask("check account:anna can_pay user:paul").exits(2);
    assert_eq!(answer.stdout, "conditional: needs amount\n");
    let json = server.ask("check account:anna can_pay user:paul -o json").exits(2).json();
    assert_eq!((&json["verdict"], &json["missing"]), (&json!("conditional"), &json!(["amount"])));
    server
        .run(&["check", "account:anna", "can_pay", "user:paul", "--context", r#"{"amount": 50000}"#])
        .exits(0);
    server
        .run(&["check", "account:anna", "can_pay", "user:paul", "--context", r#"{"amount": 50001}"#])
        .exits(1);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("context.json");
    std::fs::write(&file, r#"{"amount": 1}"#).unwrap();
    let at = format!("@{}", file.display());
    server.run(&["check", "account:anna", "can_pay", "user:paul", "--context", &at]).exits(0);

    let explained = server.ask("check account:anna can_pay user:paul --explain").exits(2);
    assert!(explained.stdout.contains("needs amount"), "{}", explained.stdout);
    let listed = server.ask("list-objects user:paul can_pay account").exits(0);
    assert!(listed.stdout.contains("conditional: needs amount"), "{}", listed.stdout);
    let relations = server.ask("list-relations account:anna user:paul -o json").exits(0).json();
    let can_pay =
        relations["relations"].as_array().unwrap().iter().find(|item| item["relation"] == "can_pay");
    assert_eq!(can_pay.unwrap()["missing"], json!(["amount"]));
}

fn explanations_are_trees(record: &Record) {
    let server = serve(record, "drive");
    let explained = server.ask("check doc:roadmap can_read user:beth --explain").exits(0);
    let lines: Vec<&str> = explained.stdout.lines().collect();
    assert_eq!(lines[0], "allowed");
    assert!(lines[1].starts_with("✓ doc:roadmap#can_read"), "{}", explained.stdout);
    assert!(lines.iter().any(|line| line.contains("└── ✓")), "{}", explained.stdout);
    // The tuple that the proof ends with.
    assert!(explained.stdout.contains("folder:product#viewer@user:beth"), "{}", explained.stdout);
    assert!(!explained.stdout.contains('\u{1b}'), "colour without a terminal: {}", explained.stdout);

    let denied = server.ask("check doc:roadmap can_read user:erik --explain").exits(1);
    assert!(denied.stdout.starts_with("denied\n✗ doc:roadmap#can_read"), "{}", denied.stdout);

    let json = server.ask("check doc:roadmap can_read user:beth --explain -o json").exits(0).json();
    let nodes = json["explanation"]["nodes"].as_array().unwrap();
    assert_eq!(nodes[0]["parent"], 0);
    assert!(nodes.iter().any(|node| node["tuple"]["subject"] == "user:beth"), "{json:#}");
    for (number, node) in nodes.iter().enumerate().skip(1) {
        assert!(node["parent"].as_u64().unwrap() < number as u64, "a child before its parent: {json:#}");
    }
}

fn expansions_are_trees(record: &Record) {
    let server = serve(record, "drive");
    let tree = server.ask("expand folder:product viewer").exits(0).stdout;
    assert!(tree.starts_with("folder:product#viewer: any of\n├── "), "{tree}");
    assert!(tree.contains("user:beth"), "{tree}");
    assert!(tree.contains("└── through folder:product#parent\n    └── folder:company#viewer\n"), "{tree}");
    let json = server.ask("expand folder:product viewer -o json").exits(0).json();
    let operands = json["tree"]["union"].as_array().unwrap();
    assert_eq!(operands[0]["leaf"][0]["subject"], "user:beth");
    assert_eq!(operands[1]["computed"], "folder:product#owner");
    assert_eq!(operands[2]["tuple_to_userset"]["computed"], json!(["folder:company#viewer"]));

    let server = serve(&Record::sqlite(), "multi-tenant");
    let tree = server.ask("expand tenant:acme active").exits(0).stdout;
    assert!(tree.contains("but not: tenant:acme#blocked"), "{tree}");
    // A condition is shown, not evaluated.
    let tree = server.ask("expand tenant:acme member").exits(0).stdout;
    assert!(tree.contains(r#"user:cora with from_network {"network":"10.0.0.0/8"}"#), "{tree}");
}

fn lists_are_complete_and_paged(record: &Record) {
    let server = serve(record, "drive");
    let table = server.ask("list-objects user:beth can_read doc").exits(0);
    let rows: Vec<&str> = table.stdout.lines().map(str::trim_end).collect();
    assert_eq!(
        rows,
        ["OBJECT       VERDICT", "doc:diary    allowed", "doc:roadmap  allowed", "doc:welcome  allowed"]
    );
    assert_eq!(table.stderr, "3 objects\n");
    let lines = server.ask("list-objects user:beth can_read doc -o jsonl").exits(0).json_lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["verdict"] == "allowed"), "{lines:?}");

    // Pages put together are the list.
    let mut objects = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut arguments =
            vec!["list-objects", "user:beth", "can_read", "doc", "--page-size", "2", "-o", "json"];
        if !cursor.is_empty() {
            arguments.extend(["--cursor", &cursor]);
        }
        let page = server.run(&arguments).exits(0).json();
        let page_objects = page["objects"].as_array().unwrap();
        assert!(page_objects.len() <= 2, "{page}");
        objects.extend(page_objects.iter().map(|item| item["object"].as_str().unwrap().to_owned()));
        page["cursor"].as_str().unwrap().clone_into(&mut cursor);
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(objects, ["doc:diary", "doc:roadmap", "doc:welcome"]);

    let subjects = server.ask("list-subjects doc:roadmap can_read user -o json").exits(0).json();
    let names: Vec<_> =
        subjects["subjects"].as_array().unwrap().iter().map(|item| item["subject"].clone()).collect();
    assert_eq!(names, ["user:anne", "user:beth", "user:charles", "user:dora"]);
    let usersets = server.ask("list-subjects folder:handbook viewer folder#viewer").exits(0);
    assert!(usersets.stdout.contains("folder:product#viewer"), "{}", usersets.stdout);
    let nobody = server.ask("list-objects user:erik can_read doc").exits(0);
    assert_eq!((nobody.stdout.as_str(), nobody.stderr.as_str()), ("", "0 objects\n"));

    let relations = server.ask("list-relations folder:product user:beth").exits(0);
    assert_eq!(relations.stdout.lines().nth(1).unwrap().trim_end(), "viewer    allowed");
    let relations = server.ask("list-relations folder:product user:anne -o json").exits(0).json();
    let names: Vec<_> =
        relations["relations"].as_array().unwrap().iter().map(|item| item["relation"].clone()).collect();
    assert_eq!(names, ["owner", "viewer"]);

    // Exceptions of a wildcard are marked.
    let server = serve(&Record::sqlite(), "multi-tenant");
    let table = server.ask("list-subjects document:press can_view user").exits(0).stdout;
    assert!(table.contains("user:*") && table.contains("user:bad   excepted"), "{table}");
}

fn contextual_tuples_and_freshness_are_taken(record: &Record) {
    let server = serve(record, "drive");
    let extra = "folder:roadmaps#viewer@user:erik";
    server.run(&["check", "doc:roadmap", "can_read", "user:erik", "--contextual", extra]).exits(0);
    server
        .run(&["list-objects", "user:erik", "can_read", "doc", "--contextual", extra])
        .exits(0)
        .says("doc:roadmap");
    server.ask("check doc:roadmap can_read user:erik").exits(1);

    let before = server.ask("check doc:roadmap can_read user:erik -o json").json()["zookie"].clone();
    let zookie = server.ask("tuple write folder:roadmaps viewer user:erik").exits(0).line().to_owned();
    server.run(&["check", "doc:roadmap", "can_read", "user:erik", "--at-least", &zookie]).exits(0);
    server.run(&["check", "doc:roadmap", "can_read", "user:erik", "--exact", &zookie]).exits(0);
    server.run(&["check", "doc:roadmap", "can_read", "user:erik", "--full"]).exits(0);
    // The revision before the write is still there to be asked.
    let before = before.as_str().unwrap();
    server.run(&["check", "doc:roadmap", "can_read", "user:erik", "--exact", before]).exits(1);

    // A schema other than the one in force.
    let first = server.ask("schema list -o json").exits(0).json()["schemas"][0]["id"].clone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("schema.fga");
    let text = std::fs::read_to_string(example("drive").join("schema.fga")).unwrap();
    let text = text.replace("define can_read: owner or viewer from parent", "define can_read: owner");
    std::fs::write(&file, text).unwrap();
    server.run(&["schema", "write", &file.display().to_string()]).exits(0);
    server.ask("check doc:roadmap can_read user:beth --full").exits(1);
    server
        .run(&["check", "doc:roadmap", "can_read", "user:beth", "--schema", first.as_str().unwrap()])
        .exits(0);
}
