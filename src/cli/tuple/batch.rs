//! Many tuples in steps of at most 1,000, each step one atomic write; what is refused is refused
//! by line and does not keep the rest from being written.

use std::collections::HashSet;
use std::io::BufRead;

use tokio::sync::mpsc;
use tonic::Status;

use crate::cli::connect::Connection;
use crate::cli::exit::{self, Failure};
use crate::cli::wire;
use crate::proto::update::Operation;
use crate::proto::{self, WriteRequest};
use crate::store_file::tuple_file::{self, Entry, TupleFileError, TupleFormat};
use crate::tuple::Tuple;

/// Most updates of one write, as the API has it.
const STEP: usize = 1_000;
/// Steps read ahead of the server.
const AHEAD: usize = 2;
/// Refused lines kept for the report; the rest are only counted.
const MAX_REFUSED: usize = 10_000;

/// Everything of a write but its tuples.
pub struct Template {
    /// What is done with each tuple.
    pub operation: Operation,
    /// For deletes: absence is an error.
    pub must_exist: bool,
    /// The rest, without updates.
    pub request: WriteRequest,
}

impl Template {
    /// The write of these tuples.
    pub fn write<'a>(
        &self,
        tuples: impl Iterator<Item = &'a Tuple>,
        idempotency_key: String,
    ) -> WriteRequest {
        let updates = tuples
            .map(|tuple| proto::Update {
                operation: self.operation.into(),
                tuple: Some(wire::tuple(tuple)),
                must_exist: self.must_exist,
            })
            .collect();
        WriteRequest { updates, idempotency_key, ..self.request.clone() }
    }
}

/// What became of a file.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Tuples written or deleted.
    pub done: u64,
    /// The zookie of the last write; empty if there was none.
    pub zookie: String,
    /// Whether every write had been done before, under the same idempotency key.
    pub replayed: bool,
    /// Lines that were refused, in order.
    pub refused: Vec<Refused>,
    /// The last line known to be dealt with.
    pub last_line: u64,
    /// Why the rest of the file was not dealt with.
    pub stopped: Option<Failure>,
}

/// A line that was refused.
#[derive(Debug)]
pub struct Refused {
    /// Line, counted from one.
    pub line: u64,
    /// Why.
    pub why: String,
    /// The machine-readable reason; empty if the line itself cannot be read.
    pub reason: String,
}

/// A tuple and its line.
type Numbered = (u64, Tuple);

/// Reads a file and writes its tuples.
pub async fn write(
    format: TupleFormat,
    input: Box<dyn BufRead + Send>,
    template: &Template,
    connection: &Connection,
) -> Outcome {
    let (sender, mut steps) = mpsc::channel(AHEAD);
    // Reading may block, on a pipe for as long as it likes; the connection must live meanwhile.
    let reader = tokio::task::spawn_blocking(move || read(format, input, &sender));
    let mut outcome = Outcome { replayed: true, ..Outcome::default() };
    while let Some(step) = steps.recv().await {
        match step {
            Step::Refused(refused) => outcome.refuse(refused),
            Step::Tuples(tuples) => {
                if let Err(status) = write_step(&tuples, template, connection, &mut outcome).await {
                    outcome.stopped = Some(status.into());
                } else {
                    outcome.last_line = tuples.last().map_or(outcome.last_line, |(line, _)| *line);
                }
            }
            Step::Broken(error) => outcome.stopped = Some(Failure::bad_input(error)),
        }
        if outcome.stopped.is_some() {
            break;
        }
    }
    drop(steps);
    if outcome.stopped.is_none()
        && let Err(error) = reader.await
    {
        outcome.stopped = Some(Failure::new(exit::Exit::Internal, format!("reading ended early: {error}")));
    }
    outcome.replayed &= outcome.done > 0;
    outcome.refused.sort_by_key(|refused| refused.line);
    outcome
}

impl Outcome {
    fn refuse(&mut self, refused: Refused) {
        if self.refused.len() < MAX_REFUSED {
            self.refused.push(refused);
        } else if self.stopped.is_none() {
            self.stopped = Some(Failure::bad_input(format!("more than {MAX_REFUSED} lines were refused")));
        }
    }
}

/// What the reading side hands over.
enum Step {
    Tuples(Vec<Numbered>),
    Refused(Refused),
    Broken(TupleFileError),
}

fn read(format: TupleFormat, input: Box<dyn BufRead + Send>, sender: &mpsc::Sender<Step>) {
    let entries = match tuple_file::entries(format, input) {
        Ok(entries) => entries,
        Err(error) => {
            let _ = sender.blocking_send(Step::Broken(error));
            return;
        }
    };
    let mut step: Vec<Numbered> = Vec::new();
    let mut keys = HashSet::new();
    for entry in entries {
        let sent = match entry {
            Ok(Entry { line, tuple: Ok(tuple) }) => {
                // A write names a tuple once, so a repetition begins the next step.
                let full = step.len() == STEP || !keys.insert(tuple.key.clone());
                let ready = if full { std::mem::take(&mut step) } else { Vec::new() };
                if full {
                    keys.clear();
                    keys.insert(tuple.key.clone());
                }
                step.push((line, tuple));
                if ready.is_empty() { Ok(()) } else { sender.blocking_send(Step::Tuples(ready)) }
            }
            Ok(Entry { line, tuple: Err(error) }) => sender.blocking_send(Step::Refused(Refused {
                line,
                why: error.to_string(),
                reason: String::new(),
            })),
            Err(error) => {
                let _ = sender.blocking_send(Step::Tuples(step));
                let _ = sender.blocking_send(Step::Broken(error));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = sender.blocking_send(Step::Tuples(step));
}

/// Writes one step. Where the server refuses it for the sake of single tuples, halves are tried
/// until the tuples at fault stand alone: k bad ones among n cost about k·log n calls.
async fn write_step(
    tuples: &[Numbered],
    template: &Template,
    connection: &Connection,
    outcome: &mut Outcome,
) -> Result<(), Status> {
    let mut open = vec![tuples];
    while let Some(part) = open.pop() {
        let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { continue };
        let key = match template.request.idempotency_key.as_str() {
            "" => String::new(),
            key => format!("{key}/{first}-{last}"),
        };
        let request = template.write(part.iter().map(|(_, tuple)| tuple), key);
        match connection.tuples().write(connection.request(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                outcome.done += part.len() as u64;
                outcome.replayed &= answer.replayed;
                outcome.zookie = answer.zookie;
            }
            Err(status) if !is_of_single_tuples(&status) => return Err(status),
            Err(status) if part.len() == 1 => {
                outcome.refuse(Refused {
                    line: *first,
                    why: status.message().to_owned(),
                    reason: exit::reason(&status),
                });
            }
            Err(_) => {
                let (left, right) = part.split_at(part.len() / 2);
                open.extend([right, left]);
            }
        }
    }
    Ok(())
}

/// Whether a write was refused because of tuples in it, so that others may go through.
fn is_of_single_tuples(status: &Status) -> bool {
    const OF_TUPLES: [&str; 9] = [
        "TUPLE_EXISTS",
        "TUPLE_NOT_FOUND",
        "TUPLE_NOT_ALLOWED",
        "UNKNOWN_TYPE",
        "UNKNOWN_RELATION",
        "UNKNOWN_CONDITION",
        "INVALID_FIELD",
        "DUPLICATE_TUPLE",
        "LIMIT_EXCEEDED",
    ];
    OF_TUPLES.contains(&exit::reason(status).as_str())
}
