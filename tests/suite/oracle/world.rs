//! Random worlds: a small schema, tuples, a context and questions, all by one seed.
//!
//! A world is written in types of its own, so that the model that judges it shares nothing with
//! the code it judges. Only `schema()`, `tuples()` and friends translate, at the very end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use relata::condition::{Condition, ParameterType};
use relata::context::{Context, Value};
use relata::schema::{
    Dialect, RelationDefinition, Restriction, RestrictionSubject, Rewrite, Schema, TypeDefinition,
};
use relata::time::Timestamp;
use relata::tuple::{Attributes, Tuple, TupleCondition};

/// The moment every question of every world is asked at.
pub const NOW: i64 = 1_000_000;

/// A rewrite as the world has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    This,
    Computed(usize),
    /// (tupleset relation of the same type, name of the relation asked)
    From(usize, usize),
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>, Box<Expr>),
}

/// What a restriction accepts: objects, the wildcard, or usersets of a relation name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Object,
    Wildcard,
    Userset(usize),
}

/// One restriction: subject type, part, condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepts {
    pub subject_type: usize,
    pub part: Part,
    pub condition: Option<usize>,
}

#[derive(Debug, Clone)]
pub struct Relation {
    pub expr: Expr,
    pub accepts: Vec<Accepts>,
}

/// What a condition computes; parameters are `p0`, `p1`, …, each an int or a bool.
#[derive(Debug, Clone, Copy)]
pub enum Formula {
    /// `p < n`
    Less(usize, i64),
    /// `p < n && q < m`
    Both(usize, usize),
    /// `p < n || q < m`
    Either(usize, usize),
    /// `10 / p > 2`: an error where p is zero.
    Divide(usize),
}

pub const PARAMETERS: usize = 3;

/// A subject or, without wildcard and userset, an object: (type, id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Object(usize, usize),
    Wildcard(usize),
    /// type, id, relation name
    Userset(usize, usize, usize),
}

#[derive(Debug, Clone)]
pub struct Fact {
    pub object: (usize, usize),
    pub relation: usize,
    pub subject: Subject,
    pub condition: Option<(usize, BTreeMap<usize, i64>)>,
    pub expires_at: Option<i64>,
    pub contextual: bool,
}

/// Relation names are shared by all types: `relations[type][name]`.
#[derive(Debug, Clone)]
pub struct World {
    pub seed: u64,
    pub relations: Vec<Vec<Option<Relation>>>,
    pub conditions: Vec<Formula>,
    /// How many objects of each type have ids `0..n`; one more is never mentioned.
    pub objects: Vec<usize>,
    pub facts: Vec<Fact>,
    pub context: BTreeMap<usize, i64>,
}

pub const NAMES: usize = 4;

