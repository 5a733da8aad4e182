//! Threads that own the connections and run jobs on them.
//!
//! Jobs wait in bounded channels; whoever finds one full waits, without having begun anything.
//! A job that a thread has taken runs to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::DatastoreError;
use super::file::DatabaseFile;
use crate::metrics::{Lane, Metrics};

/// Connections that read. Reads are short; more threads would only queue for the same pages.
const READERS: usize = 4;
/// Jobs that wait for a connection before those who hand them in must wait.
const WAITING_JOBS: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection, &DatabaseFile) + Send>;

/// The threads of one database file.
#[derive(Debug)]
pub(super) struct Threads {
    metrics: Arc<Metrics>,
    /// Absent once stopped.
    senders: Mutex<Option<Senders>>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Clone)]
struct Senders {
    writer: mpsc::Sender<Job>,
    readers: mpsc::Sender<Job>,
}

impl Threads {
    /// Opens the connections and starts a thread for each. The file is released when the last
    /// thread has ended.
    pub(super) fn start(file: DatabaseFile, metrics: Arc<Metrics>) -> Result<Self, DatastoreError> {
        let file = Arc::new(file);
        let (writer, writing) = mpsc::channel(WAITING_JOBS);
        let (readers, reading) = mpsc::channel(WAITING_JOBS);
        let mut threads = Self { metrics, senders: Mutex::default(), running: Mutex::default() };
        // The writer first: it creates the file.
        threads.add("relata-write", file.writer()?, Arc::new(Mutex::new(writing)), file.clone())?;
        let reading = Arc::new(Mutex::new(reading));
        for _ in 0..READERS {
            threads.add("relata-read", file.reader()?, reading.clone(), file.clone())?;
        }
        threads.senders = Mutex::new(Some(Senders { writer, readers }));
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
        run(self.senders()?.writer, move |connection, _| job(connection)).await
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
        run(self.senders()?.writer, anew).await
    }

    /// Runs a job on a connection that reads.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<R, DatastoreError> + Send + 'static,
    ) -> Result<R, DatastoreError> {
        let job = self.timed(Lane::General, job);
        run(self.senders()?.readers, move |connection, _| job(connection)).await
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

async fn run<R: Send + 'static>(
    thread: mpsc::Sender<Job>,
    job: impl FnOnce(&mut Connection, &DatabaseFile) -> Result<R, DatastoreError> + Send + 'static,
) -> Result<R, DatastoreError> {
    let (answer, answered) = oneshot::channel();
    let job = Box::new(move |connection: &mut Connection, file: &DatabaseFile| {
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
