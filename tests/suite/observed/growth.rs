//! No label grows: whatever ten thousand callers send, there are as many series as before.

use std::io::Write as _;

use futures::stream::{self, StreamExt as _};
use relata::config::{Access, Credentials};
use relata::proto;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::scrape;
use crate::grpc::{Running, question};

const EACH: u32 = 2_000;

/// A call to a method by its path.
async fn call(server: &Running, path: String) -> Status {
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("a connection");
    let codec: ProstCodec<proto::CheckRequest, proto::CheckResponse> = ProstCodec::default();
    let path = PathAndQuery::try_from(path).expect("a path");
    let outcome = client.unary(Request::new(question("doc:1#viewer@user:ann")), path, codec).await;
    outcome.expect_err("there is no such method")
}

/// One round of everything that a caller can choose, with names that come up in no other round.
async fn round(server: &Running, token: &str, number: u32) {
    call(server, format!("/relata.v1.PermissionService/Check{number}")).await;
    call(server, format!("/made.up.v{number}.Service/Method")).await;
    let authorized = |mut request: proto::CheckRequest, token: &str| {
        request.store = format!("store-{number}");
        let mut request = Request::new(request);
        let value = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
        request
    };
    let object = question(&format!("doc:{number}#viewer@user:u{number}"));
    server.permissions().check(authorized(object.clone(), token)).await.expect_err("no such store");
    let guess = format!("not-a-token-of-ours-{number}");
    server.permissions().check(authorized(object, &guess)).await.expect_err("no such token");
    let mut known = Request::new(question(&format!("doc:{number}#viewer{number}@user:u{number}")));
    known.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    server.permissions().check(known).await.expect_err("no schema, or no such relation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_names_add_no_series() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let token = "0123456789abcdef0123456789abcdef";
    writeln!(file, "{token} tester").expect("written");
    let path = file.path().to_owned();
    let server = Running::sqlite(|config| config.access = Access::Guarded(Credentials::tokens(&path))).await;
    for number in 0..3 {
        round(&server, token, number).await;
    }
    let before = scrape(server.operations).await;
    stream::iter(3..EACH).for_each_concurrent(64, |number| round(&server, token, number)).await;
    let after = scrape(server.operations).await;
    let grown: Vec<_> = after.series().difference(&before.series()).cloned().collect();
    assert!(grown.is_empty(), "{grown:#?}");
    let unknown = [("rpc", "unknown"), ("code", "UNIMPLEMENTED")];
    let refused = after.find("relata_requests_total", &unknown).unwrap_or(0.0)
        + after
            .find("relata_requests_total", &[("rpc", "unknown"), ("code", "UNAUTHENTICATED")])
            .unwrap_or(0.0);
    assert!(refused >= 2.0 * f64::from(EACH - 3), "{after:#?}");
    server.stop().await;
}
