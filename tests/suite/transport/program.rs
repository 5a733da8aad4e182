//! The command line over TLS: it verifies, says who it is, and says what is wrong in words.

use std::path::Path;

use crate::program::{Ran, Record, Server, example, relata, run};

use super::authority::{Authority, write};

const TOKEN: &str = "a-token-of-the-test-0123";

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Files of a server on loopback and of one client, and where they are.
struct Files {
    folder: tempfile::TempDir,
    root: String,
    certificate: String,
    key: String,
    clients: String,
    client_certificate: String,
    client_key: String,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let server = servers.sign(|params| {
            params.subject_alt_names = vec![
                rcgen::SanType::DnsName("localhost".try_into().expect("a name")),
                rcgen::SanType::IpAddress([127, 0, 0, 1].into()),
            ];
        });
        let (certificate, key) = server.write(folder.path(), "server");
        let (client_certificate, client_key) =
            clients.client("spiffe://example.test/ann").write(folder.path(), "ann");
        Self {
            root: text(&write(folder.path(), "root.pem", &servers.pem)),
            clients: text(&write(folder.path(), "clients.pem", &clients.pem)),
            certificate: text(&certificate),
            key: text(&key),
            client_certificate: text(&client_certificate),
            client_key: text(&client_key),
            folder,
        }
    }
}

/// The whole way: server with mTLS and a token file, filled at its start, asked by the client.
#[test]
fn a_question_is_asked_over_mtls() {
    let (files, record) = (Files::new(), Record::sqlite());
    let tokens = text(&write(files.folder.path(), "tokens", &format!("{TOKEN} ann\n")));
    let bootstrap = text(&example("drive").join("store.fga.yaml"));
    let server = Server::start(
        &record,
        &[
            "--bootstrap",
            &bootstrap,
            "--token-file",
            &tokens,
            "--tls-cert",
            &files.certificate,
            "--tls-key",
            &files.key,
            "--tls-client-ca",
            &files.clients,
        ],
    )
    .with_token(TOKEN);
    assert!(server.endpoint.starts_with("https://127.0.0.1:"), "{}", server.endpoint);
    assert!(server.announced.iter().any(|line| line.starts_with("loaded ")), "{:?}", server.announced);
    let tls =
        ["--tls-ca", &files.root, "--tls-cert", &files.client_certificate, "--tls-key", &files.client_key];
    let ask = |server: &Server| {
        server.run(&[&tls[..], &["check", "doc:roadmap", "can_read", "user:beth"]].concat())
    };
    ask(&server).exits(0).says("allowed");

    // The certificate is asked for besides the token, not instead of it.
    server.run(&["--tls-ca", &files.root, "store", "list"]).exits(69).says("asks for a client certificate");
    let server = server.with_token("another-token-0123456789");
    ask(&server).exits(77);

    // All of it in a context.
    let contexts = text(&files.folder.path().join("contexts.json"));
    let with_context = |arguments: &[&str], input: &str| {
        let mut command = relata();
        command.env("RELATA_CONFIG", &contexts).current_dir(files.folder.path()).args(arguments);
        run(&mut command, input)
    };
    let relative = ["--tls-ca", "root.pem", "--tls-cert", "ann.pem", "--tls-key", "ann.key"];
    let set = ["context", "set", "mesh", "--endpoint", &server.endpoint, "--token-stdin"];
    with_context(&[&set[..], &relative].concat(), TOKEN).exits(0);
    let mut elsewhere = relata();
    elsewhere.env("RELATA_CONFIG", &contexts).current_dir("/").args([
        "check",
        "doc:roadmap",
        "can_read",
        "user:beth",
    ]);
    run(&mut elsewhere, "").exits(0).says("allowed");
    // What is saved for one server is not used for another.
    let other = with_context(&["--endpoint", "https://localhost:1", "store", "list"], "");
    assert_ne!(other.code, 0);
    with_context(&["context", "set", "bad", "--endpoint", &server.endpoint, "--tls-ca", "ann.key"], "")
        .exits(65)
        .says("ann.key: holds no certificate");
    assert_eq!(server.stop(), 0);
}

