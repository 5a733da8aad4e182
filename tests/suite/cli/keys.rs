//! API keys as a person makes, uses and revokes them; and that nothing secret is ever logged.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::on_each_record;
use crate::program::{Record, Server, relata, run};

on_each_record!(keys_from_the_first_to_the_last, nothing_secret_is_logged, what_cannot_be_is_said);

fn direct(record: &Record, arguments: &[&str]) -> crate::program::Ran {
    run(relata().arg("key").args(arguments).args(["--datastore", &record.url]), "")
}

fn migrated(record: &Record) {
    run(relata().args(["migrate", "--datastore", &record.url]), "").exits(0);
}

fn keys_from_the_first_to_the_last(record: &Record) {
    // A SQLite file is made by whoever comes first, as by `serve`.
    if record.url.starts_with("postgres") {
        direct(record, &["create", "root", "--grant", "*:admin"]).exits(65).says("relata migrate");
        migrated(record);
    }
    let made = direct(record, &["create", "root", "--grant", "*:admin"]).exits(0);
    let root = made.line().to_owned();
    assert!(root.starts_with("relata_") && root.len() == 67, "the key alone is printed: {}", made.stdout);
    assert!(made.stderr.contains("*:admin") && !made.stderr.contains(&root), "{}", made.stderr);

    let server = Server::start(record, &["--api-keys"]);
    server.ask("store list").exits(77).says("--token");
    let mistyped = format!("{}{}", &root[..66], if root.ends_with('x') { 'y' } else { 'x' });
    server.ask(&format!("store list --token {mistyped}")).exits(77).says("mistyped");
    if record.url.starts_with("sqlite") {
        direct(record, &["list"]).exits(69).says("a server has the file");
    }
    let server = server.with_token(&root);
    server.ask("store list").exits(0).says("default");
    let schema = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n";
    server.feed(&["schema", "write", "-"], schema).exits(0);

    let made = server.ask("key create ci --grant default:read,write --expires 90d -o json").exits(0).json();
    let ci = made["secret"].as_str().unwrap().to_owned();
    assert_eq!(made["grants"], serde_json::json!(["default:read,write"]));
    assert!(made["expires_at"].is_string() && made["created_by"] == "key:root", "{made}");
    let as_ci = |line: &str| server.ask(&format!("{line} --token {ci}"));
    as_ci("tuple write doc:1 viewer user:ann").exits(0);
    as_ci("check doc:1 viewer user:ann").exits(0);
    as_ci("key list").exits(77).says("PERMISSION_DENIED");
    as_ci("store create mine").exits(77).says("right");

    let listed = server.ask("key list").exits(0);
    assert!(
        listed.stdout.contains("ci") && listed.stdout.contains("default:read,write"),
        "{}",
        listed.stdout
    );
    assert!(!listed.stdout.contains(&ci[20..]), "{}", listed.stdout);
    let again = server.ask("key create ci --grant default:read").exits(0);
    let ambiguous = server.ask("key revoke ci").exits(65).says("--all");
    assert!(ambiguous.stderr.contains(made["id"].as_str().unwrap()), "{}", ambiguous.stderr);
    server.run(&["key", "revoke", made["id"].as_str().unwrap()]).exits(0).says("revoked ci");
    as_ci("check doc:1 viewer user:ann").exits(77);
    server.ask(&format!("check doc:1 viewer user:ann --token {}", again.line())).exits(0);
    server.ask("key revoke nobody").exits(65).says("relata key list");
    let all = server.ask("key list --revoked -o jsonl").exits(0).json_lines();
    let names: Vec<_> = all.iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ci", "ci", "root"]);
    assert_eq!(all.iter().filter(|key| key["revoked_by"] == "key:root").count(), 1);

    // The last key of an admin is lost: whoever can reach the database makes another.
    server.ask("key revoke root").exits(0);
    server.ask("store list").exits(77);
    assert_eq!(server.stop(), 0);
    let new = direct(record, &["create", "root", "--grant", "*:admin"]).exits(0).line().to_owned();
    let server = Server::start(record, &["--api-keys"]).with_token(&new);
    server.ask("key list").exits(0).says("root");
}

