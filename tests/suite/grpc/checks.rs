//! `Check` and `BatchCheck`.

use relata::proto;
use relata::proto::Verdict;
use relata::proto::update::Operation;
use tonic::{Code, Response, Status};

use super::{Running, context, number, on_both, question, refused, tuple, update};

async fn batch(
    server: &Running,
    request: proto::BatchCheckRequest,
) -> Result<proto::BatchCheckResponse, Status> {
    server.permissions().batch_check(request).await.map(Response::into_inner)
}

fn item(text: &str) -> proto::BatchCheckItem {
    let proto::Tuple { object, relation, subject, .. } = tuple(text);
    proto::BatchCheckItem { object, relation, subject }
}

/// Ann is in a nested group that was granted the plan; Bob is too, and is blocked.
async fn world(server: &Running) {
    server.with_schema().await;
    server
        .touch(&[
            "group:eng#member@user:ann",
            "group:eng#member@user:bob",
            "group:all#member@group:eng#member",
            "doc:plan#granted@group:all#member",
            "doc:plan#blocked@user:bob",
            "doc:plan#owner@user:cy",
            "doc:open#granted@user:*",
        ])
        .await;
    let mut conditional = update(Operation::Touch, "doc:cond#granted@user:dan");
    let condition = proto::TupleCondition { name: "small".into(), context: None };
    conditional.tuple.as_mut().expect("a tuple").condition = Some(condition);
    server.write(vec![conditional]).await.expect("written");
}

