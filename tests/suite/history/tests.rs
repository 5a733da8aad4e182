//! The checker finds what is wrong: small histories made by hand, each of which breaks one
//! promise, beside ones that look odd and are right.

use std::time::Duration;

use super::fact::{Fact, Relation, Subject};
use super::journal::{History, note};
use super::lineage::{Entry, Log, digest, schema_digest};
use super::model::{Model, Viewing};
use super::operation::{
    Acknowledged, Answer, Asked, Condition, Demand, End, Filter, Freshness, Given, Moment, Operation,
    Process, Question, Refusal, Refused, Shown, Span, Stream, Update, Write,
};
use super::point::Point;
use super::report::Rule;
use super::{Bounds, judge};

const TICK: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const NODE: Process = Process(1);
const ANN: &str = "doc:d1#owner@user:u1";
const BOB: &str = "doc:d1#owner@user:u2";
const CAT: &str = "doc:d2#owner@user:u3";
const ANN_VIEWS: &str = "doc:d1#viewer@user:u1";

/// A history under construction: by default everything in it is right.
struct World {
    history: History,
    logs: Vec<Log>,
    now: u64,
    numbers: u32,
}

fn fact(text: &str) -> Fact {
    Fact::parse(text).expect(text)
}

fn tuples(updates: &[(Operation, &str)]) -> Demand {
    let updates = updates.iter().map(|(operation, text)| Update { operation: *operation, fact: fact(text) });
    Demand::Tuples { updates: updates.collect(), conditions: Box::default() }
}

impl World {
    /// A store with a schema, written at revision 1.
    fn new() -> Self {
        let whole = Span { begun: Moment(0), ended: Moment(u64::MAX) };
        let log = Log { fork: 0, entries: Vec::new(), live: whole, synchronous: false };
        let mut world = Self { history: History::default(), logs: vec![log], now: 0, numbers: 0 };
        world.write(&Demand::Schema { viewing: Viewing::Plain, replacing: None });
        world
    }

    /// Time for one call.
    fn span(&mut self) -> Span {
        self.now += 2 * TICK;
        Span { begun: Moment(self.now), ended: Moment(self.now + TICK) }
    }

    fn branch(&mut self) -> &mut Log {
        self.logs.last_mut().expect("a branch")
    }

    fn path(&self) -> Vec<Entry> {
        let mut path: Vec<Entry> = Vec::new();
        for log in &self.logs {
            path.truncate(usize::try_from(log.fork).expect("small"));
            path.extend(log.entries.iter().cloned());
        }
        path
    }

    fn model(&self) -> Model {
        let mut model = Model::default();
        for entry in self.path() {
            for (fact, present) in &entry.changes {
                model.put(*fact, *present);
            }
            if let Some((viewing, id)) = entry.schema {
                (model.viewing, model.schema) = (Some(viewing), Some(id));
            }
        }
        model
    }

    /// Puts what a write asks for at the end of the log.
    fn commit(&mut self, number: u32, demand: &Demand) -> Point {
        let changes = demand.changes(&self.model()).expect("not refused");
        let revision = self.path().len() as u64 + 1;
        let point = Point { revision, tag: (revision << 8) + self.logs.len() as u64 };
        let (schema, id) = match demand {
            Demand::Schema { viewing, .. } => {
                let id = format!("schema-{revision}");
                (Some((*viewing, schema_digest(&id))), id)
            }
            Demand::Tuples { .. } => (None, String::new()),
        };
        let committed_at = i64::try_from(self.now).expect("small");
        let digest = digest(&note(number), committed_at, &id, &changes);
        let entry =
            Entry { point, write: Some(number), committed_at, schema, changes: changes.into(), digest };
        self.branch().entries.push(entry);
        point
    }

    /// A write that nothing has become of yet.
    fn begin(&mut self, demand: Demand) -> &mut Write {
        let span = self.span();
        self.numbers += 1;
        self.history.writes.push(Write {
            client: 0,
            number: self.numbers,
            span,
            demand,
            acknowledged: Vec::new(),
            refused: None,
            untold: false,
        });
        self.last_write()
    }

    fn last_write(&mut self) -> &mut Write {
        self.history.writes.last_mut().expect("a write")
    }

    /// A write as it should be: committed, then acknowledged.
    fn write(&mut self, demand: &Demand) -> Point {
        self.begin(demand.clone());
        let point = self.commit(self.numbers, demand);
        self.acknowledge(point);
        point
    }

