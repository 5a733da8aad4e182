//! The engine against the model of `model.rs` on random worlds.
//!
//! `RELATA_ORACLE_WORLDS` worlds (10,000 without it) from seed `RELATA_ORACLE_SEED` (1 without
//! it) on. A failure prints its world and its seed. The long run:
//!
//! ```text
//! RELATA_ORACLE_WORLDS=1000000 cargo test --release --test suite oracle -- --nocapture
//! ```

pub mod model;
pub mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use relata::condition::Required;
use relata::context::Context;
use relata::engine::{
    Check, EngineError, Limits, ListObjects, ListRelations, ListSubjects, Memo, Scope, Verdict,
};
use relata::graph::{Binding, Index, Ordinal, QuestionView, SubjectNode};
use relata::schema::{RelationId, Rules, SubjectKind};
use relata::time::Timestamp;

use crate::ask::run;
use model::{Answer, Model, Solution};
use world::{NAMES, NOW, Subject, World, object_text, relation_name, subject_text, type_name};

/// An object and the name of one of its relations.
type Userset = (usize, usize, usize);

/// What was compared.
#[derive(Default)]
struct Tally {
    worlds: AtomicU64,
    checks: AtomicU64,
    allowed: AtomicU64,
    conditional: AtomicU64,
    errors: AtomicU64,
    lists: AtomicU64,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn random_worlds() {
    let (worlds, seed) = (setting("RELATA_ORACLE_WORLDS", 10_000), setting("RELATA_ORACLE_SEED", 1));
    let tally = Tally::default();
    let next = AtomicU64::new(seed);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed_of_world = next.fetch_add(1, Relaxed);
                    if seed_of_world >= seed + worlds {
                        return;
                    }
                    judge(seed_of_world, &tally);
                }
            });
        }
    });
    println!(
        "oracle: {} worlds from seed {seed}: {} questions of Check ({} allowed, {} conditional, {} errors), each with a \
         fresh and a shared memo, and {} lists agree with the model",
        tally.worlds.load(Relaxed),
        tally.checks.load(Relaxed),
        tally.allowed.load(Relaxed),
        tally.conditional.load(Relaxed),
        tally.errors.load(Relaxed),
        tally.lists.load(Relaxed),
    );
}

/// The product's view of a world.
struct Ground {
    rules: Arc<Rules>,
    view: QuestionView,
    context: Context,
    limits: Limits,
}

impl Ground {
    fn new(world: &World) -> Self {
        let rules = Arc::new(Rules::compile(&world.schema()));
        let mut index = Index::new();
        for tuple in world.tuples(false) {
            index.apply(&tuple.key, Some(&tuple.attributes)).unwrap();
        }
        let snapshot = index.snapshot();
        let binding = Arc::new(Binding::new(Arc::clone(&rules), &snapshot));
        let view = QuestionView::new(snapshot, binding, Timestamp::from_micros(NOW))
            .with_contextual(&world.tuples(true));
        Self { rules, view, context: world.request_context(), limits: Limits::default() }
    }

    fn scope(&self) -> Scope<'_, QuestionView> {
        Scope {
            rules: &self.rules,
            view: &self.view,
            context: &self.context,
            required: Required::Deciding,
            limits: &self.limits,
        }
    }

    fn object(&mut self, object: (usize, usize)) -> Ordinal {
        self.view.object(&object_text(object).parse().unwrap())
    }

    fn relation(&self, object_type: usize, name: usize) -> RelationId {
        let type_id = self.rules.type_id(&type_name(object_type)).unwrap();
        self.rules.relation_id(type_id, &relation_name(name).parse().unwrap()).unwrap()
    }

    fn subject(&mut self, subject: Subject) -> SubjectNode {
        self.view.subject(&subject_text(subject).parse().unwrap()).unwrap()
    }
}

/// A verdict in the words of the model.
fn answer(verdict: &Verdict) -> Answer {
    match verdict {
        Verdict::Allowed => Answer::Allowed,
        Verdict::Denied => Answer::Denied,
        Verdict::Conditional { missing } => Answer::Conditional(
            missing.iter().map(|name| name.trim_start_matches('p').parse().unwrap()).collect(),
        ),
    }
}

fn error(error: &EngineError) -> Answer {
    match error {
        EngineError::Condition { .. } => Answer::Error,
        EngineError::LimitExceeded { .. } | EngineError::DepthExceeded { .. } => {
            panic!("a limit was met: {error}")
        }
    }
}

/// A list in the words of the model; one uncertain item that is an error makes all of it one.
type List = Result<BTreeMap<String, Answer>, ()>;

