//! Threads that own the connections and run jobs on them.
//!
//! Jobs wait in bounded channels; whoever finds one full waits, without having begun anything.
//! A job that a thread has taken runs to its end, one that reads for a few seconds at most; one that
//! reads and that nobody waits for any more is not begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::DatastoreError;
use super::file::DatabaseFile;
use super::time_limit::TimeLimit;
use crate::metrics::{Lane, Metrics};

/// Connections that read. Reads are short; more threads would only queue for the same pages.
const READERS: usize = 4;
/// The longest a job that reads may take. Who asked has given up by then, and others wait.
const READING_TIME: Duration = Duration::from_secs(5);
/// Jobs that wait for a connection before those who hand them in must wait.
const WAITING_JOBS: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection, &DatabaseFile) + Send>;

/// The threads of one database file.
#[derive(Debug)]
pub(super) struct Threads {
    metrics: Arc<Metrics>,
    reading_time: Duration,
    /// Absent once stopped.
    senders: Mutex<Option<Senders>>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Clone)]
struct Senders {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
    /// One connection by itself: however long others read, the feed goes on.
    follower: mpsc::Sender<Job>,
}

impl Threads {
    /// Opens the connections and starts a thread for each. The file is released when the last
    /// thread has ended.
    pub(super) fn start(file: DatabaseFile, metrics: Arc<Metrics>) -> Result<Self, DatastoreError> {
        let file = Arc::new(file);
        let (writer, writing) = mpsc::channel(WAITING_JOBS);
        let (readers, reading) = mpsc::channel(WAITING_JOBS);
        let (follower, following) = mpsc::channel(WAITING_JOBS);
        let mut threads = Self {
            metrics,
            reading_time: READING_TIME,
            senders: Mutex::default(),
            running: Mutex::default(),
        };
        // The writer first: it creates the file.
        threads.add("relata-write", file.writer()?, Arc::new(Mutex::new(writing)), file.clone())?;
        let reading = Arc::new(Mutex::new(reading));
        for _ in 0..READERS {
            threads.add("relata-read", file.reader()?, reading.clone(), file.clone())?;
        }
        threads.add("relata-follow", file.reader()?, Arc::new(Mutex::new(following)), file.clone())?;
        threads.senders = Mutex::new(Some(Senders { writer, readers, follower }));
        Ok(threads)
    }

    fn add(
        &mut self,
        name: &str,
        connection: Connection,
        jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
        file: Arc<DatabaseFile>,
    ) -> Result<(), DatastoreError> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        // The file outlives the connection: with the last of its threads it is released.
        let spawned = thread.spawn(move || serve(connection, &jobs, &file));
        let spawned = spawned.map_err(|error| DatastoreError::Unavailable(error.into()))?;
        self.running.get_mut().unwrap_or_else(PoisonError::into_inner).push(spawned);
        Ok(())
    }

    /// Runs a job on the connection that writes.
    pub(super) async fn write<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        let job = self.timed(Lane::Commit, job);
        run(self.senders()?.writer, Abandoned::Runs, move |connection, _| job(connection)).await
    }

    /// Closes the connection that writes, opens it anew, and runs a job on it.
    pub(super) async fn reopen<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        let job = self.timed(Lane::Commit, job);
        let anew = move |connection: &mut Connection, file: &DatabaseFile| {
            *connection = file.writer()?;
            job(connection)
        };
        run(self.senders()?.writer, Abandoned::Runs, anew).await
    }

    /// Runs a job on a connection that reads.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        let job = self.timed(Lane::General, self.limited(job));
        run(self.senders()?.readers, Abandoned::IsDropped, move |connection, _| job(connection)).await
    }

    /// Runs a job on the connection of the feed.
    pub(super) async fn follow<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        let job = self.timed(Lane::Feed, self.limited(job));
        run(self.senders()?.follower, Abandoned::IsDropped, move |connection, _| job(connection)).await
    }

    /// The same job, ended when it takes too long.
    fn limited<R>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static {
        let reading_time = self.reading_time;
        move |connection| {
            TimeLimit::set(connection, Instant::now() + reading_time)?;
            job(connection)
        }
    }

    /// The same job, with the time it takes recorded.
    fn timed<R>(
        &self,
        lane: Lane,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static {
        let metrics = Arc::clone(&self.metrics);
        move |connection| {
            let begun = Instant::now();
            let result = job(connection);
            metrics.database.round_trip_seconds.of(lane).since(begun);
            if result.is_err() {
                metrics.database.round_trip_failures.of(lane).inc();
            }
            result
        }
    }

    fn senders(&self) -> Result<Senders, DatastoreError> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)
    }

    /// Takes no further jobs, finishes those it has, and closes the connections.
    pub(super) async fn stop(&self) {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).take();
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let joined =
            tokio::task::spawn_blocking(move || running.into_iter().all(|thread| thread.join().is_ok()));
        if !matches!(joined.await, Ok(true)) {
            tracing::error!("a database thread ended in a panic");
        }
    }
}

