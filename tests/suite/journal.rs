//! What a server tells of single questions: the decision log and slow questions, as their readers get
//! them, and that nothing they meet harms a call.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use serde_json::Value as Json;

use crate::program::{Record, Server};

/// Of questions: more than a pipe and the queue hold together.
const BATCHES: usize = 5;

const PATIENCE: Duration = Duration::from_mins(1);
const SCHEMA: &str = "model
  schema 1.1
type user
type group
  relations
    define member: [user, group#member]
type doc
  relations
    define viewer: [user, group#member]
";

/// A server with something to ask about, and a directory for its logs.
struct Asked {
    server: Server,
    directory: tempfile::TempDir,
}

impl Asked {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let record = Record::at(format!("sqlite:{}", directory.path().join("relata.db").display()));
        let at = |argument: &&str| argument.replace("DIR", &directory.path().display().to_string());
        fs::write(directory.path().join("key"), "0123456789abcdef\n").expect("written");
        let arguments: Vec<String> = arguments.iter().map(at).collect();
        let server = Server::start(&record, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        server.feed(&["schema", "write", "-"], SCHEMA).exits(0);
        let tuples = "doc:salary#viewer@group:eng#member\ngroup:eng#member@user:ann\n";
        server.feed(&["tuple", "write", "-"], tuples).exits(0);
        Self { server, directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The lines of a decision log once there are so many: they are written a moment after the answer.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<Json> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<Json> =
            whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(begun.elapsed() < PATIENCE, "only {} of {count} lines: {text}", lines.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks many questions at once.
fn batch(server: &Server, size: usize) -> Vec<proto::BatchCheckResult> {
    let endpoint = server.endpoint.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = PermissionServiceClient::connect(endpoint).await.expect("a connection");
        let item = |n: usize| proto::BatchCheckItem {
            object: "doc:salary".to_owned(),
            relation: "viewer".to_owned(),
            subject: if n.is_multiple_of(2) { "user:ann".to_owned() } else { format!("user:{n}") },
        };
        let mut request = tonic::Request::new(proto::BatchCheckRequest {
            items: (0..size).map(item).collect(),
            ..Default::default()
        });
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request.metadata_mut().insert("traceparent", parent.parse().expect("a header"));
        client.batch_check(request).await.expect("answered").into_inner().results
    })
}

#[test]
fn each_answer_is_a_line_of_the_decision_log() {
    let asked = Asked::start(&["--decision-log", "DIR/decisions"]);
    asked.server.ask("check doc:salary viewer user:ann").exits(0);
    asked.server.ask("check doc:salary viewer user:bob").exits(1);
    asked.server.ask("list-objects user:ann viewer doc").exits(0);
    asked.server.ask("list-subjects doc:salary viewer user").exits(0);
    asked.server.ask("list-relations doc:salary user:ann").exits(0);
    asked.server.ask("check doc:salary owner user:ann").exits(65);
    let results = batch(&asked.server, 3);
    assert_eq!(results.len(), 3);
    let lines = lines(&asked.at("decisions"), 9);
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let word = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {}", word("method"), word("object"), word("subject"), word("answer"))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "Check doc:salary user:ann allowed",
            "Check doc:salary user:bob denied",
            "ListObjects - user:ann complete",
            "ListSubjects doc:salary - complete",
            "ListRelations doc:salary user:ann complete",
            "Check doc:salary user:ann error",
            "BatchCheck doc:salary user:ann allowed",
            "BatchCheck doc:salary user:1 denied",
            "BatchCheck doc:salary user:ann allowed",
        ]
    );
    assert_eq!(lines[5]["reason"], "UNKNOWN_RELATION");
    assert_eq!((&lines[2]["results"], &lines[2]["object_type"]), (&Json::from(1), &Json::from("doc")));
    let items: Vec<_> = lines[6..].iter().map(|line| line["item"].as_u64().expect("an item")).collect();
    assert_eq!(items, [0, 1, 2]);
    for line in &lines[6..] {
        assert_eq!(line["trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    for line in &lines {
        assert!(line["at"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')), "{line}");
        assert!(line["micros"].is_u64() && line["store"] == "default" && line["principal"] == "", "{line}");
        assert_eq!(line["revision"].is_u64(), line["revision"] == 2, "{line}");
    }
    assert_eq!(lines[0]["revision"], 2, "a schema and a write");
    // Nobody else may read who may do what.
    let mode = fs::metadata(asked.at("decisions")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// What no store can be called is refused before anything keeps it.
#[test]
fn a_name_without_end_takes_no_room() {
    let asked = Asked::start(&["--decision-log", "DIR/decisions", "--slow-question", "0.000001"]);
    let endpoint = asked.server.endpoint.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = PermissionServiceClient::connect(endpoint).await.expect("a connection");
        for store in ["s".repeat(1 << 20), "no such store".to_owned()] {
            let request = proto::CheckRequest {
                store,
                object: "doc:salary".to_owned(),
                relation: "viewer".to_owned(),
                subject: "user:ann".to_owned(),
                ..Default::default()
            };
            let status = client.check(request).await.expect_err("no store has such a name");
            assert_eq!(status.code(), tonic::Code::NotFound, "{status:?}");
            assert!(status.message().len() < 200, "{}", status.message());
        }
    });
    asked.server.ask("check doc:salary viewer user:ann").exits(0);
    lines(&asked.at("decisions"), 1);
    let text = fs::read_to_string(asked.at("decisions")).expect("readable");
    assert!(text.lines().all(|line| line.len() < 2 << 10), "{} bytes in all", text.len());
    assert_eq!(asked.server.stop(), 0);
}

#[test]
fn a_redacted_log_names_nobody_and_can_be_joined() {
    let asked = Asked::start(&[
        "--decision-log",
        "DIR/decisions",
        "--redact-ids",
        "DIR/key",
        "--slow-question",
        "0.000001",
    ]);
    asked.server.ask("check doc:salary viewer user:ann").exits(0);
    asked.server.ask("list-objects user:ann viewer doc").exits(0);
    let lines = lines(&asked.at("decisions"), 2);
    let text = fs::read_to_string(asked.at("decisions")).expect("readable");
    let slow = asked.server.logs("a slow question");
    for id in ["salary", "eng", "ann"] {
        assert!(!text.contains(id), "`{id}` is in {text}");
        assert!(!slow.contains(id), "`{id}` is in {slow}");
    }
    assert!(slow.contains("viewer") && slow.contains("group:~") && slow.contains("#member"), "{slow}");
    assert_eq!(lines[0]["subject"], lines[1]["subject"], "the same id is the same hash");
    assert!(lines[0]["subject"].as_str().is_some_and(|subject| subject.starts_with("user:~")));
}

#[test]
fn a_part_of_the_answers_can_be_written() {
    let none = Asked::start(&["--decision-log", "DIR/decisions", "--decision-log-sample", "0"]);
    batch(&none.server, 1_000);
    let some = Asked::start(&["--decision-log", "DIR/decisions", "--decision-log-sample", "0.1"]);
    batch(&some.server, 10_000);
    assert_eq!((none.server.stop(), some.server.stop()), (0, 0), "what waits is written at a stop");
    let count = |directory: &tempfile::TempDir| {
        fs::read_to_string(directory.path().join("decisions")).expect("readable").lines().count()
    };
    assert_eq!(count(&none.directory), 0);
    // Ten standard deviations to either side.
    assert!((700..=1_300).contains(&count(&some.directory)), "{} of 10,000", count(&some.directory));
}

#[test]
fn a_log_that_is_moved_away_is_begun_anew() {
    let asked = Asked::start(&["--decision-log", "DIR/decisions"]);
    let (log, old) = (asked.at("decisions"), asked.at("decisions.1"));
    asked.server.ask("check doc:salary viewer user:ann").exits(0);
    lines(&log, 1);
    fs::rename(&log, &old).expect("moved");
    asked.server.ask("check doc:salary viewer user:bob").exits(1);
    assert_eq!(lines(&log, 1)[0]["subject"], "user:bob");
    // As tools do it that rotate logs.
    fs::rename(&log, &old).expect("moved");
    asked.server.signal("HUP");
    asked.server.ask("check doc:salary viewer user:eve").exits(1);
    assert_eq!(lines(&log, 1)[0]["subject"], "user:eve");
    assert_eq!(lines(&old, 1)[0]["subject"], "user:bob");
}

#[test]
fn a_full_disk_harms_no_answer() {
    let asked = Asked::start(&["--decision-log", "/dev/full"]);
    for _ in 0..3 {
        asked.server.ask("check doc:salary viewer user:ann").exits(0);
    }
    let results = batch(&asked.server, 10_000);
    assert!(results.iter().all(|result| result.error.is_none()));
    asked.server.logs("the decision log cannot be written");
    assert_eq!(asked.server.stop(), 0);
}

#[test]
fn a_pipe_that_nobody_reads_harms_no_answer_and_what_is_left_out_is_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let asked = Asked::start(&["--decision-log", pipe.to_str().expect("UTF-8")]);
    for _ in 0..BATCHES {
        let results = batch(&asked.server, 10_000);
        assert!(results.iter().all(|result| result.error.is_none()));
    }
    asked.server.ask("check doc:salary viewer user:ann").exits(0);

    // Somebody reads at last: every answer is there, or counted.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let reader = BufReader::new(fs::File::open(&pipe).expect("a pipe"));
        for line in reader.lines().map_while(Result::ok) {
            // The test may be over.
            let _ = sender.send(line);
        }
    });
    let (mut written, mut lost) = (0, 0);
    while written + lost < 10_000 * BATCHES as u64 + 1 {
        let line =
            receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{written} written, {lost} lost"));
        let line: Json = serde_json::from_str(&line).expect("a line of JSON");
        match line["lost"].as_u64() {
            Some(number) => lost += number,
            None => written += 1,
        }
    }
    assert_eq!(written + lost, 10_000 * BATCHES as u64 + 1);
    assert!(lost > 10_000 && written > 16_000, "{lost} lost, {written} written");
    assert_eq!(asked.server.stop(), 0);
}

#[test]
fn a_slow_question_is_logged_with_where_its_work_went() {
    // Everything is slow by this measure.
    let asked = Asked::start(&["--slow-question", "0.000001"]);
    asked.server.ask("check doc:salary viewer user:ann").exits(0);
    let of = |line: &str| serde_json::from_str::<Json>(line).expect("JSON");
    let check = of(&asked.server.logs("a slow question"));
    assert_eq!(check["method"], "Check");
    assert_eq!(check["question"], "check doc:salary viewer user:ann", "as it can be asked again");
    assert_eq!((&check["answer"], &check["revision"]), (&Json::from("allowed"), &Json::from(2)));
    assert!(check["fuel"].as_u64().is_some_and(|fuel| fuel > 0), "{check}");
    assert!(check["elapsed_ms"].is_u64() && check["waited_ms"].is_u64(), "{check}");
    let explanation = check["explanation"].as_str().expect("a tree");
    assert!(explanation.starts_with("allowed doc:salary#viewer"), "{explanation}");
    assert!(explanation.contains("  ") && explanation.contains("group:eng#member@user:ann"), "{explanation}");
    let work = check["work"].as_str().expect("counts");
    assert!(work.contains("doc#viewer ") && work.contains("group#member "), "{work}");

    asked.server.ask("list-subjects doc:salary viewer user").exits(0);
    let list = of(&asked.server.logs("a slow question"));
    assert_eq!(list["question"], "list-subjects doc:salary viewer user");
    assert!(list["work"].as_str().is_some_and(|work| work.contains("group#member")), "{list}");
    batch(&asked.server, 3);
    let batch = of(&asked.server.logs("a slow question"));
    assert_eq!((&batch["question"], batch["costliest_item"].is_u64()), (&Json::from("a batch of 3"), true));

    let quick = Asked::start(&["--slow-question", "0"]);
    quick.server.ask("check doc:salary viewer user:ann").exits(0);
    quick.server.signal("TERM");
    let said = quick.server.logs_until("stopping");
    assert!(said.iter().all(|line| !line.contains("slow")), "{said:#?}");
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    let record = Record::sqlite();
    let refused = |arguments: &[&str], code: i32, said: &str| {
        let mut command = crate::program::relata();
        command.args(["serve", "--listen", "127.0.0.1:0", "--datastore", &record.url]).args(arguments);
        crate::program::run(&mut command, "").exits(code).says(said);
    };
    refused(&["--decision-log", "/nonexistent/log"], 65, "/nonexistent/log");
    refused(&["--decision-log", "-", "--decision-log-sample", "1.5"], 64, "between 0 and 1");
    refused(&["--slow-question=-1"], 64, "--slow-question");
    refused(&["--redact-ids", "/nonexistent/key"], 65, "/nonexistent/key");
}

/// Who is not let in does not write the log either.
#[test]
fn strangers_do_not_fill_the_log() {
    const CALLS: usize = 500;
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, "0123456789abcdef").expect("written");
    let server = Server::start(&Record::sqlite(), &["--token-file", tokens.to_str().expect("UTF-8")]);
    let endpoint = server.endpoint.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let begun = Instant::now();
    runtime.block_on(async {
        let mut client = PermissionServiceClient::connect(endpoint).await.expect("a connection");
        for _ in 0..CALLS {
            let status = client.check(proto::CheckRequest::default()).await.expect_err("a stranger");
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
        }
    });
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("few");
    server.signal("TERM");
    let lines = server.logs_until("stopped");
    let told = lines.iter().filter(|line| line.contains("PermissionService/Check")).count();
    assert!((1..=seconds + 2).contains(&told), "{told} lines in {seconds} s");
}

/// A store's changelog begins after its creation and goes with it, so the log says who did both.
#[test]
fn the_log_says_who_made_and_who_deleted_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = directory.path().join("tokens");
    fs::write(&tokens, "0123456789abcdef ops").expect("written");
    let server = Server::start(&Record::sqlite(), &["--token-file", tokens.to_str().expect("UTF-8")])
        .with_token("0123456789abcdef");
    server.ask("store create wiki").exits(0);
    let made = server.logs("created a store");
    server.ask("store delete wiki --yes").exits(0);
    let deleted = server.logs("deleted a store");
    for line in [&made, &deleted] {
        let line: Json = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!((&line["principal"], &line["name"]), (&"token:ops".into(), &"wiki".into()), "{line}");
        assert!(line["store"].as_str().is_some_and(|id| id.len() == 36), "{line}");
    }
}