    fn acknowledge(&mut self, at: Point) {
        let write = self.last_write();
        let patience = Duration::from_secs(2);
        let told = Acknowledged { process: Some(NODE), span: write.span, at, replayed: false, patience };
        write.acknowledged.push(told);
    }

    fn refuse(&mut self, demand: Demand, why: Refusal) {
        let write = self.begin(demand);
        write.refused = Some(Refused { why, span: write.span });
    }

    fn touch(&mut self, text: &str) -> Point {
        self.write(&tuples(&[(Operation::Touch, text)]))
    }

    fn ask(&mut self, freshness: Freshness, question: Question, answer: Answer) -> &mut Asked {
        let span = self.span();
        let asked = Asked { client: 0, process: Some(NODE), span, freshness, question, answer };
        self.history.asked.push(asked);
        self.history.asked.last_mut().expect("a question")
    }

    fn check(&mut self, freshness: Freshness, at: Point, text: &str, allowed: bool) -> &mut Asked {
        let answer = Answer::At(at, Given::Verdict(allowed));
        self.ask(freshness, Question::Check(fact(text)), answer)
    }

    /// A replica that has nothing after a revision takes over.
    fn fail_over(&mut self, fork: u64) -> &mut Log {
        self.now += TICK;
        self.branch().live.ended = Moment(self.now);
        self.now += TICK;
        let live = Span { begun: Moment(self.now), ended: Moment(u64::MAX) };
        self.logs.push(Log { fork, entries: Vec::new(), live, synchronous: false });
        self.branch()
    }

    fn watch(&mut self, after: Option<Point>, start: Point, shown: &[Point], end: End) -> &mut Stream {
        let mut span = self.span();
        span.begun = Moment(0);
        let digest_of = |point: &Point| {
            let all = self.logs.iter().flat_map(|log| &log.entries);
            all.filter(|entry| entry.point == *point).map(|entry| entry.digest).next().unwrap_or_default()
        };
        let shown = shown.iter().map(|point| Shown::Revision(*point, digest_of(point))).collect();
        self.history.streams.push(Stream { client: 0, span, start, after, shown, end });
        self.history.streams.last_mut().expect("a stream")
    }

    #[track_caller]
    fn breaks(self, rules: &[Rule]) {
        let report = judge(&self.history, self.logs, Bounds::default());
        let broken: Vec<Rule> = report.broken().into_keys().collect();
        assert_eq!(broken, rules, "{report}");
    }
}

#[test]
fn a_history_as_it_should_be() {
    let mut world = World::new();
    let one = world.touch(ANN);
    let two =
        world.write(&tuples(&[(Operation::Create, BOB), (Operation::Remove, ANN), (Operation::Delete, CAT)]));
    let other = Viewing::Audited;
    let three = world.write(&Demand::Schema { viewing: other, replacing: Some(schema_digest("schema-1")) });
    world.refuse(tuples(&[(Operation::Create, BOB)]), Refusal::Exists);
    world.refuse(tuples(&[(Operation::Remove, ANN)]), Refusal::NotFound);
    world.refuse(Demand::Schema { viewing: other, replacing: Some(7) }, Refusal::SchemaChanged);
    // Nothing to change: the newest revision is named.
    world.begin(tuples(&[(Operation::Touch, BOB), (Operation::Delete, CAT)]));
    world.acknowledge(three);
    // Nothing was told, and nothing or something came of it.
    world.begin(tuples(&[(Operation::Touch, CAT)])).untold = true;
    let demand = tuples(&[(Operation::Touch, CAT)]);
    world.begin(demand.clone()).untold = true;
    let four = world.commit(world.numbers, &demand);

    world.check(Freshness::Exact(one), one, ANN_VIEWS, true);
    world.check(Freshness::AtLeast(one), four, ANN_VIEWS, false);
    world.check(Freshness::Full, four, "doc:d2#viewer@user:u3", true);
    world.check(Freshness::Newest, four, BOB, true);
    let batch = [fact(ANN_VIEWS), fact(BOB)];
    let verdicts = Given::Verdicts([false, true].into());
    world.ask(Freshness::Exact(two), Question::Batch(batch.into()), Answer::At(two, verdicts));
    let objects = Question::Objects(Relation::Viewer, 2);
    world.ask(Freshness::Newest, objects, Answer::At(four, Given::Numbers([1].into())));
    let users = Question::Users(Relation::Owner, 1);
    world.ask(Freshness::Newest, users, Answer::At(four, Given::Numbers([2].into())));
    let filter = Filter::About(Subject::User(3));
    world.ask(Freshness::Full, Question::Read(filter), Answer::At(four, Given::Facts([fact(CAT)].into())));
    world.watch(None, one, &[two, three, four], End::Left).shown.push(Shown::Checkpoint(four));
    world.watch(Some(two), two, &[three], End::Left);
    world.breaks(&[]);
}

