//! Writes facts of its own and facts that everybody writes, and remembers what it was told.

use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::proto;
use relata::proto::precondition;
use relata::proto::update::Operation;
use tokio::sync::mpsc;
use tonic::{Code, Response, Status};

use super::client::{Client, revision};
use super::reckoning::{Acknowledged, Record};
use crate::grpc::{question, reason, text, update};

/// Facts that all writers change.
pub const SHARED: u32 = 4;
/// Pairs that are only ever written as a whole.
pub const PAIRS: u32 = 4;
const LEASES: u32 = 3;
/// A server that acknowledged a write within this time has it in its own memory: it would have
/// waited longer for that.
const VISIBLE: Duration = Duration::from_secs(1);

/// An acknowledged write, for the reader on the other server.
pub struct News {
    pub zookie: String,
    /// Questions that the write bears on, and the answer that every server must give from now
    /// on, if nobody else writes the fact.
    pub questions: Vec<(String, Option<bool>)>,
}

pub struct Writer {
    index: usize,
    client: Client,
    news: mpsc::Sender<News>,
    random: StdRng,
    /// Writes begun, which number the notes.
    begun: u32,
    /// Own facts that have not been withdrawn.
    standing: Vec<String>,
    lease: Option<u32>,
    record: Record,
}

/// What a write came to.
struct Told {
    outcome: Result<String, Status>,
    /// Whether an earlier attempt may have been carried out without our knowing.
    uncertain: bool,
}

impl Writer {
    pub fn new(index: usize, client: Client, news: mpsc::Sender<News>) -> Self {
        let random = StdRng::seed_from_u64(index as u64);
        let (begun, standing, lease, record) = (0, Vec::new(), None, Record::default());
        Self { index, client, news, random, begun, standing, lease, record }
    }

    /// Writes until the deadline; returns what it was told.
    pub async fn run(mut self, deadline: Instant) -> Record {
        while Instant::now() < deadline {
            match self.random.random_range(0..100) {
                0..30 => self.state_own_fact().await,
                30..40 => self.withdraw_own_fact().await,
                40..60 => self.change_shared_facts().await,
                60..70 => self.contend().await,
                70..85 => self.change_pair().await,
                85..95 => self.take_or_leave_lease().await,
                _ => self.write_twice_at_once().await,
            }
        }
        self.record
    }

    /// Nobody else writes it, so who names the zookie must see it.
    async fn state_own_fact(&mut self) {
        let relation = if self.client.shared.auditing.load(Acquire) && self.random.random() {
            "auditor"
        } else {
            "author"
        };
        let (index, number) = (self.index, self.begun);
        let fact = format!("draft:w{index}-{number}#{relation}@user:w{index}");
        let told = self.write(vec![update(Operation::Create, &fact)], None).await;
        let zookie = match told.outcome {
            Ok(zookie) => zookie,
            // An attempt whose outcome was not told has done it.
            Err(status) if told.uncertain && reason(&status) == "TUPLE_EXISTS" => return,
            Err(status) => panic!("{fact}: {status:?}"),
        };
        self.tell(zookie, vec![(fact.replace("#author@", "#reader@"), Some(true))]).await;
        self.standing.push(fact);
    }

    /// And nobody states it again. The reader may only now hear that it was stated, so only a
    /// fact of some time ago is withdrawn.
    async fn withdraw_own_fact(&mut self) {
        if self.standing.len() <= 2 * super::LAG {
            return;
        }
        let oldest = self.random.random_range(0..self.standing.len() - 2 * super::LAG);
        let fact = self.standing.remove(oldest);
        let mut delete = update(Operation::Delete, &fact);
        delete.must_exist = true;
        let told = self.write(vec![delete], None).await;
        let zookie = match told.outcome {
            Ok(zookie) => zookie,
            Err(status) if told.uncertain && reason(&status) == "TUPLE_NOT_FOUND" => return,
            Err(status) => panic!("{fact}: {status:?}"),
        };
        self.tell(zookie, vec![(fact.replace("#author@", "#reader@"), Some(false))]).await;
    }

    /// Grants, exclusions and groups in groups, some of which are there already.
    async fn change_shared_facts(&mut self) {
        let mut facts: Vec<String> =
            (0..self.random.random_range(1..4)).map(|_| self.shared_fact()).collect();
        facts.sort();
        facts.dedup();
        let random = &mut self.random;
        let updates = facts.iter().map(|fact| {
            let operation = if random.random() { Operation::Touch } else { Operation::Delete };
            update(operation, fact)
        });
        let updates: Vec<proto::Update> = updates.collect();
        let told = self.write(updates, None).await;
        let zookie = told.outcome.unwrap_or_else(|status| panic!("{facts:?}: {status:?}"));
        let asked = self.shared_question();
        self.tell(zookie, vec![(asked, None)]).await;
    }

