//! What went wrong in comparable servers, held against ours. `docs/security/advisories.md` names
//! for each published advisory the test that would fail if Relata had its cause; the cases of the
//! set algebra are store files in `tests/advisories`, named after their advisory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relata::context::Context;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::update::Operation;
use relata::schema::{self, Rules};
use relata::store_file;
use relata::time::Timestamp;
use relata::tuple::Tuple;
use tonic::Code;

use crate::ask::{Asked, World};
use crate::grpc::{Running, on_both, question, reason, refused, tuple, update};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Runs a store file: each assertion by the check and the two lists.
fn holds(name: &str) {
    let path = root().join("tests/advisories").join(format!("{}.fga.yaml", name.replace('_', "-")));
    let file = store_file::load(&path).expect("a store file");
    let report = store_file::run(&file, Timestamp::from_micros(0)).expect("it runs");
    let failures: Vec<_> = report.tests.iter().flat_map(|test| &test.failures).collect();
    assert!(failures.is_empty(), "{}: {failures:#?}", path.display());
    assert!(report.totals().0 > 0, "{} asserts nothing", path.display());
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                holds(stringify!($name));
            }
        )*
        const CASES: &[&str] = &[$(stringify!($name)),*];
    };
}

cases! {
    cve_2022_21646,
    cve_2023_35930,
    cve_2023_40579,
    cve_2023_43645,
    cve_2024_31452,
    cve_2024_32001,
    cve_2024_38361,
    cve_2024_42473,
    cve_2024_46989,
    cve_2024_48909,
    cve_2024_56323,
    cve_2025_25196,
    cve_2025_46331,
    cve_2025_49011,
    cve_2025_55213,
    cve_2025_65111,
    cve_2026_24851,
    cve_2026_48096,
    cve_2026_55170,
    cve_2026_61709,
    ghsa_mqcf,
}

#[test]
fn every_file_is_a_case() {
    let files: BTreeSet<String> = fs::read_dir(root().join("tests/advisories"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .map(|name| name.trim_end_matches(".fga.yaml").replace('-', "_"))
        .collect();
    assert_eq!(files, CASES.iter().map(|name| (*name).to_owned()).collect());
}

/// Every source of tests, as one text.
fn sources() -> String {
    let (mut pending, mut text) = (vec![root().join("src"), root().join("tests")], String::new());
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending
                .extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
    text
}

/// Each of the 42 has one row, and the test it names exists.
#[test]
fn the_document_names_a_test_for_every_advisory() {
    let document = fs::read_to_string(root().join("docs/security/advisories.md")).expect("the document");
    let sources = sources();
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| {
            line.starts_with("| CVE-") || line.starts_with("| GHSA-") || line.starts_with("| OpenFGA ")
        })
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 42, "one row for each advisory");
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(named.len(), 42, "no advisory twice");
    for row in &rows {
        assert_eq!(row.len(), 4, "advisory, cause, why not, test: {row:?}");
        let tests: Vec<&str> =
            row[3].split('`').skip(1).step_by(2).filter_map(|path| path.rsplit("::").next()).collect();
        assert!(!tests.is_empty(), "{} names no test", row[0]);
        for test in tests {
            let exists = sources.contains(&format!("fn {test}(")) || CASES.contains(&test);
            assert!(exists, "{} names `{test}`, which is no test", row[0]);
        }
    }
}

fn rules(text: &str) -> Arc<Rules> {
    Arc::new(Rules::compile(&schema::parse(text).expect("a schema")))
}

fn stored(tuples: &[&str]) -> Vec<Tuple> {
    let plain = |text: &&str| Tuple {
        key: text.parse().expect("a tuple"),
        attributes: relata::tuple::Attributes { condition: None, expires_at: None },
    };
    tuples.iter().map(plain).collect()
}

fn nothing_brought() -> Asked {
    Asked { contextual: Ok(Vec::new()), context: Context::default(), slice: u64::MAX }
}

