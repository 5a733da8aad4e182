//! What needs no server: help, versions, completions, contexts and tests of store files.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::program::{Record, Server, example, relata, run};

fn ran(arguments: &[&str]) -> crate::program::Ran {
    run(relata().args(arguments), "")
}

#[test]
fn every_command_has_examples_in_its_help() {
    let commands = [
        "serve",
        "migrate",
        "check",
        "expand",
        "list-objects",
        "list-subjects",
        "list-relations",
        "tuple",
        "tuple write",
        "tuple touch",
        "tuple delete",
        "tuple read",
        "tuple watch",
        "schema",
        "schema write",
        "schema read",
        "schema list",
        "schema validate",
        "schema fmt",
        "schema diff",
        "schema plan",
        "test",
        "store",
        "store create",
        "store list",
        "store delete",
        "context",
        "context set",
        "context use",
        "context list",
        "context remove",
        "completions",
        "version",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = ran(&arguments).exits(0).stdout;
        assert!(
            help.contains("Example")
                && help.contains(&format!("relata {}", command.split(' ').next().unwrap())),
            "{command}: {help}"
        );
    }
    let overview = ran(&["--help"]).exits(0).stdout;
    for command in commands.iter().filter(|command| !command.contains(' ')) {
        assert!(
            overview.contains(&format!("\n  {command} ")),
            "{command} is not in the overview: {overview}"
        );
    }
}