#[test]
fn a_failover_may_lose_writes_if_everybody_is_told() {
    let mut world = World::new();
    let one = world.touch(ANN);
    let two = world.touch(BOB);
    let three = world.touch(CAT);
    world.check(Freshness::Full, three, BOB, true);
    world.fail_over(2);
    // A server that has not noticed yet.
    world.check(Freshness::Newest, three, BOB, true);
    world.check(Freshness::AtLeast(two), three, BOB, true);
    let four = world.touch(CAT);
    world.check(Freshness::Full, four, BOB, false);
    world.check(Freshness::AtLeast(one), four, BOB, false);
    world.ask(Freshness::AtLeast(two), Question::Check(fact(BOB)), Answer::Lost);
    world.ask(Freshness::Exact(three), Question::Check(fact(BOB)), Answer::Lost);
    world.watch(Some(one), one, &[two, three], End::Forked(one));
    world.watch(Some(one), one, &[four], End::Left);
    // One write with one key may be made in both histories.
    let demand = tuples(&[(Operation::Touch, BOB)]);
    world.begin(demand.clone()).untold = true;
    let number = world.numbers;
    world.commit(number, &demand);
    world.fail_over(4 - 1);
    world.last_write().span.ended = Moment(world.now + TICK);
    let again = world.commit(number, &demand);
    world.acknowledge(again);
    world.breaks(&[]);
}

#[test]
fn the_log_must_be_in_order() {
    let mut world = World::new();
    world.touch(ANN);
    world.touch(BOB);
    let mut gap = world.branch().entries.clone();
    gap.remove(1);
    world.branch().entries = gap;
    world.history.writes.remove(1);
    world.breaks(&[Rule::Gap]);

    let mut world = World::new();
    world.touch(ANN);
    world.branch().entries[1].committed_at = 0;
    world.breaks(&[Rule::TimeStoodStill]);

    let mut world = World::new();
    world.touch(ANN);
    world.fail_over(7);
    world.breaks(&[Rule::Gap]);
}

#[test]
fn writes_are_whole_and_there_once() {
    let both = [(Operation::Touch, ANN), (Operation::Touch, CAT)];
    let mut world = World::new();
    world.write(&tuples(&both));
    world.branch().entries[1].changes = [(fact(ANN), true)].into();
    world.breaks(&[Rule::HalfApplied]);

    let mut world = World::new();
    world.begin(tuples(&both)).untold = true;
    world.commit(world.numbers, &tuples(&both));
    world.branch().entries[1].changes = [(fact(CAT), true)].into();
    world.breaks(&[Rule::HalfApplied]);

    let mut world = World::new();
    world.touch(ANN);
    let demand = tuples(&[(Operation::Touch, CAT)]);
    world.write(&demand);
    world.write(&tuples(&[(Operation::Delete, CAT)]));
    world.now += TICK;
    world.commit(3, &demand);
    world.breaks(&[Rule::WrittenTwice]);

    let mut world = World::new();
    world.now += TICK;
    world.commit(77, &tuples(&both));
    world.breaks(&[Rule::Stranger]);

    // A condition did not hold, and the write was made.
    let mut world = World::new();
    let condition = Condition { relation: Relation::Owner, object: 1, somebody: true };
    let updates = [Update { operation: Operation::Touch, fact: fact(CAT) }];
    world.begin(Demand::Tuples { updates: updates.into(), conditions: [condition].into() });
    let point = world.commit(world.numbers, &tuples(&[(Operation::Touch, CAT)]));
    world.acknowledge(point);
    world.breaks(&[Rule::HalfApplied]);
}

