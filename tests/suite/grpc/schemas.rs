//! `WriteSchema`, `ReadSchema`, `ListSchemas`, `PlanSchema`.

use std::fmt::Write as _;

use relata::proto;
use tonic::{Code, Response};

use super::{SCHEMA, fields, on_both, refused};

on_both! {
    async fn versions_follow_one_another(server) {
        let none = server.schemas().read_schema(proto::ReadSchemaRequest::default()).await;
        refused(none, Code::FailedPrecondition, "NO_SCHEMA", "");
        let first = server.with_schema().await;
        let second_text = format!("{SCHEMA}\n# a comment\n");
        let second = server.write_schema(&second_text).await.expect("a second version").schema_id;
        assert!(second > first, "ids grow");

        let read = |schema_id: &str| {
            let request = proto::ReadSchemaRequest { schema_id: schema_id.into(), ..Default::default() };
            let mut schemas = server.schemas();
            async move { schemas.read_schema(request).await.map(Response::into_inner) }
        };
        let newest = read("").await.expect("a schema").schema.expect("a schema");
        assert_eq!((&newest.id, &newest.text), (&second, &second_text));
        let json: serde_json::Value = serde_json::from_str(&newest.json).expect("JSON");
        assert_eq!(json["schema_version"], "1.1");
        assert_eq!(read(&first).await.expect("a schema").schema.expect("a schema").text, SCHEMA);
        refused(read("01ARZ3NDEKTSV4RRFFQ69G5FAV").await, Code::NotFound, "SCHEMA_NOT_FOUND", "schema_id");
        refused(read("newest").await, Code::InvalidArgument, "INVALID_FIELD", "schema_id");

        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = proto::ListSchemasRequest { page_size: 1, cursor, ..Default::default() };
            let page = server.schemas().list_schemas(request).await.expect("a page").into_inner();
            listed.extend(page.schemas.into_iter().map(|schema| (schema.id, schema.text)));
            cursor = page.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(listed, [(second, String::new()), (first, String::new())]);
        let request = proto::ListSchemasRequest { cursor: "forged".into(), ..Default::default() };
        refused(server.schemas().list_schemas(request).await, Code::InvalidArgument, "CURSOR_INVALID", "cursor");
    }

    async fn a_schema_may_name_the_one_it_replaces(server) {
        let first = server.with_schema().await;
        let write = |expected: &str| {
            let request = proto::WriteSchemaRequest {
                text: SCHEMA.into(),
                expected_schema_id: expected.into(),
                ..Default::default()
            };
            let mut schemas = server.schemas();
            async move { schemas.write_schema(request).await }
        };
        write(&first).await.expect("still in force");
        refused(write(&first).await, Code::FailedPrecondition, "SCHEMA_CHANGED", "");
    }

    async fn every_mistake_is_reported_at_once(server) {
        let text = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [usr]\n    define editor: owner\n";
        let status = refused(server.write_schema(text).await, Code::InvalidArgument, "SCHEMA_INVALID", "text:6:21");
        assert_eq!(fields(&status).len(), 2, "{status:?}");
        assert!(status.message().contains("usr") && status.message().contains("owner"), "{}", status.message());

        let request = proto::PlanSchemaRequest { text: text.into(), ..Default::default() };
        let plan = server.schemas().plan_schema(request).await.expect("a plan").into_inner();
        assert_eq!(plan.diagnostics.len(), 2);
        assert_eq!((plan.diagnostics[0].line, plan.diagnostics[0].column), (6, 21));
        assert!(plan.diagnostics[0].rendered.contains("define viewer: [usr]"), "{}", plan.diagnostics[0].rendered);
    }

    async fn hundreds_of_mistakes_still_fit_into_a_status(server) {
        let mut text = String::from("model\n  schema 1.1\ntype doc\n  relations\n");
        for index in 0..500 {
            writeln!(text, "    define r{index}: [nothing_of_that_name_{index}]").expect("a string grows");
        }
        let status = server.write_schema(&text).await.expect_err("refused");
        assert_eq!((status.code(), crate::grpc::reason(&status).as_str()), (Code::InvalidArgument, "SCHEMA_INVALID"));
        assert!(status.message().contains("shortened"));
    }

    async fn stored_tuples_are_not_orphaned_by_accident(server) {
        server.with_schema().await;
        server.touch(&["doc:1#owner@user:ann", "doc:2#owner@user:bob", "doc:1#granted@user:*"]).await;
        let narrow = SCHEMA.replace("define owner: [user]", "define owner: [group#member]").replace(", user:*", "");
        let request = proto::PlanSchemaRequest { text: narrow.clone(), sample_size: 1, ..Default::default() };
        let plan = server.schemas().plan_schema(request).await.expect("a plan").into_inner();
        assert!(plan.diagnostics.is_empty() && !plan.zookie.is_empty());
        let orphans: Vec<_> = plan
            .orphans
            .iter()
            .map(|kind| (kind.relation.as_str(), kind.subject.as_str(), kind.count, kind.sample.len()))
            .collect();
        assert_eq!(orphans, [("doc#granted", "user:*", 1, 1), ("doc#owner", "user", 2, 1)]);

        let status = refused(server.write_schema(&narrow).await, Code::FailedPrecondition, "SCHEMA_ORPHANS_TUPLES", "");
        assert!(status.message().contains("3 stored tuples") && status.message().contains("doc:1#granted@user:*"), "{status}");
        let request = proto::WriteSchemaRequest { text: narrow, allow_orphans: true, ..Default::default() };
        server.schemas().write_schema(request).await.expect("allowed");
    }

    async fn texts_are_bounded(server) {
        let large = format!("{SCHEMA}\n{}", "# padding\n".repeat(110_000));
        assert!(large.len() > 1 << 20);
        refused(server.write_schema(&large).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "text");
        let deep = format!("model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define a: [user]\n    define b: {}a{}\n", "(".repeat(10_000), ")".repeat(10_000));
        let status = server.write_schema(&deep).await.expect_err("refused");
        assert_eq!((status.code(), crate::grpc::reason(&status).as_str()), (Code::InvalidArgument, "SCHEMA_INVALID"));
        let request = proto::PlanSchemaRequest { text: SCHEMA.into(), sample_size: 101, ..Default::default() };
        refused(server.schemas().plan_schema(request).await, Code::InvalidArgument, "LIMIT_EXCEEDED", "sample_size");
    }
}