fn what_cannot_be_is_said(record: &Record) {
    migrated(record);
    for (arguments, said) in [
        (&["create", "ci"][..], "--grant"),
        (&["create", "ci", "--grant", "default"], "STORE:RIGHT"),
        (&["create", "ci", "--grant", "default:reed"], "`reed` is not a right"),
        (&["create", "ci", "--grant", "a b:read"], "not the name or id of a store"),
        (&["create", "ci", "--grant", "*:read", "--expires", "soon"], "90d"),
    ] {
        direct(record, arguments).exits(64).says(said);
    }
    direct(record, &["create", "1ci", "--grant", "*:read"]).exits(65).says("begin with a letter");
    let past = ["create", "ci", "--grant", "*:read", "--expires", "2020-01-01T00:00:00Z"];
    direct(record, &past).exits(65).says("expired");
    assert_eq!(direct(record, &["list", "--revoked"]).exits(0).stdout, "");
    let serve = ["serve", "--insecure", "--api-keys", "--datastore", &record.url];
    run(relata().args(serve), "").exits(64).says("--insecure");
    let url = "postgres://relata:hunter2@localhost:notaport/x";
    let refused = run(relata().args(["key", "list", "--datastore", url]), "").exits(64);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}

/// At the level that documentation tells people to use when they look for a fault.
fn nothing_secret_is_logged(record: &Record) {
    migrated(record);
    let make =
        |name: &str| direct(record, &["create", name, "--grant", "*:admin"]).exits(0).line().to_owned();
    let (used, revoked) = (make("used"), make("revoked"));
    let directory = tempfile::tempdir().unwrap();
    let (tokens, log) = (directory.path().join("tokens"), directory.path().join("log"));
    let token = "s3cret-token-0123456789";
    std::fs::write(&tokens, format!("{token} ops\n")).unwrap();
    let password = "hunter2hunter2";
    let url = match record.url.split_once('?') {
        Some(_) => format!("{}&password={password}", record.url),
        None => record.url.clone(),
    };
    // What holds a password and should not is refused, and not repeated.
    let issuers = directory.path().join("oidc.yaml");
    let configure = |issuer: &str| {
        std::fs::write(&issuers, format!("issuers:\n  - {{ issuer: '{issuer}', audience: relata }}\n"))
            .unwrap();
    };
    configure("https://user:s3cret@127.0.0.1:1/realm");
    let serving = || {
        let mut command = relata();
        command.args(["serve", "--listen", "127.0.0.1:0", "--api-keys"]).env("RELATA_DATASTORE", &url);
        command
    };
    for ran in [
        run(serving().arg("--oidc-config").arg(&issuers), ""),
        run(serving().env("RELATA_OTLP_ENDPOINT", "http://user:s3cret@127.0.0.1:1"), ""),
        run(serving().env("RELATA_DIRECT_DATASTORE", "postgres://user:s3cret@127.0.0.1:notaport/x"), ""),
    ] {
        assert_ne!(ran.code, 0);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains("s3cret"), "{said}");
    }
    configure("https://127.0.0.1:1/realm");
    let mut command = serving();
    if record.url.starts_with("postgres") {
        command.env("RELATA_DIRECT_DATASTORE", &url);
    }
    command
        .arg("--token-file")
        .arg(&tokens)
        .arg("--oidc-config")
        .arg(&issuers)
        .env("RELATA_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("RELATA_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim_end().strip_prefix("listening on ").expect("ready").to_owned();
    let call = |credential: &str, arguments: &[&str]| {
        let mut command = relata();
        run(command.env("RELATA_ENDPOINT", &endpoint).env("RELATA_TOKEN", credential).args(arguments), "")
    };
    call(&used, &["store", "list"]).exits(0);
    call(token, &["store", "list"]).exits(0);
    let new_key = call(&used, &["key", "create", "new", "--grant", "*:read"]).exits(0).line().to_owned();
    call(&used, &["key", "revoke", "revoked"]).exits(0);
    for wrong in [revoked.as_str(), "s3cret-wrong-0123456789", "relata_s3cret-mistyped"] {
        call(wrong, &["store", "list"]).exits(77);
    }
    // A broken token file is reported, and not shown.
    std::fs::write(&tokens, format!("{token} ops\ns3cret ops\n")).unwrap();
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    let begun = std::time::Instant::now();
    while !std::fs::read_to_string(&log).unwrap().contains("the tokens stay what they were") {
        assert!(begun.elapsed() < std::time::Duration::from_mins(1), "the broken file is not reported");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(child.wait().unwrap().success());

    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("made an API key") && said.contains("revoked an API key"), "{said}");
    let secret_part = |key: &str| key.rsplit('_').next().unwrap().to_owned();
    for secret in [
        secret_part(&used),
        secret_part(&revoked),
        secret_part(&new_key),
        "s3cret".to_owned(),
        password.to_owned(),
    ] {
        let line = said.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "this line of the log holds a secret");
    }
}