#[test]
fn what_is_acknowledged_is_there_and_what_is_refused_is_not() {
    let mut world = World::new();
    world.begin(tuples(&[(Operation::Touch, ANN)]));
    world.acknowledge(Point { revision: 2, tag: 99 });
    world.breaks(&[Rule::AcknowledgedAndLost]);

    let mut world = World::new();
    world.begin(tuples(&[(Operation::Touch, ANN)]));
    world.acknowledge(Point { revision: 1, tag: (1 << 8) + 1 });
    world.breaks(&[Rule::AcknowledgedElsewhere]);

    let mut world = World::new();
    let one = world.touch(ANN);
    world.touch(BOB);
    world.last_write().acknowledged[0].at = one;
    world.breaks(&[Rule::AcknowledgedElsewhere]);

    let mut world = World::new();
    let one = world.touch(ANN);
    let two = world.touch(BOB);
    world.acknowledge(one);
    assert_ne!(one, two);
    world.breaks(&[Rule::AcknowledgedElsewhere, Rule::RetriedToAnotherResult]);

    let mut world = World::new();
    world.touch(ANN);
    let demand = tuples(&[(Operation::Create, CAT)]);
    world.refuse(demand.clone(), Refusal::Unable);
    world.commit(world.numbers, &demand);
    world.breaks(&[Rule::RefusedAndWritten]);

    let mut world = World::new();
    world.touch(ANN);
    world.refuse(tuples(&[(Operation::Create, CAT)]), Refusal::Exists);
    world.breaks(&[Rule::RefusedForNothing]);

    // It was there, but no longer when the call began.
    let mut world = World::new();
    world.touch(ANN);
    world.write(&tuples(&[(Operation::Delete, ANN)]));
    world.refuse(tuples(&[(Operation::Create, ANN)]), Refusal::Exists);
    world.breaks(&[Rule::RefusedForNothing]);
}

#[test]
fn a_refusal_may_have_been_decided_before_a_failover() {
    let mut world = World::new();
    world.touch(ANN);
    world.write(&tuples(&[(Operation::Delete, ANN)]));
    let begun = Moment(world.now);
    world.touch(ANN);
    world.fail_over(2);
    world.write(&tuples(&[(Operation::Delete, ANN)]));
    world.refuse(tuples(&[(Operation::Create, ANN)]), Refusal::Exists);
    let write = world.last_write();
    write.span.begun = begun;
    write.refused = Some(Refused { why: Refusal::Exists, span: write.span });
    world.breaks(&[]);
}

#[test]
fn writes_follow_those_that_were_acknowledged_before() {
    let mut world = World::new();
    world.touch(ANN);
    world.touch(BOB);
    let writes = &mut world.history.writes;
    let (first, second) = (writes[1].span, writes[2].span);
    for (write, span) in [(1, second), (2, first)] {
        writes[write].span = span;
        writes[write].acknowledged[0].span = span;
    }
    world.breaks(&[Rule::OutOfOrder]);
}

#[test]
fn a_replica_that_was_waited_for_loses_nothing_that_was_told() {
    let mut world = World::new();
    world.touch(ANN);
    world.touch(BOB);
    world.fail_over(2).synchronous = true;
    world.breaks(&[Rule::LostThoughSynchronous]);

    let mut world = World::new();
    world.touch(ANN);
    let demand = tuples(&[(Operation::Touch, BOB)]);
    world.begin(demand.clone()).untold = true;
    world.commit(world.numbers, &demand);
    world.fail_over(2).synchronous = true;
    world.breaks(&[]);
}

#[test]
fn answers_are_those_of_the_revision_they_name() {
    let mut world = World::new();
    let one = world.touch(ANN);
    world.touch(BOB);
    world.check(Freshness::Exact(one), one, "doc:d1#viewer@user:u2", true);
    world.breaks(&[Rule::WrongAnswer]);

    // The schema is of another revision than the tuples.
    let mut world = World::new();
    let one = world.touch("doc:d1#auditor@user:u1");
    let two = world.write(&Demand::Schema { viewing: Viewing::Audited, replacing: None });
    world.check(Freshness::Exact(one), one, ANN_VIEWS, false);
    world.check(Freshness::Exact(two), two, ANN_VIEWS, false);
    world.breaks(&[Rule::WrongAnswer]);

    // Right on the branch that was lost, wrong on the one it names.
    let mut world = World::new();
    world.touch(ANN);
    world.touch(BOB);
    world.fail_over(2);
    let other = world.touch(CAT);
    world.check(Freshness::Full, other, BOB, true);
    world.breaks(&[Rule::WrongAnswer]);

    let mut world = World::new();
    let lists: [(Question, Given); 3] = [
        (Question::Objects(Relation::Viewer, 1), Given::Numbers(Box::default())),
        (Question::Users(Relation::Viewer, 1), Given::Numbers([1, 2].into())),
        (Question::Read(Filter::Of(Relation::Owner, 1)), Given::Facts(Box::default())),
    ];
    let one = world.touch(ANN);
    for (question, given) in lists {
        world.ask(Freshness::Full, question, Answer::At(one, given));
    }
    let batch = Question::Batch([fact(ANN), fact(BOB)].into());
    world.ask(Freshness::Full, batch, Answer::At(one, Given::Verdicts([true, true].into())));
    assert_eq!(judge(&world.history, world.logs.clone(), Bounds::default()).violations(), 4);
    world.breaks(&[Rule::WrongAnswer]);
}