impl World {
    pub fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let types = rng.random_range(2..=4);
        let conditions = (0..[0, 1, 1, 2, 2][rng.random_range(0..5)])
            .map(|_| {
                let (p, q) = (rng.random_range(0..PARAMETERS), rng.random_range(0..PARAMETERS));
                match rng.random_range(0..4) {
                    0 => Formula::Less(p, rng.random_range(0..3)),
                    1 => Formula::Both(p, q),
                    2 => Formula::Either(p, q),
                    _ => Formula::Divide(p),
                }
            })
            .collect::<Vec<_>>();
        // Type 0 is the plain user: it has no relations.
        let mut relations: Vec<Vec<Option<Relation>>> = vec![(0..NAMES).map(|_| None).collect()];
        for _ in 1..types {
            relations.push(
                (0..NAMES)
                    .map(|name| {
                        (name == 0 || rng.random_bool(0.75))
                            .then(|| Relation { expr: Expr::This, accepts: vec![] })
                    })
                    .collect(),
            );
        }
        // Relation 0 is always direct with plain objects, so that it can be a tupleset.
        for object_type in 1..types {
            for name in 0..NAMES {
                if relations[object_type][name].is_none() {
                    continue;
                }
                let accepts = if name == 0 {
                    let mut accepts = vec![];
                    for subject_type in 0..types {
                        if rng.random_bool(0.6) {
                            accepts.push(Accepts {
                                subject_type,
                                part: Part::Object,
                                condition: maybe_condition(&mut rng, &conditions),
                            });
                        }
                    }
                    if accepts.is_empty() {
                        accepts.push(Accepts {
                            subject_type: object_type,
                            part: Part::Object,
                            condition: None,
                        });
                    }
                    accepts
                } else {
                    random_accepts(&mut rng, &relations, &conditions)
                };
                let expr = if name == 0 {
                    Expr::This
                } else {
                    random_expr(&mut rng, &relations, object_type, name, 3)
                };
                let accepts = if mentions_this(&expr) { accepts } else { vec![] };
                relations[object_type][name] = Some(Relation { expr, accepts });
            }
        }
        let objects: Vec<usize> = (0..types).map(|_| rng.random_range(1..=2)).collect();
        let mut world =
            Self { seed, relations, conditions, objects, facts: vec![], context: BTreeMap::new() };
        for parameter in 0..PARAMETERS {
            if rng.random_bool(0.5) {
                world.context.insert(parameter, rng.random_range(0..3));
            }
        }
        world.random_facts(&mut rng);
        world
    }

    fn random_facts(&mut self, rng: &mut StdRng) {
        let types = self.objects.len();
        for _ in 0..rng.random_range(4..=30) {
            let object_type = rng.random_range(1..types);
            let relation = rng.random_range(0..NAMES);
            let Some(definition) = self.relations[object_type][relation].clone() else { continue };
            let object = (object_type, rng.random_range(0..self.objects[object_type]));
            // Mostly what the schema allows, sometimes anything at all: that must be ignored.
            let accepts = if rng.random_bool(0.93) {
                let Some(accepts) = definition.accepts.choose(rng) else { continue };
                *accepts
            } else {
                let subject_type = rng.random_range(0..types);
                let part = match rng.random_range(0..3) {
                    0 => Part::Object,
                    1 => Part::Wildcard,
                    _ => Part::Userset(rng.random_range(0..NAMES)),
                };
                Accepts { subject_type, part, condition: maybe_condition(rng, &self.conditions) }
            };
            let id = rng.random_range(0..self.objects[accepts.subject_type]);
            let subject = match accepts.part {
                Part::Object => Subject::Object(accepts.subject_type, id),
                Part::Wildcard => Subject::Wildcard(accepts.subject_type),
                Part::Userset(name) => Subject::Userset(accepts.subject_type, id, name),
            };
            let condition = accepts.condition.map(|condition| {
                let mut context = BTreeMap::new();
                for parameter in parameters(self.conditions[condition]) {
                    if rng.random_bool(0.3) {
                        context.insert(parameter, rng.random_range(0..3));
                    }
                }
                (condition, context)
            });
            let expires_at = match rng.random_range(0..10) {
                0 => Some(NOW),
                1 => Some(NOW + 1),
                _ => None,
            };
            let contextual = rng.random_bool(0.25);
            let same = |fact: &&Fact| {
                fact.object == object
                    && fact.relation == relation
                    && fact.subject == subject
                    && fact.contextual == contextual
            };
            // A store and a request hold a key at most once each.
            if self.facts.iter().find(same).is_none() {
                let fact = Fact { object, relation, subject, condition, expires_at, contextual };
                // Contextual tuples are validated, so a forbidden one cannot be asked with.
                if !contextual || self.allowed(&fact) {
                    self.facts.push(fact);
                }
            }
        }
    }

    /// Whether the schema allows the tuple.
    pub fn allowed(&self, fact: &Fact) -> bool {
        let Some(Some(relation)) =
            self.relations.get(fact.object.0).and_then(|names| names.get(fact.relation))
        else {
            return false;
        };
        let (subject_type, part) = match fact.subject {
            Subject::Object(subject_type, _) => (subject_type, Part::Object),
            Subject::Wildcard(subject_type) => (subject_type, Part::Wildcard),
            Subject::Userset(subject_type, _, name) => (subject_type, Part::Userset(name)),
        };
        let condition = fact.condition.as_ref().map(|(condition, _)| *condition);
        relation.accepts.contains(&Accepts { subject_type, part, condition })
    }

    /// Every subject worth asking about: all objects and one never mentioned, wildcards, usersets.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects = vec![];
        for (object_type, count) in self.objects.iter().enumerate() {
            for id in 0..=*count {
                subjects.push(Subject::Object(object_type, id));
                for name in 0..NAMES {
                    if self.relations[object_type][name].is_some() {
                        subjects.push(Subject::Userset(object_type, id, name));
                    }
                }
            }
            subjects.push(Subject::Wildcard(object_type));
        }
        subjects
    }

    /// Every (object, relation name) there is, objects never mentioned included.
    pub fn usersets(&self) -> Vec<(usize, usize, usize)> {
        let mut usersets = vec![];
        for (object_type, count) in self.objects.iter().enumerate() {
            for id in 0..=*count {
                for name in 0..NAMES {
                    if self.relations[object_type][name].is_some() {
                        usersets.push((object_type, id, name));
                    }
                }
            }
        }
        usersets
    }

    // From here on: translation into the types of the product.

    pub fn schema(&self) -> Schema {
        let types = self
            .relations
            .iter()
            .enumerate()
            .map(|(object_type, names)| TypeDefinition {
                name: type_name(object_type).parse().unwrap(),
                relations: names
                    .iter()
                    .enumerate()
                    .filter_map(|(name, relation)| {
                        relation.as_ref().map(|relation| RelationDefinition {
                            name: relation_name(name).parse().unwrap(),
                            rewrite: rewrite(&relation.expr),
                            restrictions: relation.accepts.iter().map(restriction).collect(),
                        })
                    })
                    .collect(),
            })
            .collect();
        let conditions = self
            .conditions
            .iter()
            .enumerate()
            .map(|(index, formula)| {
                let parameters = parameters(*formula)
                    .into_iter()
                    .map(|parameter| (format!("p{parameter}"), ParameterType::Int))
                    .collect();
                let name = condition_name(index).parse().unwrap();
                Arc::new(
                    Condition::compile(name, parameters, &expression(*formula)).expect("a sound condition"),
                )
            })
            .collect();
        Schema { dialect: Dialect::V1_1, types, conditions }
    }

    pub fn tuples(&self, contextual: bool) -> Vec<Tuple> {
        self.facts
            .iter()
            .filter(|fact| fact.contextual == contextual)
            .map(|fact| Tuple {
                key: format!(
                    "{}#{}@{}",
                    object_text(fact.object),
                    relation_name(fact.relation),
                    subject_text(fact.subject)
                )
                .parse()
                .unwrap(),
                attributes: Attributes {
                    condition: fact.condition.as_ref().map(|(condition, context)| TupleCondition {
                        name: condition_name(*condition).parse().unwrap(),
                        context: Arc::new(context_of(context)),
                    }),
                    expires_at: fact.expires_at.map(Timestamp::from_micros),
                },
            })
            .collect()
    }

    pub fn request_context(&self) -> Context {
        context_of(&self.context)
    }

    /// The schema in its own words: the product's printer is not trusted here.
    fn describe_schema(&self) -> String {
        let mut text = String::new();
        for (object_type, names) in self.relations.iter().enumerate() {
            let _ = writeln!(text, "type {}", type_name(object_type));
            for (name, relation) in names.iter().enumerate() {
                let Some(relation) = relation else { continue };
                let accepts: Vec<String> = relation
                    .accepts
                    .iter()
                    .map(|accepts| {
                        let subject_type = type_name(accepts.subject_type);
                        let part = match accepts.part {
                            Part::Object => String::new(),
                            Part::Wildcard => ":*".to_owned(),
                            Part::Userset(name) => format!("#{}", relation_name(name)),
                        };
                        let condition = accepts
                            .condition
                            .map_or_else(String::new, |index| format!(" with {}", condition_name(index)));
                        format!("{subject_type}{part}{condition}")
                    })
                    .collect();
                let this = format!("[{}]", accepts.join(", "));
                let _ = writeln!(
                    text,
                    "  define {}: {}",
                    relation_name(name),
                    describe_expr(&relation.expr, &this)
                );
            }
        }
        for (index, formula) in self.conditions.iter().enumerate() {
            let _ = writeln!(text, "condition {} {{ {} }}", condition_name(index), expression(*formula));
        }
        text
    }

    /// The world as text, for a failure report.
    pub fn describe(&self) -> String {
        let mut text = format!("world of seed {}\n{}", self.seed, self.describe_schema());
        for (contextual, label) in [(false, "stored"), (true, "contextual")] {
            for tuple in self.tuples(contextual) {
                let _ = write!(text, "\n{label} {}", tuple.key);
                if let Some(condition) = &tuple.attributes.condition {
                    let _ = write!(text, " with {} {:?}", condition.name, condition.context.0);
                }
                if let Some(moment) = tuple.attributes.expires_at {
                    let _ = write!(text, " until {}", moment.as_micros());
                }
            }
        }
        let _ = write!(text, "\nnow {NOW}, context {:?}", self.request_context().0);
        text
    }
}