on_both! {
    async fn the_rules_decide(server) {
        world(server).await;
        let cases = [
            ("doc:plan#viewer@user:ann", Verdict::Allowed),
            ("doc:plan#viewer@user:bob", Verdict::Denied),
            ("doc:plan#viewer@user:cy", Verdict::Allowed),
            ("doc:plan#approver@user:cy", Verdict::Denied),
            ("doc:plan#viewer@user:nobody", Verdict::Denied),
            ("doc:plan#viewer@group:eng#member", Verdict::Allowed),
            ("doc:open#viewer@user:nobody", Verdict::Allowed),
            ("doc:unknown#viewer@user:ann", Verdict::Denied),
            ("doc:cond#viewer@user:dan", Verdict::Conditional),
        ];
        for (text, expected) in cases {
            assert_eq!(server.verdict(text).await, expected, "{text}");
        }
        let answer = server.check(question("doc:plan#viewer@user:ann")).await.expect("an answer");
        assert!(!answer.zookie.is_empty());
        assert!(answer.work.is_some_and(|work| work.goals > 0 && work.edges > 0));
    }

    async fn a_condition_is_decided_by_its_parameters(server) {
        world(server).await;
        let open = server.check(question("doc:cond#viewer@user:dan")).await.expect("an answer");
        assert_eq!((open.verdict(), open.missing), (Verdict::Conditional, vec!["amount".to_owned()]));
        for (amount, expected) in [(7.0, Verdict::Allowed), (700.0, Verdict::Denied)] {
            let request = proto::CheckRequest {
                context: context("amount", number(amount)),
                ..question("doc:cond#viewer@user:dan")
            };
            assert_eq!(server.check(request).await.expect("an answer").verdict(), expected);
        }
        let request = proto::CheckRequest {
            context: context("amount", number(0.5)),
            ..question("doc:cond#viewer@user:dan")
        };
        refused(server.check(request).await, Code::InvalidArgument, "CONDITION_FAILED", "context");
    }

    async fn contextual_tuples_count_for_one_question(server) {
        world(server).await;
        let request = proto::CheckRequest {
            contextual_tuples: vec![tuple("group:eng#member@user:eve")],
            ..question("doc:plan#viewer@user:eve")
        };
        assert_eq!(server.check(request).await.expect("an answer").verdict(), Verdict::Allowed);
        assert_eq!(server.verdict("doc:plan#viewer@user:eve").await, Verdict::Denied);
        let with = |tuples: &[&str]| proto::CheckRequest {
            contextual_tuples: tuples.iter().map(|text| tuple(text)).collect(),
            ..question("doc:plan#viewer@user:eve")
        };
        let refuse = |tuples: &'static [&'static str], reason: &'static str, field: &'static str| async move {
            refused(server.check(with(tuples)).await, Code::InvalidArgument, reason, field);
        };
        refuse(&["doc:1#owner@user:a", "doc:1#viewer@user:a"], "TUPLE_NOT_ALLOWED", "contextual_tuples[1]").await;
        refuse(&["doc:1#owner@user:a", "doc:1#owner@user:a"], "DUPLICATE_TUPLE", "contextual_tuples[1]").await;
        refuse(&["doc:1#owner@user"], "INVALID_FIELD", "contextual_tuples[0].subject").await;
    }

    async fn an_explanation_names_the_tuples_it_rests_on(server) {
        world(server).await;
        let explain = |text: &str| proto::CheckRequest { explain: true, ..question(text) };
        let allowed = server.check(explain("doc:plan#viewer@user:ann")).await.expect("an answer");
        let explanation = allowed.explanation.expect("an explanation");
        assert_eq!(explanation.nodes[0].verdict(), Verdict::Allowed);
        assert_eq!(explanation.nodes[0].parent, 0);
        assert!(explanation.nodes[0].goal.contains("doc:plan#viewer"), "{explanation:?}");
        let named: Vec<String> = explanation.nodes.iter().filter_map(|node| node.tuple.as_ref().map(crate::grpc::text)).collect();
        assert!(named.contains(&"group:eng#member@user:ann".to_owned()), "{named:?}");
        for (index, node) in explanation.nodes.iter().enumerate().skip(1) {
            assert!((node.parent as usize) < index, "parents come before children");
        }
        let denied = server.check(explain("doc:plan#viewer@user:bob")).await.expect("an answer");
        assert_eq!(denied.explanation.expect("an explanation").nodes[0].verdict(), Verdict::Denied);
        let plain = server.check(question("doc:plan#viewer@user:ann")).await.expect("an answer");
        assert_eq!(plain.explanation, None);
    }

    async fn another_schema_version_can_be_asked(server) {
        world(server).await;
        let in_force = server.schemas().read_schema(proto::ReadSchemaRequest::default()).await.expect("a schema");
        let first = in_force.into_inner().schema.expect("a schema").id;
        let narrow = crate::grpc::SCHEMA.replace("(granted or owner) but not blocked", "owner");
        server.write_schema(&narrow).await.expect("a second version");
        assert_eq!(server.verdict("doc:plan#viewer@user:ann").await, Verdict::Denied);
        let old = proto::CheckRequest { schema_id: first, ..question("doc:plan#viewer@user:ann") };
        assert_eq!(server.check(old).await.expect("an answer").verdict(), Verdict::Allowed);
        let unknown = proto::CheckRequest {
            schema_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            ..question("doc:plan#viewer@user:ann")
        };
        refused(server.check(unknown).await, Code::NotFound, "SCHEMA_NOT_FOUND", "schema_id");
    }

    async fn a_bad_question_names_its_field(server) {
        refused(server.check(question("doc:1#viewer@user:a")).await, Code::FailedPrecondition, "NO_SCHEMA", "");
        server.with_schema().await;
        let cases = [
            ("doc#viewer@user:a", "INVALID_FIELD", "object"),
            ("doc:1#@user:a", "INVALID_FIELD", "relation"),
            ("doc:1#viewer@user", "INVALID_FIELD", "subject"),
            ("file:1#viewer@user:a", "UNKNOWN_TYPE", "object"),
            ("doc:1#reader@user:a", "UNKNOWN_RELATION", "relation"),
            ("doc:1#viewer@robot:a", "UNKNOWN_TYPE", "subject"),
            ("doc:1#viewer@group:a#boss", "UNKNOWN_RELATION", "subject"),
        ];
        for (text, reason, field) in cases {
            refused(server.check(question(text)).await, Code::InvalidArgument, reason, field);
        }
        let elsewhere = proto::CheckRequest { store: "nowhere".into(), ..question("doc:1#viewer@user:a") };
        refused(server.check(elsewhere).await, Code::NotFound, "STORE_NOT_FOUND", "store");
    }

    async fn a_batch_answers_by_index_with_an_error_per_item(server) {
        world(server).await;
        let questions = [
            ("doc:plan#viewer@user:ann", Verdict::Allowed),
            ("doc:plan#viewer@user:bob", Verdict::Denied),
            ("doc:cond#viewer@user:dan", Verdict::Conditional),
            ("doc:plan#reader@user:ann", Verdict::Unspecified),
            ("doc:open#viewer@user:ann", Verdict::Allowed),
            ("doc:plan#viewer@user:bob", Verdict::Denied),
            ("doc#viewer@user:bob", Verdict::Unspecified),
        ];
        let request = proto::BatchCheckRequest {
            items: questions.iter().map(|(text, _)| item(text)).collect(),
            ..Default::default()
        };
        let answer = batch(server, request).await.expect("answers");
        assert!(!answer.zookie.is_empty());
        let verdicts: Vec<Verdict> = answer.results.iter().map(proto::BatchCheckResult::verdict).collect();
        assert_eq!(verdicts, questions.map(|(_, expected)| expected));
        let errors: Vec<_> =
            answer.results.iter().filter_map(|result| result.error.as_ref()).map(|error| error.reason.as_str()).collect();
        assert_eq!(errors, ["UNKNOWN_RELATION", "INVALID_FIELD"]);
        assert_eq!(answer.results[2].missing, ["amount"]);
        refused(batch(server, proto::BatchCheckRequest::default()).await, Code::InvalidArgument, "INVALID_FIELD", "items");
    }

    async fn a_batch_takes_ten_thousand(server) {
        world(server).await;
        let items = |count: usize| proto::BatchCheckRequest {
            items: (0..count).map(|index| item(&format!("doc:plan#viewer@user:u{}", index % 100))).collect(),
            ..Default::default()
        };
        let answer = batch(server, items(10_000)).await.expect("answers");
        assert_eq!(answer.results.len(), 10_000);
        assert!(answer.results.iter().all(|result| result.verdict() == Verdict::Denied));
        refused(batch(server, items(10_001)).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "items");
    }
}