#[test]
fn answers_name_revisions_there_are() {
    let mut world = World::new();
    world.check(Freshness::Newest, Point { revision: 1, tag: 3 }, ANN_VIEWS, false);
    world.breaks(&[Rule::NoSuchRevision]);

    let mut world = World::new();
    let span = world.span();
    let one = world.touch(ANN);
    world.check(Freshness::Newest, one, ANN_VIEWS, true).span = span;
    world.breaks(&[Rule::OutOfOrder, Rule::FromTheFuture]);
}

#[test]
fn answers_are_as_fresh_as_asked() {
    let mut world = World::new();
    let one = world.touch(ANN);
    let two = world.touch(BOB);
    world.check(Freshness::AtLeast(two), one, ANN_VIEWS, true).process = None;
    world.breaks(&[Rule::OlderThanAsked]);

    // Newer by number, and of another history.
    let mut world = World::new();
    world.touch(ANN);
    let lost = world.touch(BOB);
    world.fail_over(2);
    world.touch(CAT);
    let other = world.touch(BOB);
    world.check(Freshness::AtLeast(lost), other, ANN_VIEWS, true);
    world.breaks(&[Rule::OlderThanAsked]);

    let mut world = World::new();
    let one = world.touch(ANN);
    let two = world.touch(BOB);
    world.check(Freshness::Exact(one), two, ANN_VIEWS, true);
    world.breaks(&[Rule::AnotherRevision]);

    let mut world = World::new();
    let one = world.touch(ANN);
    world.touch(BOB);
    world.check(Freshness::Full, one, ANN_VIEWS, true).process = None;
    world.breaks(&[Rule::NotEverything]);

    // What another reader has seen is known, although nobody was told of the write.
    let mut world = World::new();
    let one = world.touch(ANN);
    let demand = tuples(&[(Operation::Touch, BOB)]);
    world.begin(demand.clone()).untold = true;
    let two = world.commit(world.numbers, &demand);
    world.check(Freshness::Newest, two, ANN_VIEWS, true);
    world.check(Freshness::Full, one, ANN_VIEWS, true).process = None;
    world.breaks(&[Rule::NotEverything]);

    // A failover has taken place, and the old history is still told as complete.
    let mut world = World::new();
    let one = world.touch(ANN);
    world.fail_over(1);
    world.check(Freshness::Full, one, ANN_VIEWS, true);
    world.breaks(&[Rule::NotEverything]);
}

#[test]
fn answers_are_not_too_old() {
    let mut world = World::new();
    let one = world.touch(ANN);
    world.touch(BOB);
    world.now += 10 * SECOND;
    world.check(Freshness::Newest, one, ANN_VIEWS, true).process = None;
    world.now += 2 * SECOND;
    world.breaks(&[]);

    let mut world = World::new();
    let one = world.touch(ANN);
    world.touch(BOB);
    world.now += 12 * SECOND;
    world.check(Freshness::Newest, one, ANN_VIEWS, true).process = None;
    world.breaks(&[Rule::Stale]);

    let mut world = World::new();
    let one = world.touch(ANN);
    world.fail_over(1);
    world.now += 12 * SECOND;
    world.check(Freshness::Newest, one, ANN_VIEWS, true).process = None;
    world.breaks(&[Rule::Stale]);
}