fn maybe_condition(rng: &mut StdRng, conditions: &[Formula]) -> Option<usize> {
    (!conditions.is_empty() && rng.random_bool(0.5)).then(|| rng.random_range(0..conditions.len()))
}

fn random_accepts(
    rng: &mut StdRng,
    relations: &[Vec<Option<Relation>>],
    conditions: &[Formula],
) -> Vec<Accepts> {
    let mut accepts = vec![];
    for _ in 0..rng.random_range(1..=4) {
        let subject_type = rng.random_range(0..relations.len());
        let part = match rng.random_range(0..6) {
            0..=2 => Part::Object,
            3 => Part::Wildcard,
            _ => {
                let names: Vec<usize> =
                    (0..NAMES).filter(|name| relations[subject_type][*name].is_some()).collect();
                match names.choose(rng) {
                    Some(name) => Part::Userset(*name),
                    None => Part::Object,
                }
            }
        };
        let one = Accepts { subject_type, part, condition: maybe_condition(rng, conditions) };
        if !accepts.contains(&one) {
            accepts.push(one);
        }
    }
    accepts
}

fn random_expr(
    rng: &mut StdRng,
    relations: &[Vec<Option<Relation>>],
    object_type: usize,
    name: usize,
    depth: usize,
) -> Expr {
    let siblings: Vec<usize> =
        (0..NAMES).filter(|other| *other != name && relations[object_type][*other].is_some()).collect();
    let leaf = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 | 1 => Expr::This,
        2 | 3 => siblings.choose(rng).map_or(Expr::This, |other| Expr::Computed(*other)),
        _ => Expr::From(0, rng.random_range(0..NAMES)),
    };
    if depth == 0 || rng.random_bool(0.4) {
        return leaf(rng);
    }
    let below = |rng: &mut StdRng| random_expr(rng, relations, object_type, name, depth - 1);
    match rng.random_range(0..5) {
        0 | 1 => Expr::Or((0..rng.random_range(2..=3)).map(|_| below(rng)).collect()),
        2 => Expr::And((0..rng.random_range(2..=3)).map(|_| below(rng)).collect()),
        _ => Expr::Not(Box::new(below(rng)), Box::new(below(rng))),
    }
}

