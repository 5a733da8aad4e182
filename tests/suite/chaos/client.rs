//! A client of the run: asks, writes, and writes down what it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::schema_service_client::SchemaServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::node::Address;
use super::{demands, questions};
use crate::grpc::reason;
use crate::history::journal::{Clock, History};
use crate::history::model::Viewing;
use crate::history::operation::{
    Acknowledged, Answer, Asked, Demand, Freshness, Given, Process, Question, Refusal, Refused, Span, Write,
};
use crate::history::point::Point;

/// Acknowledged zookies that are kept for others to ask about.
const RECENT: usize = 512;
/// How often a write with a key is tried, and the pause between.
const ATTEMPTS: usize = 12;
const PAUSE: Duration = Duration::from_millis(150);
/// What the way there and back may take beyond the deadline of a call.
const GRACE: Duration = Duration::from_millis(500);

/// A zookie, as clients have to pass it back.
#[derive(Debug, Clone)]
pub struct Known {
    pub zookie: String,
    pub point: Point,
}

impl Known {
    fn new(zookie: String) -> Result<Self, String> {
        match Point::of_zookie(&zookie) {
            Some(point) => Ok(Self { zookie, point }),
            None => Err(format!("`{zookie}` is no zookie")),
        }
    }
}

/// What all clients know.
#[derive(Default)]
pub struct Shared {
    recent: Mutex<VecDeque<Known>>,
    /// The schema last put in force, as far as is known.
    pub schema: Mutex<Option<(String, Viewing)>>,
    /// Set when the run is over.
    pub over: AtomicBool,
}

impl Shared {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, known: Known) {
        let mut recent = self.recent.lock().expect("no panic");
        recent.push_back(known);
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }

    /// The zookie of some write of late, anybody's: rather a new one.
    pub fn recent(&self, random: &mut StdRng) -> Option<Known> {
        let recent = self.recent.lock().expect("no panic");
        let reach = if random.random_ratio(2, 3) { recent.len().min(12) } else { recent.len() };
        let back = if reach == 0 { 0 } else { random.random_range(0..reach) };
        recent.iter().rev().nth(back).cloned()
    }
}

pub struct Client {
    number: u16,
    nodes: Arc<[Arc<Address>]>,
    /// The server it asks, until that fails it.
    pub home: usize,
    /// Whether it goes through the proxy in front of the server.
    fronted: bool,
    pub random: StdRng,
    pub clock: Clock,
    pub shared: Arc<Shared>,
    pub history: History,
}

/// The connection for one call, and who is sure to answer.
pub type Way = (Channel, Option<Process>);

/// What a refusal means.
enum Told {
    Nothing,
    Lost,
    OutOfRange,
    Refused(Refusal),
    Defect,
}

/// What became of one write.
pub enum Written {
    Done,
    Refused,
    Unknown,
}

