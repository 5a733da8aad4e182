//! What went wrong in comparable servers, held against ours. `docs/security/advisories.md` names
//! for each published advisory the test that would fail if Relata had its cause; the cases of the
//! set algebra are store files in `tests/advisories`, named after their advisory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
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

/// What was published of `SpiceDB` and of `OpenFGA`.
const PUBLISHED: [&str; 42] = [
    "CVE-2022-21646",
    "CVE-2023-29193",
    "CVE-2023-35930",
    "CVE-2023-46255",
    "CVE-2024-27101",
    "CVE-2024-32001",
    "CVE-2024-38361",
    "CVE-2024-46989",
    "CVE-2024-48909",
    "CVE-2025-49011",
    "CVE-2025-64529",
    "CVE-2025-65111",
    "GHSA-vhvq",
    "CVE-2026-40091",
    "GHSA-mqcf",
    "CVE-2026-55866",
    "CVE-2022-39340",
    "CVE-2022-39341",
    "CVE-2022-39352",
    "CVE-2022-39342",
    "CVE-2022-23542",
    "CVE-2023-35933",
    "CVE-2023-43645",
    "CVE-2023-40579",
    "CVE-2023-45810",
    "CVE-2024-23820",
    "CVE-2024-31452",
    "CVE-2024-42473",
    "CVE-2024-56323",
    "CVE-2025-25196",
    "CVE-2025-46331",
    "CVE-2025-48371",
    "CVE-2025-55213",
    "CVE-2025-64751",
    "CVE-2026-24851",
    "CVE-2026-33729",
    "CVE-2026-34972",
    "CVE-2026-40293",
    "CVE-2026-48096",
    "CVE-2026-55170",
    "CVE-2026-61709",
    "CVE-2026-55689",
];

/// Macros that make a test of each function they hold, and of each name.
const OF_FUNCTIONS: &[&str] = &["on_both! {", "on_both_guarded! {"];
const OF_NAMES: &[&str] = &["on_each_record!(", "cases! {", "on_both_databases! {"];

/// Whether a source file has this test.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    let is_function = |line: &str| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let marked = (0..lines.len()).filter(|at| is_function(lines[*at])).any(|at| {
        let above = || lines[..at].iter().rev();
        let has_mark = above()
            .map(|line| line.trim_start())
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line == "#[test]" || line.starts_with("#[tokio::test"));
        let around = above().find(|line| line.starts_with(|first: char| !first.is_whitespace()));
        has_mark
            || (lines[at].starts_with("    async fn")
                && around.is_some_and(|line| OF_FUNCTIONS.contains(line)))
    });
    let listed = lines.iter().enumerate().any(|(at, line)| {
        let Some(first) = OF_NAMES.iter().find_map(|way| line.strip_prefix(way)) else { return false };
        let rest = std::iter::once(first).chain(lines[at + 1..].iter().copied());
        let mut names = Vec::new();
        for line in rest {
            let (inside, ended) =
                line.split_once([')', '}']).map_or((line, false), |(inside, _)| (inside, true));
            names.extend(inside.split([',', ';', ':']).map(str::trim));
            if ended {
                break;
            }
        }
        names.contains(&name)
    });
    marked || listed
}

#[test]
fn only_tests_are_taken_for_tests() {
    let source = "
// fn a_comment(
/// fn another(
fn a_helper() {}

#[test]
fn plain() {}

/// What it holds.
#[tokio::test(flavor = \"multi_thread\")]
async fn with_threads() {}

on_both! {
    async fn on_a_server(server) {
        fn inner() {}
    }
}

fn after_the_macro() {}

on_each_record!(one, another_one,
    a_third);
";
    for name in ["plain", "with_threads", "on_a_server", "one", "another_one", "a_third"] {
        assert!(is_test(source, name), "{name}");
    }
    for name in ["a_comment", "another", "a_helper", "inner", "after_the_macro", "on_a", "absent"] {
        assert!(!is_test(source, name), "{name}");
    }
}

/// The files that a module may be, of the crate's own tests or of this suite.
fn files_of(modules: &[&str]) -> Vec<PathBuf> {
    let within = modules.strip_suffix(&["tests"]).unwrap_or(modules);
    let files = |tree: &&str| {
        [modules, within].map(|modules| {
            let module = root().join(tree).join(modules.join("/"));
            [module.with_extension("rs"), module.join("mod.rs")]
        })
    };
    let all = ["src", "tests/suite"].iter().flat_map(files).flatten();
    all.filter(|file| file.is_file()).collect()
}