#[test]
fn wrong_usage_is_64_and_says_so() {
    for arguments in [
        &["chek"][..],
        &["check", "doc:1"],
        &["check", "doc:1", "viewer", "user:a", "--nonsense"],
        &["check", "doc:1", "viewer", "user:a", "--full", "--at-least", "x"],
        &["check", "doc:1", "viewer", "user:a", "--output", "xml"],
        &["check", "doc:1", "viewer", "user:a", "--timeout", "-1"],
        &["tuple", "write", "one", "two"],
        &["tuple", "write", "doc:1", "viewer", "user:a", "--must-exist"],
        &["list-objects", "user:a", "viewer", "doc", "--cursor", "x"],
        &["serve", "--datastore", "mysql://x"],
        &["serve", "--listen", "nowhere"],
        &[],
    ] {
        let ran = ran(arguments);
        assert_eq!(ran.code, 64, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn nobody_there_is_69_and_says_what_to_do() {
    let told = ran(&["check", "doc:1", "viewer", "user:a", "--endpoint", "http://127.0.0.1:1"]).exits(69);
    assert_eq!(
        told.stderr,
        "error: no server answers at http://127.0.0.1:1: Connection refused (os error 111)\n  \
         try: start one with `relata serve`, or name another with --endpoint\n"
    );
    for endpoint in ["ftp://x", "localhost:8081", "http://"] {
        ran(&["check", "doc:1", "viewer", "user:a", "--endpoint", endpoint]).exits(65);
    }
}

#[test]
fn versions_and_completions_are_printed() {
    assert!(ran(&["version"]).exits(0).stdout.starts_with("relata 0."));
    assert_eq!(ran(&["version", "-o", "json"]).exits(0).json()["api"], "relata.v1");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(ran(&["completions", shell]).exits(0).stdout.contains("list-objects"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let program = env!("CARGO_BIN_EXE_relata");
    let piped = run(
        Command::new("bash").args(["-c", &format!("set -o pipefail; {program} completions bash | head -1")]),
        "",
    )
    .exits(0);
    assert_eq!(piped.stderr, "");
}

#[test]
fn contexts_are_saved_privately_and_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relata").join("contexts.json");
    let with =
        |arguments: &[&str], input: &str| run(relata().env("RELATA_CONFIG", &file).args(arguments), input);
    assert_eq!(with(&["context", "list"], "").exits(0).stdout, "");

    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "0123456789abcdef0123456789abcdef ann\n").unwrap();
    let server = Server::start(&Record::sqlite(), &["--token-file", &tokens.display().to_string()]);
    with(
        &["context", "set", "here", "--endpoint", &server.endpoint, "--store", "default", "--token-stdin"],
        "0123456789abcdef0123456789abcdef\n",
    )
    .exits(0);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    with(&["store", "list"], "").exits(0).says("default");

    with(&["context", "set", "nowhere", "--endpoint", "http://127.0.0.1:1"], "").exits(0);
    with(&["store", "list"], "").exits(0);
    with(&["context", "use", "nowhere"], "").exits(0);
    with(&["store", "list"], "").exits(69);
    // A flag beats the context, and the token of another server is not sent along.
    with(&["store", "list", "--endpoint", &server.endpoint], "").exits(77);
    let list = with(&["context", "list", "-o", "json"], "").exits(0);
    assert!(!list.stdout.contains("0123456789abcdef"), "the token is shown: {}", list.stdout);
    assert_eq!(list.json()["contexts"][0]["has_token"], true);
    assert_eq!(list.json()["contexts"][1]["in_use"], true);
    with(&["context", "remove", "nowhere"], "").exits(0);
    with(&["context", "use", "nowhere"], "").exits(65).says("no context is called `nowhere`");

    std::fs::write(&file, "nonsense").unwrap();
    with(&["store", "list"], "").exits(65).says("contexts.json");
}

#[test]
fn store_files_are_tested_in_process() {
    let examples: Vec<String> =
        ["drive", "drive-1.0", "code-hosting", "rbac", "endpoints", "banking", "multi-tenant"]
            .iter()
            .map(|name| example(name).join("store.fga.yaml").display().to_string())
            .collect();
    let mut arguments = vec!["test"];
    arguments.extend(examples.iter().map(String::as_str));
    let tested = ran(&arguments).exits(0);
    assert!(tested.stdout.trim_end().ends_with("assertions hold, 0 do not"), "{}", tested.stdout);
    arguments.extend(["--output", "json"]);
    let json = ran(&arguments).exits(0).json();
    assert_eq!((&json["failed"], json["files"].as_array().unwrap().len()), (&0.into(), 7));
    assert!(json["passed"].as_u64().unwrap() > 400, "{}", json["passed"]);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.fga.yaml");
    let name = file.display().to_string();
    let text = std::fs::read_to_string(&examples[0]).unwrap();
    std::fs::copy(example("drive").join("schema.fga"), directory.path().join("schema.fga")).unwrap();
    std::fs::write(&file, text.replacen("can_read: true, owner: false", "can_read: false, owner: false", 1))
        .unwrap();
    let failed = ran(&["test", &name]).exits(1).stdout;
    assert!(failed.contains("check doc:roadmap can_read user:anne\n"), "{failed}");
    assert!(failed.contains("expected denied\n") && failed.contains("but got  allowed\n"), "{failed}");
    // It says why.
    assert!(failed.contains("folder:product#owner@user:anne"), "{failed}");

    std::fs::write(&file, "model_file: schema.fga\nnonsense: 1\n").unwrap();
    ran(&["test", &name]).exits(65).says("store.fga.yaml:2: unknown field `nonsense`");
    std::fs::write(&file, "model: |\n  type doc\n    relations\n      define viewer: [nobody]\n").unwrap();
    ran(&["test", &name]).exits(65).says("nobody");
    ran(&["test", "/nonexistent.yaml"]).exits(65);
    // A file that cannot be used does not hide the others.
    ran(&["test", "/nonexistent.yaml", &examples[0]]).exits(65).says("41 assertions hold");
}

/// The example of `docs/command-line.md`, with the files it names beside it.
#[test]
fn the_store_file_of_the_documentation_holds() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/command-line.md")).unwrap();
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("store.fga.yaml", yaml);
    write(
        "schema.fga",
        "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n    \
         define owner: [user]\n    define editor: [user with at]\n\
         condition at(ip: ipaddress, place: string) {\n  ip.in_cidr(place)\n}\n",
    );
    write(
        "people.csv",
        "object,relation,subject,condition,context\ndoc:plan,viewer,user:bob,,\n\
         doc:plan,editor,user:ann,at,\ndoc:plan,editor,user:bob,at,\n",
    );
    let name = directory.path().join("store.fga.yaml").display().to_string();
    ran(&["test", &name]).exits(0).says("8 assertions hold, 0 do not");
}
