//! The threads, and places on them.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::line::Line;
use super::schedule::{Bounds, Entered, Schedule};
use crate::metrics::{Metrics, Refusal};
use crate::server::deadline::Deadline;
use crate::server::status::Error;

type Job = Box<dyn FnOnce() + Send>;
type Turns = Schedule<Job, oneshot::Sender<Result<Seat, Error>>>;

/// How long a search that pauses keeps its place while others wait for one: a reader that keeps up
/// takes less to ask for more.
const GRACE: Duration = Duration::from_millis(50);
/// What part of the time left a search may wait for its place: the rest is for running.
const PATIENCE: u32 = 2;
/// Longest time after which a refused caller is told to try again.
const LONGEST_RETRY: Duration = Duration::from_secs(5);
const SHORTEST_RETRY: Duration = Duration::from_millis(50);

/// A fixed number of threads and a bounded number of searches that take turns on them.
#[derive(Debug)]
pub struct Pool {
    queue: Arc<Queue>,
}

struct Queue {
    turns: Mutex<Turns>,
    ready: Condvar,
    closed: AtomicBool,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let turns = self.lock();
        write!(f, "{} searches under way, {} waiting", turns.under_way(), turns.waiting())
    }
}

impl Queue {
    /// A lock poisoned by a panic still guards a schedule that is whole: slices run outside it.
    fn lock(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who has a place, and gives what became free to whoever is next.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Turns) -> T) -> T {
        let mut turns = self.lock();
        let changed = change(&mut turns);
        let granted: Vec<_> = std::iter::from_fn(|| turns.grant()).collect();
        self.show(&turns);
        drop(turns);
        for (line, waiter) in granted {
            // Who went away meanwhile gives the place back by not taking it.
            let _ = waiter.send(Ok(Seat::new(self, line)));
        }
        changed
    }

    fn show(&self, turns: &Turns) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.searches.seats_taken.set(gauge(turns.under_way()));
        self.metrics.searches.seats_wanted.set(gauge(turns.waiting()));
    }

    fn refuse(&self, kind: Refusal, error: Error) -> Error {
        self.metrics.searches.refusals.of(kind).inc();
        error
    }
}

/// A place in the pool: what holds one may submit slices, one at a time.
#[derive(Debug)]
pub struct Seat {
    queue: Arc<Queue>,
    line: Line,
    /// Since when it is held without a pause, and for how long it was before.
    since: Instant,
    before: Duration,
    /// Slices run.
    had: u32,
    /// Its number while the search pauses.
    parked: Option<u64>,
}

impl Pool {
    /// Starts the threads. They end when the pool is dropped and its last slice has run.
    pub fn start(threads: NonZeroUsize, bounds: Bounds, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            turns: Mutex::new(Schedule::new(bounds)),
            ready: Condvar::new(),
            closed: AtomicBool::new(false),
            metrics,
        });
        for index in 0..threads.get() {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("search-{index}")).spawn(move || work(&queue))?;
        }
        Ok(Self { queue })
    }

    /// Whether searches wait for places, so that none should be begun that is going to wait too.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.queue.metrics.searches.seats_wanted.get() > 0
    }

    /// A place for a search, once there is one. A search that would wait for more than half of the
    /// time it has is refused before it waits: it had better be tried on another node.
    pub async fn seat(&self, line: &Line, deadline: Deadline) -> Result<Seat, Error> {
        let asked = Instant::now();
        let left = deadline.left();
        let patience = left / PATIENCE;
        let (answer, granted) = oneshot::channel();
        let entered = self.queue.change(|turns| {
            let wait = turns.wait(line);
            // Waiting and then not ending in time would help nobody.
            let in_time = wait.is_zero() || (wait <= patience && wait + turns.hold(line) <= left);
            if in_time { Ok(turns.enter(line, answer)) } else { Err(wait.saturating_sub(patience)) }
        });
        let overloaded = |retry: Duration| {
            let retry = retry.clamp(SHORTEST_RETRY, LONGEST_RETRY);
            self.queue.refuse(Refusal::Late, Error::Overloaded { resource: "searches", retry })
        };
        let full = || self.queue.refuse(Refusal::QueueFull, Error::QueueFull { queue: "search" });
        let ticket = match entered {
            Err(retry) => return Err(overloaded(retry)),
            Ok(Entered::Under) => {
                self.queue.metrics.searches.seat_wait_seconds.observe(Duration::ZERO);
                return Ok(Seat::new(&self.queue, line.clone()));
            }
            Ok(Entered::Full(_)) => return Err(full()),
            Ok(Entered::Waits { ticket, displaced }) => {
                if let Some(displaced) = displaced {
                    let error = Error::QueueFull { queue: "search" };
                    let _ = displaced.send(Err(self.queue.refuse(Refusal::PushedOut, error)));
                }
                // There may be places whose searches pause, and nobody awake to notice.
                self.queue.ready.notify_one();
                ticket
            }
        };
        let waiting = Waiting { queue: &self.queue, line, ticket };
        let outcome = timeout(patience, granted).await;
        drop(waiting);
        match outcome {
            Ok(Ok(seat)) => {
                let seat = seat?;
                self.queue.metrics.searches.seat_wait_seconds.since(asked);
                Ok(seat)
            }
            Ok(Err(_)) => Err(Error::ShuttingDown),
            Err(_) => Err(overloaded(patience)),
        }
    }

    /// A place for a search that has begun, lost its place while it paused, and goes on.
    async fn seat_again(queue: &Arc<Queue>, line: &Line, had: u32) -> Result<Seat, Error> {
        let (answer, granted) = oneshot::channel();
        let mut seat = match queue.change(|turns| turns.enter_again(line, answer)) {
            Entered::Under => Seat::new(queue, line.clone()),
            Entered::Full(_) => return Err(Error::QueueFull { queue: "search" }),
            Entered::Waits { ticket, .. } => {
                queue.ready.notify_one();
                let waiting = Waiting { queue, line, ticket };
                let granted = granted.await;
                drop(waiting);
                granted.map_err(|_| Error::ShuttingDown)??
            }
        };
        seat.had = had;
        Ok(seat)
    }
}

