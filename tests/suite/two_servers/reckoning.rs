//! What clients were told, held against the log.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use relata::proto;
use relata::proto::consistency::Requirement;

use super::WRITERS;
use super::client::{Client, revision};
use super::model::Model;
use super::watcher::Entry;
use super::writer::SHARED;
use crate::grpc::{consistency, tuple};

/// A write that a server acknowledged.
pub struct Acknowledged {
    pub revision: u64,
    pub note: String,
    /// Whether each tuple is there afterwards.
    pub effects: Vec<(bool, String)>,
}

/// A verdict, and the revision it is of.
pub struct Answer {
    pub revision: u64,
    /// `object#relation@subject`
    pub asked: String,
    pub allowed: bool,
}

/// The documents on which a subject has a relation, and the revision the list is of.
pub struct Listed {
    pub revision: u64,
    pub relation: &'static str,
    pub subject: String,
    pub objects: BTreeSet<String>,
}

/// All that clients were told.
#[derive(Default)]
pub struct Record {
    pub writes: Vec<Acknowledged>,
    /// Notes of writes that were refused.
    pub refused: Vec<String>,
    /// Notes of attempts of which nothing was told.
    pub untold: HashSet<String>,
    pub answers: Vec<Answer>,
    pub lists: Vec<Listed>,
    /// Schemas in the order they were in force.
    pub schemas: Vec<String>,
    /// Writes that were told to be repetitions.
    pub replayed: u64,
    /// Questions by the freshness they asked for.
    pub at_least: u64,
    pub full: u64,
    pub newest: u64,
    pub exact: u64,
    /// Questions of writers whether the server has what it acknowledged.
    pub own: u64,
    pub readers_with_news: usize,
}

impl Record {
    pub fn add(&mut self, part: Self) {
        self.writes.extend(part.writes);
        self.refused.extend(part.refused);
        self.untold.extend(part.untold);
        self.answers.extend(part.answers);
        self.lists.extend(part.lists);
        self.replayed += part.replayed;
        self.at_least += part.at_least;
        self.full += part.full;
        self.newest += part.newest;
        self.exact += part.exact;
        self.own += part.own;
        self.readers_with_news += part.readers_with_news;
    }

    pub fn summary(&self) -> String {
        format!(
            "{} writes acknowledged ({} refused, {} repeated, {} untold), {} checks at least at a zookie, {} full, \
             {} at the newest, {} batches at exactly a zookie, {} of writers, {} lists and reads",
            self.writes.len(),
            self.refused.len(),
            self.replayed,
            self.untold.len(),
            self.at_least,
            self.full,
            self.newest,
            self.exact,
            self.own,
            self.lists.len(),
        )
    }

    /// Replays the log and holds everything against it; the state at its end.
    pub fn reckon(&self, log: &[Entry]) -> Model {
        self.each_write_is_there_once(log);
        let schemas: Vec<&String> =
            log.iter().map(|entry| &entry.schema_id).filter(|id| !id.is_empty()).collect();
        assert_eq!(schemas, self.schemas.iter().collect::<Vec<_>>(), "the schemas that Watch showed");

        let writes = by_revision(&self.writes, |write| write.revision);
        let answers = by_revision(&self.answers, |answer| answer.revision);
        let lists = by_revision(&self.lists, |list| list.revision);
        let latest = [&writes.keys().max(), &answers.keys().max(), &lists.keys().max()]
            .into_iter()
            .flatten()
            .max()
            .copied();
        assert!(latest.is_none_or(|latest| *latest <= log.len() as u64), "told of revision {latest:?}");

        let mut model = Model::default();
        for (index, entry) in log.iter().enumerate() {
            let at = index as u64 + 1;
            for (present, tuple) in &entry.changes {
                assert!(model.put(tuple, *present), "revision {at} changes nothing about {tuple}: {entry:?}");
                let lease = tuple.starts_with("doc:lease-");
                assert!(
                    !lease || model.stored(tuple.split('@').next().unwrap_or_default()) <= 1,
                    "revision {at} gives a lease to a second one: {tuple}"
                );
            }
            for write in writes.get(&at).into_iter().flatten() {
                for (present, tuple) in &write.effects {
                    assert_eq!(
                        model.contains(tuple),
                        *present,
                        "{tuple} after {} at revision {at}",
                        write.note
                    );
                }
            }
            for Answer { asked, allowed, .. } in answers.get(&at).into_iter().flatten().copied() {
                let proto::Tuple { object, relation, subject, .. } = tuple(asked);
                assert_eq!(*allowed, model.holds(&object, &relation, &subject), "{asked} at revision {at}");
            }
            for Listed { relation, subject, objects, .. } in lists.get(&at).into_iter().flatten().copied() {
                assert_eq!(*objects, model.objects("doc", relation, subject), "{relation} {subject} at {at}");
            }
        }
        model
    }

