//! Threads for searches that outlast their first slice.
//!
//! A runtime that serves thousands of calls must not compute for long. A search runs its first
//! slice of fuel where its call is served, which ends almost every Check; what is left goes
//! here, one slice at a time. Slices queue in order of arrival, so searches take turns, and
//! between two slices the call looks at its deadline: a dropped call simply submits no more.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::status::Error;
use crate::metrics::Metrics;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a bounded number of searches that take turns on them.
#[derive(Debug)]
pub struct Pool {
    queue: Arc<Queue>,
    admission: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} slices waiting", self.lock().jobs.len())
    }
}

struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// A lock poisoned by a panic still guards a queue that is whole: jobs run outside it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the pool: what holds one may submit slices, one at a time.
#[derive(Debug)]
pub struct Seat {
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// Starts the threads. They end when the pool is dropped and its last slice has run.
    pub fn start(threads: NonZeroUsize, max_searches: usize, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let state = Mutex::new(State { jobs: VecDeque::new(), closed: false });
        let queue = Arc::new(Queue { state, ready: Condvar::new() });
        for index in 0..threads.get() {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("search-{index}")).spawn(move || work(&queue))?;
        }
        Ok(Self { queue, admission: Arc::new(Semaphore::new(max_searches)), metrics })
    }

    /// Takes a place for one search, or refuses: a search that would wait behind hundreds of
    /// others had better be tried on another node.
    pub fn seat(&self) -> Result<Seat, Error> {
        let permit = Arc::clone(&self.admission)
            .try_acquire_owned()
            .map_err(|_| Error::QueueFull { queue: "search" })?;
        Ok(self.taken_by(permit))
    }

    /// Takes a place for a search that has begun, once there is one.
    pub async fn seat_when_free(&self) -> Result<Seat, Error> {
        let permit = Arc::clone(&self.admission).acquire_owned().await.map_err(|_| Error::ShuttingDown)?;
        Ok(self.taken_by(permit))
    }

    fn taken_by(&self, permit: OwnedSemaphorePermit) -> Seat {
        self.metrics.searches.seats_taken.inc();
        Seat { queue: Arc::clone(&self.queue), metrics: Arc::clone(&self.metrics), _permit: permit }
    }
}

impl Seat {
    /// Runs one slice on a thread of the pool.
    pub async fn run<T: Send + 'static>(
        &self,
        slice: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let searches = &self.metrics.searches;
        searches.pool_slices.inc();
        searches.queue_depth.inc();
        let (metrics, queued) = (Arc::clone(&self.metrics), Instant::now());
        let job = Box::new(move || {
            metrics.searches.queue_depth.dec();
            metrics.searches.queue_wait_seconds.since(queued);
            // Nobody waits any more: the call was dropped while its slice was queued.
            if !answer.is_closed() {
                let _ = answer.send(slice());
            }
        });
        self.queue.lock().jobs.push_back(job);
        self.queue.ready.notify_one();
        answered.await.map_err(|_| Error::Internal(anyhow::anyhow!("a search panicked")))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.searches.seats_taken.dec();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

fn work(queue: &Queue) {
    let mut state = queue.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            // A panic is a defect; it must not take the thread with it. The search it belonged
            // to is lost with its answer, and nothing else is shared.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a search panicked; this is a defect, please report it");
            }
            state = queue.lock();
        } else if state.closed {
            return;
        } else {
            state = queue.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn pool(threads: usize, searches: usize) -> Pool {
        Pool::start(NonZeroUsize::new(threads).expect("not zero"), searches, Metrics::new()).expect("threads")
    }

    #[tokio::test]
    async fn slices_run_in_the_order_they_came() {
        let pool = pool(1, 4);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let blocking = pool.seat().expect("a place");
        let first = tokio::spawn(async move { blocking.run(move || held.recv()).await });
        tokio::task::yield_now().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut searches = ["a", "b", "c"].map(|name| {
            let (seat, order) = (pool.seat().expect("a place"), Arc::clone(&order));
            Box::pin(async move { seat.run(move || order.lock().expect("order").push(name)).await })
        });
        for search in &mut searches {
            assert!(futures::poll!(search).is_pending());
        }
        release.send(()).expect("still held");
        first.await.expect("joined").expect("ran").expect("released");
        for search in searches {
            search.await.expect("ran");
        }
        assert_eq!(*order.lock().expect("order"), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_full_pool_refuses_and_a_dropped_search_leaves_it() {
        let pool = pool(1, 1);
        let seat = pool.seat().expect("a place");
        assert!(matches!(pool.seat(), Err(Error::QueueFull { .. })));
        drop(seat);
        assert!(pool.seat().is_ok());
    }

    #[tokio::test]
    async fn a_panic_ends_one_search_only() {
        let pool = pool(1, 4);
        let seat = pool.seat().expect("a place");
        let lost = seat.run(|| -> usize { panic!("on purpose") }).await;
        assert!(matches!(lost, Err(Error::Internal(_))));
        assert_eq!(seat.run(|| 7).await.expect("ran"), 7);
    }

    #[tokio::test]
    async fn a_slice_nobody_waits_for_is_not_run() {
        let pool = pool(1, 4);
        let ran = Arc::new(AtomicUsize::new(0));
        let (blocking, dropped) = (pool.seat().expect("a place"), pool.seat().expect("a place"));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn(async move { blocking.run(move || held.recv()).await });
        tokio::task::yield_now().await;
        {
            let ran = Arc::clone(&ran);
            let second = dropped.run(move || ran.fetch_add(1, Ordering::SeqCst));
            tokio::pin!(second);
            assert!(futures::poll!(second.as_mut()).is_pending());
        }
        release.send(()).expect("still held");
        first.await.expect("joined").expect("ran").expect("released");
        dropped.run(|| ()).await.expect("ran");
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }
}
