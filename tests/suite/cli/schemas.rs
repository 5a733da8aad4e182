//! Schemas and stores.

use super::on_each_record;
use crate::program::{Record, Server, example, relata, run};

on_each_record!(schemas_are_written_read_planned_and_compared, stores_are_apart);

fn path(name: &str) -> String {
    example(name).join("schema.fga").display().to_string()
}

fn schemas_are_written_read_planned_and_compared(record: &Record) {
    let server = Server::start(record, &[]);
    server.ask("schema read").exits(65).says("NO_SCHEMA").says("relata schema write");
    server.ask("check doc:1 viewer user:a").exits(65).says("NO_SCHEMA");

    let written = server.run(&["schema", "write", &path("drive"), "-o", "json"]).exits(0).json();
    let first = written["schema_id"].as_str().unwrap().to_owned();
    assert!(written["zookie"].is_string());
    let text = std::fs::read_to_string(path("drive")).unwrap();
    assert_eq!(server.ask("schema read").exits(0).stdout, text);
    let model: serde_json::Value =
        serde_json::from_str(&server.ask("schema read --json").exits(0).stdout).unwrap();
    assert_eq!(model["schema_version"], "1.1");
    server.run(&["schema", "diff", &path("drive")]).exits(0);
    // The JSON form is the same schema.
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("model.json");
    std::fs::write(&json, model.to_string()).unwrap();
    let json = json.display().to_string();
    server.run(&["schema", "diff", &json]).exits(0);
    server.run(&["schema", "fmt", &json]).exits(0).says("define can_read: owner or viewer from parent");
    server.run(&["schema", "fmt", &json, "--write"]).exits(64);

    server.ask("tuple write doc:roadmap owner user:ann").exits(0);
    server.ask("tuple write folder:a viewer folder:b#viewer").exits(0);
    let narrowed = text.replace("[user, folder#viewer]", "[user]");
    let plan = server.feed(&["schema", "plan", "-"], &narrowed).exits(1);
    assert!(plan.stdout.contains("1 tuple of folder#viewer"), "{}", plan.stdout);
    assert!(plan.stdout.contains("folder:a#viewer@folder:b#viewer"), "{}", plan.stdout);
    let lines: Vec<_> = plan.stdout.lines().collect();
    assert!(lines.contains(&"folder#viewer gets narrower: some may lose it"), "{}", plan.stdout);
    let inherited = "doc#can_read gets narrower: some may lose it, because of folder#viewer";
    assert!(lines.contains(&inherited), "{}", plan.stdout);
    server.run(&["schema", "plan", &path("drive")]).exits(0).says("every stored tuple would still count");
    server.feed(&["schema", "plan", "-"], "type").exits(65);

    let diff = server.feed(&["schema", "diff", "-"], &narrowed).exits(1);
    assert_eq!(
        diff.stdout,
        "folder#viewer\n- define viewer: [user, folder#viewer] or owner or viewer from parent\n\
         + define viewer: [user] or owner or viewer from parent\n"
    );

    server.feed(&["schema", "write", "-"], &narrowed).exits(65).says("SCHEMA_ORPHANS_TUPLES");
    let stale = ["schema", "write", "-", "--allow-orphans", "--expected", "01JD3K6W7Q8Z9X0V1B2N3M4P5R"];
    server.feed(&stale, &narrowed).exits(65).says("SCHEMA_CHANGED");
    server.feed(&["schema", "write", "-", "--allow-orphans", "--expected", &first], &narrowed).exits(0);
    let list = server.ask("schema list -o json").exits(0).json();
    assert_eq!(list["schemas"].as_array().unwrap().len(), 2);
    assert_eq!((&list["schemas"][1]["id"], &list["schemas"][0]["in_force"]), (&first.into(), &true.into()));
    assert_eq!(
        server.ask(&format!("schema read {}", list["schemas"][1]["id"].as_str().unwrap())).stdout,
        text
    );

    // A schema of the 1.0 dialect, from its file to a check.
    server.run(&["schema", "write", &path("drive-1.0"), "--allow-orphans"]).exits(0);
    server.ask("check doc:roadmap can_read user:ann --full").exits(0);
}