/// More members than sixteen bits count are all excluded, and all listed.
#[test]
fn cve_2024_27101_no_count_overflows() {
    const MANY: usize = 70_000;
    let world = World::new(
        rules(
            "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user]\ntype doc\n  relations\n    define public: [user:*]\n    define banned: [user, group#member]\n    define viewer: public but not banned\n    define listed: [user]\n",
        ),
        &{
            let mut tuples = stored(&["doc:1#public@user:*", "doc:1#banned@group:g#member"]);
            let many: Vec<String> = (0..MANY)
                .flat_map(|at| {
                    [
                        format!("doc:1#banned@user:u{at}"),
                        format!("group:g#member@user:m{at}"),
                        format!("doc:d{at}#listed@user:ann"),
                    ]
                })
                .collect();
            tuples.extend(stored(&many.iter().map(String::as_str).collect::<Vec<_>>()));
            tuples
        },
    );
    let asked = nothing_brought();
    for at in [0, 65_534, 65_535, 65_536, MANY - 1] {
        for kind in ["u", "m"] {
            let subject = format!("user:{kind}{at}");
            assert!(!world.check(&asked, "doc:1", "viewer", &subject).expect("an answer"), "{subject}");
        }
    }
    assert!(world.check(&asked, "doc:1", "viewer", "user:other").expect("an answer"));
    let listed = world.list_objects(&asked, "user:ann", "listed", "doc").expect("a list");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>().len(), MANY);
    let banned = world.list_subjects(&asked, "doc:1", "banned", "user").expect("a list");
    assert_eq!(banned.into_iter().collect::<BTreeSet<_>>().len(), 2 * MANY);
}

/// What leads from an object to its parents is stored, and names objects: one each.
#[test]
fn cve_2022_39341_and_39342_a_tupleset_is_direct_and_names_objects() {
    let with_parent = |parent: &str| {
        format!(
            "model\n  schema 1.1\ntype user\ntype folder\n  relations\n    define viewer: [user]\ntype doc\n  relations\n    define other: [folder]\n    define parent: {parent}\n    define viewer: viewer from parent\n"
        )
    };
    schema::parse(&with_parent("[folder]")).expect("the plain form");
    for parent in ["[folder, folder:*]", "[folder:*]", "[folder] or other", "other", "[folder#viewer]"] {
        assert!(schema::parse(&with_parent(parent)).is_err(), "{parent}");
    }
    // Stored while another schema was in force, it leads nowhere.
    let world = World::new(
        rules(&with_parent("[folder]")),
        &stored(&["doc:1#parent@folder:*", "doc:1#parent@folder:a#viewer", "folder:a#viewer@user:ann"]),
    );
    let asked = nothing_brought();
    assert!(!world.check(&asked, "doc:1", "viewer", "user:ann").expect("an answer"));
    assert_eq!(world.list_objects(&asked, "user:ann", "viewer", "doc").expect("a list"), [""; 0]);
    assert_eq!(world.list_subjects(&asked, "doc:1", "viewer", "user").expect("a list"), [""; 0]);
}

/// What the schema in force does not allow counts for nothing, though it is stored.
#[test]
fn cve_2022_23542_and_2025_64751_stored_tuples_need_the_schemas_leave() {
    let world = World::new(
        rules(
            "model\n  schema 1.1\ntype user\ntype robot\ntype group\n  relations\n    define member: [user]\n    define admin: [user]\ntype doc\n  relations\n    define viewer: [user, group#member, user:* with small]\n    define editor: viewer\ncondition small(n: int) {\n  n < 10\n}\n",
        ),
        &stored(&[
            "doc:1#viewer@robot:r",
            "doc:1#viewer@group:a#admin",
            "group:a#admin@user:ada",
            // Everybody is allowed on a condition only.
            "doc:1#viewer@user:*",
            // What is derived cannot be stored.
            "doc:2#editor@user:ann",
            "doc:3#viewer@user:ann",
        ]),
    );
    let asked = nothing_brought();
    for (object, subject) in [
        ("doc:1", "robot:r"),
        ("doc:1", "user:ada"),
        ("doc:1", "user:ann"),
        ("doc:1", "group:a#admin"),
        ("doc:2", "user:ann"),
    ] {
        assert!(!world.check(&asked, object, "editor", subject).expect("an answer"), "{object} {subject}");
    }
    assert_eq!(world.list_objects(&asked, "user:ann", "editor", "doc").expect("a list"), ["doc:3"]);
    assert_eq!(world.list_subjects(&asked, "doc:1", "editor", "user").expect("a list"), [""; 0]);
}

