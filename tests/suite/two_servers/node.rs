//! One server: the real program, in a process of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_mins(1);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the program until its own input ends, so that nothing outlives the test, however that
/// ends; then asks the program to stop, and ends as it does.
const KEEPER: &str = r#"
    "$@" &
    server=$!
    read -r _
    kill -TERM $server 2>/dev/null
    wait $server
"#;

pub struct Node {
    name: &'static str,
    pub endpoint: String,
    keeper: Child,
    /// Kept open: a program that prints to nobody fails.
    stdout: Option<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Node {
    /// Starts a server on a free port. It may not listen yet.
    pub fn start(name: &'static str, record: &str, directory: &Path) -> Self {
        let log = directory.join(format!("{name}.log"));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper", env!("CARGO_BIN_EXE_relata")]);
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--migrate",
            "--drain",
            "5",
            "--datastore",
            record,
        ]);
        // Nothing that the developer has set may change what is tested.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .current_dir(directory)
            .env("HOME", directory)
            .env("RELATA_LOG", "warn")
            .env("RELATA_OPERATIONS_LISTEN", "off")
            .process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        let mut keeper = command.spawn().expect("to start the server");
        let stdout = keeper.stdout.take().map(BufReader::new);
        Self { name, endpoint: String::new(), keeper, stdout, log }
    }

    /// Waits until the server says where it listens.
    pub async fn listening(mut self) -> Self {
        let mut stdout = self.stdout.take().expect("a piped output");
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).map(|_| (stdout, line))
        });
        let (stdout, line) = tokio::time::timeout(START_TIMEOUT, reading)
            .await
            .unwrap_or_else(|_| panic!("the {} server does not start", self.name))
            .expect("no panic")
            .expect("a readable output");
        let endpoint = line.trim_end().strip_prefix("listening on ");
        endpoint
            .unwrap_or_else(|| panic!("the {} server said `{line}`", self.name))
            .clone_into(&mut self.endpoint);
        self.stdout = Some(stdout);
        self
    }

    /// Stops the server, which must end well and must not have met a defect in itself.
    pub fn stop(mut self) {
        drop(self.keeper.stdin.take());
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.keeper.try_wait().expect("to ask after the server") {
                break status;
            }
            assert!(asked.elapsed() < STOP_TIMEOUT, "the {} server does not stop", self.name);
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "the {} server ended with {status}", self.name);
        let mut more = String::new();
        self.stdout.take().expect("the output").read_to_string(&mut more).expect("a readable output");
        let log = self.log();
        let defects: Vec<&str> =
            log.lines().filter(|line| line.contains("\"ERROR\"") || line.contains("panicked")).collect();
        assert!(defects.is_empty(), "the {} server logged {defects:#?}", self.name);
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    /// Leaves nothing running, and says what a server logged if the test failed.
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(40));
            eprintln!("the {} server logged at last:", self.name);
            last.for_each(|line| eprintln!("  {line}"));
        }
    }
}
