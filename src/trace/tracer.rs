//! Which calls are recorded, and where their spans go.

use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::caller::{Caller, Place, SpanId, TraceId};
use super::span::{Ended, Kind, Span};
use crate::metrics::Metrics;

/// The part of calls that are recorded if their caller says nothing of it: from 0, none, to 1, all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

/// Why a text is not a [`Ratio`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a part of all calls: write a number from 0, none, to 1, all", .0.escape_debug())]
pub struct RatioError(String);

impl Ratio {
    /// None.
    pub const NONE: Self = Self(0.0);
    /// All.
    pub const ALL: Self = Self(1.0);
}

impl FromStr for Ratio {
    type Err = RatioError;

    fn from_str(text: &str) -> Result<Self, RatioError> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or_else(|| RatioError(text.to_owned()))
    }
}

/// Decides which calls are recorded, and takes their spans.
#[derive(Debug)]
pub struct Tracer {
    ratio: f64,
    queue: mpsc::Sender<Ended>,
    metrics: Arc<Metrics>,
}

impl Tracer {
    /// A tracer and the other end of its queue, in which at most `room` spans wait.
    #[must_use]
    pub fn new(
        Ratio(ratio): Ratio,
        room: usize,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, mpsc::Receiver<Ended>) {
        let (queue, ended) = mpsc::channel(room.max(1));
        (Arc::new(Self { ratio, queue, metrics }), ended)
    }

    /// Begins the span of a call, if it is to be recorded: the caller's decision counts, and where it
    /// has made none, the ratio does.
    #[must_use]
    pub fn begin(self: &Arc<Self>, caller: Option<Caller>) -> Option<Span> {
        let recorded = match caller {
            Some(caller) => caller.sampled,
            None => self.ratio > 0.0 && rand::random::<f64>() < self.ratio,
        };
        if !recorded {
            return None;
        }
        let trace = caller.map_or_else(TraceId::random, |caller| caller.place.trace);
        let place = Place { trace, span: SpanId::random() };
        let parent = caller.map(|caller| caller.place.span);
        Some(Span::begin(Arc::clone(self), Kind::Server, "call", place, parent))
    }

    /// Takes a span that has ended, or drops it. It never waits.
    pub(super) fn take(&self, ended: Ended) {
        if self.queue.try_send(ended).is_err() {
            self.metrics.traces.spans_dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_part_of_all() {
        for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            assert_eq!(text.parse(), Ok(Ratio(ratio)));
        }
        for wrong in ["", "-0.1", "1.1", "NaN", "inf", "10%"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_callers_decision_counts_and_the_ratio_where_there_is_none() {
        let caller = |flags: &str| {
            Caller::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"))
        };
        let (never, _kept) = Tracer::new(Ratio::NONE, 1, Metrics::new());
        let (always, _kept) = Tracer::new(Ratio::ALL, 1, Metrics::new());
        assert!(never.begin(None).is_none());
        assert!(always.begin(None).is_some());
        assert!(always.begin(caller("00")).is_none());
        let span = never.begin(caller("01")).expect("recorded");
        assert_eq!(span.place().trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let (half, _kept) = Tracer::new(Ratio(0.5), 1, Metrics::new());
        let recorded = (0..10_000).filter(|_| half.begin(None).is_some()).count();
        assert!((4_500..5_500).contains(&recorded), "{recorded} of 10,000");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let metrics = Metrics::new();
        let (tracer, mut ended) = Tracer::new(Ratio::ALL, 2, Arc::clone(&metrics));
        for _ in 0..5 {
            drop(tracer.begin(None));
        }
        assert_eq!(metrics.traces.spans_dropped.get(), 3);
        assert!(ended.try_recv().is_ok() && ended.try_recv().is_ok() && ended.try_recv().is_err());
    }
}