/// The items of a batch are answered each by itself, however alike they look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2026_33729_and_34972_items_of_a_batch_are_not_confused() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    server.touch(&["doc:a#owner@user:b,c", "doc:a,b#owner@user:c", "group:x#member@user:ann"]).await;
    let questions = [
        ("doc:a", "owner", "user:b,c", true),
        ("doc:a,b", "owner", "user:c", true),
        ("doc:a", "owner", "user:b", false),
        ("doc:a,b", "owner", "user:b,c", false),
        ("doc:a", "viewer", "user:b,c", true),
        ("doc:a", "blocked", "user:b,c", false),
        ("group:x", "member", "user:ann", true),
        ("group:x", "member", "group:x#member", true),
        ("group:y", "member", "group:x#member", false),
        ("doc:a", "owner", "user:b,c", true),
    ];
    let items = questions.map(|(object, relation, subject, _)| proto::BatchCheckItem {
        object: object.into(),
        relation: relation.into(),
        subject: subject.into(),
    });
    let request = proto::BatchCheckRequest { items: items.to_vec(), ..Default::default() };
    let answer = server.permissions().batch_check(request).await.expect("an answer").into_inner();
    for (result, (object, relation, subject, allowed)) in answer.results.iter().zip(questions) {
        let expected = if allowed { Verdict::Allowed } else { Verdict::Denied };
        assert_eq!(result.verdict(), expected, "{object}#{relation}@{subject}");
    }
    server.stop().await;
}

on_both! {
    /// A contextual tuple is held to the schema as a stored one is.
    async fn cve_2025_48371_contextual_tuples_are_validated(server) {
        server.with_schema().await;
        for wrong in ["doc:1#owner@group:a#member", "doc:1#viewer@user:ann", "doc:1#owner@user:*", "doc:1#nothing@user:ann"] {
            let request = proto::CheckRequest { contextual_tuples: vec![tuple(wrong)], ..question("doc:1#viewer@user:ann") };
            let status = server.check(request).await.expect_err(wrong);
            assert_eq!(status.code(), Code::InvalidArgument, "{wrong}: {status:?}");
        }
    }

    /// The largest write is stored whole, and one that is larger not at all.
    async fn cve_2025_64529_a_large_write_is_whole_or_refused(server) {
        server.with_schema().await;
        let request = |name: &str, count: usize| proto::WriteRequest {
            updates: (0..count).map(|at| update(Operation::Create, &format!("doc:{name}{at}#owner@user:ann"))).collect(),
            ..Default::default()
        };
        server.tuples().write(request("fits", 1_000)).await.expect("the largest");
        refused(server.tuples().write(request("not", 1_001)).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "updates");
        refused(server.tuples().write(request("not", 70_000)).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "updates");
        let filter = proto::TupleFilter { object_type: "doc".into(), ..Default::default() };
        let request = proto::ReadRequest { filter: Some(filter), ..Default::default() };
        let mut read = server.tuples().read(request).await.expect("a stream").into_inner();
        let mut found = BTreeSet::new();
        while let Some(message) = read.message().await.expect("a message") {
            found.extend(message.tuples.into_iter().map(|tuple| tuple.object));
        }
        assert_eq!(found.len(), 1_000);
        assert!(found.iter().all(|object| object.starts_with("doc:fits")), "{found:?}");
    }

    /// The database tells ids apart by their bytes.
    async fn cve_2026_55170_the_record_compares_bytes(server) {
        server.with_schema().await;
        let alike = ["doc:Plan", "doc:plan", "doc:PLAN", "doc:straße", "doc:strasse", "doc:e\u{301}", "doc:é"];
        for object in alike {
            let create = proto::WriteRequest {
                updates: vec![update(Operation::Create, &format!("{object}#owner@user:ann"))],
                idempotency_key: object.to_owned(),
                ..Default::default()
            };
            let answer = server.tuples().write(create).await.expect(object).into_inner();
            assert!(!answer.replayed, "{object}");
        }
        server.delete(&["doc:plan#owner@user:ann"]).await;
        for object in alike {
            let expected = if object == "doc:plan" { Verdict::Denied } else { Verdict::Allowed };
            assert_eq!(server.verdict(&format!("{object}#owner@user:ann")).await, expected, "{object}");
        }
        let store = |name: &str| proto::CreateStoreRequest { name: name.into() };
        server.stores().create_store(store("tenant")).await.expect("a store");
        server.stores().create_store(store("Tenant")).await.expect("another");
        let status = server.stores().create_store(store("tenant")).await.expect_err("taken");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "STORE_EXISTS"));
    }
}
