//! Schemas that are put in force while others write, and clocks that are wrong, on one node of
//! SQLite and on two of PostgreSQL: no tuple slips past a schema, no answer is of a schema other
//! than the one asked for, and no expired tuple comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use relata::config::Config;
use relata::feed::WallClock;
use relata::proto::consistency::Requirement;
use relata::proto::schema_effect::Direction;
use relata::proto::update::Operation;
use relata::proto::{self, Verdict};
use relata::time::Timestamp;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::datastore::fixture::{Place, on_each_place};
use crate::grpc::{self, Running, consistency, question, reason, refused, staleness, update};

on_each_place!(
    no_write_slips_past_a_schema_that_is_put_in_force_meanwhile,
    a_write_that_waits_for_its_turn_is_held_against_the_new_schema,
    a_schema_just_written_elsewhere_is_answered_by,
    a_node_whose_clock_is_off_says_so_and_decides_no_write_by_it,
    a_clock_that_is_stepped_back_brings_no_expired_tuple_back,
    create_over_an_expired_tuple_that_was_not_swept_succeeds,
    narrowing_inside_a_subtract_is_reported_as_widening,
);

const HOUR: Duration = Duration::from_hours(1);

/// A server that sweeps nothing, so that expired tuples stay where they are.
async fn serve(place: &Place, adapt: impl FnOnce(&mut Config)) -> Running {
    let adapt = |config: &mut Config| {
        config.upkeep.sweep_interval = HOUR;
        config.upkeep.lease_term = HOUR;
        config.health_interval = Duration::from_millis(100);
        adapt(config);
    };
    match place {
        Place::Sqlite(path) => Running::on_file(path.into(), adapt).await,
        Place::Postgres(url) => Running::on_url(url, adapt).await,
    }
}

/// Every node there may be: a file belongs to one.
async fn nodes(place: &Place) -> Vec<Running> {
    let mut nodes = vec![serve(place, |_| {}).await];
    if matches!(place, Place::Postgres(_)) {
        nodes.push(serve(place, |_| {}).await);
    }
    nodes
}

async fn stop(nodes: Vec<Running>) {
    for node in nodes {
        node.stop().await;
    }
}

fn schema(viewer: &str) -> String {
    format!("model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: {viewer}\n")
}

const WIDE: &str = "[user, user:*]";
const NARROW: &str = "[user]";

/// Stored tuples that the narrow schema does not allow.
async fn orphans(node: &Running) -> u64 {
    let request = proto::PlanSchemaRequest { text: schema(NARROW), ..Default::default() };
    let plan = node.schemas().plan_schema(request).await.expect("a plan").into_inner();
    assert!(plan.diagnostics.is_empty());
    plan.orphans.iter().map(|orphans| orphans.count).sum()
}

/// Rounds in which writers of what only the wide schema allows, on every node, meet somebody who
/// puts the narrow one in force. Either a write came first, and the schema is refused; or the
/// schema did, and every write is.
async fn no_write_slips_past_a_schema_that_is_put_in_force_meanwhile(place: Place) {
    const ROUNDS: u64 = 24;
    const WRITERS: u64 = 6;
    let nodes = nodes(&place).await;
    let (mut narrowed, mut kept) = (0, 0);
    for round in 0..ROUNDS {
        nodes[0].write_schema(&schema(WIDE)).await.expect("a schema");
        let writers = (0..WRITERS).map(|writer| {
            let node = &nodes[usize::try_from(writer).expect("small") % nodes.len()];
            async move {
                // Earlier in some rounds, later in others.
                tokio::time::sleep(Duration::from_micros((writer * 7 + round) % 12 * 500)).await;
                let tuple = format!("doc:{round}-{writer}#viewer@user:*");
                node.write(vec![update(Operation::Create, &tuple)]).await
            }
        });
        let node = &nodes[usize::try_from(round).expect("small") % nodes.len()];
        let narrow = async {
            tokio::time::sleep(Duration::from_micros(round % 5 * 700)).await;
            node.write_schema(&schema(NARROW)).await
        };
        let (written, narrow) = tokio::join!(join_all(writers), narrow);
        let written = written.into_iter().filter(|outcome| match outcome {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(reason(status), "TUPLE_NOT_ALLOWED", "{status:?}");
                false
            }
        });
        let written = written.count() as u64;
        let stored = orphans(node).await;
        match narrow {
            Ok(_) => {
                narrowed += 1;
                assert_eq!((written, stored), (0, 0), "round {round}: tuples slipped past the schema");
            }
            Err(status) => {
                kept += 1;
                assert_eq!(reason(&status), "SCHEMA_ORPHANS_TUPLES", "{status:?}");
                assert_eq!(
                    (written, stored),
                    (WRITERS, WRITERS),
                    "round {round}: nobody else was in the way"
                );
            }
        }
        let everything = proto::DeleteTuplesRequest { all: true, ..Default::default() };
        let mut steps = node.tuples().delete_tuples(everything).await.expect("a stream").into_inner();
        while steps.message().await.expect("a step").is_some() {}
    }
    println!("the schema came first in {narrowed} rounds, a write in {kept}");
    stop(nodes).await;
}

