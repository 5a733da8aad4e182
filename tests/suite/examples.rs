//! Every example of `schema-examples/`: its tests in process, and each of its assertions through
//! a real server on either database, over gRPC.

use std::collections::BTreeSet;

use prost_types::value::Kind;
use relata::context::{Context, Value};
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::store_service_client::StoreServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::{self, Verdict};
use relata::store_file::{self, Expected, StoreFile, Test};
use relata::time::Timestamp;
use relata::tuple::Tuple;
use tonic::transport::Channel;

use crate::program::{Record, Server, example};

/// The examples, and how many assertions each is known to make at the least: a file that lost
/// its tests must not pass for one whose tests hold.
const EXAMPLES: [(&str, usize); 7] = [
    ("drive-1.0", 40),
    ("drive", 40),
    ("code-hosting", 80),
    ("rbac", 80),
    ("endpoints", 40),
    ("banking", 65),
    ("multi-tenant", 70),
];

fn load(name: &str) -> StoreFile {
    store_file::load(&example(name).join("store.fga.yaml")).unwrap()
}

#[test]
fn every_folder_is_known_and_complete() {
    let root = example("drive");
    let folders: BTreeSet<String> = std::fs::read_dir(root.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, _) in EXAMPLES {
        for file in ["schema.fga", "store.fga.yaml", "README.md"] {
            assert!(example(name).join(file).is_file(), "{name} lacks {file}");
        }
    }
}

#[test]
fn the_two_dialects_of_drive_are_tested_alike() {
    let text = |name: &str| {
        let text = std::fs::read_to_string(example(name).join("store.fga.yaml")).unwrap();
        text.split_once('\n').unwrap().1.to_owned()
    };
    assert_eq!(text("drive"), text("drive-1.0"));
}

#[test]
fn every_example_holds_in_process() {
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    for (name, at_least) in EXAMPLES {
        let report = store_file::run(&load(name), now).unwrap();
        let failures: Vec<_> = report.tests.iter().flat_map(|test| &test.failures).collect();
        assert!(failures.is_empty(), "{name}: {failures:#?}");
        assert!(report.totals().0 >= at_least, "{name} makes {} assertions only", report.totals().0);
    }
}

#[test]
fn every_example_holds_through_a_server_on_sqlite() {
    hold_through_a_server(&Record::sqlite());
}

#[test]
fn every_example_holds_through_a_server_on_postgres() {
    if let Some(record) = Record::postgres() {
        hold_through_a_server(&record);
    }
}

fn hold_through_a_server(record: &Record) {
    let server = Server::start(record, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = Channel::from_shared(server.endpoint.clone()).unwrap().connect().await.unwrap();
        for (name, at_least) in EXAMPLES {
            let file = load(name);
            let asker = Asker { channel: channel.clone(), store: name.to_owned() };
            asker.fill(&file).await;
            let mut count = 0;
            // A server's clock is its own: what a test sets `now` for is asked in process.
            for test in file.tests.iter().filter(|test| test.now.is_none()) {
                count += asker.assert(test, &format!("{name}: {}", test.name)).await;
            }
            assert!(count >= at_least, "{name}: only {count} assertions were asked");
        }
    });
    assert_eq!(server.stop(), 0);
}

#[test]
fn every_readme_shows_what_really_comes_out() {
    for (name, _) in EXAMPLES {
        let file = example(name).join("store.fga.yaml").display().to_string();
        let server = Server::start(&Record::sqlite(), &["--bootstrap", &file]);
        let text = std::fs::read_to_string(example(name).join("README.md")).unwrap();
        let blocks: Vec<&str> =
            text.split("```console\n$ ").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
        assert_eq!(blocks.len(), 3, "{name}");
        for block in blocks {
            let (command, shown) = block.split_once('\n').unwrap();
            let command = command.strip_prefix("relata ").unwrap();
            // As a shell would take it apart: only contexts are quoted.
            let arguments: Vec<&str> = match command.split_once('\'') {
                None => command.split(' ').collect(),
                Some((before, rest)) => {
                    let (quoted, after) = rest.split_once('\'').unwrap();
                    before.split_whitespace().chain([quoted]).chain(after.split_whitespace()).collect()
                }
            };
            let ran = server.run(&arguments);
            assert_eq!(ran.stdout, shown, "{name}: relata {command}");
        }
    }
}

/// One example's store on a server.
struct Asker {
    channel: Channel,
    store: String,
}

impl Asker {
    async fn fill(&self, file: &StoreFile) {
        let mut stores = StoreServiceClient::new(self.channel.clone());
        stores.create_store(proto::CreateStoreRequest { name: self.store.clone() }).await.unwrap();
        let mut schemas = SchemaServiceClient::new(self.channel.clone());
        let request = proto::WriteSchemaRequest {
            store: self.store.clone(),
            text: file.model.text.clone(),
            ..Default::default()
        };
        schemas.write_schema(request).await.unwrap();
        let updates = file.tuples.iter().map(|tuple| proto::Update {
            operation: proto::update::Operation::Create.into(),
            tuple: Some(wire(tuple)),
            must_exist: false,
        });
        let request = proto::WriteRequest {
            store: self.store.clone(),
            updates: updates.collect(),
            ..Default::default()
        };
        TupleServiceClient::new(self.channel.clone()).write(request).await.unwrap();
    }