#[test]
fn no_server_goes_back() {
    let mut world = World::new();
    let one = world.touch(ANN);
    let two = world.touch(BOB);
    world.history.writes.iter_mut().for_each(|write| write.acknowledged[0].process = None);
    world.check(Freshness::Newest, two, ANN_VIEWS, true);
    world.check(Freshness::Newest, one, ANN_VIEWS, true).process = Some(Process(2));
    world.check(Freshness::Exact(one), one, ANN_VIEWS, true);
    let back = world.check(Freshness::Newest, one, ANN_VIEWS, true).span.begun;
    let report = judge(&world.history, world.logs.clone(), Bounds::default());
    assert!(report.to_string().contains(&format!("{back:?}")), "{report}");
    world.breaks(&[Rule::WentBack]);

    // It does not have what it wrote.
    let mut world = World::new();
    let one = world.touch(ANN);
    world.touch(BOB);
    world.check(Freshness::Newest, one, ANN_VIEWS, true);
    world.breaks(&[Rule::WentBack]);

    let mut world = World::new();
    let one = world.touch(ANN);
    world.fail_over(1);
    let other = world.touch(BOB);
    world.check(Freshness::Newest, other, ANN_VIEWS, false);
    world.check(Freshness::Newest, one, ANN_VIEWS, true);
    world.breaks(&[Rule::ReturnedToLostHistory]);
}

#[test]
fn only_what_is_lost_is_said_to_be() {
    let mut world = World::new();
    let one = world.touch(ANN);
    world.ask(Freshness::AtLeast(one), Question::Check(fact(ANN)), Answer::Lost);
    world.breaks(&[Rule::SaidToBeLost]);

    // It is of the new history, and a server that still has the old one does not know it.
    let mut world = World::new();
    world.touch(ANN);
    world.fail_over(1);
    let one = world.touch(BOB);
    world.ask(Freshness::Exact(one), Question::Check(fact(ANN)), Answer::Lost);
    world.breaks(&[Rule::SaidToBeLost]);

    let mut world = World::new();
    let one = world.touch(ANN);
    world.ask(Freshness::Exact(one), Question::Check(fact(ANN)), Answer::OutOfRange);
    world.breaks(&[Rule::SaidToBeOutOfReach]);

    let mut world = World::new();
    world.ask(Freshness::Full, Question::Check(fact(ANN)), Answer::Lost);
    world.breaks(&[Rule::Defect]);
}

#[test]
fn streams_show_every_revision_once_and_as_it_is() {
    let begin = || {
        let mut world = World::new();
        let points = [ANN, BOB, CAT].map(|text| world.touch(text));
        (world, points)
    };
    for order in [&[0, 2][..], &[0, 0, 1], &[1, 0], &[0, 1, 0]] {
        let (mut world, points) = begin();
        let shown: Vec<Point> = order.iter().map(|index| points[*index]).collect();
        let start = Point { revision: 1, tag: (1 << 8) + 1 };
        world.watch(Some(start), start, &shown, End::Left);
        world.breaks(&[Rule::StreamBroken]);
    }

    let (mut world, [one, two, _]) = begin();
    world.watch(Some(one), one, &[two], End::Left).shown[0] = Shown::Revision(two, 5);
    world.breaks(&[Rule::StreamWrong]);

    let (mut world, [one, two, _]) = begin();
    world.watch(Some(one), two, &[], End::Left);
    world.breaks(&[Rule::StreamBegunElsewhere]);

    let (mut world, [_, two, _]) = begin();
    world.watch(None, two, &[], End::Left).span.begun = Moment(world.now + 2 * TICK);
    world.breaks(&[Rule::StreamBegunElsewhere]);

    // It goes on as if nothing had been lost.
    let (mut world, [one, two, _]) = begin();
    world.fail_over(2);
    world.touch(CAT);
    let other = world.touch(BOB);
    world.watch(Some(one), one, &[two, other], End::Left);
    world.breaks(&[Rule::StreamBroken]);
}

#[test]
fn streams_end_where_histories_part() {
    let begin = || {
        let mut world = World::new();
        let points = [ANN, BOB, CAT].map(|text| world.touch(text));
        (world, points)
    };
    let (mut world, [one, two, _]) = begin();
    world.watch(Some(one), one, &[two], End::Forked(one));
    world.breaks(&[Rule::StreamSaidToFork]);

    let (mut world, [one, two, three]) = begin();
    world.fail_over(3);
    world.watch(Some(one), one, &[two, three], End::Forked(one));
    world.breaks(&[Rule::StreamSaidToFork]);

    let (mut world, [one, two, three]) = begin();
    world.fail_over(3);
    world.watch(Some(one), one, &[two, three], End::Forked(two));
    world.breaks(&[]);
}

#[test]
fn a_defect_is_a_violation() {
    let mut world = World::new();
    world.history.defects.push("INTERNAL".to_owned());
    world.breaks(&[Rule::Defect]);
}
