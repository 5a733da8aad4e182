//! Traces: a real server, a collector that takes spans over OTLP, and callers that are followed.

mod collector;
mod sending;
mod spans;

use relata::config::{Config, TraceSettings};
use tonic::Request;

/// Settings that send spans there.
fn traced(config: &mut Config, endpoint: &str, ratio: &str) {
    config.traces =
        Some(TraceSettings { endpoint: endpoint.to_owned(), ratio: ratio.parse().expect("a ratio") });
}

/// The trace of a caller by number, and the header that tells of it.
fn trace_id(number: u8) -> Vec<u8> {
    [&[0xaa; 15][..], &[number]].concat()
}

/// The span of the caller, in every trace.
const CALLER: [u8; 8] = [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];

/// A request as a caller sends it that is in a trace.
fn followed<T>(message: T, number: u8, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("00-{}{number:02x}-00f067aa0ba902b7-{flags}", "aa".repeat(15));
    request.metadata_mut().insert("traceparent", header.parse().expect("a header"));
    request
}
