//! Write: what it does, and everything it refuses.

use relata::proto;
use relata::proto::Verdict;
use relata::proto::precondition::Operation as Expect;
use relata::proto::update::Operation;
use tonic::{Code, Response, Status};

use super::{Running, on_both, refused, tuple, update};

async fn write(server: &Running, request: proto::WriteRequest) -> Result<proto::WriteResponse, Status> {
    server.tuples().write(request).await.map(Response::into_inner)
}

fn precondition(operation: Expect, filter: proto::TupleFilter) -> proto::Precondition {
    proto::Precondition { operation: operation.into(), filter: Some(filter) }
}

on_both! {
    async fn a_node_reads_its_own_writes(server) {
        server.with_schema().await;
        for round in 0..20 {
            let tuple = format!("doc:{round}#owner@user:ann");
            server.touch(&[&tuple]).await;
            assert_eq!(server.verdict(&tuple).await, Verdict::Allowed, "{tuple}");
            server.delete(&[&tuple]).await;
            assert_eq!(server.verdict(&tuple).await, Verdict::Denied, "{tuple}");
        }
    }

    async fn create_and_delete_judge_what_is_there(server) {
        server.with_schema().await;
        server.write(vec![update(Operation::Create, "doc:1#owner@user:ann")]).await.expect("created");
        let again = server.write(vec![update(Operation::Create, "doc:1#owner@user:ann")]).await;
        let status = refused(again, Code::AlreadyExists, "TUPLE_EXISTS", "");
        assert!(status.message().contains("`doc:1#owner@user:ann`"), "{status}");

        // A write that fails leaves nothing behind.
        let half = vec![update(Operation::Touch, "doc:2#owner@user:ann"), update(Operation::Create, "doc:1#owner@user:ann")];
        refused(server.write(half).await, Code::AlreadyExists, "TUPLE_EXISTS", "");
        assert_eq!(server.verdict("doc:2#owner@user:ann").await, Verdict::Denied);

        server.delete(&["doc:7#owner@user:nobody"]).await;
        let mut insist = update(Operation::Delete, "doc:7#owner@user:nobody");
        insist.must_exist = true;
        refused(server.write(vec![insist]).await, Code::NotFound, "TUPLE_NOT_FOUND", "");
    }

    async fn preconditions_see_the_state_before(server) {
        server.with_schema().await;
        let owner_of = |id: &str| proto::TupleFilter {
            object_type: "doc".into(),
            object_id: id.into(),
            relation: "owner".into(),
            ..Default::default()
        };
        let first_owner = |preconditions| proto::WriteRequest {
            updates: vec![update(Operation::Touch, "doc:1#owner@user:ann")],
            preconditions,
            ..Default::default()
        };
        let unowned = vec![precondition(Expect::MustNotMatch, owner_of("1"))];
        write(server, first_owner(unowned.clone())).await.expect("nobody owned it");
        let status = refused(write(server, first_owner(unowned)).await, Code::FailedPrecondition, "PRECONDITION_FAILED", "");
        assert!(status.message().contains("precondition 0"), "{status}");
        let owned = vec![precondition(Expect::MustMatch, owner_of("1")), precondition(Expect::MustMatch, owner_of("2"))];
        let status = refused(write(server, first_owner(owned)).await, Code::FailedPrecondition, "PRECONDITION_FAILED", "");
        assert!(status.message().contains("precondition 1"), "{status}");
    }

    async fn an_idempotency_key_returns_the_first_result(server) {
        server.with_schema().await;
        let request = proto::WriteRequest {
            updates: vec![update(Operation::Create, "doc:1#owner@user:ann")],
            idempotency_key: "order-7".into(),
            ..Default::default()
        };
        let first = write(server, request.clone()).await.expect("written");
        assert!(!first.replayed);
        server.touch(&["doc:2#owner@user:bob"]).await;
        let again = write(server, request.clone()).await.expect("replayed");
        assert!(again.replayed);
        assert_eq!(again.zookie, first.zookie);
        // The name of the store is not part of what makes requests equal, the store is.
        let named = proto::WriteRequest { store: "default".into(), ..request.clone() };
        assert!(write(server, named).await.expect("replayed").replayed);
        let other = proto::WriteRequest { note: "another".into(), ..request };
        refused(write(server, other).await, Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED", "");
    }

    async fn a_write_that_changes_nothing_takes_no_revision(server) {
        server.with_schema().await;
        let first = server.touch(&["doc:1#owner@user:ann"]).await;
        assert_eq!(server.touch(&["doc:1#owner@user:ann"]).await, first);
    }

    async fn the_schema_decides_what_may_be_written(server) {
        let none = server.write(vec![update(Operation::Touch, "doc:1#owner@user:ann")]).await;
        refused(none, Code::FailedPrecondition, "NO_SCHEMA", "");
        // There is nothing to validate in a deletion.
        server.delete(&["doc:1#owner@user:ann"]).await;

        let schema_id = server.with_schema().await;
        let cases = [
            ("file:1#owner@user:ann", "UNKNOWN_TYPE"),
            ("doc:1#reader@user:ann", "UNKNOWN_RELATION"),
            ("doc:1#granted@team:eng#member", "UNKNOWN_TYPE"),
            ("doc:1#granted@group:eng#boss", "UNKNOWN_RELATION"),
            ("doc:1#viewer@user:ann", "TUPLE_NOT_ALLOWED"),
            ("doc:1#owner@user:*", "TUPLE_NOT_ALLOWED"),
            ("doc:1#owner@group:eng#member", "TUPLE_NOT_ALLOWED"),
        ];
        for (tuple, reason) in cases {
            let good = update(Operation::Touch, "doc:1#owner@user:ann");
            let outcome = server.write(vec![good, update(Operation::Create, tuple)]).await;
            refused(outcome, Code::InvalidArgument, reason, "updates[1].tuple");
        }
        let mut conditional = update(Operation::Touch, "doc:1#granted@user:ann");
        let name = |update: &mut proto::Update, name: &str| {
            let condition = proto::TupleCondition { name: name.into(), context: None };
            update.tuple.as_mut().expect("a tuple").condition = Some(condition);
        };
        name(&mut conditional, "large");
        refused(server.write(vec![conditional.clone()]).await, Code::InvalidArgument, "UNKNOWN_CONDITION", "updates[0].tuple");
        name(&mut conditional, "small");
        server.write(vec![conditional]).await.expect("written");

        let named = |schema_id: &str| proto::WriteRequest {
            updates: vec![update(Operation::Touch, "doc:3#owner@user:ann")],
            schema_id: schema_id.into(),
            ..Default::default()
        };
        write(server, named(&schema_id)).await.expect("the one in force");
        server.write_schema(&format!("{}\n# again\n", crate::grpc::SCHEMA)).await.expect("a second version");
        refused(write(server, named(&schema_id)).await, Code::FailedPrecondition, "SCHEMA_CHANGED", "");
        refused(write(server, named("01ARZ3NDEKTSV4RRFFQ69G5FAV")).await, Code::NotFound, "SCHEMA_NOT_FOUND", "schema_id");
        refused(write(server, named("latest")).await, Code::InvalidArgument, "INVALID_FIELD", "schema_id");
    }

    async fn malformed_writes_name_their_field(server) {
        server.with_schema().await;
        let update_with = |object: &str, relation: &str, subject: &str| proto::Update {
            operation: Operation::Touch.into(),
            tuple: Some(proto::Tuple {
                object: object.into(),
                relation: relation.into(),
                subject: subject.into(),
                ..Default::default()
            }),
            must_exist: false,
        };
        let cases = [
            (update_with("doc", "owner", "user:ann"), "updates[0].tuple.object"),
            (update_with("doc:a b", "owner", "user:ann"), "updates[0].tuple.object"),
            (update_with("doc:a\u{0}b", "owner", "user:ann"), "updates[0].tuple.object"),
            (update_with("doc:*", "owner", "user:ann"), "updates[0].tuple.object"),
            (update_with(&format!("doc:{}", "x".repeat(300)), "owner", "user:ann"), "updates[0].tuple.object"),
            (update_with("doc:1", "", "user:ann"), "updates[0].tuple.relation"),
            (update_with("doc:1", "owner", "ann"), "updates[0].tuple.subject"),
            (update_with("doc:1", "owner", "user:*#x"), "updates[0].tuple.subject"),
            (proto::Update::default(), "updates[0].tuple"),
            (proto::Update { tuple: Some(tuple("doc:1#owner@user:a")), ..Default::default() }, "updates[0].operation"),
        ];
        for (update, field) in cases {
            refused(server.write(vec![update]).await, Code::InvalidArgument, "INVALID_FIELD", field);
        }
        refused(server.write(Vec::new()).await, Code::InvalidArgument, "INVALID_FIELD", "updates");
        let twice = ["doc:1#owner@user:ann", "doc:2#owner@user:ann", "doc:1#owner@user:ann"];
        let twice = twice.map(|tuple| update(Operation::Touch, tuple)).to_vec();
        refused(server.write(twice).await, Code::InvalidArgument, "DUPLICATE_TUPLE", "updates[2]");
        let request = proto::WriteRequest { preconditions: vec![proto::Precondition::default()], ..Default::default() };
        refused(write(server, request).await, Code::InvalidArgument, "INVALID_FIELD", "preconditions[0].operation");
    }

    async fn an_expired_tuple_no_longer_counts_and_may_be_created(server) {
        server.with_schema().await;
        let mut expired = update(Operation::Touch, "doc:1#owner@user:ann");
        expired.tuple.as_mut().expect("a tuple").expires_at = Some(prost_types::Timestamp { seconds: 1_000, nanos: 0 });
        server.write(vec![expired]).await.expect("written");
        assert_eq!(server.verdict("doc:1#owner@user:ann").await, Verdict::Denied);
        server.write(vec![update(Operation::Create, "doc:1#owner@user:ann")]).await.expect("created over it");
        assert_eq!(server.verdict("doc:1#owner@user:ann").await, Verdict::Allowed);
    }
}
