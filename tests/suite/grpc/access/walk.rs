//! Every method that the server describes, with every kind of credential that must not do.
//!
//! What each method needs is written here by hand and not taken from the server's own table. A
//! method that is not written here fails the test.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorProto;
use relata::proto;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::raw::{call, header, probe};
use super::{Guarded, ROOT, denied, expiring, on_both_guarded, unauthenticated};

/// What a method needs.
#[derive(Debug, Clone, Copy)]
enum Needs {
    Nothing,
    Credential,
    /// One of these rights on the store.
    Store(&'static [&'static str]),
    /// `admin` on all stores.
    Everything,
}

use Needs::{Credential, Everything, Nothing, Store};

const EXPECTED: &[(&str, Needs)] = &[
    ("relata.v1.PermissionService/Check", Store(&["read"])),
    ("relata.v1.PermissionService/BatchCheck", Store(&["read"])),
    ("relata.v1.PermissionService/Expand", Store(&["read"])),
    ("relata.v1.PermissionService/ListObjects", Store(&["read"])),
    ("relata.v1.PermissionService/ListSubjects", Store(&["read"])),
    ("relata.v1.PermissionService/ListRelations", Store(&["read"])),
    ("relata.v1.TupleService/Write", Store(&["write"])),
    ("relata.v1.TupleService/DeleteTuples", Store(&["write"])),
    ("relata.v1.TupleService/DeleteObject", Store(&["write"])),
    ("relata.v1.TupleService/Read", Store(&["read"])),
    ("relata.v1.TupleService/Watch", Store(&["read"])),
    ("relata.v1.TupleService/ReadLog", Store(&["read"])),
    ("relata.v1.SchemaService/WriteSchema", Store(&["schema"])),
    ("relata.v1.SchemaService/ReadSchema", Store(&["read", "schema"])),
    ("relata.v1.SchemaService/ListSchemas", Store(&["read", "schema"])),
    ("relata.v1.SchemaService/PlanSchema", Store(&["schema"])),
    ("relata.v1.StoreService/CreateStore", Everything),
    ("relata.v1.StoreService/GetStore", Store(&["read"])),
    ("relata.v1.StoreService/ListStores", Credential),
    ("relata.v1.StoreService/DeleteStore", Store(&["admin"])),
    ("relata.v1.KeyService/CreateKey", Everything),
    ("relata.v1.KeyService/ListKeys", Everything),
    ("relata.v1.KeyService/RevokeKey", Everything),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Credential),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Credential),
    ("grpc.health.v1.Health/Check", Nothing),
    ("grpc.health.v1.Health/Watch", Nothing),
];

/// Asks the server itself. Both versions of reflection have the same messages on the wire.
async fn reflect(guarded: &Guarded, version: &str, question: MessageRequest) -> MessageResponse {
    let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let credential = [header(format!("Bearer {ROOT}").as_bytes())];
    let answer = call(&guarded.server.channel, &path, request.encode_to_vec(), &credential).await;
    let answer = answer.expect("an answer").expect("a message");
    ServerReflectionResponse::decode(&*answer).expect("a response").message_response.expect("a response")
}

/// All methods that the running server describes.
async fn described(guarded: &Guarded) -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    for version in ["v1", "v1alpha"] {
        let listed = reflect(guarded, version, MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
        for service in listed.service {
            let file =
                reflect(guarded, version, MessageRequest::FileContainingSymbol(service.name.clone())).await;
            let MessageResponse::FileDescriptorResponse(file) = file else { panic!("{file:?}") };
            for file in file.file_descriptor_proto {
                let file = FileDescriptorProto::decode(&*file).expect("a file");
                for described in &file.service {
                    let name = format!("{}.{}", file.package(), described.name());
                    methods.extend(described.method.iter().map(|method| format!("{name}/{}", method.name())));
                }
            }
        }
    }
    // The test would pass on a server that describes nothing.
    let compiled = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    for file in &compiled.file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                assert!(methods.contains(&name), "{name} is not described by the server");
            }
        }
    }
    methods
}

/// Somebody who passed the access layer may be told anything but this.
#[track_caller]
fn passed(method: &str, outcome: &Result<(), Status>) {
    let code = outcome.as_ref().map_or_else(Status::code, |()| Code::Ok);
    let refusals = [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented];
    assert!(!refusals.contains(&code), "{method} should let this one in: {outcome:?}");
}

/// Whether a server knows who somebody is to whom nothing was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    Known,
    Unknown,
}

/// Calls every method as somebody who holds nothing: a token, or whatever the channel itself shows.
pub async fn nothing_is_granted(channel: &Channel, token: Option<&str>, stranger: Stranger) {
    for (method, needs) in EXPECTED {
        println!("{method}");
        let outcome = probe(channel, &format!("/{method}"), token).await;
        match (needs, stranger) {
            (Nothing, _) | (Credential, Stranger::Known) => passed(method, &outcome),
            (Store(_) | Everything, Stranger::Known) => drop(denied(outcome)),
            (Credential | Store(_) | Everything, Stranger::Unknown) => drop(unauthenticated(outcome)),
        }
    }
}