impl Client {
    pub fn new(
        number: u16,
        nodes: &Arc<[Arc<Address>]>,
        seed: u64,
        clock: &Clock,
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            number,
            home: usize::from(number) % nodes.len(),
            nodes: Arc::clone(nodes),
            fronted: number % 4 == 3,
            random: StdRng::seed_from_u64(seed ^ (u64::from(number) << 32)),
            clock: clock.clone(),
            shared: Arc::clone(shared),
            history: History::default(),
        }
    }

    /// Asks another server from now on.
    pub fn move_on(&mut self) {
        self.home = (self.home + 1) % self.nodes.len();
    }

    /// The way to a server, if it lives.
    pub fn way(&mut self, node: usize) -> Option<Way> {
        let reachable = self.nodes[node].now()?;
        if self.fronted {
            return Some((reachable.fronted, None));
        }
        let lane = self.random.random_range(0..reachable.direct.len());
        Some((reachable.direct[lane].clone(), Some(reachable.process)))
    }

    /// Mostly enough, sometimes too little for a server in trouble.
    pub fn patience(&mut self) -> Duration {
        Duration::from_millis(self.random.random_range(400..3_000))
    }

    /// Asks at home, and writes down what is answered. `None`: nothing is known.
    pub async fn ask(&mut self, freshness: Freshness, zookie: &str, question: Question) -> Option<Point> {
        let (way, patience) = (self.way(self.home)?, self.patience());
        let begun = self.clock.now();
        let outcome = questions::ask(way.0, patience, &question, freshness, zookie).await;
        let span = Span { begun, ended: self.clock.now() };
        let answer = match outcome {
            Ok((zookie, given)) => match (Known::new(zookie), given) {
                (Ok(known), Ok(given)) => Answer::At(known.point, given),
                (Err(defect), _) | (_, Err(defect)) => {
                    self.history.defects.push(defect);
                    return None;
                }
            },
            Err(status) => match self.told(&status) {
                Told::Lost => Answer::Lost,
                Told::OutOfRange => Answer::OutOfRange,
                Told::Nothing | Told::Refused(Refusal::Unable) => return None,
                Told::Refused(_) | Told::Defect => {
                    self.history.defects.push(format!("{question:?} ({freshness:?}): {}", said(&status)));
                    return None;
                }
            },
        };
        let at = match answer {
            Answer::At(point, _) => Some(point),
            Answer::Lost | Answer::OutOfRange => None,
        };
        let (client, process) = (self.number, way.1);
        self.history.asked.push(Asked { client, process, span, freshness, question, answer });
        at
    }

    /// Writes down that a zookie was said to be lost, by a call that asks no question.
    pub fn lost(&mut self, way: &Way, span: Span, zookie: &Known) {
        self.history.asked.push(Asked {
            client: self.number,
            process: way.1,
            span,
            freshness: Freshness::AtLeast(zookie.point),
            question: Question::Batch(Box::default()),
            answer: Answer::Lost,
        });
    }

    /// Whether a status says that the zookie given is lost. Whatever else it says is counted.
    pub fn is_lost(&mut self, status: &Status) -> bool {
        match self.told(status) {
            Told::Lost => true,
            Told::Nothing | Told::Refused(Refusal::Unable) => false,
            Told::OutOfRange | Told::Refused(_) | Told::Defect => {
                self.history.defects.push(format!("a stream: {}", said(status)));
                false
            }
        }
    }

    /// Writes at home until an outcome is told; without a key only once.
    pub async fn write(&mut self, demand: Demand, keyed: bool) -> Written {
        let number = self.clock.number();
        let request = demands::write_request(number, &demand, keyed);
        let mut writing = Writing::new(self.number, number, demand, self.clock.now());
        for _ in 0..if keyed { ATTEMPTS } else { 1 } {
            let home = self.home;
            let Some(attempt) = self.attempt(home, &request) else {
                self.move_on();
                self.pause().await;
                continue;
            };
            let attempt = attempt.await;
            if let Some(written) = self.settle(&mut writing, attempt) {
                return self.close(writing, Some(written));
            }
            self.move_on();
            self.pause().await;
        }
        self.close(writing, None)
    }

    /// Sends one request with one key to two servers at the same time, and once more when it is
    /// done: all of these are one write.
    pub async fn write_at_once(&mut self, demand: Demand) -> Written {
        let number = self.clock.number();
        let request = demands::write_request(number, &demand, true);
        let mut writing = Writing::new(self.number, number, demand, self.clock.now());
        let mut done = None;
        for _ in 0..ATTEMPTS {
            let (one, two) = (self.home, (self.home + 1) % self.nodes.len());
            let attempts = [self.attempt(one, &request), self.attempt(two, &request)];
            for attempt in futures::future::join_all(attempts.into_iter().flatten()).await {
                if let Some(written) = self.settle(&mut writing, attempt) {
                    done = Some(written);
                }
            }
            if done.is_some() {
                break;
            }
            self.move_on();
            self.pause().await;
        }
        if let (Some(Written::Done), Some(attempt)) = (&done, self.attempt(self.home, &request)) {
            let attempt = attempt.await;
            self.settle(&mut writing, attempt);
        }
        self.close(writing, done)
    }

    /// Puts a schema in force; there are no keys for that.
    pub async fn write_schema(&mut self, viewing: Viewing, replacing: Option<String>) -> Written {
        let number = self.clock.number();
        let request = demands::schema_request(number, viewing, replacing.as_deref());
        let demand = demands::schema(viewing, replacing.as_deref());
        let mut writing = Writing::new(self.number, number, demand, self.clock.now());
        let Some((channel, process)) = self.way(self.home) else { return self.close(writing, None) };
        let patience = self.patience();
        let begun = self.clock.now();
        let mut schemas = SchemaServiceClient::new(channel);
        let outcome = bounded(patience, schemas.write_schema(timed(request, patience))).await;
        let span = Span { begun, ended: self.clock.now() };
        if let Ok(response) = &outcome {
            *self.shared.schema.lock().expect("no panic") = Some((response.schema_id.clone(), viewing));
        }
        let outcome = outcome.map(|response| (response.zookie, false));
        let written = self.settle(&mut writing, Attempt { process, span, patience, outcome });
        self.close(writing, written)
    }

    /// One attempt at a server, if it lives.
    fn attempt(
        &mut self,
        node: usize,
        request: &proto::WriteRequest,
    ) -> Option<impl Future<Output = Attempt> + use<>> {
        let (channel, process) = self.way(node)?;
        let (patience, clock, request) = (self.patience(), self.clock.clone(), request.clone());
        Some(async move {
            let begun = clock.now();
            let mut tuples = TupleServiceClient::new(channel);
            let outcome = bounded(patience, tuples.write(timed(request, patience))).await;
            let outcome = outcome.map(|response| (response.zookie, response.replayed));
            Attempt { process, span: Span { begun, ended: clock.now() }, patience, outcome }
        })
    }

    /// Writes an attempt down; what it came to, if that is known.
    fn settle(&mut self, writing: &mut Writing, attempt: Attempt) -> Option<Written> {
        let Attempt { process, span, patience, outcome } = attempt;
        let write = &mut writing.write;
        write.span.ended = span.ended;
        match outcome {
            Ok((zookie, replayed)) => match Known::new(zookie) {
                Ok(known) => {
                    let at = known.point;
                    write.acknowledged.push(Acknowledged { process, span, at, replayed, patience });
                    self.shared.acknowledge(known);
                    Some(Written::Done)
                }
                Err(defect) => {
                    self.history.defects.push(defect);
                    write.untold = true;
                    None
                }
            },
            Err(status) => match self.told(&status) {
                Told::Refused(why) => {
                    write.refused = Some(Refused { why, span });
                    (why != Refusal::Unable).then_some(Written::Refused)
                }
                Told::Nothing => {
                    write.untold = true;
                    None
                }
                Told::Lost | Told::OutOfRange | Told::Defect => {
                    self.history.defects.push(format!("{:?}: {}", write.demand, said(&status)));
                    write.untold = true;
                    Some(Written::Unknown)
                }
            },
        }
    }

    fn close(&mut self, writing: Writing, written: Option<Written>) -> Written {
        let write = writing.write;
        // A write that was never sent is none.
        if !write.acknowledged.is_empty() || write.refused.is_some() || write.untold {
            self.history.writes.push(write);
        }
        written.unwrap_or(Written::Unknown)
    }

    async fn pause(&mut self) {
        let pause = PAUSE.mul_f64(self.random.random_range(0.2..1.0));
        tokio::time::sleep(pause).await;
    }

    /// What a status means; those that say nothing are counted.
    fn told(&mut self, status: &Status) -> Told {
        let reason = reason(status);
        let told = match reason.as_str() {
            "ZOOKIE_HISTORY_LOST" => return Told::Lost,
            "REVISION_OUT_OF_RANGE" => return Told::OutOfRange,
            "TUPLE_EXISTS" => return Told::Refused(Refusal::Exists),
            "TUPLE_NOT_FOUND" => return Told::Refused(Refusal::NotFound),
            "PRECONDITION_FAILED" => return Told::Refused(Refusal::Condition),
            "SCHEMA_CHANGED" => return Told::Refused(Refusal::SchemaChanged),
            "DATABASE_UNAVAILABLE" | "QUEUE_FULL" | "OVERLOADED" => Told::Refused(Refusal::Unable),
            "REPLICA_STALE" | "STORE_LOADING" | "HISTORY_DIVERGED" | "SHUTTING_DOWN" | "ZOOKIE_AHEAD"
            | "OUTCOME_UNKNOWN" | "DEADLINE_EXCEEDED" | "STREAM_TOO_OLD" => Told::Nothing,
            // Not of the server: the connection broke, or there was none.
            "" if status.code() != Code::Unimplemented => Told::Nothing,
            _ => return Told::Defect,
        };
        let reason = if reason.is_empty() { format!("connection: {:?}", status.code()) } else { reason };
        self.history.told_nothing(&reason);
        told
    }
}

