//! **Differential.** Random schemas, tuples stored and contextual, conditions and contexts: what a
//! server answers to every question of its API is what a model says that shares no code with it.
//!
//! This asks a real server over gRPC. The test `oracle` asks the engine in process, thousands of
//! worlds a second; both have the same worlds and the same model.
//!
//! ```text
//! RELATA_SCENARIO_WORLDS=2000 cargo test --test suite scenarios::differential -- --nocapture
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryStreamExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use relata::proto;
use relata::proto::userset_tree::Node;
use tonic::{Response, Status};

use super::asked_worlds::{answer, context, error, make, tuples, world};
use crate::grpc::{Running, text};
use crate::oracle::model::{Answer, Model, Solution};
use crate::oracle::world::{
    Expr, NAMES, Subject, World, object_text, relation_name, subject_text, type_name,
};

/// Worlds of the short form.
const WORLDS: usize = 40;

type Userset = (usize, usize, usize);
/// A list: items that are allowed or conditional, or that one of them fails.
type List = Result<BTreeMap<String, Answer>, ()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_of_the_api() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("RELATA_SCENARIO_SEED").unwrap_or(1);
    let worlds =
        number("RELATA_SCENARIO_WORLDS").map_or(WORLDS, |many| usize::try_from(many).expect("a number"));
    let server = Running::sqlite(|_| {}).await;
    let mut tally = Tally::default();
    for seed in seed.. {
        if tally.worlds == worlds {
            break;
        }
        let Some((world, schema)) = world(seed) else { continue };
        // Few schemas with conditions have words; half of the worlds are to have some.
        if tally.worlds % 2 == 1 && world.conditions.is_empty() {
            continue;
        }
        let Some(store) = make(&server, &world, &schema).await else { continue };
        tally.worlds += 1;
        let mut judge = Judge {
            server: &server,
            store,
            model: Model::new(&world),
            world: &world,
            solutions: HashMap::new(),
            tally: &mut tally,
        };
        judge.all(&mut StdRng::seed_from_u64(seed)).await;
    }
    println!("{tally:?}");
    assert!(tally.allowed > worlds && tally.conditional > 0 && tally.trees > worlds);
    server.stop().await;
}

#[derive(Debug, Default)]
struct Tally {
    worlds: usize,
    checks: usize,
    allowed: usize,
    conditional: usize,
    errors: usize,
    lists: usize,
    trees: usize,
}

impl Tally {
    fn count(&mut self, answer: &Answer) {
        match answer {
            Answer::Allowed => self.allowed += 1,
            Answer::Denied => {}
            Answer::Conditional(_) => self.conditional += 1,
            Answer::Error => self.errors += 1,
        }
    }
}

struct Judge<'a> {
    server: &'a Running,
    store: String,
    world: &'a World,
    model: Model<'a>,
    solutions: HashMap<Subject, Solution>,
    tally: &'a mut Tally,
}

fn userset_text((object_type, id, name): Userset) -> String {
    format!("{}#{}", object_text((object_type, id)), relation_name(name))
}

