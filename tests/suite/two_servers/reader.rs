//! Asks the other server about every write as soon as it is acknowledged, and asks around.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use tokio::sync::mpsc;

use super::client::{Client, revision};
use super::reckoning::{Answer, Listed, Record};
use super::writer::{News, PAIRS, SHARED, halves, shared_question};
use crate::grpc::{consistency, question, tuple};

pub struct Reader {
    client: Client,
    heard: mpsc::Receiver<News>,
    random: StdRng,
    /// The newest revision that an answer without any wish was of: it never goes back.
    newest: u64,
    record: Record,
}

impl Reader {
    pub fn new(index: usize, client: Client, heard: mpsc::Receiver<News>) -> Self {
        let random = StdRng::seed_from_u64(1_000 + index as u64);
        Self { client, heard, random, newest: 0, record: Record::default() }
    }

    /// Reads until its writer is done; returns what it was answered.
    pub async fn run(mut self) -> Record {
        while let Some(news) = self.heard.recv().await {
            self.record.readers_with_news = 1;
            self.verify(news).await;
            match self.random.random_range(0..8) {
                0 => self.ask_for_everything_acknowledged().await,
                1 => self.ask_for_the_newest_here().await,
                2 => self.ask_about_pairs_at_exactly().await,
                3 => self.ask_about_pairs_here().await,
                4 => self.list().await,
                5 => self.read().await,
                _ => self.ask_after_another_write().await,
            }
        }
        self.record
    }

    /// The write is seen by whoever names its zookie.
    async fn verify(&mut self, news: News) {
        for (asked, expected) in news.questions {
            let answer = self.client.check_at_least(question(&asked), &news.zookie).await;
            let allowed = self.note(&asked, answer.verdict(), &answer.zookie);
            self.record.at_least += 1;
            assert!(revision(&answer.zookie) >= revision(&news.zookie), "{asked} was answered too early");
            assert!(
                expected.is_none_or(|expected| expected == allowed),
                "{asked} at least at {} was answered {allowed} at {}",
                revision(&news.zookie),
                revision(&answer.zookie),
            );
        }
    }

    /// Writes down an answer for the reckoning.
    fn note(&mut self, asked: &str, verdict: Verdict, zookie: &str) -> bool {
        let allowed = match verdict {
            Verdict::Allowed => true,
            Verdict::Denied => false,
            Verdict::Unspecified | Verdict::Conditional => panic!("{asked}: {verdict:?}"),
        };
        self.record.answers.push(Answer { revision: revision(zookie), asked: asked.to_owned(), allowed });
        allowed
    }

    async fn ask(&mut self, asked: &str, wish: Requirement) -> u64 {
        let request = proto::CheckRequest { consistency: consistency(wish), ..question(asked) };
        let answer = self.client.check(request).await;
        self.note(asked, answer.verdict(), &answer.zookie);
        revision(&answer.zookie)
    }

    async fn ask_for_everything_acknowledged(&mut self) {
        let asked = shared_question(&mut self.random);
        let acknowledged = self.client.shared.acknowledged();
        let at = self.ask(&asked, Requirement::Full(())).await;
        assert!(at >= acknowledged, "{acknowledged} was acknowledged, {asked} answered at {at}");
        self.record.full += 1;
    }

    async fn ask_for_the_newest_here(&mut self) {
        let asked = shared_question(&mut self.random);
        let at = self.ask(&asked, Requirement::MinimizeLatency(())).await;
        self.never_back(at);
        self.record.newest += 1;
    }

    fn never_back(&mut self, at: u64) {
        assert!(at >= self.newest, "one server answered at {} and then at {at}", self.newest);
        self.newest = at;
    }

    async fn ask_after_another_write(&mut self) {
        let asked = shared_question(&mut self.random);
        let zookie = self.client.shared.recent().expect("a write was acknowledged");
        let least = revision(&zookie);
        let at = self.ask(&asked, Requirement::AtLeast(zookie)).await;
        assert!(at >= least, "{asked} was answered at {at}, not {least}");
        self.record.at_least += 1;
    }

    async fn ask_about_pairs_at_exactly(&mut self) {
        let zookie = self.client.shared.recent().expect("a write was acknowledged");
        let at = self.ask_about_pairs(Requirement::Exact(zookie.clone())).await;
        assert_eq!(at, revision(&zookie), "answered at another revision than asked for");
        self.record.exact += 1;
    }

    async fn ask_about_pairs_here(&mut self) {
        let at = self.ask_about_pairs(Requirement::MinimizeLatency(())).await;
        self.never_back(at);
        self.record.newest += 1;
    }

    /// Both halves or none, whenever one looks.
    async fn ask_about_pairs(&mut self, wish: Requirement) -> u64 {
        let mut asked: Vec<String> = (0..PAIRS).flat_map(halves).collect();
        asked.push(shared_question(&mut self.random));
        let items = asked.iter().map(|text| {
            let proto::Tuple { object, relation, subject, .. } = tuple(text);
            proto::BatchCheckItem { object, relation, subject }
        });
        let request = proto::BatchCheckRequest {
            items: items.collect(),
            consistency: consistency(wish),
            ..Default::default()
        };
        let answer = self.client.batch_check(request).await;
        assert_eq!(answer.results.len(), asked.len());
        let mut allowed = Vec::new();
        for (asked, result) in asked.iter().zip(&answer.results) {
            assert_eq!(result.error, None, "{asked}");
            allowed.push(self.note(asked, result.verdict(), &answer.zookie));
        }
        let (pairs, _) = allowed.as_chunks::<2>();
        assert!(
            pairs.iter().all(|[left, right]| left == right),
            "half a write was seen: {asked:?} {allowed:?}"
        );
        revision(&answer.zookie)
    }

    async fn list(&mut self) {
        let subject = format!("user:s{}", self.random.random_range(0..SHARED));
        let request = proto::ListObjectsRequest {
            subject: subject.clone(),
            relation: "viewer".into(),
            object_type: "doc".into(),
            consistency: consistency(Requirement::Full(())),
            ..Default::default()
        };
        let acknowledged = self.client.shared.acknowledged();
        let (objects, at) = self.client.list_objects(request).await;
        assert!(at >= acknowledged, "{acknowledged} was acknowledged, the list is of {at}");
        self.list_of(at, "viewer", subject, objects);
    }

    /// Tuples as they are stored, by their subject.
    async fn read(&mut self) {
        let pair = self.random.random_range(0..PAIRS);
        let zookie = self.client.shared.recent().expect("a write was acknowledged");
        let filter = proto::TupleFilter {
            subject_type: "user".into(),
            subject_id: format!("p{pair}"),
            ..Default::default()
        };
        let least = revision(&zookie);
        let request = proto::ReadRequest { filter: Some(filter), at_least: zookie, ..Default::default() };
        let (tuples, at) = self.client.read(request).await;
        assert!(at >= least, "read at {at}, not {least}");
        assert!(tuples.is_empty() || tuples == halves(pair), "half a write was read: {tuples:?}");
        let objects = tuples.iter().map(|text| tuple(text).object).collect();
        self.list_of(at, "granted", format!("user:p{pair}"), objects);
    }

    fn list_of(&mut self, revision: u64, relation: &'static str, subject: String, objects: Vec<String>) {
        let count = objects.len();
        let objects = BTreeSet::from_iter(objects);
        assert_eq!(objects.len(), count, "a list names something twice");
        self.record.lists.push(Listed { revision, relation, subject, objects });
    }
}