fn judge(seed: u64, tally: &Tally) {
    let world = World::random(seed);
    let mut judge = Judge {
        model: Model::new(&world),
        ground: Ground::new(&world),
        rng: StdRng::seed_from_u64(seed ^ 0x5eed),
        solutions: HashMap::new(),
        world: &world,
        tally,
    };
    tally.worlds.fetch_add(1, Relaxed);
    let mut subjects = world.subjects();
    subjects.shuffle(&mut judge.rng);
    subjects.truncate(5);
    for subject in subjects {
        judge.subject(subject);
    }
    let mut usersets = world.usersets();
    usersets.shuffle(&mut judge.rng);
    usersets.truncate(3);
    for userset in usersets {
        judge.list_subjects(userset);
    }
}

struct Judge<'a> {
    world: &'a World,
    model: Model<'a>,
    ground: Ground,
    rng: StdRng,
    /// What the model found out about subjects that are listed.
    solutions: HashMap<Subject, Solution>,
    tally: &'a Tally,
}

impl Judge<'_> {
    fn slice(&mut self) -> u64 {
        *[1, 7, u64::MAX].choose(&mut self.rng).unwrap()
    }

    fn agree<T: PartialEq + std::fmt::Debug>(&self, question: &str, wanted: &T, got: &T) {
        assert!(
            wanted == got,
            "{}\n{question}:\n  the model says {wanted:?}\n  the engine     {got:?}",
            self.world.describe(),
        );
    }

    /// Every question about one subject: Check in a random order with fresh memos and with one
    /// for all, the relations of every object, and the objects of every relation.
    fn subject(&mut self, subject: Subject) {
        let solution = self.model.solve(subject);
        let mut usersets = self.world.usersets();
        usersets.shuffle(&mut self.rng);
        let mut shared = Memo::default();
        for userset in &usersets {
            let wanted = self.model.answer(&solution, subject, *userset);
            self.check(*userset, subject, &wanted, &mut Memo::default(), "fresh memo");
            self.check(*userset, subject, &wanted, &mut shared, "shared memo");
            self.tally.checks.fetch_add(1, Relaxed);
            match wanted {
                Answer::Allowed => drop(self.tally.allowed.fetch_add(1, Relaxed)),
                Answer::Denied => {}
                Answer::Conditional(_) => drop(self.tally.conditional.fetch_add(1, Relaxed)),
                Answer::Error => drop(self.tally.errors.fetch_add(1, Relaxed)),
            }
        }
        for object_type in 1..self.world.objects.len() {
            for id in 0..=self.world.objects[object_type] {
                self.list_relations(&solution, (object_type, id), subject);
            }
            for name in 0..NAMES {
                if self.world.relations[object_type][name].is_some() {
                    self.list_objects(&solution, object_type, name, subject);
                }
            }
        }
    }

    fn check(&mut self, userset: Userset, subject: Subject, wanted: &Answer, memo: &mut Memo, label: &str) {
        let slice = self.slice();
        let object = self.ground.object((userset.0, userset.1));
        let subject_node = self.ground.subject(subject);
        let mut check = Check::new(object, self.ground.relation(userset.0, userset.2), subject_node);
        let scope = self.ground.scope();
        let got = match run(slice, |fuel| check.run(&scope, memo, fuel)) {
            Ok(got) => answer(&got.verdict),
            Err(reason) => error(&reason),
        };
        let (object, name) = (object_text((userset.0, userset.1)), relation_name(userset.2));
        let question =
            format!("check {object}#{name}@{} ({label}, slices of {slice})", subject_text(subject));
        self.agree(&question, wanted, &got);
    }

    fn list_relations(&mut self, solution: &Solution, object: (usize, usize), subject: Subject) {
        let mut wanted: List = Ok(BTreeMap::new());
        for name in 0..NAMES {
            if self.world.relations[object.0][name].is_some() {
                let one = self.model.answer(solution, subject, (object.0, object.1, name));
                add(&mut wanted, relation_name(name), one);
            }
        }
        let slice = self.slice();
        let ordinal = self.ground.object(object);
        let subject_node = self.ground.subject(subject);
        let rules = Arc::clone(&self.ground.rules);
        let type_id = rules.type_id(&type_name(object.0)).unwrap();
        let mut search = ListRelations::new(&rules, ordinal, type_id, subject_node);
        let scope = self.ground.scope();
        let mut memo = Memo::default();
        let got: List = match run(slice, |fuel| search.run(&scope, &mut memo, fuel)) {
            Ok(found) => Ok(found
                .iter()
                .map(|found| {
                    let name = rules.relations()[usize::from(found.relation.0)].name.to_string();
                    (name, answer(&found.verdict))
                })
                .collect()),
            Err(reason) => fail(&reason),
        };
        self.tally.lists.fetch_add(1, Relaxed);
        let question = format!("relations of {} to {}", subject_text(subject), object_text(object));
        self.agree(&question, &wanted, &got);
    }

    fn list_objects(&mut self, solution: &Solution, object_type: usize, name: usize, subject: Subject) {
        let mut wanted: List = Ok(BTreeMap::new());
        for id in 0..=self.world.objects[object_type] {
            let one = self.model.answer(solution, subject, (object_type, id, name));
            add(&mut wanted, object_text((object_type, id)), one);
        }
        let slice = self.slice();
        let subject_node = self.ground.subject(subject);
        let mut search = ListObjects::new(subject_node, self.ground.relation(object_type, name));
        let scope = self.ground.scope();
        let mut memo = Memo::default();
        let outcome = run(slice, |fuel| search.run(&scope, &mut memo, fuel));
        let found = search.take_found();
        let got: List = match outcome {
            Ok(_) => Ok(found
                .iter()
                .map(|found| {
                    (
                        relata::graph::View::object(&self.ground.view, found.object).to_string(),
                        answer(&found.verdict),
                    )
                })
                .collect()),
            Err(reason) => fail(&reason),
        };
        self.tally.lists.fetch_add(1, Relaxed);
        let question = format!(
            "objects {} with {} for {} (slices of {slice})",
            type_name(object_type),
            relation_name(name),
            subject_text(subject)
        );
        self.agree(&question, &wanted, &got);
        if let Ok(got) = &got {
            assert_eq!(got.len(), found.len(), "{question}: found twice in {found:?}");
        }
    }

    /// The subjects of every kind that have a relation: what is listed, what the wildcard
    /// stands for, and that nothing else would be allowed.
    fn list_subjects(&mut self, userset: Userset) {
        let question = |kind: &str| {
            format!("subjects {kind} of {}#{}", object_text((userset.0, userset.1)), relation_name(userset.2))
        };
        let relation = self.ground.relation(userset.0, userset.2);
        let object = self.ground.object((userset.0, userset.1));
        for subject_type in 0..self.world.objects.len() {
            let kinds = std::iter::once(None).chain(
                (0..NAMES).filter(|name| self.world.relations[subject_type][*name].is_some()).map(Some),
            );
            for kind in kinds.collect::<Vec<_>>() {
                let mut each = BTreeMap::new();
                for id in 0..=self.world.objects[subject_type] {
                    let subject = match kind {
                        None => Subject::Object(subject_type, id),
                        Some(name) => Subject::Userset(subject_type, id, name),
                    };
                    each.insert(subject_text(subject), self.answer(userset, subject));
                }
                let public = match kind {
                    None => self.answer(userset, Subject::Wildcard(subject_type)),
                    Some(_) => Answer::Denied,
                };
                let slice = self.slice();
                let kind_id = {
                    let rules = &self.ground.rules;
                    rules.kind_id(match kind {
                        None => SubjectKind::Object(rules.type_id(&type_name(subject_type)).unwrap()),
                        Some(name) => SubjectKind::Userset(self.ground.relation(subject_type, name)),
                    })
                };
                let mut search = ListSubjects::new(object, relation, kind_id);
                let scope = self.ground.scope();
                let outcome = run(slice, |fuel| search.run(&scope, fuel));
                let found: BTreeMap<String, Answer> = search
                    .take_found()
                    .iter()
                    .map(|found| (scope.subject(found.subject).to_string(), answer(&found.verdict)))
                    .collect();
                self.tally.lists.fetch_add(1, Relaxed);
                let label = question(&format!("{}{kind:?}", type_name(subject_type)));
                let erroneous =
                    public == Answer::Error || each.values().any(|answer| *answer == Answer::Error);
                if let Err(reason) = outcome {
                    let _ = error(&reason);
                    assert!(erroneous, "{}\n{label}: failed: {reason}", self.world.describe());
                    continue;
                }
                let wildcard = subject_text(Subject::Wildcard(subject_type));
                let listed = found.get(&wildcard).cloned().unwrap_or(Answer::Denied);
                self.agree(&format!("{label}: the wildcard"), &public, &listed);
                // Whoever is not named fares as the wildcard does.
                for (subject, wanted) in &each {
                    let got = found.get(subject).unwrap_or(&listed);
                    self.agree(&format!("{label}: {subject} in {found:?}"), wanted, got);
                }
            }
        }
    }

    fn answer(&mut self, userset: Userset, subject: Subject) -> Answer {
        let solution = self.solutions.entry(subject).or_insert_with(|| self.model.solve(subject));
        self.model.answer(solution, subject, userset)
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

fn fail(reason: &EngineError) -> List {
    let _ = error(reason);
    Err(())
}