/// What becomes of a job for which nobody waits any more when its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abandoned {
    Runs,
    IsDropped,
}

async fn run<R: Send + 'static>(
    thread: mpsc::Sender<Job>,
    abandoned: Abandoned,
    job: impl FnOnce(&mut Connection, &DatabaseFile) -> Result<R, DatastoreError> + Send + 'static,
) -> Result<R, DatastoreError> {
    let (answer, answered) = oneshot::channel();
    let job = Box::new(move |connection: &mut Connection, file: &DatabaseFile| {
        if abandoned == Abandoned::IsDropped && answer.is_closed() {
            return;
        }
        // An error means that nobody waits any more; the job has run all the same.
        let _ = answer.send(job(connection, file));
    });
    thread.send(job).await.map_err(|_| closed())?;
    // Dropped unanswered only by a panic, which rolls back: nothing comes after a commit that
    // could panic.
    let panicked = || DatastoreError::Other(anyhow::anyhow!("a database job panicked"));
    answered.await.unwrap_or_else(|_| Err(panicked()))
}

fn closed() -> DatastoreError {
    DatastoreError::Unavailable(anyhow::anyhow!("the database has been closed"))
}

/// Runs jobs until no more can come. Readers share one channel: whoever is free takes the next.
fn serve(mut connection: Connection, jobs: &Mutex<mpsc::Receiver<Job>>, file: &DatabaseFile) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { break };
        // A transaction that a panic leaves open is rolled back as its guard unwinds.
        if catch_unwind(AssertUnwindSafe(|| job(&mut connection, file))).is_err() {
            tracing::error!(file = %file.path().display(), "a database job panicked");
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(file = %file.path().display(), %error, "could not close a database connection");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn threads() -> Threads {
        let file = DatabaseFile::temporary().expect("a file");
        Threads::start(file, Metrics::new()).expect("threads")
    }

    /// Keeps every connection for ordinary reads busy until the senders are dropped.
    async fn all_busy(threads: &Arc<Threads>) -> Vec<Sender<()>> {
        let mut holds = Vec::new();
        for _ in 0..READERS {
            let ((hold, release), (begun, begins)) = (channel::<()>(), oneshot::channel());
            let threads = Arc::clone(threads);
            tokio::spawn(async move {
                let job = move |_: &mut Connection| {
                    let _ = begun.send(());
                    let _ = release.recv();
                    Ok(())
                };
                threads.read(job).await
            });
            begins.await.expect("it begins");
            holds.push(hold);
        }
        holds
    }

    #[tokio::test]
    async fn readers_that_are_busy_do_not_hold_up_the_feed() {
        let threads = Arc::new(threads());
        let holds = all_busy(&threads).await;
        let followed = tokio::time::timeout(Duration::from_secs(20), threads.follow(|_| Ok(7))).await;
        assert_eq!(followed.expect("in time").expect("an answer"), 7);
        drop(holds);
        threads.stop().await;
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_is_not_begun_and_a_write_is() {
        let threads = Arc::new(threads());
        let holds = all_busy(&threads).await;
        let (read, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mark = |what: &Arc<AtomicBool>| {
            let what = Arc::clone(what);
            move |_: &mut Connection| {
                what.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        // Handed in, and given up.
        assert!(futures::poll!(Box::pin(threads.read(mark(&read)))).is_pending());
        let _ = futures::poll!(Box::pin(threads.write(mark(&written))));
        drop(holds);
        threads.stop().await;
        assert!(!read.load(Ordering::SeqCst));
        assert!(written.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_read_without_end_is_ended() {
        let mut threads = threads();
        threads.reading_time = Duration::from_millis(50);
        let endless = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number) \
                       SELECT count(*) FROM number";
        let job = |connection: &mut Connection| {
            connection.query_row(endless, [], |row| row.get::<_, i64>(0)).map_err(super::super::rows::failed)
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), threads.read(job)).await.expect("ended");
        assert!(matches!(ended, Err(DatastoreError::Unavailable(_))), "{ended:?}");
        // The next one has its own time.
        for _ in 0..READERS {
            assert!(threads.read(|connection| Ok(connection.is_autocommit())).await.expect("an answer"));
        }
        threads.stop().await;
    }
}
