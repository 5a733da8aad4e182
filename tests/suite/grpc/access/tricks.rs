//! What might get past: paths that almost name a method, headers that almost hold a credential.

use tonic::Code;

use super::raw::{call, header, probe};
use super::{Guarded, ROOT, unauthenticated};

const CHECK: &str = "/relata.v1.PermissionService/Check";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_almost_names_a_method_leads_nowhere() {
    let guarded = Guarded::sqlite().await;
    let channel = &guarded.server.channel;
    for path in [
        "/",
        "//relata.v1.PermissionService/Check",
        "/relata.v1.PermissionService//Check",
        "/relata.v1.PermissionService/Check/",
        "/relata.v1.PermissionService/check",
        "/RELATA.V1.PermissionService/Check",
        "/relata.v1.permissionservice/Check",
        "/relata.v1.PermissionService/%43heck",
        "/relata.v1.PermissionService%2FCheck",
        "/relata.v1.PermissionService/Check%00",
        "/relata.v1.PermissionService/Nothing",
        "/relata.v1.Nothing/Check",
        "/grpc.health.v1.Health/../../relata.v1.PermissionService/Check",
        "/grpc.health.v1.Health/Check/../../../relata.v1.PermissionService/Check",
        "/grpc.health.v1.Health/Nothing",
        "/grpc.health.v1.Health",
    ] {
        unauthenticated(probe(channel, path, None).await);
        let status = probe(channel, path, Some(ROOT)).await.expect_err("no method");
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
    }
    // A query is no part of the path.
    unauthenticated(
        probe(channel, "/relata.v1.PermissionService/Check?x=/grpc.health.v1.Health/Check", None).await,
    );
    guarded.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_almost_holds_a_credential_is_refused() {
    let guarded = Guarded::sqlite().await;
    let channel = &guarded.server.channel;
    let (_, key) = guarded.key("ci", "*:admin").await;
    let good = |text: &str| header(format!("Bearer {text}").as_bytes());
    let long = [b"Bearer ".as_slice(), &[b'x'; 7_000]].concat();
    for bad in [
        b"".as_slice(),
        b"Bearer",
        b"Bearer ",
        b"bearer\t",
        ROOT.as_bytes(),
        format!("Basic {ROOT}").as_bytes(),
        format!("Bearer {ROOT}, Bearer {ROOT}").as_bytes(),
        format!("Bearer {ROOT} {ROOT}").as_bytes(),
        format!("Bearer {}", ROOT.to_uppercase()).as_bytes(),
        format!("Bearer {}", key.to_uppercase()).as_bytes(),
        format!("Bearer {}", &key[..key.len() - 1]).as_bytes(),
        format!("Bearer {key}0").as_bytes(),
        b"Bearer \xff\xfe\xc3\xa4",
        &long,
    ] {
        unauthenticated(call(channel, CHECK, Vec::new(), &[header(bad)]).await);
    }
    // Two credentials are refused even if both are good: a proxy might have looked at the other.
    for two in [[good(ROOT), good(ROOT)], [good(ROOT), good(&key)], [header(b"Bearer x"), good(ROOT)]] {
        unauthenticated(call(channel, CHECK, Vec::new(), &two).await);
    }
    for right in [good(ROOT), good(&key), header(format!("bEaReR   {key} ").trim_end().as_bytes())] {
        let code = call(channel, CHECK, Vec::new(), &[right]).await.expect_err("an empty question").code();
        assert_eq!(code, Code::InvalidArgument);
    }
    // Larger than the transport takes: whatever it says, nobody is let in.
    let huge = [b"Bearer ".as_slice(), ROOT.as_bytes(), &vec![b' '; 64_000], b"x"].concat();
    call(channel, CHECK, Vec::new(), &[header(&huge)]).await.expect_err("refused");
    guarded.stop().await;
}

/// What a browser asks for is not there: no page, and so none that shows how to get in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_page() {
    use http_body::Body as _;
    use tower::ServiceExt as _;

    let guarded = Guarded::sqlite().await;
    let (_, key) = guarded.key("ci", "*:admin").await;
    for path in ["/", "/playground", "/index.html", "/relata.v1.PermissionService/Check", "/metrics"] {
        for credential in [None, Some(ROOT), Some(key.as_str())] {
            let mut request = http::Request::get(path);
            if let Some(credential) = credential {
                request = request.header(
                    "authorization",
                    header(format!("Bearer {credential}").as_bytes()).as_encoded_bytes(),
                );
            }
            let request = request.body(tonic::body::Body::empty()).expect("a request");
            let answer = guarded.server.channel.clone().oneshot(request).await.expect("an answer");
            let (head, body) = answer.into_parts();
            let (mut body, mut told) = (std::pin::pin!(body), Vec::new());
            while let Some(Ok(frame)) =
                std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
            {
                told.extend(frame.into_data().unwrap_or_default());
            }
            // A refusal of gRPC is a header of an answer that is well as HTTP.
            let refused = head.headers.get("grpc-status").is_some_and(|status| status != "0");
            assert!(refused || head.status.is_client_error(), "{path}: {head:?}");
            let told = format!("{head:?} {}", String::from_utf8_lossy(&told));
            assert!(!told.contains("html"), "{path}: {told}");
            for secret in [ROOT, key.as_str()] {
                assert!(!told.contains(secret), "{path}: {told}");
            }
        }
    }
    guarded.stop().await;
}
