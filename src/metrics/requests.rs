//! Calls, by method, code and reason.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::declare::{Counter, Gauge, family};
use super::histogram::Durations;
use super::label::{By, Label as _, labels};

labels! {
    /// The codes of gRPC, in the order of their numbers.
    "code": Code {
        /// 0.
        Ok = "OK",
        /// 1: the caller went away.
        Cancelled = "CANCELLED",
        /// 2.
        Unknown = "UNKNOWN",
        /// 3.
        InvalidArgument = "INVALID_ARGUMENT",
        /// 4.
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        /// 5.
        NotFound = "NOT_FOUND",
        /// 6.
        AlreadyExists = "ALREADY_EXISTS",
        /// 7.
        PermissionDenied = "PERMISSION_DENIED",
        /// 8.
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        /// 9.
        FailedPrecondition = "FAILED_PRECONDITION",
        /// 10.
        Aborted = "ABORTED",
        /// 11.
        OutOfRange = "OUT_OF_RANGE",
        /// 12.
        Unimplemented = "UNIMPLEMENTED",
        /// 13.
        Internal = "INTERNAL",
        /// 14.
        Unavailable = "UNAVAILABLE",
        /// 15.
        DataLoss = "DATA_LOSS",
        /// 16.
        Unauthenticated = "UNAUTHENTICATED",
    }
}

impl Code {
    /// The code of a number; one that gRPC does not have is [`Code::Unknown`].
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|number| Self::ALL.get(number))
            .copied()
            .unwrap_or(Self::Unknown)
    }
}

/// What calls can be about, given once at the start.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// The methods served, as `package.Service/Method`, and how each answers.
    pub methods: Vec<(String, MethodKind)>,
    /// What errors say to programs.
    pub reasons: Vec<&'static str>,
}

/// How a method answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// Once.
    Single,
    /// By a stream.
    Stream,
}

/// The label's value for calls of methods that do not exist.
const UNKNOWN_METHOD: &str = "unknown";

/// Calls, by method, code and reason.
#[derive(Debug)]
pub struct Requests {
    methods: HashMap<Box<str>, Arc<Method>, foldhash::fast::RandomState>,
    unknown: Arc<Method>,
    reasons: HashMap<&'static str, Counter, foldhash::fast::RandomState>,
    other_reason: Counter,
}

/// The metrics of one method.
#[derive(Debug)]
pub struct Method {
    name: Box<str>,
    kind: MethodKind,
    /// Calls that have ended, by code.
    pub ended: By<Code, Counter>,
    /// How long they took.
    pub seconds: Durations,
    /// Calls that have not ended.
    pub running: Gauge,
}

impl Requests {
    pub(super) fn register(registry: &mut Registry, vocabulary: Vocabulary) -> Self {
        let method = |name: &str, kind| {
            Arc::new(Method {
                name: name.into(),
                kind,
                ended: By::default(),
                seconds: Durations::of_calls(),
                running: Gauge::default(),
            })
        };
        let methods: Vec<Arc<Method>> =
            vocabulary.methods.iter().map(|(name, kind)| method(name, *kind)).collect();
        let unknown = method(UNKNOWN_METHOD, MethodKind::Single);
        let all: Arc<[Arc<Method>]> = methods.iter().chain([&unknown]).map(Arc::clone).collect();
        family(
            registry,
            "relata_requests",
            "Calls that have ended, by method and code; a code is shown once it has come up",
            OfMethods { methods: Arc::clone(&all), pick: Pick::Ended },
        );
        family(
            registry,
            "relata_request_seconds",
            "How long calls took, streams until their last message",
            OfMethods { methods: Arc::clone(&all), pick: Pick::Seconds },
        );
        family(
            registry,
            "relata_requests_in_flight",
            "Calls with one answer that have not been answered",
            OfMethods { methods: Arc::clone(&all), pick: Pick::Running(MethodKind::Single) },
        );
        family(
            registry,
            "relata_streams_open",
            "Streams of answers that have not ended",
            OfMethods { methods: all, pick: Pick::Running(MethodKind::Stream) },
        );
        let mut reasons: HashMap<_, _, _> =
            vocabulary.reasons.into_iter().map(|reason| (reason, Counter::default())).collect();
        let other_reason = Counter::default();
        reasons.insert("OTHER", other_reason.clone());
        let mut sorted: Vec<_> = reasons.iter().map(|(reason, count)| (*reason, count.clone())).collect();
        sorted.sort_unstable_by_key(|(reason, _)| *reason);
        family(
            registry,
            "relata_request_failures",
            "Calls that failed or were refused, by the reason that the error names",
            OfReasons(sorted.into()),
        );
        let methods =
            methods.into_iter().map(|method| (format!("/{}", method.name).into(), method)).collect();
        Self { methods, unknown, reasons, other_reason }
    }

    /// The metrics of the method that a call's path names, `/package.Service/Method`. All paths
    /// that name none share one.
    #[must_use]
    pub fn method(&self, path: &str) -> &Arc<Method> {
        self.methods.get(path).unwrap_or(&self.unknown)
    }