/// Leaves the line when the caller does.
struct Waiting<'a> {
    queue: &'a Arc<Queue>,
    line: &'a Line,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.change(|turns| drop(turns.leave(self.line, self.ticket)));
    }
}

impl Seat {
    fn new(queue: &Arc<Queue>, line: Line) -> Self {
        Self {
            queue: Arc::clone(queue),
            line,
            since: Instant::now(),
            before: Duration::ZERO,
            had: 0,
            parked: None,
        }
    }

    /// Runs one slice on a thread of the pool.
    pub async fn run<T: Send + 'static>(
        &mut self,
        slice: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let searches = &self.queue.metrics.searches;
        searches.pool_slices.inc();
        searches.queue_depth.inc();
        let (metrics, queued) = (Arc::clone(&self.queue.metrics), Instant::now());
        let job = Box::new(move || {
            metrics.searches.queue_depth.dec();
            metrics.searches.queue_wait_seconds.since(queued);
            // Nobody waits any more: the call was dropped while its slice was queued.
            if !answer.is_closed() {
                let _ = answer.send(slice());
            }
        });
        self.queue.lock().push(&self.line, self.had, job);
        self.queue.ready.notify_one();
        self.had = self.had.saturating_add(1);
        answered.await.map_err(|_| Error::Internal(anyhow::anyhow!("a search panicked")))
    }

    /// Pauses the search: its place goes to others if they need one and it does not go on soon.
    pub fn pause(&mut self) {
        self.before += self.since.elapsed();
        let mut turns = self.queue.lock();
        self.parked = Some(turns.park(&self.line, Instant::now()));
        let wanted = turns.wants_parked();
        drop(turns);
        if wanted {
            self.queue.ready.notify_one();
        }
    }

    /// Goes on after a pause, once there is a place if this one was given away.
    pub async fn go_on(mut self) -> Result<Self, Error> {
        match self.parked {
            None => Ok(self),
            Some(number) if self.queue.lock().unpark(number) => {
                self.parked = None;
                self.since = Instant::now();
                Ok(self)
            }
            Some(_) => Pool::seat_again(&self.queue, &self.line, self.had).await,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let held = match self.parked {
            None => self.before + self.since.elapsed(),
            Some(_) => self.before,
        };
        self.queue.change(|turns| {
            if self.parked.is_none_or(|number| turns.unpark(number)) {
                turns.release(&self.line, held);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.closed.store(true, Ordering::Release);
        self.queue.lock().close();
        self.queue.ready.notify_all();
    }
}

fn work(queue: &Arc<Queue>) {
    step_back();
    let mut turns = queue.lock();
    loop {
        if turns.wants_parked()
            && let Some(moment) = Instant::now().checked_sub(GRACE)
        {
            drop(turns);
            queue.change(|turns| turns.reclaim(moment));
            turns = queue.lock();
        }
        if let Some(job) = turns.pop() {
            drop(turns);
            // A panic is a defect; it must not take the thread with it. The search it belonged
            // to is lost with its answer, and nothing else is shared.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a search panicked; this is a defect, please report it");
            }
            turns = queue.lock();
        } else if queue.closed.load(Ordering::Acquire) {
            return;
        } else if turns.wants_parked() {
            let (woken, _) = queue.ready.wait_timeout(turns, GRACE).unwrap_or_else(PoisonError::into_inner);
            turns = woken;
        } else {
            turns = queue.ready.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lets the threads that serve calls, follow the changelog and commit go first when there are fewer
/// processors than work: they need little, and everything else waits for them. On Linux a
/// priority belongs to a thread; elsewhere to the process, so there it stays as it is.
fn step_back() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        const NICE: i32 = 5;
        // It fails if the whole process is to be nicer still.
        let _ = rustix::process::setpriority_process(None, NICE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    use uuid::Uuid;

    use crate::revision::StoreId;
    use crate::server::pool::Kind;

    fn pool(usual: usize) -> Pool {
        let bounds = Bounds { usual, most: 64, waiting: 8, waiting_of_store: 8 };
        Pool::start(NonZeroUsize::MIN, bounds, Metrics::new()).expect("threads")
    }

    fn line(store: u128) -> Line {
        Line::new(StoreId(Uuid::from_u128(store)), &Arc::from(""), Kind::Many)
    }

    fn soon() -> Deadline {
        Deadline::within(Duration::from_mins(1))
    }

    /// Keeps the only thread busy until the sender is used.
    async fn busy(pool: &Pool, store: u128) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<Seat>) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let mut seat = pool.seat(&line(store), soon()).await.expect("a place");
        let running = tokio::spawn(async move {
            let slice = move || {
                let _ = begun.send(());
                held.recv()
            };
            seat.run(slice).await.expect("ran").expect("released");
            seat
        });
        begins.await.expect("a slice that runs");
        (release, running)
    }

    #[tokio::test]
    async fn stores_take_turns_however_many_slices_each_brings() {
        let pool = pool(64);
        let (release, first) = busy(&pool, 9).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut searches = Vec::new();
        for (name, store) in [("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("c1", 3), ("b2", 2)] {
            let (mut seat, order) =
                (pool.seat(&line(store), soon()).await.expect("a place"), Arc::clone(&order));
            searches.push(Box::pin(async move {
                seat.run(move || order.lock().expect("order").push(name)).await
            }));
        }
        for search in &mut searches {
            assert!(futures::poll!(search).is_pending());
        }
        release.send(()).expect("still held");
        first.await.expect("joined");
        for search in searches {
            search.await.expect("ran");
        }
        assert_eq!(*order.lock().expect("order"), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[tokio::test]
    async fn who_waits_gets_the_next_place_and_who_leaves_takes_none() {
        let pool = pool(1);
        let first = pool.seat(&line(1), soon()).await.expect("a place");
        let line = line(1);
        let (left, waits) = (pool.seat(&line, soon()), pool.seat(&line, soon()));
        tokio::pin!(waits);
        {
            tokio::pin!(left);
            assert!(futures::poll!(left.as_mut()).is_pending());
            assert!(futures::poll!(waits.as_mut()).is_pending());
            assert!(pool.is_pressed());
        }
        drop(first);
        let seat = waits.await.expect("the place of the first");
        assert!(!pool.is_pressed());
        drop(seat);
        assert!(pool.seat(&line, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn what_would_not_begin_in_time_is_refused_at_once() {
        let pool = pool(1);
        let _first = pool.seat(&line(1), soon()).await.expect("a place");
        let late = Deadline::within(Duration::from_millis(5));
        let refused = pool.seat(&line(1), late).await;
        assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
        assert!(late.left() > Duration::ZERO, "before its deadline, not at it");
        let refusals = &pool.queue.metrics.searches.refusals;
        assert_eq!(refusals.of(Refusal::Late).get(), 1);
        // A store that has nothing under way is not behind others.
        assert!(pool.seat(&line(2), late).await.is_ok());
    }

    #[tokio::test]
    async fn a_place_that_comes_too_late_is_not_waited_for() {
        let pool = pool(1);
        let _first = pool.seat(&line(1), soon()).await.expect("a place");
        let refused = pool.seat(&line(1), Deadline::within(Duration::from_millis(200))).await;
        assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
        assert!(!pool.is_pressed());
    }

    #[tokio::test]
    async fn who_pauses_keeps_nobody_out_and_goes_on_first() {
        let pool = pool(1);
        let mut paused = pool.seat(&line(1), soon()).await.expect("a place");
        paused.run(|| ()).await.expect("ran");
        paused.pause();
        let mut paused = paused.go_on().await.expect("nobody wanted it");
        paused.run(|| ()).await.expect("ran");
        paused.pause();
        let next = pool.seat(&line(1), soon()).await.expect("the place of the one that pauses");
        let line = line(1);
        let (third, again) = (pool.seat(&line, soon()), paused.go_on());
        tokio::pin!(third, again);
        assert!(futures::poll!(third.as_mut()).is_pending());
        assert!(futures::poll!(again.as_mut()).is_pending());
        drop(next);
        let again = again.await.expect("before the one that has not begun");
        assert!(futures::poll!(third.as_mut()).is_pending());
        drop(again);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_ends_one_search_only() {
        let pool = pool(4);
        let mut seat = pool.seat(&line(1), soon()).await.expect("a place");
        let lost = seat.run(|| -> usize { panic!("on purpose") }).await;
        assert!(matches!(lost, Err(Error::Internal(_))));
        assert_eq!(seat.run(|| 7).await.expect("ran"), 7);
    }

    #[tokio::test]
    async fn a_slice_nobody_waits_for_is_not_run() {
        let pool = pool(4);
        let ran = Arc::new(AtomicUsize::new(0));
        let (release, first) = busy(&pool, 1).await;
        let mut dropped = pool.seat(&line(1), soon()).await.expect("a place");
        {
            let ran = Arc::clone(&ran);
            let second = dropped.run(move || ran.fetch_add(1, Ordering::SeqCst));
            tokio::pin!(second);
            assert!(futures::poll!(second.as_mut()).is_pending());
        }
        release.send(()).expect("still held");
        first.await.expect("joined");
        dropped.run(|| ()).await.expect("ran");
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }
}
