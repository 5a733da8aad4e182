//! Changing keys, step by step as `docs/operations/key-rotation.md` has them: clients with the old key
//! and with the new one work until the last step, and then only those with the new one.
//!
//! The keys of issuers are in `oidc`, certificates that are replaced under load in
//! `transport::renewal`.

use std::fs;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::postgres_server::fresh_database;
use crate::program::{Record, Server, relata, run};
use crate::transport::Authority;

const SCHEMA: &str = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n";
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

/// Tries until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn an_api_key() {
    let record = Record::sqlite();
    let direct = ["key", "create", "root", "--grant", "*:admin", "--direct", "--datastore", &record.url];
    let root = run(relata().args(direct), "").exits(0).line().to_owned();
    let server = Server::start(&record, &["--api-keys"]).with_token(&root);
    let make = || {
        let made =
            server.ask("key create ci --grant default:read,write --expires 90d -o json").exits(0).json();
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        (text("id"), text("secret"))
    };
    server.feed(&["schema", "write", "-"], SCHEMA).exits(0);
    let ((old_id, old), (_, new)) = (make(), make());
    // A retry that begins with the old key and ends with the new one is one write.
    let write = |key: &str| {
        server
            .ask(&format!("tuple write doc:1 viewer user:ann --idempotency-key once --token {key}"))
            .exits(0)
    };
    assert_eq!(write(&old).line(), write(&new).line());
    server.ask(&format!("key revoke {old_id}")).exits(0);
    server.ask(&format!("check doc:1 viewer user:ann --token {old}")).exits(77);
    server.ask(&format!("check doc:1 viewer user:ann --token {new}")).exits(0);
    let listed = server.ask("key list --revoked -o json").exits(0).json();
    let keys = listed["keys"].as_array().expect("keys");
    let revoked: Vec<_> = keys.iter().filter(|key| key["revoked_by"] == "key:root").collect();
    assert!(revoked.len() == 1 && revoked[0]["id"] == old_id.as_str(), "{listed}");
}

#[test]
fn a_token_of_a_file() {
    let record = Record::sqlite();
    let tokens = record.path().with_extension("tokens");
    let (old, new) = ("old-token-0123456789", "new-token-0123456789");
    let grants = "ci default:read,write";
    fs::write(&tokens, format!("{old} {grants}\n")).expect("written");
    let server = Server::start(&record, &["--token-file", tokens.to_str().expect("UTF-8")]);
    let holds = |token: &str| server.ask(&format!("store list --token {token}")).code == 0;
    assert!(holds(old) && !holds(new));
    fs::write(&tokens, format!("{old} {grants}\n{new} {grants}\n")).expect("written");
    until("the new one holds", || holds(new));
    assert!(holds(old), "both hold meanwhile");
    // A mistake changes nothing.
    fs::write(&tokens, "short\n").expect("written");
    server.signal("HUP");
    server.logs("the tokens stay what they were");
    assert!(holds(old) && holds(new));
    fs::write(&tokens, format!("{new} {grants}\n")).expect("written");
    until("the old one is gone", || !holds(old));
    assert!(holds(new));
}

