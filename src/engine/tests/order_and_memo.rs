//! Questions in fifty orders with one memo, in slices of 1, of 7 and without end, with the short
//! cuts on and off: identical answers.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::agreement::{objects, random_schema, random_world, subjects};
use crate::engine::{Check, Memo};
use crate::schema::rules::testing::unpruned;

const ORDERS: usize = 50;
const SLICES: [u64; 3] = [1, 7, u64::MAX];

/// How a question is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// As on a server.
    Fast,
    /// Every goal by alternating bounds.
    Exhaustive,
    /// Nothing is left out because its type cannot matter.
    Unpruned,
}

#[test]
fn no_order_slice_or_short_cut_changes_an_answer() {
    for seed in 0..worlds() {
        let random = &mut StdRng::seed_from_u64(seed);
        let mut world = random_world(random);
        // The schema is the first thing drawn from a seed.
        let schema = random_schema(&mut StdRng::seed_from_u64(seed));
        let (pruned, whole) = (Arc::clone(&world.rules), Arc::new(unpruned(&schema)));
        let (subjects, objects) = (subjects(&mut world), objects(&mut world));
        let (subject_text, subject) = subjects.choose(random).expect("one");
        let mut questions = Vec::new();
        for (object_text, object, relations) in &objects {
            for relation in relations {
                let answer = world.ask(Check::new(*object, *relation, *subject), &mut Memo::new(), u64::MAX);
                questions.push((object_text, *object, *relation, answer));
            }
        }
        for order in 0..ORDERS {
            questions.shuffle(random);
            for path in [Path::Fast, Path::Exhaustive, Path::Unpruned] {
                world.rules = Arc::clone(if path == Path::Unpruned { &whole } else { &pruned });
                for slice in SLICES {
                    let mut memo = Memo::new();
                    for (object_text, object, relation, wanted) in &questions {
                        let check = Check::new(*object, *relation, *subject);
                        let check =
                            if path == Path::Exhaustive { check.exhaustive(&world.rules) } else { check };
                        let got = world.ask(check, &mut memo, slice);
                        // Which of several conditions is met first is not said.
                        let errors = got.starts_with("error") && wanted.starts_with("error");
                        let name = &world.rules.relation(*relation).name;
                        assert!(
                            got == *wanted || errors,
                            "seed {seed}: {object_text}#{name}@{subject_text} in order {order}, {path:?}, \
                             slices of {slice}: {got}, not {wanted}"
                        );
                    }
                }
            }
        }
    }
}

/// How many worlds: few unless asked for more.
fn worlds() -> u64 {
    std::env::var("RELATA_WORLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}
