//! Calls, by method, code and reason.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::Metrics;
use super::cells::Cells;
use super::declare::{Counter, Gauge, family};
use super::histogram::Durations;
use super::label::{Label as _, labels};

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
    methods: Arc<Methods>,
    reasons: HashMap<&'static str, Counter, foldhash::fast::RandomState>,
    other_reason: Counter,
}

#[derive(Debug)]
struct Methods {
    /// The index of a method by its path, `/package.Service/Method`.
    paths: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    known: Vec<Method>,
    /// All paths that name no method share it.
    unknown: Method,
}

impl Methods {
    fn new(named: &[(String, MethodKind)]) -> Self {
        let paths = named.iter().enumerate().map(|(index, (name, _))| (format!("/{name}").into(), index));
        Self {
            paths: paths.collect(),
            known: named.iter().map(|(name, kind)| Method::new(name, *kind)).collect(),
            unknown: Method::new(UNKNOWN_METHOD, MethodKind::Single),
        }
    }

    fn index(&self, path: &str) -> Option<usize> {
        self.paths.get(path).copied()
    }

    fn at(&self, index: Option<usize>) -> &Method {
        index.and_then(|index| self.known.get(index)).unwrap_or(&self.unknown)
    }

    fn iter(&self) -> impl Iterator<Item = &Method> {
        self.known.iter().chain([&self.unknown])
    }
}

/// The metrics of one method.
#[derive(Debug)]
struct Method {
    name: Box<str>,
    kind: MethodKind,
    /// How long calls took.
    seconds: Durations,
    /// Calls that have ended by the index of their code, then those that have not ended.
    calls: Cells,
}

/// After the codes.
const RUNNING: usize = Code::ALL.len();

impl Method {
    fn new(name: &str, kind: MethodKind) -> Self {
        Self { name: name.into(), kind, seconds: Durations::of_calls(), calls: Cells::new(RUNNING + 1) }
    }

    fn running(&self) -> i64 {
        self.calls.read(RUNNING).cast_signed()
    }
}

impl Requests {
    pub(super) fn register(registry: &mut Registry, vocabulary: &Vocabulary) -> Self {
        let methods = Arc::new(Methods::new(&vocabulary.methods));
        let mut of_methods = |name, help, pick| {
            family(registry, name, help, OfMethods { methods: Arc::clone(&methods), pick });
        };
        of_methods(
            "relata_requests",
            "Calls that have ended, by method and code; a code is shown once it has come up",
            Pick::Ended,
        );
        of_methods(
            "relata_request_seconds",
            "How long calls took, streams until their last message",
            Pick::Seconds,
        );
        of_methods(
            "relata_requests_in_flight",
            "Calls with one answer that have not been answered",
            Pick::Running(MethodKind::Single),
        );
        of_methods(
            "relata_streams_open",
            "Streams of answers that have not ended",
            Pick::Running(MethodKind::Stream),
        );
        let mut reasons: Vec<_> =
            vocabulary.reasons.iter().map(|reason| (*reason, Counter::default())).collect();
        let other_reason = Counter::default();
        reasons.push(("OTHER", other_reason.clone()));
        family(
            registry,
            "relata_request_failures",
            "Calls that failed or were refused, by the reason that the error names",
            OfReasons(reasons.clone().into()),
        );
        Self { methods, reasons: reasons.into_iter().collect(), other_reason }
    }

    /// Counts a call that failed.
    pub fn failed(&self, reason: &str) {
        self.reasons.get(reason).unwrap_or(&self.other_reason).inc();
    }

    /// How many failed for a reason.
    #[must_use]
    pub fn failures(&self, reason: &str) -> u64 {
        self.reasons.get(reason).map_or(0, Counter::get)
    }

    fn method(&self, path: &str) -> &Method {
        self.methods.at(self.methods.index(path))
    }

    /// How many calls of a path have ended with a code.
    #[must_use]
    pub fn ended(&self, path: &str, code: Code) -> u64 {
        self.method(path).calls.read(code.index())
    }