/// The order that is hard to hit by chance: the schema's author has looked at what is stored, and a
/// write is committed before the schema is.
async fn a_write_that_waits_for_its_turn_is_held_against_the_new_schema(place: Place) {
    let nodes = nodes(&place).await;
    let (writing, narrowing) = (&nodes[0], &nodes[nodes.len() - 1]);
    writing.write_schema(&schema(WIDE)).await.expect("a schema");
    let zookie = writing.touch(&["doc:1#viewer@user:ann"]).await;
    let seen = proto::CheckRequest {
        consistency: consistency(Requirement::AtLeast(zookie)),
        ..question("doc:1#viewer@user:ann")
    };
    narrowing.check(seen).await.expect("both nodes have the store");

    let held = place.hold().await;
    let write = writing.write(vec![update(Operation::Create, "doc:2#viewer@user:*")]);
    let (write, narrow) = {
        let narrow = async {
            // The write is under way by now. If it were not, the schema would only come first.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) {
                let page = crate::observed::scrape(writing.operations).await;
                let labels = [("rpc", "relata.v1.TupleService/Write")];
                if page.value("relata_requests_in_flight", &labels) > 0.5 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            let text = schema(NARROW);
            let narrow = narrowing.write_schema(&text);
            let release = async {
                tokio::time::sleep(Duration::from_millis(400)).await;
                held.release().await;
            };
            tokio::join!(narrow, release).0
        };
        tokio::join!(write, narrow)
    };
    match (write, narrow) {
        (Ok(_), Err(status)) => {
            refused(Err::<(), _>(status), Code::FailedPrecondition, "SCHEMA_ORPHANS_TUPLES", "");
            assert_eq!(orphans(narrowing).await, 1);
        }
        (Err(status), Ok(_)) => {
            refused(Err::<(), _>(status), Code::InvalidArgument, "TUPLE_NOT_ALLOWED", "updates[0].tuple");
            assert_eq!(orphans(narrowing).await, 0);
        }
        both => panic!("one of them must fail: {both:?}"),
    }
    stop(nodes).await;
}

