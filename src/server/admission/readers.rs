//! Streams whose readers take nothing are ended.
//!
//! A reader that has stalled asks for nothing, so its stream is not looked at by anybody, its
//! deadline included. What it holds, a snapshot and a search, would be held for as long as the
//! connection lives.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::body::{Answer, lock};
use crate::metrics::Metrics;
use crate::server::status::Error;

/// Streams that are looked after before those that are over are forgotten.
const MANY: usize = 1_024;

/// The streams that are open.
#[derive(Debug)]
pub struct Readers {
    patience: Duration,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Open {
    streams: Vec<Weak<Mutex<Answer>>>,
    /// How many there may be before it is looked which are over.
    tidy_at: usize,
}

impl Readers {
    /// Readers that may leave what they are given for so long.
    #[must_use]
    pub fn new(patience: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { patience, open: Mutex::default(), metrics })
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a stream from now on.
    pub(super) fn watch(&self, stream: &Arc<Mutex<Answer>>) {
        let mut open = self.open();
        if open.streams.len() >= open.tidy_at.max(MANY) {
            open.streams.retain(|stream| stream.strong_count() > 0);
            open.tidy_at = open.streams.len() * 2;
        }
        open.streams.push(Arc::downgrade(stream));
    }

    /// Ends streams whose readers have stalled, until it is dropped.
    pub async fn follow(self: Arc<Self>) {
        let pace = (self.patience / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.end_stalled(Instant::now());
        }
    }

    fn end_stalled(&self, now: Instant) {
        let streams: Vec<_> = {
            let mut open = self.open();
            open.streams.retain(|stream| stream.strong_count() > 0);
            open.streams.iter().filter_map(Weak::upgrade).collect()
        };
        for stream in streams {
            let mut answer = lock(&stream);
            let Some(since) = answer.untaken_since() else { continue };
            let idle = now.saturating_duration_since(since);
            if idle < self.patience {
                continue;
            }
            let held = answer.end(Error::ReaderStalled { idle });
            drop(answer);
            self.metrics.admission.stalled_readers.inc();
            tracing::info!(idle_seconds = idle.as_secs(), "ended a stream whose reader takes nothing");
            // Last and without the lock: it may be large.
            drop(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::{Bytes, HttpBody};
    use http_body::Frame;
    use tonic::body::Body;
    use tonic::{Code, Status};

    use super::super::body::Shared;
    use super::super::ledger::Ledger;
    use super::*;
    use crate::config::AdmissionLimits;
    use crate::metrics::Resource;
    use crate::server::access::{Grants, Principal};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// An answer of endless parts; it says when it is dropped.
    struct Endless(#[expect(dead_code, reason = "counts who holds it")] Arc<()>);

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[7; 100])))))
        }
    }

    struct World {
        metrics: Arc<Metrics>,
        readers: Arc<Readers>,
        stream: Shared,
        held: Arc<()>,
    }

    impl World {
        fn new(bytes: usize) -> Self {
            let metrics = Metrics::new();
            let ledger =
                Ledger::new(AdmissionLimits { bytes, ..AdmissionLimits::default() }, Arc::clone(&metrics));
            let caller = Arc::new(Principal::new("ann", Grants::everything()));
            let place = ledger.take(&caller, Resource::Streams, 1).expect("a place");
            let counted = Arc::new(ledger.take(&caller, Resource::Bytes, 0).expect("no bytes yet"));
            let held = Arc::new(());
            let body = Body::new(Endless(Arc::clone(&held)));
            let stream = Arc::new(Mutex::new(Answer::new(body, counted, place)));
            let readers = Readers::new(PATIENCE, Arc::clone(&metrics));
            readers.watch(&stream);
            Self { metrics, readers, stream: Shared(stream), held }
        }

        /// The next part, or the code that the stream ends with.
        fn read(&mut self) -> Option<Result<usize, Code>> {
            let mut context = Context::from_waker(std::task::Waker::noop());
            let Poll::Ready(frame) = Pin::new(&mut self.stream).poll_frame(&mut context) else {
                panic!("it has something to say")
            };
            let frame = frame?.expect("a frame");
            Some(match frame.trailers_ref() {
                Some(trailers) => Err(Status::from_header_map(trailers).expect("a status").code()),
                None => Ok(frame.data_ref().map_or(0, Bytes::len)),
            })
        }

        fn holds(&self, resource: Resource) -> i64 {
            self.metrics.admission.held.of(resource).get()
        }
    }

    #[test]
    fn a_reader_who_takes_nothing_loses_the_stream() {
        let mut world = World::new(10_000);
        let begun = Instant::now();
        assert_eq!(world.read(), Some(Ok(100)));
        assert_eq!((world.holds(Resource::Streams), world.holds(Resource::Bytes)), (1, 100));
        world.readers.end_stalled(begun + PATIENCE / 2);
        assert_eq!(world.read(), Some(Ok(100)), "slow is not stalled");
        assert_eq!(world.holds(Resource::Bytes), 100, "the part before has been taken");
        world.readers.end_stalled(Instant::now() + PATIENCE);
        assert_eq!(Arc::strong_count(&world.held), 1, "what made the answer is gone");
        // What the transport holds goes on being counted.
        assert_eq!((world.holds(Resource::Streams), world.holds(Resource::Bytes)), (0, 100));
        assert_eq!(world.metrics.admission.stalled_readers.get(), 1);
        assert_eq!(world.read(), Some(Err(Code::ResourceExhausted)));
        assert_eq!(world.read(), None);
        assert_eq!(world.holds(Resource::Bytes), 0);
    }

    #[test]
    fn a_reader_who_never_asks_loses_the_stream_too() {
        let mut world = World::new(10_000);
        world.readers.end_stalled(Instant::now() + PATIENCE);
        assert_eq!(world.holds(Resource::Streams), 0);
        assert_eq!(world.read(), Some(Err(Code::ResourceExhausted)));
    }

    #[test]
    fn a_stream_that_would_hold_too_much_ends() {
        let mut world = World::new(110);
        assert_eq!(world.read(), Some(Err(Code::ResourceExhausted)));
        assert_eq!(Arc::strong_count(&world.held), 1);
        assert_eq!(world.holds(Resource::Bytes), 0);
    }

    #[test]
    fn streams_that_are_over_are_forgotten() {
        let world = World::new(10_000);
        let readers = Arc::clone(&world.readers);
        drop(world);
        readers.end_stalled(Instant::now());
        assert!(readers.open().streams.is_empty());
    }
}