/// A request for a store, whatever the method: all have it in their first field.
fn for_store(store: &str) -> Vec<u8> {
    let length = u8::try_from(store.len()).expect("a short text");
    [&[0x0a, length], store.as_bytes()].concat()
}

fn needs(method: &str) -> Needs {
    let row = EXPECTED.iter().find(|(name, _)| *name == method);
    row.unwrap_or_else(|| panic!("decide what {method} needs, and write it into EXPECTED")).1
}

on_both_guarded! {
    async fn every_method_refuses_all_but_its_right(guarded) {
        let methods = described(guarded).await;
        for (method, _) in EXPECTED {
            assert!(methods.contains(*method), "{method} is expected and not described");
        }
        guarded.create_store("other").await;
        let (revoked, revoked_text) = guarded.key("revoked", "*:admin").await;
        guarded.revoke(&revoked.id, false).await.expect("revoked");
        let never_issued = {
            let (other, text) = guarded.key("model", "*:admin").await;
            let (id, _) = text.trim_start_matches("relata_").split_once('_').expect("a key");
            assert_eq!(id, other.id);
            // Another secret under a known id: one digit of the secret differs.
            let at = text.len() - 20;
            let digit = if text[at..].starts_with('0') { "1" } else { "0" };
            format!("{}{digit}{}", &text[..at], &text[at + 1..])
        };
        let expired = expiring(guarded, "*:admin").await;
        let unknown = [
            revoked_text.as_str(), never_issued.as_str(), &expired, "", "relata_", "nobodys-token-0123456789",
        ];
        let (_, elsewhere) = guarded.key("elsewhere", "other:read,write,schema,admin").await;
        let mut scoped = Vec::new();
        for right in ["read", "write", "schema", "admin"] {
            let (_, here) = guarded.key(&format!("here-{right}"), &format!("default:{right} other:admin")).await;
            let (_, everywhere) = guarded.key(&format!("all-{right}"), &format!("*:{right}")).await;
            scoped.push((right, here, everywhere));
        }

        let channel = &guarded.server.channel;
        for method in &methods {
            // Shown beside a failure.
            println!("{method}");
            let (path, needs) = (format!("/{method}"), needs(method));
            let let_in = async |credential: Option<&str>| {
                passed(method, &probe(channel, &path, credential).await);
            };
            if matches!(needs, Nothing) {
                let_in(None).await;
                let_in(Some(&revoked_text)).await;
                continue;
            }
            unauthenticated(probe(channel, &path, None).await);
            for credential in unknown {
                let status = unauthenticated(probe(channel, &path, Some(credential)).await);
                assert!(credential.is_empty() || !status.message().contains(credential), "{status}");
            }
            match needs {
                Store(_) | Everything => drop(denied(probe(channel, &path, Some(&elsewhere)).await)),
                Nothing | Credential => let_in(Some(&elsewhere)).await,
            }
            for (right, here, everywhere) in &scoped {
                let (suffices_here, suffices_everywhere) = match needs {
                    Nothing | Credential => (true, true),
                    Store(rights) => {
                        let suffices = rights.contains(right) || *right == "admin";
                        (suffices, suffices)
                    }
                    Everything => (false, *right == "admin"),
                };
                for (credential, suffices) in [(here, suffices_here), (everywhere, suffices_everywhere)] {
                    if suffices {
                        let_in(Some(credential)).await;
                    } else {
                        denied(probe(channel, &path, Some(credential)).await);
                    }
                }
            }
            let_in(Some(ROOT)).await;
        }
    }
    /// The store that counts is the one the request names, by its name or its id.
    async fn a_key_of_one_store_opens_no_other(guarded) {
        let other = guarded.create_store("other").await;
        let (_, here) = guarded.key("here", "default:admin").await;
        let (_, there) = guarded.key("there", "other:admin").await;
        let (_, everywhere) = guarded.key("everywhere", "*:admin").await;
        let channel = &guarded.server.channel;
        let ask = async |method: &str, store: &str, key: &str| {
            println!("{method} of `{store}`");
            let credential = [header(format!("Bearer {key}").as_bytes())];
            call(channel, &format!("/{method}"), for_store(store), &credential).await.map(|_| ())
        };
        let of_stores = || EXPECTED.iter().filter(|(_, needs)| matches!(needs, Store(_))).map(|(method, _)| *method);
        assert_eq!(of_stores().count(), 18);
        for method in of_stores() {
            for store in ["other", &other.id] {
                denied(ask(method, store, &here).await);
            }
            for store in ["default", ""] {
                denied(ask(method, store, &there).await);
            }
            // A store that is not there is not told from one that is.
            denied(ask(method, "nowhere", &there).await);
        }
        let deletes = |method: &str| method.ends_with("/DeleteStore");
        for method in of_stores().filter(|method| !deletes(method)) {
            for store in ["other", &other.id] {
                passed(method, &ask(method, store, &there).await);
                passed(method, &ask(method, store, &everywhere).await);
            }
        }
        for method in of_stores().filter(|method| deletes(method)) {
            ask(method, &other.id, &there).await.expect("deleted");
            guarded.create_store("other").await;
            ask(method, "other", &there).await.expect("deleted");
        }
    }
}