    /// Counts a call that failed.
    pub fn failed(&self, reason: &str) {
        self.reasons.get(reason).unwrap_or(&self.other_reason).inc();
    }

    /// How many failed for a reason.
    #[must_use]
    pub fn failures(&self, reason: &str) -> u64 {
        self.reasons.get(reason).unwrap_or(&self.other_reason).get()
    }
}

impl Method {
    /// Its name: `package.Service/Method`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it answers.
    #[must_use]
    pub fn kind(&self) -> MethodKind {
        self.kind
    }

    /// A call begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Running {
        self.running.inc();
        Running { method: Arc::clone(self), begun: Instant::now(), code: Code::Cancelled }
    }
}

/// A call that has not ended. It counts as cancelled if it is dropped before it is known how it
/// ended.
#[derive(Debug)]
pub struct Running {
    method: Arc<Method>,
    begun: Instant,
    code: Code,
}

impl Running {
    /// Its method.
    #[must_use]
    pub fn method(&self) -> &Arc<Method> {
        &self.method
    }

    /// It has ended.
    pub fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.method.running.dec();
        self.method.seconds.since(self.begun);
        self.method.ended.of(self.code).inc();
    }
}

/// One family over all methods.
#[derive(Debug, Clone)]
struct OfMethods {
    methods: Arc<[Arc<Method>]>,
    pick: Pick,
}

/// Which family.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Ended,
    Seconds,
    Running(MethodKind),
}

impl EncodeMetric for OfMethods {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        const NAME: &str = "rpc";
        for method in self.methods.iter() {
            let name: &str = &method.name;
            match self.pick {
                Pick::Ended => {
                    for code in Code::ALL {
                        let ended = method.ended.of(*code);
                        if ended.get() > 0 || *code == Code::Ok {
                            let labels = [(NAME, name), (Code::NAME, code.value())];
                            ended.encode(encoder.encode_family(&labels)?)?;
                        }
                    }
                }
                Pick::Seconds => method.seconds.encode(encoder.encode_family(&[(NAME, name)])?)?,
                Pick::Running(kind) if kind == method.kind => {
                    method.running.encode(encoder.encode_family(&[(NAME, name)])?)?;
                }
                Pick::Running(_) => {}
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.pick {
            Pick::Ended => Counter::TYPE,
            Pick::Seconds => Durations::TYPE,
            Pick::Running(_) => Gauge::TYPE,
        }
    }
}

/// A counter for each reason.
#[derive(Debug, Clone)]
struct OfReasons(Arc<[(&'static str, Counter)]>);

impl EncodeMetric for OfReasons {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(reason, count)| count.encode(encoder.encode_family(&[("reason", *reason)])?))
    }

    fn metric_type(&self) -> MetricType {
        Counter::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn metrics() -> Arc<Metrics> {
        Metrics::of(Vocabulary {
            methods: vec![
                ("a.B/One".to_owned(), MethodKind::Single),
                ("a.B/Many".to_owned(), MethodKind::Stream),
            ],
            reasons: vec!["QUEUE_FULL"],
        })
    }

    #[test]
    fn a_call_counts_once_however_it_ends() {
        let metrics = metrics();
        let one = metrics.requests.method("/a.B/One");
        let (answered, dropped) = (one.begin(), one.begin());
        assert_eq!(one.running.get(), 2);
        answered.end(Code::Ok);
        drop(dropped);
        assert_eq!((one.running.get(), one.seconds.count()), (0, 2));
        assert_eq!((one.ended.of(Code::Ok).get(), one.ended.of(Code::Cancelled).get()), (1, 1));
        let text = metrics.encode();
        assert!(text.contains(r#"relata_requests_total{rpc="a.B/One",code="CANCELLED"} 1"#), "{text}");
        assert!(text.contains(r#"relata_streams_open{rpc="a.B/Many"} 0"#), "{text}");
        assert!(!text.contains(r#"relata_requests_in_flight{rpc="a.B/Many"}"#), "{text}");
    }

    #[test]
    fn what_nobody_knows_shares_one_series() {
        let metrics = metrics();
        for path in ["/a.B/Two", "a.B/One", "", "/"] {
            metrics.requests.method(path).begin().end(Code::Unimplemented);
        }
        metrics.requests.failed("QUEUE_FULL");
        metrics.requests.failed("whatever");
        let text = metrics.encode();
        assert!(text.contains(r#"relata_requests_total{rpc="unknown",code="UNIMPLEMENTED"} 4"#), "{text}");
        assert!(text.contains(r#"relata_request_failures_total{reason="OTHER"} 1"#), "{text}");
        assert!(text.contains(r#"relata_request_failures_total{reason="QUEUE_FULL"} 1"#), "{text}");
    }

    #[test]
    fn codes_have_their_numbers() {
        assert_eq!(Code::of_number(0), Code::Ok);
        assert_eq!(Code::of_number(16), Code::Unauthenticated);
        assert_eq!(Code::of_number(17), Code::Unknown);
        assert_eq!(Code::of_number(-1), Code::Unknown);
    }
}
