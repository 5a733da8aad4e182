//! `Index::bytes` against the operating system, on stores of different shapes.

use std::sync::Arc;

use relata::context::{Context, Value};
use relata::graph::Index;
use relata::time::Timestamp;
use relata::tuple::{Attributes, TupleCondition, TupleKey};

use super::child;

/// Which shape and order the process is to build.
const BUILD: &str = "RELATA_TEST_BUILD";

/// Set to measure every shape in every order, and not only two.
const ALL: &str = "RELATA_MEMORY_ALL";

/// How far the two may lie apart, in hundredths of what is taken.
const TOLERANCE: usize = 25;

/// Tuples of each store, beside the few megabytes that a process has anyway.
const TUPLES: usize = 100_000;

fn mixed(number: usize) -> u64 {
    (number as u64 + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(31)
        .wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

fn uuid(number: usize) -> uuid::Uuid {
    uuid::Uuid::from_u64_pair(mixed(number), mixed(number ^ 0xABCD_EF01))
}

/// The tuple number so and so of a shape.
fn tuple(shape: &str, number: usize) -> (TupleKey, Attributes) {
    let text = match shape {
        // One group of everybody.
        "group" => format!("group:all#member@user:{}", uuid(number)),
        // Documents of folders, each with a few viewers.
        "documents" => {
            let document = number / 4;
            match number % 4 {
                0 => format!("document:quarterly-report-{document}#parent@folder:{}", document / 20),
                _ => format!(
                    "document:quarterly-report-{document}#viewer@user:{}",
                    uuid(number.wrapping_mul(7_919) % 5_000)
                ),
            }
        }
        // Few objects on either side.
        "dense" => format!("document:{}#viewer@user:{}", number / 400, number % 400),
        // Tuples with a condition and an expiry of their own.
        "conditions" => format!("document:{}#viewer@user:{}", uuid(number / 10), number % 1_000),
        other => panic!("no shape `{other}`"),
    };
    let attributes = match shape {
        "conditions" if number.is_multiple_of(3) => Attributes {
            condition: Some(TupleCondition {
                name: "office_hours".parse().expect("a name"),
                context: Arc::new(Context(
                    [("limit".to_owned(), Value::Int(number.try_into().expect("small")))].into(),
                )),
            }),
            expires_at: number
                .is_multiple_of(2)
                .then(|| Timestamp::from_micros(number.try_into().expect("small"))),
        },
        _ => Attributes::default(),
    };
    (text.parse().expect("a tuple"), attributes)
}

type Tuples = Vec<(TupleKey, Attributes)>;

/// Applies tuples as they come out of a database: sharing nothing with what is here already.
fn apply(index: &mut Index, tuples: &Tuples) {
    for (key, attributes) in tuples {
        let key: TupleKey = key.to_string().parse().expect("a tuple");
        let condition = attributes.condition.as_ref().map(|condition| TupleCondition {
            name: condition.name.as_str().parse().expect("a name"),
            context: Arc::new(Context::clone(&condition.context)),
        });
        let attributes = Attributes { condition, expires_at: attributes.expires_at };
        index.apply(&key, Some(&attributes)).expect("room");
    }
}

#[test]
fn a_store_is_counted_as_what_it_takes() {
    let Ok(asked) = std::env::var(BUILD) else {
        let shapes = ["group", "documents", "dense", "conditions"];
        // As a load reads it, as it was written, and as if it had been written at random.
        let all = shapes
            .iter()
            .flat_map(|shape| ["sorted", "written", "shuffled"].map(|order| format!("{shape} {order}")));
        let two = ["group shuffled", "documents sorted"].map(str::to_owned);
        let builds = if std::env::var_os(ALL).is_some() { all.collect() } else { Vec::from(two) };
        for build in builds {
            child::run("memory::accounting::a_store_is_counted_as_what_it_takes", BUILD, &build);
        }
        return;
    };
    let (shape, order) = asked.split_once(' ').expect("a shape and an order");
    let first: Tuples = (0..2_000).map(|number| tuple(shape, TUPLES + number)).collect();
    let mut tuples: Tuples = (0..TUPLES).map(|number| tuple(shape, number)).collect();
    match order {
        "sorted" => tuples.sort_by(|(one, _), (other, _)| one.cmp(other)),
        "shuffled" => tuples
            .sort_by_cached_key(|(key, _)| blake3::hash(key.to_string().as_bytes()).as_bytes().to_owned()),
        _ => {}
    }
    // A first graph pays for what the process needs anyway.
    let mut index = Index::new();
    apply(&mut index, &first);
    let (counted, before) = (index.bytes(), child::resident());
    apply(&mut index, &tuples);
    let (taken, counted) = (child::resident() - before, index.bytes() - counted);
    println!(
        "measured {asked}: {} bytes per tuple taken, {} counted, {} % of it",
        taken / TUPLES,
        counted / TUPLES,
        counted * 100 / taken,
    );
    assert!((100 - TOLERANCE..=100 + TOLERANCE).contains(&(counted * 100 / taken)));
}
