//! Four times what the server can do.
//!
//! One store asks for more and more lists, three others for a few each, and all of them for Checks.
//! What the server answers in time must not fall as it is asked for more; the few lists of the
//! others are answered all the while, and so is health; memory stays flat; and as soon as the load
//! ends everything is as it was.
//!
//! Once the lists are long, so that they take turns on the pool; once they are short, so that they
//! are computed where calls are served, and what there is too much of is calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::alone;
use super::figure::{Page, Row};
use super::load::{End, Kind, Sample, Stream, ask, drive};
use super::tally::{Tally, count, ms};
use super::world::{FAR, NEAR, World};

const GREEDY: &str = "greedy";
const POLITE: [&str; 3] = ["polite-1", "polite-2", "polite-3"];
/// What each polite store asks for, in parts of what the server can do.
const MODEST: f64 = 0.08;
/// In parts of what the server can do.
const STEPS: [f64; 6] = [0.5, 0.8, 1.0, 1.5, 2.5, 4.0];
const SHORT_STEPS: [f64; 2] = [1.0, 4.0];

/// Load of all stores, `times` what the server can do of a kind of list.
fn load(lists: Kind, capacity: f64, times: f64, deadline: Duration) -> Vec<Stream> {
    let stream = |store, kind, per_second| Stream { store, kind, per_second, deadline };
    let polite = times.min(1.0) * MODEST * capacity;
    let mut streams = vec![
        stream(GREEDY, lists, times * capacity - 3.0 * polite),
        stream(GREEDY, Kind::Check, 20.0),
        stream("default", Kind::Health, 20.0),
        stream(POLITE[0], Kind::Write, 5.0),
    ];
    for store in POLITE {
        streams.push(stream(store, lists, polite));
        streams.push(stream(store, Kind::Check, 20.0));
    }
    streams
}

/// Lists that the server completes in a second if it is always asked for some more.
async fn capacity(world: &World, lists: Kind, length: Duration) -> f64 {
    let channels = world.connections(4).await;
    let begun = Instant::now();
    let askers = (0..8).map(|asker| {
        let channel = channels[asker % channels.len()].clone();
        let store = if asker % 2 == 0 { GREEDY } else { POLITE[0] };
        let stream = Stream { store, kind: lists, per_second: 0.0, deadline: Duration::from_mins(1) };
        tokio::spawn(async move {
            let mut answered = 0;
            while begun.elapsed() < length {
                answered += usize::from(ask(channel.clone(), &stream, 0).await.end == End::Answered);
            }
            answered
        })
    });
    let mut answered = 0;
    for asker in askers.collect::<Vec<_>>() {
        answered += asker.await.expect("an asker");
    }
    count(answered) / begun.elapsed().as_secs_f64()
}

/// Looks at the server's memory until it is told to stop; the largest it saw.
fn memory(world: &Arc<World>, over: &Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let (world, over) = (Arc::clone(world), Arc::clone(over));
    tokio::spawn(async move {
        let mut most = 0;
        while !over.load(Ordering::Relaxed) {
            most = most.max(world.server.resident_bytes());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        most
    })
}

/// Until a list is answered as fast as before the load.
async fn recovery(world: &World, lists: Kind, idle: Duration) -> Duration {
    let channel = world.connect().await;
    let stream = Stream { store: GREEDY, kind: lists, per_second: 0.0, deadline: Duration::from_secs(10) };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        let sample = ask(channel.clone(), &stream, 0).await;
        if sample.end == End::Answered && sample.took <= idle * 2 + Duration::from_millis(20) {
            break;
        }
    }
    begun.elapsed()
}

fn row(times: f64, kind: Kind, length: Duration, samples: &[Sample], resident: usize) -> Row {
    let polite = |kind| {
        let those: Vec<Sample> = samples.iter().filter(|sample| sample.store != GREEDY).copied().collect();
        Tally::of(&those, kind, None)
    };
    let lists = Tally::of(samples, kind, None);
    // What is answered when nothing is asked for any more says nothing about a server under load.
    let during: Vec<Sample> = samples.iter().filter(|sample| sample.ended <= length).copied().collect();
    Row {
        times,
        offered: count(lists.asked) / length.as_secs_f64(),
        goodput: count(Tally::of(&during, kind, None).answered()) / length.as_secs_f64(),
        greedy: Tally::of(samples, kind, Some(GREEDY)),
        polite: polite(kind),
        checks: polite(Kind::Check),
        writes: Tally::of(samples, Kind::Write, None),
        health: Tally::of(samples, Kind::Health, None),
        lists,
        resident,
    }
}