/// Each advisory has one row, and every test it names exists under the path it gives.
#[test]
fn the_document_names_a_test_for_every_advisory() {
    let document = fs::read_to_string(root().join("docs/security/advisories.md")).expect("the document");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| CVE-") || line.starts_with("| GHSA-"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), PUBLISHED.len(), "one row for each advisory");
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(named, BTreeSet::from(PUBLISHED));
    for row in &rows {
        assert_eq!(row.len(), 4, "advisory, cause, why not, test: {row:?}");
        let tests: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{} names no test", row[0]);
        for test in tests {
            let path: Vec<&str> = test.split("::").collect();
            let (name, modules) = path.split_last().expect("a path");
            let has_it = |file: &PathBuf| is_test(&fs::read_to_string(file).expect("a source file"), name);
            assert!(files_of(modules).iter().any(has_it), "{}: there is no test `{test}`", row[0]);
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

/// A list that may not go on says so: what was found is not the whole list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2023_35930_a_list_out_of_fuel_is_an_error() {
    let server = Running::sqlite(|config| config.search.fuel = 500).await;
    server.with_schema().await;
    let tuples: Vec<String> = (0..1_000).map(|at| format!("doc:{at}#granted@user:ann")).collect();
    server.touch(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.touch(&["doc:0#owner@user:bob"]).await;
    let list = async |subject: &str, page_size: u32| {
        let request = proto::ListObjectsRequest {
            subject: subject.into(),
            relation: "viewer".into(),
            object_type: "doc".into(),
            page_size,
            ..Default::default()
        };
        server.permissions().list_objects(request).await?.into_inner().try_collect::<Vec<_>>().await
    };
    for page_size in [0, 1_000] {
        refused(list("user:ann", page_size).await, Code::ResourceExhausted, "LIMIT_EXCEEDED", "");
        let small = list("user:bob", page_size).await.expect("a list within the limit");
        assert_eq!(small.iter().map(|message| message.objects.len()).sum::<usize>(), 1);
    }
    server.stop().await;
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

/// Conditions on what a question brings, and on what a tuple does.
const BRINGING: &str = "model
  schema 1.1

type user

type group
  relations
    define member: [user]

type doc
  relations
    define owner: [user]
    define viewer: [user, group#member, user with paired, user with exactly] or owner
    define viewer_of: [user]

condition paired(left: list<string>, right: list<string>) {
  left == [\"a\"] && right == [\"b\"]
}

condition exactly(names: list<string>, wanted: list<string>) {
  names == wanted
}
";

/// A context of lists of texts.
fn lists(named: &[(&str, &[&str])]) -> prost_types::Struct {
    use prost_types::value::Kind;

    let text = |text: &&str| prost_types::Value { kind: Some(Kind::StringValue((*text).to_owned())) };
    let list = |texts: &[&str]| prost_types::ListValue { values: texts.iter().map(text).collect() };
    let field = |(name, texts): &(&str, &[&str])| {
        ((*name).to_owned(), prost_types::Value { kind: Some(Kind::ListValue(list(texts))) })
    };
    prost_types::Struct { fields: named.iter().map(field).collect() }
}

on_both! {
    /// A contextual tuple is held to the schema as a stored one is, whatever is asked.
    async fn cve_2025_48371_contextual_tuples_are_validated(server) {
        server.with_schema().await;
        for wrong in ["doc:1#owner@group:a#member", "doc:1#viewer@user:ann", "doc:1#owner@user:*", "doc:1#nothing@user:ann"] {
            let contextual_tuples = || vec![tuple(wrong)];
            let (object, relation, subject) = ("doc:1".to_owned(), "viewer".to_owned(), "user:ann".to_owned());
            let check = proto::CheckRequest { contextual_tuples: contextual_tuples(), ..question("doc:1#viewer@user:ann") };
            let items = vec![proto::BatchCheckItem { object: object.clone(), relation: relation.clone(), subject: subject.clone() }];
            let batch = proto::BatchCheckRequest { items, contextual_tuples: contextual_tuples(), ..Default::default() };
            let expand = proto::ExpandRequest {
                object: object.clone(),
                relation: relation.clone(),
                contextual_tuples: contextual_tuples(),
                ..Default::default()
            };
            let objects = proto::ListObjectsRequest {
                subject: subject.clone(),
                relation: relation.clone(),
                object_type: "doc".into(),
                contextual_tuples: contextual_tuples(),
                ..Default::default()
            };
            let subjects = proto::ListSubjectsRequest {
                object: object.clone(),
                relation,
                subject_type: "user".into(),
                contextual_tuples: contextual_tuples(),
                ..Default::default()
            };
            let relations =
                proto::ListRelationsRequest { object, subject, contextual_tuples: contextual_tuples(), ..Default::default() };
            let objects = async {
                server.permissions().list_objects(objects).await?.into_inner().try_collect::<Vec<_>>().await.map(drop)
            };
            let subjects = async {
                server.permissions().list_subjects(subjects).await?.into_inner().try_collect::<Vec<_>>().await.map(drop)
            };
            let outcomes = [
                ("Check", server.check(check).await.map(drop)),
                ("BatchCheck", server.permissions().batch_check(batch).await.map(drop)),
                ("Expand", server.permissions().expand(expand).await.map(drop)),
                ("ListObjects", objects.await),
                ("ListSubjects", subjects.await),
                ("ListRelations", server.permissions().list_relations(relations).await.map(drop)),
            ];
            for (method, outcome) in outcomes {
                let status = outcome.expect_err(method);
                assert_eq!(status.code(), Code::InvalidArgument, "{method} with {wrong}: {status:?}");
                let field = crate::grpc::fields(&status).concat();
                assert!(field.starts_with("contextual_tuples[0]"), "{method} with {wrong}: {status:?}");
            }
        }
    }

    /// Questions that differ in one thing are told apart, one after the other and all at once.
    async fn what_a_question_brings_is_for_it_alone(server) {
        let first = server.write_schema(BRINGING).await.expect("a schema").schema_id;
        server
            .touch(&["doc:2#viewer@group:g#member", "doc:p,q#viewer@user:r", "doc:a|viewer#viewer_of@user:x", "doc:3#owner@user:ann"])
            .await;
        let mut conditional = update(Operation::Touch, "doc:1#viewer@user:ann");
        conditional.tuple.as_mut().expect("a tuple").condition =
            Some(proto::TupleCondition { name: "paired".into(), context: None });
        server.write(vec![conditional]).await.expect("written");
        let second = server.write_schema(&BRINGING.replace("or owner", "")).await.expect("a second version").schema_id;

        let with = |left: &[&str], right: &[&str]| proto::CheckRequest {
            context: Some(lists(&[("left", left), ("right", right)])),
            ..question("doc:1#viewer@user:ann")
        };
        let bringing = |brought: &str| proto::CheckRequest {
            contextual_tuples: vec![tuple(brought)],
            ..question("doc:2#viewer@user:eve")
        };
        let under = |schema: &str| proto::CheckRequest { schema_id: schema.into(), ..question("doc:3#viewer@user:ann") };
        let (yes, no, open) = (Verdict::Allowed, Verdict::Denied, Verdict::Conditional);
        let pairs = [
            ((with(&["a"], &["b"]), yes), (with(&["a", "b"], &[]), no)),
            ((with(&["a"], &["b"]), yes), (with(&[], &["a", "b"]), no)),
            ((with(&["a"], &["b"]), yes), (with(&["a],right:[b"], &[]), no)),
            ((with(&["a"], &["b"]), yes), (question("doc:1#viewer@user:ann"), open)),
            ((bringing("group:g#member@user:eve"), yes), (bringing("group:h#member@user:eve"), no)),
            ((bringing("group:g#member@user:eve"), yes), (question("doc:2#viewer@user:eve"), no)),
            ((bringing("doc:2#viewer@user:eve"), yes), (bringing("doc:2#viewer@user:ev"), no)),
            ((under(&first), yes), (under(&second), no)),
            ((question("doc:p,q#viewer@user:r"), yes), (question("doc:p#viewer@user:q,r"), no)),
            ((question("doc:a|viewer#viewer_of@user:x"), yes), (question("doc:a#viewer@user:x"), no)),
        ];
        let ask = async |(request, expected): &(proto::CheckRequest, Verdict)| {
            let answer = server.check(request.clone()).await.expect("an answer");
            assert_eq!(answer.verdict(), *expected, "{request:?}");
        };
        for (one, other) in &pairs {
            ask(one).await;
            ask(other).await;
            ask(one).await;
        }
        for (one, other) in &pairs {
            futures::future::join_all((0..50_u32).map(|at| ask(if at.is_multiple_of(2) { one } else { other }))).await;
        }
        futures::future::join_all(pairs.iter().flat_map(|(one, other)| [one, other]).map(ask)).await;
    }

    /// What tuples bring along is told apart where it is kept, within one batch as well.
    async fn ghsa_mqcf_contexts_that_are_stored_are_told_apart(server) {
        server.write_schema(BRINGING).await.expect("a schema");
        let stored: [(&str, &[&str]); 4] =
            [("doc:1", &["a,b"]), ("doc:2", &["a", "b"]), ("doc:3", &["b", "a"]), ("doc:4", &["a", "b"])];
        let conditional = |(object, names): (&str, &[&str])| {
            let mut update = update(Operation::Touch, &format!("{object}#viewer@user:ann"));
            let context = Some(lists(&[("names", names)]));
            update.tuple.as_mut().expect("a tuple").condition = Some(proto::TupleCondition { name: "exactly".into(), context });
            update
        };
        server.write(stored.map(conditional).to_vec()).await.expect("written");
        let (yes, no) = (Verdict::Allowed, Verdict::Denied);
        for (wanted, expected) in [(&["a", "b"][..], [no, yes, no, yes]), (&["a,b"], [yes, no, no, no]), (&["b", "a"], [no, no, yes, no])] {
            for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
                let item = |at: usize| proto::BatchCheckItem {
                    object: stored[at].0.into(),
                    relation: "viewer".into(),
                    subject: "user:ann".into(),
                };
                let request = proto::BatchCheckRequest {
                    items: order.map(item).to_vec(),
                    context: Some(lists(&[("wanted", wanted)])),
                    ..Default::default()
                };
                let answer = server.permissions().batch_check(request).await.expect("an answer").into_inner();
                let verdicts: Vec<_> = answer.results.iter().map(proto::BatchCheckResult::verdict).collect();
                assert_eq!(verdicts, order.map(|at| expected[at]), "{wanted:?} in the order {order:?}");
            }
        }
    }

    /// A list looks for candidates and may leave conditions open for it; a Check after it may not.
    async fn cve_2026_55866_a_list_leaves_no_hint_for_a_check(server) {
        server.with_schema().await;
        let mut conditional = update(Operation::Touch, "doc:cond#granted@user:dan");
        conditional.tuple.as_mut().expect("a tuple").condition =
            Some(proto::TupleCondition { name: "small".into(), context: None });
        server.write(vec![conditional, update(Operation::Touch, "doc:1#granted@user:dan"), update(Operation::Touch, "doc:1#blocked@user:dan")])
            .await
            .expect("written");
        let checked = async || {
            let answer = server.check(question("doc:cond#viewer@user:dan")).await.expect("an answer");
            assert_eq!((answer.verdict(), answer.missing), (Verdict::Conditional, vec!["amount".to_owned()]));
            assert_eq!(server.verdict("doc:1#viewer@user:dan").await, Verdict::Denied);
        };
        checked().await;
        for (amount, expected) in [(None, Some(Verdict::Conditional)), (Some(7.0), Some(Verdict::Allowed)), (Some(700.0), None)] {
            let request = proto::ListObjectsRequest {
                subject: "user:dan".into(),
                relation: "viewer".into(),
                object_type: "doc".into(),
                context: amount.and_then(|amount| crate::grpc::context("amount", crate::grpc::number(amount))),
                ..Default::default()
            };
            let messages: Vec<proto::ListObjectsResponse> =
                server.permissions().list_objects(request).await.expect("a list").into_inner().try_collect().await.expect("all of it");
            let listed: Vec<_> = messages.iter().flat_map(|message| &message.objects).collect();
            let verdicts: Vec<_> = listed.iter().map(|listed| (listed.object.as_str(), listed.verdict())).collect();
            let expected: Vec<_> = expected.map(|verdict| ("doc:cond", verdict)).into_iter().collect();
            assert_eq!(verdicts, expected, "{amount:?}");
            checked().await;
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
