//! Spans as OTLP has them.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::trace::{Ended, Kind, Value};

/// The flag of a span that is recorded, and those that say whether its parent is of another process.
const SAMPLED: u32 = 1;
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// Who sends spans.
pub struct Resource(resource::v1::Resource);

impl Resource {
    /// This process, under a name of its own for as long as it runs.
    pub fn of_this_process() -> Self {
        let attributes = vec![
            attribute("service.name", text("relata")),
            attribute("service.version", text(env!("CARGO_PKG_VERSION"))),
            attribute("service.instance.id", text(uuid::Uuid::new_v4().to_string())),
        ];
        Self(resource::v1::Resource { attributes, ..Default::default() })
    }

    /// A batch of spans.
    pub fn request(&self, batch: Vec<Ended>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "relata".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        };
        let spans = batch.into_iter().map(span).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }];
        let of_this = ResourceSpans { resource: Some(self.0.clone()), scope_spans, ..Default::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_this] }
    }
}

fn span(ended: Ended) -> Span {
    let kind = match ended.kind {
        Kind::Server => SpanKind::Server,
        Kind::Internal => SpanKind::Internal,
        Kind::Client => SpanKind::Client,
    };
    let remote = if ended.kind == Kind::Server { PARENT_IS_REMOTE } else { 0 };
    let failed = Status { code: StatusCode::Error.into(), ..Default::default() };
    Span {
        trace_id: ended.place.trace.bytes().to_vec(),
        span_id: ended.place.span.bytes().to_vec(),
        parent_span_id: ended.parent.map_or_else(Vec::new, |parent| parent.bytes().to_vec()),
        flags: SAMPLED | PARENT_IS_KNOWN | remote,
        name: ended.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(ended.began),
        end_time_unix_nano: nanos(ended.began + ended.took),
        attributes: ended.attributes.into_iter().map(|(key, value)| attribute(key, any(value))).collect(),
        links: ended
            .links
            .into_iter()
            .map(|place| Link {
                trace_id: place.trace.bytes().to_vec(),
                span_id: place.span.bytes().to_vec(),
                flags: SAMPLED | PARENT_IS_KNOWN,
                ..Default::default()
            })
            .collect(),
        status: ended.failed.then_some(failed),
        ..Default::default()
    }
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn any(value: Value) -> Any {
    match value {
        Value::Text(value) => text(value),
        Value::Number(number) => Any::IntValue(number),
    }
}

fn text(text: impl Into<String>) -> Any {
    Any::StringValue(text.into())
}

fn nanos(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
