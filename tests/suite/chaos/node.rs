//! One server: the real program in a process of its own, at an address that changes with each of
//! its lives.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

use crate::faults::{Cut, Protocol, Proxy, Target};
use crate::history::operation::Process;

const START_TIMEOUT: Duration = Duration::from_mins(1);
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// Numbers the lives of all servers.
static LIVES: AtomicU16 = AtomicU16::new(0);
/// Connections that clients share.
const CHANNELS: usize = 3;

/// Runs the program until its own input ends, so that nothing outlives the test, however that
/// ends.
const KEEPER: &str = r#"
    "$@" &
    server=$!
    echo "process $server"
    exec >/dev/null
    read -r _
    kill -KILL $server 2>/dev/null
    wait $server
"#;

/// Where clients find a server, while it lives.
#[derive(Debug, Default)]
pub struct Address(Mutex<Option<Reachable>>);

impl Address {
    pub fn now(&self) -> Option<Reachable> {
        self.0.lock().expect("no panic").clone()
    }

    fn set(&self, reachable: Option<Reachable>) {
        *self.0.lock().expect("no panic") = reachable;
    }
}

/// The connections to one life of a server.
#[derive(Debug, Clone)]
pub struct Reachable {
    pub process: Process,
    pub direct: Vec<Channel>,
    /// Through a proxy that the run breaks at will.
    pub fronted: Channel,
}

pub struct Node {
    pub name: String,
    pub address: Arc<Address>,
    /// Between some of its clients and itself.
    pub front: Proxy,
    record: String,
    directory: PathBuf,
    life: Option<Life>,
}

struct Life {
    keeper: Child,
    server: Pid,
    /// What it prints; its end is the end of the server.
    lines: Receiver<String>,
}

impl Node {
    /// A server on a record, not started yet.
    pub fn new(name: String, record: String, directory: &Path) -> Self {
        let nowhere = Target::Tcp(([127, 0, 0, 1], 9).into());
        let front = Proxy::start(nowhere, Protocol::Plain);
        Self { name, address: Arc::default(), front, record, directory: directory.to_owned(), life: None }
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.name))
    }

    /// Starts it, again and again while it ends at once because its record is not there, as those
    /// who run servers do.
    pub fn start(&mut self) {
        assert!(self.life.is_none(), "{} runs", self.name);
        let begun = Instant::now();
        while !self.attempt() {
            assert!(
                begun.elapsed() < START_TIMEOUT,
                "{} does not start: see {}",
                self.name,
                self.log().display()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn attempt(&mut self) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper", env!("CARGO_BIN_EXE_relata")]);
        command.args(["serve", "--listen", "127.0.0.1:0", "--migrate", "--threads", "2", "--drain", "2"]);
        command.args(["--datastore", &self.record]);
        // Nothing that the developer has set may change what is tested.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", &self.directory).env("RELATA_LOG", "info").current_dir(&self.directory);
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().expect("to start the server");
        let lines = lines(keeper.stdout.take().expect("a piped output"));
        let said = |prefix: &str| {
            let line = lines.recv_timeout(START_TIMEOUT).ok()?;
            Some(line.strip_prefix(prefix).unwrap_or_else(|| panic!("`{line}` was said")).to_owned())
        };
        let server: i32 = said("process ").expect("a process").parse().expect("its number");
        let server = Pid::from_raw(server).expect("its number");
        let listens = said("listening on http://");
        self.life = Some(Life { keeper, server, lines });
        let Some(listens) = listens else {
            self.reap();
            return false;
        };
        let process = Process(LIVES.fetch_add(1, Ordering::Relaxed));
        self.front.lead_to(Target::Tcp(listens.parse().expect("an address")));
        let fronted = connect(&self.front.address().to_string());
        let direct = (0..CHANNELS).map(|_| connect(&listens)).collect();
        self.address.set(Some(Reachable { process, direct, fronted }));
        true
    }

    pub fn runs(&self) -> bool {
        self.life.is_some()
    }

    /// Ends it as if its machine had failed.
    pub fn kill(&mut self) {
        self.address.set(None);
        self.signal(Signal::KILL);
        self.reap();
        self.front.cut_all(Cut::Reset);
    }

    /// Asks it to stop, which it must do well.
    pub fn stop(&mut self) {
        self.address.set(None);
        self.signal(Signal::TERM);
        let life = self.life.as_ref().expect("it runs");
        let ended = loop {
            match life.lines.recv_timeout(STOP_TIMEOUT) {
                Ok(_) => {}
                Err(ended) => break ended,
            }
        };
        assert_eq!(ended, RecvTimeoutError::Disconnected, "{} does not stop", self.name);
        let code = self.reap();
        assert_eq!(code, Some(0), "{} did not stop well: see {}", self.name, self.log().display());
    }

    /// Stops it from computing; to the world it hangs.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let life = self.life.as_ref().expect("it runs");
        kill_process(life.server, signal).expect("a server to signal");
    }

    /// Ends the keeper, which ends the server if it lives.
    fn reap(&mut self) -> Option<i32> {
        let mut life = self.life.take()?;
        drop(life.keeper.stdin.take());
        life.keeper.wait().expect("the keeper to end").code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.reap();
    }
}

fn lines(pipe: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // Read to its end even if nobody listens, so that the program can go on printing.
        BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    receiver
}

/// A connection that is opened when it is needed, and noticed when it is dead.
fn connect(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect_timeout(Duration::from_secs(1))
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true)
        .connect_lazy()
}
