//! Asks about everything, with every kind of freshness.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::client::{Client, Known};
use super::writer::{DOCS, FOLDERS, GROUPS, USERS};
use crate::history::fact::Relation::{
    Auditor, Blocked, Granted, Member, Owner, Parent, Reader as MayRead, Seen, Viewer, Writer,
};
use crate::history::fact::{Fact, Relation, Subject};
use crate::history::journal::History;
use crate::history::operation::{Filter, Freshness, Question};

/// Reads until the run is over; returns what it was answered.
pub async fn read(mut client: Client, pace: Duration) -> History {
    while !client.shared.is_over() {
        let question = question(&mut client.random);
        let (freshness, zookie) = freshness(&mut client, &question);
        let before = client.history.asked.len();
        client.ask(freshness, &zookie, question).await;
        let answered = client.history.asked.len() > before;
        if !answered || client.random.random_ratio(1, 60) {
            client.move_on();
        }
        let pause = if answered { pace } else { pace.max(Duration::from_millis(20)) };
        tokio::time::sleep(pause.mul_f64(client.random.random())).await;
    }
    client.history
}

fn freshness(client: &mut Client, question: &Question) -> (Freshness, String) {
    let reads = matches!(question, Question::Read(_));
    let drawn = client.random.random_range(0..20);
    let shared = client.shared.clone();
    let known = shared.recent(&mut client.random);
    match (drawn, known) {
        (0..7, _) if !reads => (Freshness::Newest, String::new()),
        (7..13, Some(Known { zookie, point })) => (Freshness::AtLeast(point), zookie),
        (13..16, Some(Known { zookie, point })) if !reads => (Freshness::Exact(point), zookie),
        _ => (Freshness::Full, String::new()),
    }
}

fn question(random: &mut StdRng) -> Question {
    match random.random_range(0..20) {
        0..11 => Question::Check(asked(random)),
        11..15 => {
            let many = random.random_range(4..=16);
            Question::Batch((0..many).map(|_| asked(random)).collect())
        }
        15..17 => {
            Question::Objects(*pick(random, &[Viewer, Viewer, Granted, Seen]), random.random_range(0..USERS))
        }
        17 => Question::Users(*pick(random, &[Viewer, Granted]), random.random_range(0..DOCS)),
        _ => Question::Read(match random.random_range(0..3) {
            0 => Filter::About(Subject::User(random.random_range(0..USERS))),
            1 => Filter::Of(Member, random.random_range(0..GROUPS)),
            _ => Filter::Of(*pick(random, &[Granted, Blocked, Parent]), random.random_range(0..DOCS)),
        }),
    }
}

fn pick<'a, T>(random: &mut StdRng, choices: &'a [T]) -> &'a T {
    &choices[random.random_range(0..choices.len())]
}

fn asked(random: &mut StdRng) -> Fact {
    const ASKED: [Relation; 10] =
        [Viewer, Viewer, Viewer, Granted, Blocked, Owner, Auditor, Member, MayRead, Writer];
    let relation = *pick(random, &ASKED);
    let user = Subject::User(random.random_range(0..USERS));
    let object = match relation {
        Member => random.random_range(0..GROUPS),
        MayRead => random.random_range(0..FOLDERS),
        Writer | Seen => random.random_range(0..4),
        Viewer | Granted | Blocked | Owner | Auditor | Parent => random.random_range(0..DOCS),
    };
    Fact::new(relation, object, user)
}
