//! Which files a server starts with, and what it says of those it does not.

use std::path::{Path, PathBuf};

use crate::program::{Ran, Record, Server, relata, run};

use super::authority::{self, Authority, write};

fn keys(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/transport/keys").join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The three forms in which tools write private keys.
#[test]
fn every_form_of_key_is_taken() {
    let record = Record::sqlite();
    for (certificate, key) in [
        ("rsa-pkcs1.pem", "rsa-pkcs1.key"),
        ("rsa-pkcs1.pem", "rsa-pkcs8.key"),
        ("ec-sec1.pem", "ec-sec1.key"),
    ] {
        let (certificate, key) = (text(&keys(certificate)), text(&keys(key)));
        let server = Server::start(&record, &["--tls-cert", &certificate, "--tls-key", &key]);
        server
            .run(&["--tls-ca", &certificate, "--tls-server-name", "relata.test", "store", "list"])
            .exits(0)
            .says("default");
        assert_eq!(server.stop(), 0);
    }
}

fn start(record: &Record, arguments: &[&str]) -> Ran {
    let mut command = relata();
    command.args(["serve", "--listen", "127.0.0.1:0", "--datastore", &record.url]).args(arguments);
    run(&mut command, "")
}

#[test]
fn what_cannot_be_used_is_named() {
    let record = Record::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("servers");
    let (certificate, key) = authority.server().write(folder.path(), "server");
    let (certificate, key) = (text(&certificate), text(&key));
    let (other, other_key) = authority.server().write(folder.path(), "other");
    let garbage = text(&write(
        folder.path(),
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ));
    let empty = text(&write(folder.path(), "empty.pem", ""));
    let check = |certificate: &str, key: &str, expected: &str| {
        let ran = start(&record, &["--tls-cert", certificate, "--tls-key", key]).exits(65);
        assert!(ran.stderr.contains(expected), "`{expected}` is not said: {}", ran.stderr);
    };
    check("/nowhere/server.pem", &key, "cannot read `/nowhere/server.pem`");
    check(&garbage, &key, "garbage.pem` is not a PEM file");
    check(&empty, &key, "empty.pem` holds no certificate");
    check(&key, &key, "server.key` holds no certificate");
    check(&certificate, &certificate, "server.pem` holds no private key");
    check(&certificate, &text(&keys("encrypted.key")), "is encrypted");
    check(&text(&keys("rsa-weak.pem")), &text(&keys("rsa-weak.key")), "rsa-weak.key` cannot be used");
    check(&text(&other), &key, "does not belong to the private key");
    check(&certificate, &text(&other_key), "does not belong to the private key");

    let clients = |path: &str| {
        start(&record, &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", path])
    };
    clients(&empty).exits(65).says("holds no certificate");
    clients("/nowhere/clients.pem").exits(65).says("cannot read `/nowhere/clients.pem`");

    start(&record, &["--tls-cert", &certificate]).exits(64).says("--tls-cert needs --tls-key");
    start(&record, &["--tls-key", &key]).exits(64).says("--tls-key needs --tls-cert");
    start(&record, &["--tls-client-ca", &certificate]).exits(64).says("mean nothing without TLS");
    start(&record, &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-auth", "optional"])
        .exits(64)
        .says("means nothing without --tls-client-ca");
    assert!(!record.path().exists(), "nothing was begun");
}

/// A server whose certificate has ended starts, since a new one is taken without a restart.
#[test]
fn an_expired_certificate_is_served_and_then_replaced() {
    let record = Record::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("servers");
    let root = text(&write(folder.path(), "root.pem", &authority.pem));
    let ended = authority.sign(|params| {
        authority::expired(params);
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().expect("a name"))];
    });
    let (certificate, key) = ended.write(folder.path(), "server");
    let server = Server::start(&record, &["--tls-cert", &text(&certificate), "--tls-key", &text(&key)]);
    let ask = || server.run(&["--tls-ca", &root, "--tls-server-name", "localhost", "store", "list"]);
    ask().exits(69).says("expired");
    let renewed = authority.sign(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().expect("a name"))];
    });
    renewed.write(folder.path(), "server");
    server.signal("HUP");
    let begun = std::time::Instant::now();
    while ask().code != 0 {
        assert!(begun.elapsed() < super::PATIENCE, "the new certificate is not taken");
    }
    assert_eq!(server.stop(), 0);
}