    /// Every acknowledged write is under its own revision, with what it asked for; one that found
    /// everything as it asked for is nowhere, and neither is one that was refused. Nothing else
    /// is in the log.
    fn each_write_is_there_once(&self, log: &[Entry]) {
        let mut places = HashMap::new();
        for (entry, at) in log.iter().zip(1_u64..) {
            if entry.note.starts_with('w') {
                let before = places.insert(entry.note.as_str(), at);
                assert_eq!(before, None, "{} is in the log again, at revision {at}", entry.note);
            }
        }
        for write in &self.writes {
            match places.remove(write.note.as_str()) {
                Some(at) => {
                    assert_eq!(at, write.revision, "{} was acknowledged under another revision", write.note);
                    let shown = &log[usize::try_from(at).expect("an index") - 1].changes;
                    let foreign = shown.iter().find(|change| !write.effects.contains(change));
                    assert_eq!(foreign, None, "{} did not ask for that", write.note);
                }
                None => assert!(
                    write.effects.iter().all(|(_, tuple)| !tuple.starts_with("draft:")),
                    "{} was acknowledged at revision {} and is not in the log",
                    write.note,
                    write.revision
                ),
            }
        }
        let refused = self.refused.iter().find(|note| places.contains_key(note.as_str()));
        assert_eq!(refused, None, "a refused write is in the log");
        let stray: BTreeMap<_, _> = places.iter().filter(|(note, _)| !self.untold.contains(**note)).collect();
        assert!(stray.is_empty(), "nobody was told of {stray:?}");
    }
}

fn by_revision<T>(told: &[T], revision: impl Fn(&T) -> u64) -> HashMap<u64, Vec<&T>> {
    let mut sorted: HashMap<u64, Vec<&T>> = HashMap::new();
    for one in told {
        sorted.entry(revision(one)).or_default().push(one);
    }
    sorted
}

/// The tuples that the record holds are those the log leads to.
pub async fn compare_tuples(client: &Client, model: &Model, last: &str) {
    let request = proto::ReadRequest { at_least: last.to_owned(), ..Default::default() };
    let (tuples, at) = client.read(request).await;
    assert_eq!(at, revision(last), "nobody writes any more");
    let count = tuples.len();
    let tuples = BTreeSet::from_iter(tuples);
    assert_eq!(tuples.len(), count, "a tuple was read twice");
    let expected = model.tuples();
    let difference: Vec<_> = tuples.symmetric_difference(&expected).collect();
    assert!(difference.is_empty(), "stored or replayed, not both: {difference:?}");
}

/// The graph of the client's server gives the lists that follow from the log.
pub async fn compare_lists(client: &Client, model: &Model, last: &str) {
    let fresh = || consistency(Requirement::AtLeast(last.to_owned()));
    let shared = (0..SHARED).map(|user| ("doc", "viewer", format!("user:s{user}")));
    let own = (0..WRITERS).flat_map(|writer| {
        ["reader", "auditor"].map(|relation| ("draft", relation, format!("user:w{writer}")))
    });
    for (object_type, relation, subject) in shared.chain(own) {
        let request = proto::ListObjectsRequest {
            subject: subject.clone(),
            relation: relation.to_owned(),
            object_type: object_type.to_owned(),
            consistency: fresh(),
            ..Default::default()
        };
        let (objects, at) = client.list_objects(request).await;
        assert_eq!(at, revision(last));
        let count = objects.len();
        let objects = BTreeSet::from_iter(objects);
        assert_eq!(objects.len(), count, "a list names something twice");
        assert_eq!(
            objects,
            model.objects(object_type, relation, &subject),
            "{object_type} {relation} {subject}"
        );
    }
    for doc in 0..SHARED {
        let object = format!("doc:s{doc}");
        let request = proto::ListSubjectsRequest {
            object: object.clone(),
            relation: "viewer".into(),
            subject_type: "user".into(),
            consistency: fresh(),
            ..Default::default()
        };
        let (subjects, at) = client.list_subjects(request).await;
        assert_eq!(at, revision(last));
        assert_eq!(BTreeSet::from_iter(subjects), model.users(&object, "viewer"), "{object}");
    }
}