fn describe_expr(expr: &Expr, this: &str) -> String {
    let all = |operands: &[Expr], word: &str| {
        let operands: Vec<String> = operands.iter().map(|operand| describe_expr(operand, this)).collect();
        format!("({})", operands.join(word))
    };
    match expr {
        Expr::This => this.to_owned(),
        Expr::Computed(name) => relation_name(*name),
        Expr::From(tupleset, computed) => {
            format!("{} from {}", relation_name(*computed), relation_name(*tupleset))
        }
        Expr::Or(operands) => all(operands, " or "),
        Expr::And(operands) => all(operands, " and "),
        Expr::Not(base, subtract) => {
            format!("({} but not {})", describe_expr(base, this), describe_expr(subtract, this))
        }
    }
}

fn mentions_this(expr: &Expr) -> bool {
    match expr {
        Expr::This => true,
        Expr::Computed(_) | Expr::From(..) => false,
        Expr::Or(operands) | Expr::And(operands) => operands.iter().any(mentions_this),
        Expr::Not(base, subtract) => mentions_this(base) || mentions_this(subtract),
    }
}

/// The parameters a formula reads, sorted.
pub fn parameters(formula: Formula) -> Vec<usize> {
    let mut parameters = match formula {
        Formula::Less(p, _) | Formula::Divide(p) => vec![p],
        Formula::Both(p, q) | Formula::Either(p, q) => vec![p, q],
    };
    parameters.sort_unstable();
    parameters.dedup();
    parameters
}