/// Asks for ever more lists of a kind, and holds what became of them against what is promised.
///
/// In the long form `kept` of the goodput must be left. The short form asks from a slow build on a
/// machine that others use, so that it asks for less, three times if need be: what collapses under
/// overload keeps a tenth and less of its goodput, and does so each time.
async fn four_times(lists: Kind, name: &'static str, kept: f64) {
    let _alone = alone().await;
    let long =
        std::env::var("RELATA_OVERLOAD_SECONDS").ok().map(|text| text.parse::<u64>().expect("seconds"));
    if let Some(seconds) = long {
        let page = measured(lists, name, Duration::from_secs(seconds), &STEPS).await;
        page.publish();
        judged(&page, kept, 0.95).unwrap_or_else(|wrong| panic!("{wrong}"));
        return;
    }
    let mut wrong = Vec::new();
    while wrong.len() < 3 {
        match judged(&measured(lists, name, Duration::from_secs(3), &SHORT_STEPS).await, 0.1, 0.5) {
            Ok(()) => return,
            Err(what) => wrong.push(what),
        }
    }
    panic!("{wrong:#?}");
}

/// What becomes of lists in each step of load.
async fn measured(lists: Kind, name: &'static str, length: Duration, steps: &[f64]) -> Page {
    let stores = [GREEDY, POLITE[0], POLITE[1], POLITE[2]];
    let world = Arc::new(World::start(&stores, &[]).await);
    let idle = world.idle(GREEDY, if lists == Kind::LongList { FAR } else { NEAR }).await;
    // Enough for a search that takes turns with some others, and not for one behind hundreds.
    let deadline = (idle * 40).clamp(Duration::from_millis(500), length / 3);
    let capacity = capacity(&world, lists, length.min(Duration::from_secs(5))).await;
    let mut page = Page { name, capacity, idle, deadline, rows: Vec::new(), recovered: Duration::ZERO };
    println!("{}", page.head());
    for times in steps {
        let channels = world.connections(8).await;
        let over = Arc::default();
        let watched = memory(&world, &over);
        let samples = drive(&channels, &load(lists, capacity, *times, deadline), length).await;
        over.store(true, Ordering::Relaxed);
        let row = row(*times, lists, length, &samples, watched.await.expect("a size"));
        println!("{}", row.line());
        page.rows.push(row);
    }
    page.recovered = recovery(&world, lists, idle).await;
    println!("as fast as before {} ms after the load", ms(page.recovered));
    page
}

/// Whether what is promised was kept: this part of the goodput, and of what those are served who ask
/// for little.
fn judged(page: &Page, kept: f64, served: f64) -> Result<(), String> {
    let peak = page.rows.iter().map(|row| row.goodput).fold(0.0, f64::max);
    let (first, last) = (&page.rows[0], &page.rows[page.rows.len() - 1]);
    let wrong = if last.goodput < kept * peak {
        "the goodput fell"
    } else if last.polite.share() < served {
        "who asks for little is not answered"
    } else if last.checks.share() < served || last.health.share() < served {
        "short questions or health are not answered"
    } else if last.resident > first.resident + first.resident / 4 + (32 << 20) {
        "memory grows"
    } else if page.recovered >= Duration::from_secs(if kept > 0.1 { 2 } else { 10 }) {
        "it takes too long to recover"
    } else {
        return Ok(());
    };
    Err(format!("{wrong}: {}; after {}; recovered in {:?}", last.line(), first.line(), page.recovered))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_the_long_lists_it_can_do() {
    four_times(Kind::LongList, "long", 0.8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_the_short_lists_it_can_do() {
    // Thousands of calls a second more than it can do: most of the processors goes to who asks on the
    // same machine, and to refusing.
    four_times(Kind::ShortList, "short", 0.4).await;
}