fn list(endpoint: &str, arguments: &[&str]) -> Ran {
    let mut command = relata();
    command.args(["store", "list", "--endpoint", endpoint]).args(arguments);
    run(&mut command, "")
}

#[test]
fn every_failure_says_what_to_do() {
    let (files, record) = (Files::new(), Record::sqlite());
    let server = Server::start(&record, &["--tls-cert", &files.certificate, "--tls-key", &files.key]);
    let port = server.endpoint.rsplit(':').next().expect("a port").to_owned();
    let at = |host: &str| format!("{host}:{port}");
    let trust = ["--tls-ca", files.root.as_str()];
    list(&at("https://127.0.0.1"), &trust).exits(0);
    list(&at("https://localhost"), &trust).exits(0);

    let ran = list(&at("https://127.0.0.1"), &["--tls-ca", &files.clients]).exits(69);
    ran.says("authority that is not trusted here").says("--tls-ca FILE");
    let ran =
        list(&at("https://127.0.0.1"), &["--tls-ca", &files.root, "--tls-server-name", "relata.example"])
            .exits(69);
    ran.says("not the server that its certificate names").says("relata.example").says("--tls-server-name");
    list(&at("http://127.0.0.1"), &[]).exits(69).says("https://");
    list(&at("https://127.0.0.1"), &["--tls-cert", &files.client_certificate]).exits(64).says("--tls-key");
    list(&at("https://127.0.0.1"), &["--tls-ca", "/nowhere.pem"]).exits(65).says("/nowhere.pem");

    let plain = Server::start(&Record::sqlite(), &[]);
    list(&plain.endpoint.replace("http://", "https://"), &trust)
        .exits(69)
        .says("does not speak TLS")
        .says("http://");

    // A certificate of an authority that the server does not know.
    let guarded = Server::start(
        &Record::sqlite(),
        &["--tls-cert", &files.certificate, "--tls-key", &files.key, "--tls-client-ca", &files.root],
    );
    let stranger =
        ["--tls-ca", &files.root, "--tls-cert", &files.client_certificate, "--tls-key", &files.client_key];
    list(&guarded.endpoint, &stranger).exits(69).says("refused the client certificate");
    list(&guarded.endpoint, &trust).exits(69).says("asks for a client certificate");
}

/// A token is not sent where anybody can read it.
#[test]
fn a_token_does_not_leave_the_machine_in_plain_text() {
    let ask =
        |arguments: &[&str]| list("http://relata.invalid:8081", &[&["--token", TOKEN], arguments].concat());
    ask(&[]).exits(64).says("plain text").says("--insecure-token");
    ask(&["--insecure-token"]).exits(69).says("no server answers");
    let mut command = relata();
    command.env("RELATA_INSECURE_TOKEN", "true").env("RELATA_TOKEN", TOKEN);
    command.args(["store", "list", "--endpoint", "http://relata.invalid:8081"]);
    run(&mut command, "").exits(69).says("no server answers");
}

/// Credentials in plain text are only told of where somebody could listen.
#[test]
fn a_server_that_takes_credentials_in_plain_text_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = write(folder.path(), "tokens", "0123456789abcdef ops\n");
    let flags = ["--token-file", tokens.to_str().expect("UTF-8")];
    let warns = |address: &str, flags: &[&str]| {
        let server = Server::start_at(&Record::sqlite(), address, flags);
        let said = server.logs_until(r#""message":"serving""#);
        said.iter().filter(|line| line.contains("in plain text")).count()
    };
    assert_eq!(warns("0.0.0.0:0", &flags), 1);
    assert_eq!(warns("127.0.0.1:0", &flags), 0);
    let (certificate, key) = Authority::new("servers").server().write(folder.path(), "server");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let encrypted = [&flags[..], &["--tls-cert", &certificate, "--tls-key", &key]].concat();
    assert_eq!(warns("0.0.0.0:0", &encrypted), 0);
}
