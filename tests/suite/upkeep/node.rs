//! Servers whose upkeep is under test: in this process, or in one of their own that can be stopped
//! and killed.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use relata::config::Config;

use crate::datastore::fixture::Place;
use crate::grpc::Running;

/// Tells a child process of this binary which database to serve, and how many rows a step takes.
const KIND: &str = "RELATA_TEST_UPKEEP_KIND";
const PLACE: &str = "RELATA_TEST_UPKEEP_PLACE";
const BATCH: &str = "RELATA_TEST_UPKEEP_BATCH";
const READY: &str = "metrics at ";

/// Short, so that a test need not wait long for its end.
pub const TERM: Duration = Duration::from_secs(2);

/// A server in this process that looks for work all the time.
pub async fn serve(place: &Place, batch: u32) -> Running {
    serve_with(place, |config| config.upkeep.batch = batch).await
}

/// The same with other settings.
pub async fn serve_with(place: &Place, adapt: impl FnOnce(&mut Config)) -> Running {
    let busy = |config: &mut Config| {
        let often = Duration::from_millis(50);
        config.upkeep.sweep_interval = often;
        config.upkeep.purge_interval = often;
        config.upkeep.trim_interval = often;
        config.upkeep.lease_term = TERM;
        adapt(config);
    };
    match place {
        Place::Sqlite(path) => Running::on_file(PathBuf::from(path), busy).await,
        Place::Postgres(url) => Running::on_url(url, busy).await,
    }
}

/// Not a test by itself: a server, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the server that other tests start, stop and kill"]
async fn server() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place = match std::env::var(KIND).as_deref() {
        Ok("sqlite") => Place::Sqlite(place),
        _ => Place::Postgres(place),
    };
    let batch = std::env::var(BATCH).expect("a number").parse().expect("a number");
    let server = serve(&place, batch).await;
    println!("{READY}{}", server.operations);
    std::future::pending::<()>().await;
}

/// A server in a process of its own; killed when dropped.
pub struct Apart {
    child: Child,
    /// Where its metrics are.
    pub operations: SocketAddr,
}

impl Apart {
    pub async fn start(place: &Place, batch: u32) -> Self {
        let (kind, place) = match place.clone() {
            Place::Sqlite(path) => ("sqlite", path),
            Place::Postgres(url) => ("postgres", url),
        };
        let started = tokio::task::spawn_blocking(move || {
            let mut child = Command::new(std::env::current_exe().expect("this binary"))
                .args(["--exact", "--ignored", "--nocapture", "upkeep::node::server"])
                .env(KIND, kind)
                .env(PLACE, place)
                .env(BATCH, batch.to_string())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("a child");
            let output = BufReader::new(child.stdout.take().expect("its output"));
            let mut lines = output.lines().map_while(Result::ok);
            let operations = lines.find_map(|line| {
                line.split_once(READY).map(|(_, address)| address.trim().parse().expect("an address"))
            });
            Self { child, operations: operations.expect("a server") }
        });
        started.await.expect("a server")
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), id]).status().expect("kill");
        assert!(status.success(), "no such process");
    }

    /// Ends it as if its machine had failed.
    pub fn kill(mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("an end");
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