#[test]
fn an_authority_of_servers_and_of_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let put = |name: &str, text: &str| {
        // In one step, as files should be replaced.
        let staged = folder.path().join("staged");
        fs::write(&staged, text).expect("written");
        fs::rename(&staged, folder.path().join(name)).expect("renamed");
    };
    let server_of = |authority: &Authority| {
        authority.sign(|params| {
            params.subject_alt_names = vec![rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
        })
    };
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (old_clients, new_clients) = (Authority::new("old clients"), Authority::new("new clients"));
    let pair = server_of(&old);
    put("server.pem", &pair.certificate);
    put("server.key", &pair.key);
    put("clients.pem", &old_clients.pem);
    put("old-ca.pem", &old.pem);
    put("new-ca.pem", &new.pem);
    put("both-ca.pem", &format!("{}{}", old.pem, new.pem));
    for (name, authority) in [("old", &old_clients), ("new", &new_clients)] {
        let pair = authority.client("spiffe://example.test/docs");
        put(&format!("{name}-client.pem"), &pair.certificate);
        put(&format!("{name}-client.key"), &pair.key);
    }
    let record = Record::sqlite();
    let files = [at("server.pem"), at("server.key"), at("clients.pem")];
    let server = Server::start(
        &record,
        &["--tls-cert", &files[0], "--tls-key", &files[1], "--tls-client-ca", &files[2]],
    );
    let goes = |trusted: &str, client: &str| {
        let (certificate, key) = (at(&format!("{client}-client.pem")), at(&format!("{client}-client.key")));
        let ca = at(trusted);
        server.run(&["store", "list", "--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key]).code
            == 0
    };
    assert!(goes("old-ca.pem", "old") && !goes("old-ca.pem", "new") && !goes("new-ca.pem", "old"));

    // The server's: clients trust both before it changes.
    assert!(goes("both-ca.pem", "old"));
    let pair = server_of(&new);
    put("server.key", &pair.key);
    put("server.pem", &pair.certificate);
    until("the new certificate is shown", || goes("new-ca.pem", "old"));
    assert!(goes("both-ca.pem", "old") && !goes("old-ca.pem", "old"));

    // The clients': the server trusts both before they change.
    put("clients.pem", &format!("{}{}", old_clients.pem, new_clients.pem));
    until("both are trusted", || goes("new-ca.pem", "new"));
    assert!(goes("new-ca.pem", "old"));
    put("clients.pem", &new_clients.pem);
    until("the old one is not trusted", || !goes("new-ca.pem", "old"));
    assert!(goes("new-ca.pem", "new"));
}

/// A list of two pages, of which the first was made before and the second is asked for now.
struct Paging {
    cursor: String,
}

impl Paging {
    fn begin(server: &Server) -> Self {
        let page = server.ask("list-objects user:ann viewer doc --page-size 1 -o json").exits(0).json();
        Self { cursor: page["cursor"].as_str().expect("a cursor").to_owned() }
    }

    fn go_on(&self, server: &Server) -> i32 {
        server.ask(&format!("list-objects user:ann viewer doc --page-size 1 --cursor {}", self.cursor)).code
    }
}

fn filled(record: &Record) -> Server {
    let server = Server::start(record, &[]);
    server.feed(&["schema", "write", "-"], SCHEMA).exits(0);
    server.feed(&["tuple", "write", "-"], "doc:1#viewer@user:ann\ndoc:2#viewer@user:ann\n").exits(0);
    server
}

#[test]
fn a_cursor_key_on_postgres() {
    let Some(url) = fresh_database() else { return };
    let document = fs::read_to_string("docs/operations/key-rotation.md").expect("the runbook");
    // The statements of the runbook themselves, in their order.
    let statements: Vec<String> = document
        .split("```sql")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("an end").to_owned())
        .collect();
    let [add, turn, drop_old] = &statements[..] else { panic!("{} statements", statements.len()) };
    let change = |sql: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.expect("a connection");
            let changed = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
            assert_eq!(changed.expect(sql).rows_affected(), 1);
        });
    };
    let record = Record::at(url.clone());
    let first = filled(&record);
    let before = Paging::begin(&first);

    // In each step a server that was restarted works beside one that was not.
    change(add);
    let second = Server::start(&record, &[]);
    assert_eq!((before.go_on(&first), before.go_on(&second)), (0, 0));
    assert_eq!(first.stop(), 0);
    change(turn);
    let third = Server::start(&record, &[]);
    let after = Paging::begin(&third);
    assert_eq!((before.go_on(&third), after.go_on(&second)), (0, 0), "both know both");
    assert_eq!(second.stop(), 0);
    change(drop_old);
    let fourth = Server::start(&record, &[]);
    assert_eq!((before.go_on(&fourth), after.go_on(&fourth)), (65, 0));
}

#[test]
fn a_cursor_key_on_sqlite() {
    let record = Record::sqlite();
    let change = |sql: &str| {
        rusqlite::Connection::open(record.path()).expect("a file").execute_batch(sql).expect(sql);
    };
    let server = filled(&record);
    let before = Paging::begin(&server);
    assert_eq!(server.stop(), 0);
    change("UPDATE database SET cursor_keys = CAST(randomblob(32) || cursor_keys AS BLOB);");
    let server = Server::start(&record, &[]);
    let after = Paging::begin(&server);
    assert_eq!((before.go_on(&server), after.go_on(&server)), (0, 0));
    assert_eq!(server.stop(), 0);
    change("UPDATE database SET cursor_keys = substr(cursor_keys, 1, 32);");
    let server = Server::start(&record, &[]);
    assert_eq!((before.go_on(&server), after.go_on(&server)), (65, 0));
}
