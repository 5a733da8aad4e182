//! **Order and memo.** One `BatchCheck` in fifty orders, on servers whose searches run in slices of
//! 1, of 7 and without end: what one question leaves behind for the next, and where a search is
//! interrupted, changes no answer.
//!
//! The same with the engine's short cuts off, which no server can be told, is the test
//! `engine::tests::order_and_memo`.
//!
//! ```text
//! RELATA_SCENARIO_WORLDS=500 cargo test --test suite scenarios::order_and_memo -- --nocapture
//! ```

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use relata::proto;

use super::asked_worlds::{answer, context, make, tuples, world};
use crate::grpc::Running;
use crate::oracle::model::{Answer, Model};
use crate::oracle::world::{Subject, object_text, relation_name, subject_text};

const ORDERS: usize = 50;
const SLICES: [u64; 3] = [1, 7, u64::MAX];
/// Worlds of the short form.
const WORLDS: usize = 3;
/// Questions of one batch.
const ITEMS: usize = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_batch_in_fifty_orders() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let worlds =
        number("RELATA_SCENARIO_WORLDS").map_or(WORLDS, |many| usize::try_from(many).expect("a number"));
    let mut servers = Vec::new();
    for slice in SLICES {
        servers.push(Running::sqlite(|config| config.slice = slice).await);
    }
    let (mut asked, mut answers) = (0, 0);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in number("RELATA_SCENARIO_SEED").unwrap_or(1).. {
        if asked == worlds {
            break;
        }
        let Some((world, schema)) = world(seed) else { continue };
        let random = &mut StdRng::seed_from_u64(seed);
        let mut pairs: Vec<((usize, usize, usize), Subject)> = Vec::new();
        let mut subjects = world.subjects();
        subjects.shuffle(random);
        for subject in subjects.into_iter().take(6) {
            pairs.extend(world.usersets().into_iter().map(|userset| (userset, subject)));
        }
        pairs.truncate(ITEMS);
        if pairs.len() < ITEMS / 2 {
            continue;
        }
        let model = Model::new(&world);
        let wanted: Vec<Answer> = pairs
            .iter()
            .map(|(userset, subject)| model.answer(&model.solve(*subject), *subject, *userset))
            .collect();
        let mut kinds_here: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in &wanted {
            let kind = match answer {
                Answer::Allowed => "allowed",
                Answer::Denied => "denied",
                Answer::Conditional(_) => "conditional",
                Answer::Error => "errors",
            };
            *kinds_here.entry(kind).or_default() += 1;
        }
        if kinds_here.len() < 3 {
            continue;
        }
        let mut stores = Vec::new();
        for server in &servers {
            stores.extend(make(server, &world, &schema).await);
        }
        if stores.len() < servers.len() {
            continue;
        }
        asked += 1;
        for (kind, many) in kinds_here {
            *kinds.entry(kind).or_default() += many;
        }
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        for round in 0..ORDERS {
            order.shuffle(random);
            for ((server, slice), store) in servers.iter().zip(SLICES).zip(&stores) {
                let items = order.iter().map(|&at| {
                    let (userset, subject) = pairs[at];
                    proto::BatchCheckItem {
                        object: object_text((userset.0, userset.1)),
                        relation: relation_name(userset.2),
                        subject: subject_text(subject),
                    }
                });
                let request = proto::BatchCheckRequest {
                    store: store.clone(),
                    items: items.collect(),
                    context: Some(context(&world)),
                    contextual_tuples: tuples(&world, true),
                    ..Default::default()
                };
                let got = server.permissions().batch_check(request).await.expect("a batch").into_inner();
                assert_eq!(got.results.len(), order.len());
                for (&at, result) in order.iter().zip(&got.results) {
                    let got = match &result.error {
                        Some(_) => Answer::Error,
                        None => answer(result.verdict(), &result.missing),
                    };
                    assert!(
                        got == wanted[at],
                        "{}\n{:?} in order {round} and slices of {slice}: {got:?}, not {:?}",
                        world.describe(),
                        pairs[at],
                        wanted[at],
                    );
                    answers += 1;
                }
            }
        }
    }
    println!("{answers} answers in {ORDERS} orders and slices of {SLICES:?}, of {asked} worlds: {kinds:?}");
    assert!(kinds.len() >= 3, "{kinds:?}");
    for server in servers {
        server.stop().await;
    }
}
