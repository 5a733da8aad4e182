//! The real program: run to its end, or kept running as a server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::postgres_server;

/// No command of a test takes longer; one that does has hung.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that something is said on either output.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(said.contains(text), "`{text}` is not said: {said}");
        self
    }

    /// Standard output without the last line break.
    pub fn line(&self) -> &str {
        self.stdout.trim_end()
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Standard output as one JSON object per line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// The program, with nothing of the surroundings that could change what it does. `RELATA_PROGRAM`
/// names another one than was built with the tests, such as a release build for long runs.
pub fn relata() -> Command {
    let other = std::env::var_os("RELATA_PROGRAM");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_relata").into()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RELATA_") {
            command.env_remove(name);
        }
    }
    command.env("RELATA_CONFIG", "/nonexistent/contexts.json").env_remove("NO_COLOR");
    // Many servers run at once, and only one of them could have the port.
    command.env("RELATA_OPERATIONS_LISTEN", "off").stdin(Stdio::null());
    command
}

/// Runs a command to its end, with `input` on its standard input.
#[track_caller]
pub fn run(command: &mut Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that does not read its input closes it early.
        let _ = stdin.write_all(input.as_bytes());
    });
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(PATIENCE) else {
        signal(id, "KILL");
        panic!("{command:?} has hung");
    };
    let output = output.expect("its output");
    writer.join().expect("the input");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Where a server of a test keeps its record.
pub struct Record {
    /// As `--datastore` takes it.
    pub url: String,
    _directory: Option<tempfile::TempDir>,
}

impl Record {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("relata.db").display());
        Self { url, _directory: Some(directory) }
    }

    /// Where the file is, on SQLite.
    pub fn path(&self) -> &Path {
        Path::new(self.url.trim_start_matches("sqlite:"))
    }

    /// `None` where tests on PostgreSQL are switched off, which is said.
    pub fn postgres() -> Option<Self> {
        Some(Self::at(postgres_server::fresh_database()?))
    }

    /// A record that somebody else looks after.
    pub fn at(url: String) -> Self {
        Self { url, _directory: None }
    }
}

/// A running server; it is killed when dropped.
pub struct Server {
    child: Child,
    /// Its address, `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// What it said at its start, standard output line by line.
    pub announced: Vec<String>,
    token: Option<String>,
    /// What it says on standard error.
    errors: Mutex<Lines>,
}

impl Server {
    /// Starts a server on a free port.
    pub fn start(record: &Record, arguments: &[&str]) -> Self {
        Self::start_at(record, "127.0.0.1:0", arguments)
    }

    /// Starts a server at an address and waits until it is ready.
    pub fn start_at(record: &Record, address: &str, arguments: &[&str]) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::attempt(record, address, arguments) {
                Ok(server) => return server,
                // A connection of another test has the port for its own end.
                Err(said) if said.contains("already in use") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(said) => panic!("the server did not start: {said}"),
            }
        }
    }

    /// What it said where it did not start.
    fn attempt(record: &Record, address: &str, arguments: &[&str]) -> Result<Self, String> {
        let mut command = relata();
        command
            .args(["serve", "--migrate", "--threads", "2", "--listen", address, "--datastore", &record.url])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        let errors = lines_of(child.stderr.take().expect("a pipe"));
        let Some(first) = lines.next(PATIENCE) else {
            let mut said = Vec::new();
            while let Some(line) = errors.next(Duration::from_millis(500)) {
                said.push(line);
            }
            child.wait().expect("an end");
            return Err(said.join("\n"));
        };
        let endpoint = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("`{first}`")).to_owned();
        let mut announced = vec![first];
        // What follows was written at once with the first line.
        while let Some(line) = lines.next(Duration::from_millis(100)) {
            announced.push(line);
        }
        Ok(Self { child, endpoint, announced, token: None, errors: Mutex::new(errors) })
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its log that holds a text; those before it are passed over.
    #[track_caller]
    pub fn logs(&self, text: &str) -> String {
        self.logs_until(text).pop().expect("that line")
    }

    /// The lines of its log up to the next one that holds a text.
    #[track_caller]
    pub fn logs_until(&self, text: &str) -> Vec<String> {
        let errors = self.errors.lock().expect("no panic");
        let mut lines = Vec::new();
        loop {
            let line = errors.next(PATIENCE).unwrap_or_else(|| panic!("`{text}` is not logged: {lines:#?}"));
            let found = line.contains(text);
            lines.push(line);
            if found {
                return lines;
            }
        }
    }

    /// Bytes of the server's process that lie in memory.
    pub fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("a running server");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") * 1_024
    }

    /// Where it answers metrics and probes, if it was asked to.
    pub fn operations(&self) -> std::net::SocketAddr {
        let address = self.announced.iter().find_map(|line| line.strip_prefix("metrics on http://"));
        address.expect("metrics").trim_end_matches("/metrics").parse().expect("an address")
    }

    /// Presents this token with every command.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The program, about to ask this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = relata();
        command.env("RELATA_ENDPOINT", &self.endpoint).args(arguments);
        if let Some(token) = &self.token {
            command.env("RELATA_TOKEN", token);
        }
        command
    }

    /// Runs a command against this server.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments), "")
    }

    /// Runs a command line written as a person would, without quotes.
    #[track_caller]
    pub fn ask(&self, line: &str) -> Ran {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command with something on its standard input.
    #[track_caller]
    pub fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        run(&mut self.command(arguments), input)
    }

    /// Ends it as if its machine had failed.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("a signal");
        self.child.wait().expect("an end");
        self.endpoint.trim_start_matches("http://").to_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Asks it to stop and waits for that.
    pub fn stop(mut self) -> i32 {
        signal(self.child.id(), "TERM");
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that goes on until it is stopped, such as `tuple watch`.
pub struct Following {
    child: Child,
    lines: Lines,
}

impl Following {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        // What is not read would stop it once the pipe is full.
        let errors = child.stderr.take().expect("a pipe");
        std::thread::spawn(move || BufReader::new(errors).lines().for_each(drop));
        Self { child, lines }
    }

    /// The next line of its output.
    #[track_caller]
    pub fn next(&mut self) -> String {
        self.lines.next(PATIENCE).expect("a line")
    }

    /// Whether nothing more is said for a while.
    pub fn is_silent(&mut self) -> bool {
        self.lines.next(Duration::from_millis(300)).is_none()
    }

    /// Presses Ctrl-C and waits for the end.
    pub fn interrupt(mut self) -> i32 {
        signal(self.child.id(), "INT");
        wait(&mut self.child)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines as they arrive, each waited for no longer than one likes.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn next(&self, patience: Duration) -> Option<String> {
        self.0.recv_timeout(patience).ok()
    }
}

fn lines_of(pipe: impl std::io::Read + Send + 'static) -> Lines {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // The pipe is read to its end even if nobody listens, so that the writer goes on.
            let _ = sender.send(line);
        }
    });
    Lines(receiver)
}

/// Sends a signal, as a person would from a shell.
fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().expect("kill");
    assert!(status.success(), "no process {id}");
}

fn wait(child: &mut Child) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a process") {
            return status.code().unwrap_or(-1);
        }
        assert!(begun.elapsed() < PATIENCE, "the program does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of `schema-examples/`.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema-examples").join(name)
}