/// A question or a write that names a schema is answered by it, on a node that cannot have heard
/// of it: never by an older one, never with "there is no such schema".
async fn a_schema_just_written_elsewhere_is_answered_by(place: Place) {
    let nodes = nodes(&place).await;
    let (here, elsewhere) = (&nodes[0], &nodes[nodes.len() - 1]);
    here.write_schema(&schema(WIDE)).await.expect("a schema");
    here.touch(&["doc:1#viewer@user:ann"]).await;
    elsewhere.check(question("doc:1#viewer@user:ann")).await.expect("the store is in memory");
    for round in 0..12 {
        // Each version has a relation that none before it had.
        let text = format!("{}    define right_{round}: viewer\n", schema(WIDE));
        let written = here.write_schema(&text).await.expect("a schema");
        let named = proto::CheckRequest {
            schema_id: written.schema_id.clone(),
            ..question(&format!("doc:1#right_{round}@user:ann"))
        };
        let answer = elsewhere.check(named.clone()).await.expect("an answer");
        assert_eq!(answer.verdict(), Verdict::Allowed, "round {round}");
        let fresh = proto::CheckRequest {
            schema_id: String::new(),
            consistency: consistency(Requirement::AtLeast(written.zookie.clone())),
            ..named.clone()
        };
        assert_eq!(elsewhere.check(fresh).await.expect("an answer").verdict(), Verdict::Allowed);
        let write = proto::WriteRequest {
            updates: vec![update(Operation::Touch, &format!("doc:{round}#viewer@user:bob"))],
            schema_id: written.schema_id.clone(),
            ..Default::default()
        };
        elsewhere.tuples().write(write).await.expect("written");
        // The one before it stays what it was.
        if round > 0 {
            let old = question(&format!("doc:1#right_{}@user:ann", round - 1));
            let old = proto::CheckRequest { schema_id: written.schema_id, ..old };
            refused(elsewhere.check(old).await, Code::InvalidArgument, "UNKNOWN_RELATION", "relation");
        }
    }
    stop(nodes).await;
}

/// A clock that can be put off.
fn shifted() -> (Arc<AtomicI64>, WallClock) {
    let off = Arc::new(AtomicI64::new(0));
    let read = Arc::clone(&off);
    let clock = WallClock::reading(move || {
        let right = WallClock::system().now().as_micros();
        Timestamp::from_micros(right.saturating_add(read.load(Ordering::SeqCst)))
    });
    (off, clock)
}

fn micros(seconds: i64) -> i64 {
    seconds * 1_000_000
}

async fn grant(
    node: &Running,
    operation: Operation,
    tuple: &str,
    time: Duration,
) -> Result<proto::WriteResponse, Status> {
    let expires_at = Some(prost_types::Timestamp::from(SystemTime::now() + time));
    let granted = proto::Tuple { expires_at, ..grpc::tuple(tuple) };
    node.write(vec![proto::Update { tuple: Some(granted), ..update(operation, tuple) }]).await
}