    fn shared_fact(&mut self) -> String {
        let mut number = || self.random.random_range(0..SHARED);
        let (object, user, kind) = (number(), number(), number());
        // A group is not told to be a member of itself.
        let group = (object + 1 + number() % (SHARED - 1)) % SHARED;
        match kind {
            0 => format!("group:s{object}#member@group:s{group}#member"),
            1 => format!("group:s{object}#member@user:s{user}"),
            2 => format!("doc:s{object}#granted@group:s{group}#member"),
            _ => format!("doc:s{object}#blocked@user:s{user}"),
        }
    }

    fn shared_question(&mut self) -> String {
        shared_question(&mut self.random)
    }

    /// CREATE and DELETE that may be refused, because others do the same.
    async fn contend(&mut self) {
        let fact = self.shared_fact();
        let (operation, refusal) = if self.random.random() {
            (Operation::Create, "TUPLE_EXISTS")
        } else {
            (Operation::Delete, "TUPLE_NOT_FOUND")
        };
        let mut contended = update(operation, &fact);
        contended.must_exist = operation == Operation::Delete;
        match self.write(vec![contended], None).await.outcome {
            Ok(zookie) => {
                let asked = self.shared_question();
                self.tell(zookie, vec![(asked, None)]).await;
            }
            Err(status) => assert_eq!(reason(&status), refusal, "{fact}: {status:?}"),
        }
    }

    /// Both halves or none, by whomever.
    async fn change_pair(&mut self) {
        let operation = if self.random.random() { Operation::Touch } else { Operation::Delete };
        let halves = halves(self.random.random_range(0..PAIRS));
        let updates = halves.iter().map(|half| update(operation, half)).collect();
        let told = self.write(updates, None).await;
        let zookie = told.outcome.unwrap_or_else(|status| panic!("{halves:?}: {status:?}"));
        self.tell(zookie, halves.map(|half| (half, None)).into()).await;
    }

    /// At most one may hold a lease, which a precondition sees to.
    async fn take_or_leave_lease(&mut self) {
        let number = self.lease.unwrap_or_else(|| self.random.random_range(0..LEASES));
        let lease = format!("doc:lease-{number}#owner@user:w{}", self.index);
        if self.lease.take().is_some() {
            let mut delete = update(Operation::Delete, &lease);
            delete.must_exist = true;
            let told = self.write(vec![delete], None).await;
            if let Err(status) = told.outcome {
                assert!(told.uncertain && reason(&status) == "TUPLE_NOT_FOUND", "{lease}: {status:?}");
            }
            return;
        }
        let (object_type, object_id) = ("doc".to_owned(), format!("lease-{number}"));
        let taken = proto::Precondition {
            operation: precondition::Operation::MustNotMatch.into(),
            filter: Some(proto::TupleFilter {
                object_type,
                object_id,
                relation: "owner".into(),
                ..Default::default()
            }),
        };
        let told = self.write(vec![update(Operation::Create, &lease)], Some(taken)).await;
        match told.outcome {
            Ok(zookie) => {
                self.lease = Some(number);
                // It is left only by this writer, which waits for its own call.
                let asked = question(&lease);
                let answer = self.client.check_at_least(asked, &zookie).await;
                assert_eq!(answer.verdict(), proto::Verdict::Allowed, "{lease} was taken");
                self.tell(zookie, vec![(lease, None)]).await;
            }
            Err(status) => {
                assert_eq!(reason(&status), "PRECONDITION_FAILED", "{lease}: {status:?}");
                if told.uncertain {
                    // An attempt may have taken it without our knowing.
                    let told = self.write(vec![update(Operation::Delete, &lease)], None).await;
                    told.outcome.unwrap_or_else(|status| panic!("{lease}: {status:?}"));
                }
            }
        }
    }

    /// The same request with the same key on both servers at once: one revision comes of it.
    async fn write_twice_at_once(&mut self) {
        let number = self.begun;
        let fact = format!("draft:w{}-{number}#author@user:w{}", self.index, self.index);
        let mut request = self.request(vec![update(Operation::Create, &fact)], None);
        request.idempotency_key = format!("twice-{}", request.note);
        let (home, other) = (self.client.home, self.client.other(self.client.home));
        let (one, two) = tokio::join!(self.keyed(home, &request), self.keyed(other, &request));
        let (one, two) = (one.expect("written"), two.expect("written"));
        assert_eq!(one.0.zookie, two.0.zookie, "one key, two writes");
        // A call that had to be repeated may be told that it is a repetition.
        assert!(one.1 || two.1 || one.0.replayed != two.0.replayed, "{one:?} {two:?}");
        self.record.replayed += u64::from(one.0.replayed) + u64::from(two.0.replayed);
        self.acknowledged(&request, &one.0.zookie);
        self.tell(one.0.zookie, vec![(fact.replace("#author@", "#reader@"), Some(true))]).await;
    }