    /// Asks every assertion of a test, its own tuples as contextual ones, and counts them.
    async fn assert(&self, test: &Test, name: &str) -> usize {
        let mut client = PermissionServiceClient::new(self.channel.clone());
        let contextual_tuples: Vec<_> = test.tuples.iter().map(wire).collect();
        let store = || self.store.clone();
        for case in &test.checks {
            let request = proto::CheckRequest {
                store: store(),
                object: case.object.to_string(),
                relation: case.relation.to_string(),
                subject: case.subject.to_string(),
                context: Some(context(&case.context)),
                contextual_tuples: contextual_tuples.clone(),
                explain: true,
                ..Default::default()
            };
            let answer = client.check(request).await.unwrap().into_inner();
            let expected = match case.expected {
                Expected::Allowed => Verdict::Allowed,
                Expected::Denied => Verdict::Denied,
                Expected::Conditional => Verdict::Conditional,
            };
            assert_eq!(answer.verdict(), expected, "{name}, line {}: {case:?}", case.line);
            let root = &answer.explanation.as_ref().unwrap().nodes[0];
            assert_eq!(root.verdict(), expected, "the explanation of {name}, line {}", case.line);
        }
        for case in &test.list_objects {
            let request = proto::ListObjectsRequest {
                store: store(),
                subject: case.subject.to_string(),
                relation: case.relation.to_string(),
                object_type: case.object_type.to_string(),
                context: Some(context(&case.context)),
                contextual_tuples: contextual_tuples.clone(),
                ..Default::default()
            };
            let mut answers = client.list_objects(request).await.unwrap().into_inner();
            let mut found = BTreeSet::new();
            while let Some(answer) = answers.message().await.unwrap() {
                for object in answer.objects {
                    assert_eq!(object.verdict(), Verdict::Allowed, "{name}, line {}: {object:?}", case.line);
                    assert!(found.insert(object.object), "{name}, line {}: listed twice", case.line);
                }
            }
            assert_eq!(found, texts(&case.expected), "{name}, line {}: {case:?}", case.line);
        }
        for case in &test.list_subjects {
            let (mut found, mut excluded) = (BTreeSet::new(), BTreeSet::new());
            for filter in &case.filters {
                let request = proto::ListSubjectsRequest {
                    store: store(),
                    object: case.object.to_string(),
                    relation: case.relation.to_string(),
                    subject_type: filter.subject_type.to_string(),
                    subject_relation: filter.relation.as_ref().map(ToString::to_string).unwrap_or_default(),
                    context: Some(context(&case.context)),
                    contextual_tuples: contextual_tuples.clone(),
                    ..Default::default()
                };
                let mut answers = client.list_subjects(request).await.unwrap().into_inner();
                while let Some(answer) = answers.message().await.unwrap() {
                    for subject in answer.subjects {
                        let into = match subject.verdict() {
                            Verdict::Allowed => &mut found,
                            Verdict::Denied => &mut excluded,
                            other @ (Verdict::Conditional | Verdict::Unspecified) => {
                                panic!("{name}, line {}: {other:?} {subject:?}", case.line)
                            }
                        };
                        assert!(into.insert(subject.subject), "{name}, line {}: listed twice", case.line);
                    }
                }
            }
            assert_eq!(found, texts(&case.expected.subjects), "{name}, line {}: {case:?}", case.line);
            if let Some(expected) = &case.expected.excluded {
                assert_eq!(excluded, texts(expected), "{name}, line {}: {case:?}", case.line);
            }
        }
        test.checks.len() + test.list_objects.len() + test.list_subjects.len()
    }
}

fn texts<T: ToString>(items: &BTreeSet<T>) -> BTreeSet<String> {
    items.iter().map(ToString::to_string).collect()
}

/// A tuple as the API takes it.
fn wire(tuple: &Tuple) -> proto::Tuple {
    proto::Tuple {
        object: tuple.key.object.to_string(),
        relation: tuple.key.relation.to_string(),
        subject: tuple.key.subject.to_string(),
        condition: tuple.attributes.condition.as_ref().map(|condition| proto::TupleCondition {
            name: condition.name.to_string(),
            context: Some(context(&condition.context)),
        }),
        expires_at: tuple.attributes.expires_at.map(|moment| prost_types::Timestamp {
            seconds: moment.as_micros().div_euclid(1_000_000),
            nanos: i32::try_from(moment.as_micros().rem_euclid(1_000_000) * 1_000).unwrap(),
        }),
    }
}

/// A context as the API takes it. The examples need texts and small whole numbers.
fn context(context: &Context) -> prost_types::Struct {
    let fields = context.0.iter().map(|(name, value)| {
        let kind = match value {
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Int(number) => Kind::NumberValue(f64::from(i32::try_from(*number).unwrap())),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::List(_)
            | Value::Map(_)) => panic!("`{name}` is {other:?}"),
        };
        (name.clone(), prost_types::Value { kind: Some(kind) })
    });
    prost_types::Struct { fields: fields.collect() }
}