/// Five seconds off, in either direction: the node is taken out of rotation, writes are decided and
/// dated by the database's clock all the same, and what is known to have expired is denied.
async fn a_node_whose_clock_is_off_says_so_and_decides_no_write_by_it(place: Place) {
    for seconds in [5, -5] {
        let (off, clock) = shifted();
        off.store(micros(seconds), Ordering::SeqCst);
        let node = serve(&place, |config| config.feed.clock = clock).await;
        crate::observed::scrape_until(node.operations, "the skew", |page| {
            let skew = page.value("relata_feed_clock_skew_seconds", &[]);
            (skew - if seconds > 0 { 5.0 } else { -5.0 }).abs() < 1.0
        })
        .await;
        staleness::until(&node, "", ServingStatus::NotServing).await;
        node.write_schema(&schema(WIDE)).await.expect("a schema");

        let tuple = format!("doc:{}#viewer@user:ann", seconds + 10);
        let zookie = grant(&node, Operation::Create, &tuple, Duration::from_millis(2_500))
            .await
            .expect("written")
            .zookie;
        let ask = |zookie: &str| {
            let consistency = consistency(Requirement::AtLeast(zookie.to_owned()));
            node.check(proto::CheckRequest { consistency, ..question(&tuple) })
        };
        // A node that is ahead denies too early: that is why it is not to be asked.
        let early = if seconds > 0 { Verdict::Denied } else { Verdict::Allowed };
        assert_eq!(ask(&zookie).await.expect("an answer").verdict(), early);
        let again = grant(&node, Operation::Create, &tuple, HOUR).await;
        refused(again, Code::AlreadyExists, "TUPLE_EXISTS", "");

        // By the database's clock it expires. A node that is behind learns so with the next revision.
        let begun = Instant::now();
        let zookie = loop {
            let zookie = node.touch(&["doc:other#viewer@user:ann"]).await;
            node.delete(&["doc:other#viewer@user:ann"]).await;
            if ask(&zookie).await.expect("an answer").verdict() == Verdict::Denied
                && begun.elapsed() > Duration::from_millis(2_500)
            {
                break zookie;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it never expires");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(ask(&zookie).await.expect("an answer").verdict(), Verdict::Denied);
        grant(&node, Operation::Create, &tuple, HOUR).await.expect("it had expired");

        assert_eq!(staleness::status(&node, "").await, ServingStatus::NotServing, "all the time");
        let request = proto::DeleteTuplesRequest { all: true, ..Default::default() };
        let mut steps = node.tuples().delete_tuples(request).await.expect("a stream").into_inner();
        while steps.message().await.expect("a step").is_some() {}
        node.stop().await;
    }
    // One whose clock is right serves: nothing else was in the way.
    let right = serve(&place, |_| {}).await;
    staleness::until(&right, "", ServingStatus::Serving).await;
    right.stop().await;
}

async fn a_clock_that_is_stepped_back_brings_no_expired_tuple_back(place: Place) {
    let (off, clock) = shifted();
    let node = serve(&place, |config| config.feed.clock = clock).await;
    node.write_schema(&schema(WIDE)).await.expect("a schema");
    let tuple = "doc:1#viewer@user:ann";
    grant(&node, Operation::Create, tuple, 2 * HOUR).await.expect("written");
    grant(&node, Operation::Create, "doc:2#viewer@user:ann", 4 * HOUR).await.expect("written");
    let listed = async || {
        let request = proto::ListObjectsRequest {
            object_type: "doc".into(),
            relation: "viewer".into(),
            subject: "user:ann".into(),
            page_size: 10,
            ..Default::default()
        };
        let mut stream = node.permissions().list_objects(request).await.expect("a list").into_inner();
        let mut objects = Vec::new();
        while let Some(message) = stream.message().await.expect("a message") {
            objects.extend(message.objects.into_iter().map(|found| found.object));
        }
        objects
    };
    assert_eq!(node.verdict(tuple).await, Verdict::Allowed);
    off.store(micros(3 * 3_600), Ordering::SeqCst);
    assert_eq!(node.verdict(tuple).await, Verdict::Denied);
    // Back across the expiry, and far before the tuple was written.
    for hours in [0, -5] {
        off.store(micros(hours * 3_600), Ordering::SeqCst);
        assert_eq!(node.verdict(tuple).await, Verdict::Denied, "{hours} h");
        assert_eq!(listed().await, ["doc:2"], "{hours} h");
        assert_eq!(node.verdict("doc:2#viewer@user:ann").await, Verdict::Allowed);
    }
    // A revision later nothing is different.
    node.touch(&["doc:3#viewer@user:bob"]).await;
    assert_eq!(node.verdict(tuple).await, Verdict::Denied);
    node.stop().await;
}

async fn create_over_an_expired_tuple_that_was_not_swept_succeeds(place: Place) {
    let nodes = nodes(&place).await;
    let (here, elsewhere) = (&nodes[0], &nodes[nodes.len() - 1]);
    here.write_schema(&schema(WIDE)).await.expect("a schema");
    let (tuple, other) = ("doc:1#viewer@user:ann", "doc:2#viewer@user:ann");
    let short = Duration::from_millis(1_500);
    grant(here, Operation::Create, tuple, short).await.expect("written");
    grant(here, Operation::Create, other, short).await.expect("written");
    refused(grant(here, Operation::Create, tuple, HOUR).await, Code::AlreadyExists, "TUPLE_EXISTS", "");
    let begun = Instant::now();
    while here.verdict(other).await != Verdict::Denied || begun.elapsed() < short {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(place.number("SELECT count(*) FROM {tuple}").await, 2, "both are still stored");

    // Judged as absent by every rule of a write.
    let gone = proto::Update { must_exist: true, ..update(Operation::Delete, other) };
    refused(here.write(vec![gone]).await, Code::NotFound, "TUPLE_NOT_FOUND", "");
    let filter =
        proto::TupleFilter { object_type: "doc".into(), relation: "viewer".into(), ..Default::default() };
    let absent = proto::Precondition {
        operation: proto::precondition::Operation::MustNotMatch.into(),
        filter: Some(filter),
    };
    let request = proto::WriteRequest {
        updates: vec![update(Operation::Create, tuple)],
        preconditions: vec![absent],
        ..Default::default()
    };
    let zookie = elsewhere.tuples().write(request).await.expect("written").into_inner().zookie;
    let seen =
        proto::CheckRequest { consistency: consistency(Requirement::AtLeast(zookie)), ..question(tuple) };
    assert_eq!(here.check(seen).await.expect("an answer").verdict(), Verdict::Allowed);
    refused(
        here.write(vec![update(Operation::Create, tuple)]).await,
        Code::AlreadyExists,
        "TUPLE_EXISTS",
        "",
    );
    stop(nodes).await;

    // Who sweeps now removes the one that is expired, and not the one that was created anew.
    let sweeping = serve(&place, |config| config.upkeep.sweep_interval = Duration::from_millis(20)).await;
    let begun = Instant::now();
    while place.number("SELECT count(*) FROM {tuple}").await != 1 {
        assert!(begun.elapsed() < Duration::from_mins(1), "it is not swept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sweeping.verdict(tuple).await, Verdict::Allowed);
    assert_eq!(sweeping.verdict(other).await, Verdict::Denied);
    sweeping.stop().await;
}

/// And is what it does: somebody who was denied is allowed.
async fn narrowing_inside_a_subtract_is_reported_as_widening(place: Place) {
    let nodes = nodes(&place).await;
    let (here, elsewhere) = (&nodes[0], &nodes[nodes.len() - 1]);
    let text = |blocked: &str| {
        format!(
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define owner: [user]\n    \
             define blocked: {blocked}\n    define viewer: owner but not blocked\n    \
             define guest: [user] but not viewer\n"
        )
    };
    let (wide, narrow) = (text("[user, user:*]"), text("[user]"));
    here.write_schema(&wide).await.expect("a schema");
    let zookie = here.touch(&["doc:1#owner@user:ann", "doc:1#blocked@user:*"]).await;
    let ask = |node: &Running, zookie: &str| {
        let consistency = consistency(Requirement::AtLeast(zookie.to_owned()));
        let request = proto::CheckRequest { consistency, ..question("doc:1#viewer@user:ann") };
        let mut permissions = node.permissions();
        async move { permissions.check(request).await.expect("an answer").into_inner().verdict() }
    };
    assert_eq!(ask(elsewhere, &zookie).await, Verdict::Denied);

    let request = proto::PlanSchemaRequest { text: narrow.clone(), ..Default::default() };
    let plan = elsewhere.schemas().plan_schema(request).await.expect("a plan").into_inner();
    let because = ["doc#blocked".to_owned()];
    let told: Vec<_> =
        plan.effects.iter().map(|effect| (effect.relation.as_str(), effect.direction())).collect();
    assert_eq!(
        told,
        [
            ("doc#blocked", Direction::Narrower),
            ("doc#viewer", Direction::Wider),
            ("doc#guest", Direction::Narrower),
        ]
    );
    assert!(plan.effects.iter().all(|effect| effect.because == because), "{plan:?}");
    assert_eq!(plan.orphans.iter().map(|orphans| orphans.count).sum::<u64>(), 1);

    let request = proto::WriteSchemaRequest { text: narrow, allow_orphans: true, ..Default::default() };
    let written = elsewhere.schemas().write_schema(request).await.expect("a schema").into_inner();
    assert_eq!(ask(here, &written.zookie).await, Verdict::Allowed);
    // The other way, the other direction.
    let request = proto::PlanSchemaRequest { text: wide, ..Default::default() };
    let plan = elsewhere.schemas().plan_schema(request).await.expect("a plan").into_inner();
    let viewer = plan.effects.iter().find(|effect| effect.relation == "doc#viewer").expect("an effect");
    assert_eq!(viewer.direction(), Direction::Narrower);
    stop(nodes).await;
}