fn expression(formula: Formula) -> String {
    match formula {
        Formula::Less(p, n) => format!("p{p} < {n}"),
        Formula::Both(p, q) => format!("p{p} < 2 && p{q} < 1"),
        Formula::Either(p, q) => format!("p{p} < 1 || p{q} < 2"),
        Formula::Divide(p) => format!("10 / p{p} > 5"),
    }
}

pub fn type_name(object_type: usize) -> String {
    ["user", "group", "folder", "doc"][object_type].to_owned()
}

pub fn relation_name(name: usize) -> String {
    ["parent", "member", "editor", "viewer"][name].to_owned()
}

fn condition_name(index: usize) -> String {
    format!("c{index}")
}

pub fn object_text((object_type, id): (usize, usize)) -> String {
    format!("{}:{id}", type_name(object_type))
}

pub fn subject_text(subject: Subject) -> String {
    match subject {
        Subject::Object(object_type, id) => object_text((object_type, id)),
        Subject::Wildcard(object_type) => format!("{}:*", type_name(object_type)),
        Subject::Userset(object_type, id, name) => {
            format!("{}#{}", object_text((object_type, id)), relation_name(name))
        }
    }
}

fn context_of(values: &BTreeMap<usize, i64>) -> Context {
    Context(values.iter().map(|(parameter, value)| (format!("p{parameter}"), Value::Int(*value))).collect())
}

fn rewrite(expr: &Expr) -> Rewrite {
    match expr {
        Expr::This => Rewrite::This,
        Expr::Computed(name) => Rewrite::Computed(relation_name(*name).parse().unwrap()),
        Expr::From(tupleset, computed) => Rewrite::TupleToUserset {
            tupleset: relation_name(*tupleset).parse().unwrap(),
            computed: relation_name(*computed).parse().unwrap(),
        },
        Expr::Or(operands) => Rewrite::Union(operands.iter().map(rewrite).collect()),
        Expr::And(operands) => Rewrite::Intersection(operands.iter().map(rewrite).collect()),
        Expr::Not(base, subtract) => {
            Rewrite::Exclusion { base: Box::new(rewrite(base)), subtract: Box::new(rewrite(subtract)) }
        }
    }
}

fn restriction(accepts: &Accepts) -> Restriction {
    Restriction {
        subject_type: type_name(accepts.subject_type).parse().unwrap(),
        subject: match accepts.part {
            Part::Object => RestrictionSubject::Object,
            Part::Wildcard => RestrictionSubject::Wildcard,
            Part::Userset(name) => RestrictionSubject::Userset(relation_name(name).parse().unwrap()),
        },
        condition: accepts.condition.map(|index| condition_name(index).parse().unwrap()),
    }
}