fn stores_are_apart(record: &Record) {
    let server = Server::start(
        record,
        &["--bootstrap", &example("drive").join("store.fga.yaml").display().to_string()],
    );
    let id = server.ask("store create staging").exits(0).line().to_owned();
    assert_eq!(id.len(), 36, "{id}");
    server.ask("store create staging").exits(65).says("STORE_EXISTS");
    server.run(&["store", "create", "not a name"]).exits(65);
    let list = server.ask("store list -o json").exits(0).json();
    let names: Vec<_> =
        list["stores"].as_array().unwrap().iter().map(|store| store["name"].clone()).collect();
    assert_eq!(names, ["default", "staging"]);
    assert!(server.ask("store list").exits(0).stdout.starts_with("NAME"));

    server.ask("check doc:roadmap can_read user:beth --store staging").exits(65).says("NO_SCHEMA");
    server.run(&["schema", "write", &path("drive"), "--store", &id]).exits(0);
    server.ask("check doc:roadmap can_read user:beth --store staging").exits(1);
    let zookie =
        server.ask("tuple write doc:roadmap owner user:zoe --store staging").exits(0).line().to_owned();
    server.ask("check doc:roadmap can_read user:zoe").exits(1);
    server
        .run(&["check", "doc:roadmap", "can_read", "user:zoe", "--at-least", &zookie])
        .exits(65)
        .says("ZOOKIE_OTHER_STORE");

    server.ask("store delete staging").exits(64).says("--yes");
    server.ask("store delete staging --yes").exits(0);
    server.ask("check doc:roadmap can_read user:zoe --store staging").exits(65).says("STORE_NOT_FOUND");
}

#[test]
fn a_schema_is_validated_without_a_server() {
    let validate = |text: &str| run(relata().args(["schema", "validate", "-"]), text);
    validate(&std::fs::read_to_string(path("banking")).unwrap())
        .exits(0)
        .says("valid, 4 types with 16 relations and 1 condition");
    let wrong = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [usr]\n    define editor: viewr\n";
    let told = validate(wrong).exits(65);
    assert!(
        told.stderr.contains("usr") && told.stderr.contains("viewr"),
        "all mistakes at once: {}",
        told.stderr
    );
    assert!(
        told.stderr.contains("6:21") && told.stderr.contains("^^^"),
        "places are underlined: {}",
        told.stderr
    );
    let json = run(relata().args(["schema", "validate", "-", "-o", "json"]), wrong).exits(65).json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["diagnostics"][0]["line"], 6);
    run(relata().args(["schema", "validate", "/nonexistent/schema.fga"]), "")
        .exits(65)
        .says("/nonexistent/schema.fga");
    validate(&"(".repeat(20_000)).exits(65);
    validate(&"x".repeat(300 << 10)).exits(65).says("256 KiB");
}

#[test]
fn a_schema_is_formatted() {
    let text = "model\n  schema 1.1\ntype user\n# readers\ntype doc\n  relations\n    define viewer:[user]   or owner\n    define owner: [user]";
    let printed = run(relata().args(["schema", "fmt", "-"]), text).exits(0).stdout;
    assert!(
        printed.contains("# readers\ntype doc\n  relations\n    define viewer: [user] or owner\n"),
        "{printed}"
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("schema.fga");
    std::fs::write(&file, text).unwrap();
    let name = file.display().to_string();
    run(relata().args(["schema", "fmt", &name, "--check"]), "").exits(1).says("not canonical");
    run(relata().args(["schema", "fmt", &name, "--write"]), "").exits(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), printed);
    run(relata().args(["schema", "fmt", &name, "--check"]), "").exits(0);
}