    /// Writes until an outcome is told; whether the call had to be repeated.
    async fn keyed(
        &self,
        node: usize,
        request: &proto::WriteRequest,
    ) -> Result<(proto::WriteResponse, bool), Status> {
        let mut repeated = false;
        loop {
            match self.client.tuples(node).write(request.clone()).await.map(Response::into_inner) {
                Err(status) if untold(&status) => self.client.pause().await,
                outcome => return outcome.map(|response| (response, repeated)),
            }
            repeated = true;
        }
    }

    fn request(
        &mut self,
        updates: Vec<proto::Update>,
        precondition: Option<proto::Precondition>,
    ) -> proto::WriteRequest {
        let note = format!("w{}-{}", self.index, self.begun);
        self.begun += 1;
        let preconditions = precondition.into_iter().collect();
        proto::WriteRequest { updates, preconditions, note, ..Default::default() }
    }

    /// Writes at home until an outcome is told, half of the time with an idempotency key.
    async fn write(
        &mut self,
        updates: Vec<proto::Update>,
        precondition: Option<proto::Precondition>,
    ) -> Told {
        let mut request = self.request(updates, precondition);
        if self.random.random() {
            request.idempotency_key.clone_from(&request.note);
        }
        let (mut uncertain, mut attempts) = (false, 0);
        loop {
            let begun = Instant::now();
            let outcome = self.client.tuples(self.client.home).write(request.clone()).await;
            match outcome.map(Response::into_inner) {
                Ok(response) => {
                    assert!(uncertain || !response.replayed, "{request:?}");
                    self.acknowledged(&request, &response.zookie);
                    if !uncertain && begun.elapsed() < VISIBLE {
                        self.sees_own(&request, &response.zookie).await;
                    }
                    return Told { outcome: Ok(response.zookie), uncertain };
                }
                Err(status) if untold(&status) => {
                    uncertain = true;
                    attempts += 1;
                    if request.idempotency_key.is_empty() {
                        // Both attempts may come to be in the log, so their notes differ.
                        let next = format!("w{}-{}/{attempts}", self.index, self.begun - 1);
                        self.record.untold.insert(std::mem::replace(&mut request.note, next));
                    }
                    self.client.pause().await;
                }
                Err(status) => {
                    self.record.refused.push(request.note);
                    return Told { outcome: Err(status), uncertain };
                }
            }
        }
    }

    /// A server that has acknowledged a write answers from a state that has it, unasked.
    async fn sees_own(&mut self, request: &proto::WriteRequest, zookie: &str) {
        if self.random.random_ratio(3, 4) {
            return;
        }
        let fact = request.updates.first().and_then(|update| update.tuple.as_ref()).expect("an update");
        let asked = question(&text(fact));
        let answer = self.client.check(asked).await;
        assert!(revision(&answer.zookie) >= revision(zookie), "the server forgot {request:?} at {zookie}");
        self.record.own += 1;
    }

    fn acknowledged(&mut self, request: &proto::WriteRequest, zookie: &str) {
        self.client.shared.acknowledge(zookie);
        let effects = request.updates.iter().map(|update| {
            let tuple = update.tuple.as_ref().map(text).expect("a tuple");
            (update.operation() != Operation::Delete, tuple)
        });
        let acknowledged = Acknowledged {
            revision: revision(zookie),
            note: request.note.clone(),
            effects: effects.collect(),
        };
        self.record.writes.push(acknowledged);
    }

    async fn tell(&self, zookie: String, questions: Vec<(String, Option<bool>)>) {
        assert!(self.news.send(News { zookie, questions }).await.is_ok(), "the reader is gone");
    }
}

/// Whether the write may have been carried out, or may yet be.
pub fn untold(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

/// The two tuples of a pair.
pub fn halves(pair: u32) -> [String; 2] {
    ["left", "right"].map(|half| format!("doc:p{pair}-{half}#granted@user:p{pair}"))
}

/// Something whose answer follows from facts that everybody writes.
pub fn shared_question(random: &mut impl rand::Rng) -> String {
    let (doc, user) = (random.random_range(0..SHARED), random.random_range(0..SHARED));
    format!("doc:s{doc}#viewer@user:s{user}")
}