    /// How many calls of a path have not ended.
    #[must_use]
    pub fn running(&self, path: &str) -> i64 {
        self.method(path).running()
    }
}

/// What a shard records its calls with. Each shard makes one of its own: its clones count
/// themselves with every call, and would otherwise all do so in one place.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Recording>);

#[derive(Debug)]
struct Recording {
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// Records into these metrics.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Recording { metrics }))
    }

    /// A call of a path, `/package.Service/Method`, begins.
    #[must_use]
    pub fn begin(&self, path: &str) -> Running {
        let method = self.0.metrics.requests.methods.index(path);
        let running =
            Running { recorder: self.clone(), method, begun: Instant::now(), code: Code::Cancelled };
        running.method().calls.add([(RUNNING, 1)]);
        running
    }
}

/// A call that has not ended. It counts as cancelled if it is dropped before it is known how it
/// ended.
#[derive(Debug)]
pub struct Running {
    recorder: Recorder,
    method: Option<usize>,
    begun: Instant,
    code: Code,
}

impl Running {
    fn requests(&self) -> &Requests {
        &self.recorder.0.metrics.requests
    }

    fn method(&self) -> &Method {
        self.requests().methods.at(self.method)
    }

    /// How its method answers.
    #[must_use]
    pub fn kind(&self) -> MethodKind {
        self.method().kind
    }

    /// It has failed, for this reason.
    pub fn failed(&self, reason: &str) {
        self.requests().failed(reason);
    }

    /// It has ended, and is counted so when it is dropped.
    pub fn ended(&mut self, code: Code) {
        self.code = code;
    }

    /// How it has ended, as far as is known.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The method as `package.Service/Method`; a fixed word for one that does not exist.
    #[must_use]
    pub fn method_name(&self) -> &str {
        &self.method().name
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let method = self.method();
        method.seconds.since(self.begun);
        method.calls.add([(RUNNING, u64::MAX), (self.code.index(), 1)]);
    }
}

/// One family over all methods.
#[derive(Debug, Clone)]
struct OfMethods {
    methods: Arc<Methods>,
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
                        let ended = method.calls.read(code.index());
                        if ended > 0 || *code == Code::Ok {
                            let labels = [(NAME, name), (Code::NAME, code.value())];
                            ConstCounter::new(ended).encode(encoder.encode_family(&labels)?)?;
                        }
                    }
                }
                Pick::Seconds => method.seconds.encode(encoder.encode_family(&[(NAME, name)])?)?,
                Pick::Running(kind) if kind == method.kind => {
                    ConstGauge::new(method.running()).encode(encoder.encode_family(&[(NAME, name)])?)?;
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

    fn metrics() -> Arc<Metrics> {
        Metrics::of(&Vocabulary {
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
        let one = "/a.B/One";
        let recorder = Recorder::new(Arc::clone(&metrics));
        let (mut answered, dropped) = (recorder.begin(one), recorder.begin(one));
        assert_eq!(metrics.requests.running(one), 2);
        answered.ended(Code::Ok);
        drop(answered);
        drop(dropped);
        assert_eq!((metrics.requests.running(one), metrics.requests.method(one).seconds.count()), (0, 2));
        assert_eq!([Code::Ok, Code::Cancelled].map(|code| metrics.requests.ended(one, code)), [1, 1]);
        let text = metrics.encode();
        assert!(text.contains(r#"relata_requests_total{rpc="a.B/One",code="CANCELLED"} 1"#), "{text}");
        assert!(text.contains(r#"relata_streams_open{rpc="a.B/Many"} 0"#), "{text}");
        assert!(!text.contains(r#"relata_requests_in_flight{rpc="a.B/Many"}"#), "{text}");
    }

    #[test]
    fn what_nobody_knows_shares_one_series() {
        let metrics = metrics();
        for path in ["/a.B/Two", "a.B/One", "", "/"] {
            Recorder::new(Arc::clone(&metrics)).begin(path).ended(Code::Unimplemented);
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
