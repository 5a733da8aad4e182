//! What no client should send: every method gets it, and answers with a refusal that says whose
//! fault it is. The server goes on.

use std::net::SocketAddr;

use axum::body::{Body, HttpBody as _};
use http::{HeaderMap, Request};
use prost::Message as _;
use relata::proto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::{Running, question, reason, refused};

/// Every method of our API, by path, with whether it takes a stream of messages.
fn methods() -> Vec<(String, bool)> {
    let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    let methods = descriptors.file.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            service.method.iter().map(move |method| {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                (path, method.client_streaming())
            })
        })
    });
    methods.collect()
}

/// A message in its frame.
fn framed(flags: u8, announced: usize, message: &[u8]) -> Vec<u8> {
    let announced = u32::try_from(announced).expect("short");
    [&[flags][..], &announced.to_be_bytes(), message].concat()
}

/// Sends bytes as the body of a call, and returns the status it ends with.
async fn send(channel: &Channel, path: &str, content_type: &str, bytes: Vec<u8>) -> Option<Status> {
    let request = Request::post(format!("http://server{path}"))
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(tonic::body::Body::new(Body::from(bytes)))
        .expect("a request");
    let response = channel.clone().oneshot(request).await.expect("an answer");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Some(status);
    }
    let mut body = std::pin::pin!(response.into_body());
    let mut trailers = HeaderMap::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(found) = frame.expect("a frame").into_trailers() {
            trailers = found;
        }
    }
    Status::from_header_map(&trailers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_the_callers_fault() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    let shapes = [
        ("a field of no wire type", framed(0, 2, &[0x0f, 0xff])),
        ("a text that is not UTF-8", framed(0, 4, &[0x0a, 2, 0xc3, 0x28])),
        ("a length beyond the message", framed(0, 3, &[0x0a, 0x7f, b'x'])),
        ("nothing", Vec::new()),
        ("less than a frame", vec![0, 0, 0]),
        ("less than the frame announces", framed(0, 100, b"short")),
        ("impossible flags", framed(7, 0, b"")),
        ("a compression nobody named", framed(1, 3, b"abc")),
    ];
    for (path, streaming) in methods() {
        for (shape, bytes) in &shapes {
            // A stream of no messages is a stream.
            if streaming && bytes.is_empty() {
                continue;
            }
            let status = send(&server.channel, &path, "application/grpc", bytes.clone()).await;
            let status = status.unwrap_or_else(|| panic!("{path} with {shape}: no status"));
            let found = (status.code(), reason(&status));
            assert_eq!(
                found,
                (Code::InvalidArgument, "MALFORMED_MESSAGE".to_owned()),
                "{path} with {shape}: {status:?}"
            );
        }
    }
    server.touch(&["doc:1#owner@user:ann"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_and_paths_are_turned_away() {
    let server = Running::sqlite(|_| {}).await;
    let check = "/relata.v1.PermissionService/Check";
    let empty = framed(0, 0, b"");
    let status = send(&server.channel, check, "application/json", b"{}".to_vec()).await;
    assert_eq!(status.map(|status| status.code()), Some(Code::InvalidArgument), "JSON is no message");
    for path in ["/", "/relata.v1.PermissionService/Chekc", "/relata.v1.PermissionService", "/Check", "//x"] {
        let status = send(&server.channel, path, "application/grpc", empty.clone()).await;
        assert_eq!(status.map(|status| status.code()), Some(Code::Unimplemented), "{path}");
    }
    server.with_schema().await;
    server.stop().await;
}

/// Connects, writes bytes, and reads until the server hangs up, for a bounded time.
async fn shout(address: SocketAddr, bytes: &[u8]) {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    // The server may hang up before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await.expect("it hangs up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_port_disturbs_nobody() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 10_000],
        (0..=255).cycle().take(100_000).collect(),
        // A TLS handshake.
        vec![0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00, 0x01, 0x00],
        preface.to_vec(),
        // A frame that is longer than any may be, and one of an unknown stream.
        [&preface[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        [&preface[..], &[0, 0, 4, 8, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat(),
    ];
    for bytes in &noise {
        shout(server.address, bytes).await;
    }
    server.touch(&["doc:1#owner@user:ann"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_characters_are_refused_wherever_they_hide() {
    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    for control in ['\0', '\u{1}', '\n', '\u{7f}', '\u{85}', '\u{2028}'] {
        // The last is a separator, which counts as whitespace.
        let hidden = format!("a{control}b");
        let mut object = question("doc:1#owner@user:ann");
        object.object = format!("doc:{hidden}");
        let refusal = server.check(object).await.expect_err("an object");
        assert_eq!(refusal.code(), Code::InvalidArgument, "{control:?}: {refusal:?}");
        let mut subject = question("doc:1#owner@user:ann");
        subject.subject = format!("user:{hidden}");
        let refusal = server.check(subject).await.expect_err("a subject");
        assert_eq!(refusal.code(), Code::InvalidArgument, "{control:?}: {refusal:?}");
        let store = proto::CreateStoreRequest { name: hidden.clone() };
        let refusal = server.stores().create_store(store).await.expect_err("a store");
        assert_eq!(refusal.code(), Code::InvalidArgument, "{control:?}: {refusal:?}");
    }
    let text = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("a\0b".into())) };
    let request =
        proto::CheckRequest { context: super::context("x", text), ..question("doc:1#owner@user:ann") };
    refused(server.check(request).await, Code::InvalidArgument, "INVALID_FIELD", "context");
    server.stop().await;
}

/// A cursor with any one bit changed is not a cursor, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bit_of_a_cursor_can_be_changed() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let server = Running::sqlite(|_| {}).await;
    server.with_schema().await;
    server.touch(&["doc:1#owner@user:ann", "doc:2#owner@user:ann", "doc:3#owner@user:ann"]).await;
    let page = |cursor: String| proto::ReadRequest { page_size: 1, cursor, ..Default::default() };
    let mut first = server.tuples().read(page(String::new())).await.expect("a page").into_inner();
    let mut cursor = String::new();
    while let Some(message) = first.message().await.expect("a message") {
        cursor = message.cursor;
    }
    let bytes = URL_SAFE_NO_PAD.decode(&cursor).expect("a printable cursor");
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = URL_SAFE_NO_PAD.encode(changed);
        let refusal = match server.tuples().read(page(changed)).await {
            Err(refusal) => refusal,
            Ok(stream) => stream.into_inner().message().await.expect_err("no page"),
        };
        assert_eq!(refusal.code(), Code::InvalidArgument, "bit {bit}: {refusal:?}");
    }
    let mut second = server.tuples().read(page(cursor)).await.expect("a page").into_inner();
    assert!(second.message().await.expect("a message").is_some(), "unchanged, it goes on");
    server.stop().await;
}

/// Every method is sent messages with bytes changed, cut and doubled. A call that panics, hangs or
/// ends with a status that blames the server fails. `scripts/fuzz grpc_request` does it for hours.
#[test]
fn changed_bytes_blame_nobody_but_the_caller() {
    use rand::{Rng as _, SeedableRng as _};

    let target = relata::server::fuzzing::Target::start().expect("a server");
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut number = |below: usize| random.random_range(0..below.max(1));
    let (mut fine, mut refused) = (0, 0);
    for seed in target.seeds() {
        let (method, message) = seed.split_first().expect("a method");
        let mut call = |message: &[u8]| {
            let ended = target.call(usize::from(*method), message).code();
            *(if ended == Code::Ok { &mut fine } else { &mut refused }) += 1;
        };
        call(message);
        for _ in 0..40 {
            let mut changed = message.to_vec();
            for _ in 0..=number(3) {
                let place = number(changed.len());
                match number(4) {
                    0 => changed.truncate(place),
                    1 => changed.extend_from_within(place..),
                    2 if !changed.is_empty() => changed[place] = number(256).try_into().expect("a byte"),
                    _ if !changed.is_empty() => changed[place] ^= 1 << number(8),
                    _ => {}
                }
            }
            call(&changed);
        }
    }
    assert!(fine > 0 && refused > 0, "{fine} were fine, {refused} refused");
}