impl Judge<'_> {
    fn wanted(&mut self, userset: Userset, subject: Subject) -> Answer {
        let solution = self.solutions.entry(subject).or_insert_with(|| self.model.solve(subject));
        self.model.answer(solution, subject, userset)
    }

    fn agree<T: PartialEq + std::fmt::Debug>(&self, question: &str, wanted: &T, got: &T) {
        assert!(
            wanted == got,
            "{}\n{question}:\n  the model says {wanted:?}\n  the server     {got:?}",
            self.world.describe(),
        );
    }

    async fn all(&mut self, random: &mut StdRng) {
        self.stored().await;
        let mut subjects = self.world.subjects();
        subjects.shuffle(random);
        subjects.truncate(4);
        let mut usersets = self.world.usersets();
        usersets.shuffle(random);
        self.batch(&subjects, &usersets).await;
        for subject in subjects {
            for userset in usersets.iter().take(6) {
                self.check(*userset, subject).await;
            }
            for object_type in 1..self.world.objects.len() {
                self.list_relations((object_type, 0), subject).await;
                for name in 0..NAMES {
                    if self.world.relations[object_type][name].is_some() {
                        self.list_objects(object_type, name, subject, 0).await;
                        self.list_objects(object_type, name, subject, 1).await;
                    }
                }
            }
        }
        for userset in usersets.into_iter().take(4) {
            self.list_subjects(userset, 0).await;
            self.list_subjects(userset, 2).await;
            self.expand(userset).await;
        }
    }

    /// What is stored is what was written and has not expired.
    async fn stored(&mut self) {
        let request = proto::ReadRequest { store: self.store.clone(), page_size: 3, ..Default::default() };
        let (mut got, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let request = proto::ReadRequest { cursor: cursor.clone(), ..request.clone() };
            let stream = self.server.tuples().read(request).await.expect("a page").into_inner();
            let messages: Vec<proto::ReadResponse> = stream.try_collect().await.expect("a page");
            cursor = messages.last().map(|last| last.cursor.clone()).unwrap_or_default();
            got.extend(messages.iter().flat_map(|message| &message.tuples).map(text));
            if cursor.is_empty() {
                break;
            }
        }
        let live = |tuple: &&proto::Tuple| tuple.expires_at.as_ref().is_none_or(|moment| moment.seconds > 1);
        let wanted: BTreeSet<String> = tuples(self.world, false).iter().filter(live).map(text).collect();
        self.agree("what is stored", &wanted, &got);
    }

    async fn check(&mut self, userset: Userset, subject: Subject) {
        let wanted = self.wanted(userset, subject);
        let request = proto::CheckRequest {
            store: self.store.clone(),
            object: object_text((userset.0, userset.1)),
            relation: relation_name(userset.2),
            subject: subject_text(subject),
            context: Some(context(self.world)),
            contextual_tuples: tuples(self.world, true),
            ..Default::default()
        };
        let question = format!("check {}@{}", userset_text(userset), subject_text(subject));
        for explain in [false, true] {
            let got = match self.server.check(proto::CheckRequest { explain, ..request.clone() }).await {
                Ok(got) => {
                    if let Some(explanation) = &got.explanation {
                        self.agree(&question, &got.verdict(), &explanation.nodes[0].verdict());
                    }
                    answer(got.verdict(), &got.missing)
                }
                Err(status) => error(&status),
            };
            self.agree(&format!("{question}, explained: {explain}"), &wanted, &got);
        }
        self.tally.checks += 2;
        self.tally.count(&wanted);
    }

    async fn batch(&mut self, subjects: &[Subject], usersets: &[Userset]) {
        let pairs: Vec<(Userset, Subject)> = usersets
            .iter()
            .flat_map(|userset| subjects.iter().map(move |subject| (*userset, *subject)))
            .collect();
        let items = pairs.iter().map(|(userset, subject)| proto::BatchCheckItem {
            object: object_text((userset.0, userset.1)),
            relation: relation_name(userset.2),
            subject: subject_text(*subject),
        });
        let request = proto::BatchCheckRequest {
            store: self.store.clone(),
            items: items.collect(),
            context: Some(context(self.world)),
            contextual_tuples: tuples(self.world, true),
            ..Default::default()
        };
        let got = self.server.permissions().batch_check(request).await.expect("a batch").into_inner();
        assert_eq!(got.results.len(), pairs.len());
        for ((userset, subject), result) in pairs.into_iter().zip(got.results) {
            let wanted = self.wanted(userset, subject);
            let got = match &result.error {
                Some(failed) => {
                    assert_eq!(failed.reason, "CONDITION_FAILED", "{failed:?}");
                    Answer::Error
                }
                None => answer(result.verdict(), &result.missing),
            };
            let question = format!("one of a batch: {}@{}", userset_text(userset), subject_text(subject));
            self.agree(&question, &wanted, &got);
            self.tally.checks += 1;
            self.tally.count(&wanted);
        }
    }

    async fn list_relations(&mut self, object: (usize, usize), subject: Subject) {
        let mut wanted: List = Ok(BTreeMap::new());
        for name in 0..NAMES {
            if self.world.relations[object.0][name].is_some() {
                let one = self.wanted((object.0, object.1, name), subject);
                add(&mut wanted, relation_name(name), one);
            }
        }
        let request = proto::ListRelationsRequest {
            store: self.store.clone(),
            object: object_text(object),
            subject: subject_text(subject),
            context: Some(context(self.world)),
            contextual_tuples: tuples(self.world, true),
            ..Default::default()
        };
        let got = self.server.permissions().list_relations(request).await.map(Response::into_inner);
        let got: List = got.map_err(|status| drop(error(&status))).map(|got| {
            let relations = got.relations.into_iter();
            relations.map(|one| (one.relation.clone(), answer(one.verdict(), &one.missing))).collect()
        });
        let question = format!("relations of {} to {}", subject_text(subject), object_text(object));
        self.agree(&question, &wanted, &got);
        self.tally.lists += 1;
    }

    async fn list_objects(&mut self, object_type: usize, name: usize, subject: Subject, page_size: u32) {
        let mut wanted: List = Ok(BTreeMap::new());
        for id in 0..=self.world.objects[object_type] {
            let one = self.wanted((object_type, id, name), subject);
            add(&mut wanted, object_text((object_type, id)), one);
        }
        let mut request = proto::ListObjectsRequest {
            store: self.store.clone(),
            subject: subject_text(subject),
            relation: relation_name(name),
            object_type: type_name(object_type),
            context: Some(context(self.world)),
            contextual_tuples: tuples(self.world, true),
            page_size,
            ..Default::default()
        };
        let got: Result<BTreeMap<String, Answer>, Status> = async {
            let mut got = BTreeMap::new();
            loop {
                let stream = self.server.permissions().list_objects(request.clone()).await?.into_inner();
                let messages: Vec<proto::ListObjectsResponse> = stream.try_collect().await?;
                request.cursor = messages.last().map(|last| last.cursor.clone()).unwrap_or_default();
                for one in messages.into_iter().flat_map(|message| message.objects) {
                    let twice = got.insert(one.object.clone(), answer(one.verdict(), &one.missing));
                    assert!(twice.is_none(), "{} is listed twice", one.object);
                }
                if request.cursor.is_empty() {
                    return Ok(got);
                }
            }
        }
        .await;
        let got: List = got.map_err(|status| drop(error(&status)));
        let question = format!(
            "objects {}#{} of {}, {page_size} to a page",
            type_name(object_type),
            relation_name(name),
            subject_text(subject)
        );
        self.agree(&question, &wanted, &got);
        self.tally.lists += 1;
    }

    /// The subjects of every kind that have a relation: what is listed, and that whoever is not
    /// named fares as the wildcard does.
    async fn list_subjects(&mut self, userset: Userset, page_size: u32) {
        for subject_type in 0..self.world.objects.len() {
            let relations = (0..NAMES).filter(|name| self.world.relations[subject_type][*name].is_some());
            let kinds: Vec<Option<usize>> = std::iter::once(None).chain(relations.map(Some)).collect();
            for kind in kinds {
                let mut each = BTreeMap::new();
                for id in 0..=self.world.objects[subject_type] {
                    let subject = match kind {
                        None => Subject::Object(subject_type, id),
                        Some(name) => Subject::Userset(subject_type, id, name),
                    };
                    each.insert(subject_text(subject), self.wanted(userset, subject));
                }
                let public = match kind {
                    None => self.wanted(userset, Subject::Wildcard(subject_type)),
                    Some(_) => Answer::Denied,
                };
                let question =
                    format!("subjects {}{kind:?} of {}", type_name(subject_type), userset_text(userset));
                let found = match self.listed_subjects(userset, subject_type, kind, page_size).await {
                    Ok(found) => found,
                    Err(status) => {
                        let erroneous = each.values().chain([&public]).any(|answer| *answer == Answer::Error);
                        assert!(erroneous, "{}\n{question}: {status:?}", self.world.describe());
                        error(&status);
                        continue;
                    }
                };
                let wildcard = subject_text(Subject::Wildcard(subject_type));
                let listed = found.get(&wildcard).cloned().unwrap_or(Answer::Denied);
                self.agree(&format!("{question}: the wildcard"), &public, &listed);
                for (subject, wanted) in &each {
                    let got = found.get(subject).unwrap_or(&listed);
                    self.agree(&format!("{question}: {subject} in {found:?}"), wanted, got);
                }
                self.tally.lists += 1;
            }
        }
    }

    async fn listed_subjects(
        &self,
        userset: Userset,
        subject_type: usize,
        kind: Option<usize>,
        page_size: u32,
    ) -> Result<BTreeMap<String, Answer>, Status> {
        let mut request = proto::ListSubjectsRequest {
            store: self.store.clone(),
            object: object_text((userset.0, userset.1)),
            relation: relation_name(userset.2),
            subject_type: type_name(subject_type),
            subject_relation: kind.map(relation_name).unwrap_or_default(),
            context: Some(context(self.world)),
            contextual_tuples: tuples(self.world, true),
            page_size,
            ..Default::default()
        };
        let mut found = BTreeMap::new();
        loop {
            let stream = self.server.permissions().list_subjects(request.clone()).await?.into_inner();
            let messages: Vec<proto::ListSubjectsResponse> = stream.try_collect().await?;
            request.cursor = messages.last().map(|last| last.cursor.clone()).unwrap_or_default();
            for one in messages.into_iter().flat_map(|message| message.subjects) {
                let twice = found.insert(one.subject.clone(), answer(one.verdict(), &one.missing));
                assert!(twice.is_none(), "{} is listed twice", one.subject);
            }
            if request.cursor.is_empty() {
                return Ok(found);
            }
        }
    }

    /// One level of a relation, evaluated here with the model's answers below it, is the model's
    /// answer. Where nothing is uncertain: a tree shows conditions and does not judge them, and
    /// what is undefined below a subtract is more than an answer tells.
    async fn expand(&mut self, userset: Userset) {
        let request = proto::ExpandRequest {
            store: self.store.clone(),
            object: object_text((userset.0, userset.1)),
            relation: relation_name(userset.2),
            contextual_tuples: tuples(self.world, true),
            ..Default::default()
        };
        let got = self.server.permissions().expand(request).await.expect("a tree").into_inner();
        let tree = got.tree.expect("a tree");
        assert_eq!(tree.userset, userset_text(userset));
        self.tally.trees += 1;
        let mut relations = self.world.relations.iter().flatten().flatten();
        if !self.world.conditions.is_empty() || relations.any(|relation| subtracts(&relation.expr)) {
            return;
        }
        for subject in self.world.subjects() {
            let itself = subject_text(subject) == userset_text(userset);
            let got = itself || self.holds(&tree, subject);
            let wanted = self.wanted(userset, subject) == Answer::Allowed;
            let question = format!("{} in the tree {tree:?}", subject_text(subject));
            self.agree(&question, &wanted, &got);
            self.tally.checks += 1;
        }
    }

    fn holds(&mut self, tree: &proto::UsersetTree, subject: Subject) -> bool {
        match tree.node.as_ref().expect("a node") {
            Node::Leaf(leaf) => leaf.tuples.iter().any(|tuple| {
                let wildcard = match subject {
                    Subject::Object(object_type, _) => Some(Subject::Wildcard(object_type)),
                    Subject::Wildcard(_) | Subject::Userset(..) => None,
                };
                tuple.subject == subject_text(subject)
                    || wildcard.is_some_and(|wildcard| tuple.subject == subject_text(wildcard))
                    || (tuple.subject.contains('#') && self.has(&tuple.subject, subject))
            }),
            Node::Computed(userset) => self.has(userset, subject),
            Node::TupleToUserset(all) => all.computed.iter().any(|userset| self.has(userset, subject)),
            Node::Union(all) => all.operands.iter().any(|tree| self.holds(tree, subject)),
            Node::Intersection(all) => all.operands.iter().all(|tree| self.holds(tree, subject)),
            Node::Difference(parts) => {
                let (base, subtract) = (parts.base.as_ref(), parts.subtract.as_ref());
                self.holds(base.expect("a base"), subject)
                    && !self.holds(subtract.expect("a subtract"), subject)
            }
        }
    }

    /// The model's answer for a userset in words.
    fn has(&mut self, text: &str, subject: Subject) -> bool {
        let userset = self.world.usersets().into_iter().find(|userset| userset_text(*userset) == text);
        userset.is_some_and(|userset| self.wanted(userset, subject) == Answer::Allowed)
    }
}

fn subtracts(expr: &Expr) -> bool {
    match expr {
        Expr::This | Expr::Computed(_) | Expr::From(..) => false,
        Expr::Or(operands) | Expr::And(operands) => operands.iter().any(subtracts),
        Expr::Not(..) => true,
    }
}

fn add(list: &mut List, name: String, answer: Answer) {
    match answer {
        Answer::Denied => {}
        Answer::Error => *list = Err(()),
        Answer::Allowed | Answer::Conditional(_) => {
            if let Ok(list) = list {
                list.insert(name, answer);
            }
        }
    }
}