/// A status without its encoded details.
pub fn said(status: &Status) -> String {
    format!("{:?} `{}`: {}", status.code(), reason(status), status.message())
}

/// A write under way.
struct Writing {
    write: Write,
}

impl Writing {
    fn new(client: u16, number: u32, demand: Demand, begun: crate::history::operation::Moment) -> Self {
        let span = Span { begun, ended: begun };
        Self {
            write: Write {
                client,
                number,
                span,
                demand,
                acknowledged: Vec::new(),
                refused: None,
                untold: false,
            },
        }
    }
}

/// One attempt at a write: the zookie, and whether it was a repetition.
struct Attempt {
    process: Option<Process>,
    span: Span,
    patience: Duration,
    outcome: Result<(String, bool), Status>,
}

/// A request that the server gives up in time.
pub fn timed<T>(message: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(patience);
    request
}

/// A call that the client gives up in time too: the server may hang.
pub async fn bounded<T>(
    patience: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(patience + GRACE, call).await {
        Ok(outcome) => outcome.map(Response::into_inner),
        Err(_elapsed) => Err(Status::deadline_exceeded("the client gave up")),
    }
}

/// The part of the server that answers questions.
pub fn permissions(channel: Channel) -> PermissionServiceClient<Channel> {
    PermissionServiceClient::new(channel)
}

/// What a question is answered with: the zookie, and the answer if it can be understood.
pub type Answered = (String, Result<Given, String>);
