//! Which answers another schema changes, and in which direction, whatever tuples are stored.
//!
//! A relation changes because its own definition does, or because one that it refers to does. Read
//! positively, fewer members there are fewer members here; read as the subtract of a `but not`,
//! fewer members there are **more** members here. So taking `user:*` from `blocked` is widening for
//! every relation that says `but not blocked`, and looks like narrowing to whoever reads the
//! difference of the texts.
//!
//! What is found is what *may* happen: the tuples decide whether it does. First, references are
//! followed through the definitions in force, with what they will mean; then each definition is
//! held against its successor, operand by operand. Where that gets lost, it says "either".

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::{BitOr, BitOrAssign, Not};
use std::sync::Arc;

use super::table::{Allowed, ConditionId, RelationId, Rules, SubjectKind, TypeId};
use crate::schema::Rewrite;
use crate::tuple::{RelationName, TypeName};

/// Changed definitions that are named for one effect, at most.
const CAUSES: usize = 8;

/// What a schema does to those who have a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The type of the object.
    pub object_type: TypeName,
    /// The relation.
    pub relation: RelationName,
    /// What may become of them.
    pub direction: Direction,
    /// Relations whose own definitions change and lead to it, some of them if there are many.
    pub because: Vec<(TypeName, RelationName)>,
}

/// What may become of those who have a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Some may lose it, nobody gains it.
    Narrower,
    /// Some may gain it, nobody loses it.
    Wider,
    /// Some may lose it and others gain it.
    Either,
}

/// Which ways members may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Change {
    loses: bool,
    gains: bool,
}

impl Change {
    const NONE: Self = Self { loses: false, gains: false };
    const LOSES: Self = Self { loses: true, gains: false };
    const GAINS: Self = Self { loses: false, gains: true };
    const EITHER: Self = Self { loses: true, gains: true };

    fn direction(self) -> Option<Direction> {
        match (self.loses, self.gains) {
            (false, false) => None,
            (true, false) => Some(Direction::Narrower),
            (false, true) => Some(Direction::Wider),
            (true, true) => Some(Direction::Either),
        }
    }
}

impl BitOr for Change {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { loses: self.loses || other.loses, gains: self.gains || other.gains }
    }
}

impl BitOrAssign for Change {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// What it is for whoever subtracts.
impl Not for Change {
    type Output = Self;

    fn not(self) -> Self {
        Self { loses: self.gains, gains: self.loses }
    }
}

impl Rules {
    /// What putting `next` in force in place of these does to each relation that both or only
    /// these have, in the order of the schema; those it does nothing to are left out.
    #[must_use]
    pub fn effects_of(&self, next: &Self) -> Vec<Effect> {
        Comparison::new(self, next).effects()
    }
}

/// What is known of each relation in force, by its id.
struct Comparison<'a> {
    old: &'a Rules,
    /// What its own definition does.
    own: Vec<Change>,
    /// What it comes to.
    total: Vec<Change>,
    causes: Vec<BTreeSet<u16>>,
    /// Which relations it refers to, and whether in a subtract.
    references: Vec<Vec<(RelationId, Sign)>>,
}

/// How a definition reads what it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn of(self, change: Change) -> Change {
        match self {
            Self::Plus => change,
            Self::Minus => !change,
        }
    }
}

impl Not for Sign {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

impl<'a> Comparison<'a> {
    fn new(old: &'a Rules, next: &'a Rules) -> Self {
        let mut tuples = Tuples::new(old, next);
        let count = old.relations.len();
        let mut found = Self {
            old,
            own: Vec::with_capacity(count),
            total: Vec::new(),
            causes: vec![BTreeSet::new(); count],
            references: Vec::with_capacity(count),
        };
        for (relation, id) in old.relations.iter().zip(0..=u16::MAX) {
            let mut leaves = Leaves {
                old,
                next,
                tuples: &mut tuples,
                relation: RelationId(id),
                own: Change::NONE,
                references: Vec::new(),
            };
            leaves.visit(&relation.rewrite, Sign::Plus);
            let Leaves { own, references, .. } = leaves;
            let successor = successor(old, next, RelationId(id));
            let defined = successor.map_or(Change::LOSES, |successor| {
                between(&relation.rewrite, &next.relation(successor).rewrite)
            });
            found.own.push(own | defined);
            found.references.push(references);
        }
        found.spread();
        found
    }

    /// Follows references from what changes to whoever reads it, until nothing more comes of it.
    /// Each relation changes a bounded number of times.
    #[expect(clippy::indexing_slicing, reason = "every table is by relation")]
    fn spread(&mut self) {
        let mut readers = vec![Vec::new(); self.own.len()];
        for (reader, references) in self.references.iter().enumerate() {
            for (read, sign) in references {
                readers[usize::from(read.0)].push((reader, *sign));
            }
        }
        self.total = self.own.clone();
        let mut waiting = VecDeque::new();
        for (at, own) in self.own.iter().enumerate() {
            if *own != Change::NONE {
                self.causes[at].extend(u16::try_from(at));
                waiting.push_back(at);
            }
        }
        while let Some(at) = waiting.pop_front() {
            let (change, causes) = (self.total[at], self.causes[at].clone());
            for (reader, sign) in &readers[at] {
                let total = self.total[*reader] | sign.of(change);
                let mut because: BTreeSet<u16> = self.causes[*reader].union(&causes).copied().collect();
                while because.len() > CAUSES {
                    because.pop_last();
                }
                if total != self.total[*reader] || because != self.causes[*reader] {
                    self.total[*reader] = total;
                    self.causes[*reader] = because;
                    waiting.push_back(*reader);
                }
            }
        }
    }

    fn effects(&self) -> Vec<Effect> {
        let name = |id: u16| {
            let relation = self.old.relation(RelationId(id));
            let object_type = self.old.types.get(usize::from(relation.object_type.0))?;
            Some((object_type.clone(), relation.name.clone()))
        };
        let each = self.total.iter().zip(&self.causes).zip(0..=u16::MAX);
        each.filter_map(|((total, causes), id)| {
            let (object_type, relation) = name(id)?;
            let because = causes.iter().copied().filter_map(name).collect();
            Some(Effect { object_type, relation, direction: total.direction()?, because })
        })
        .collect()
    }
}

/// The relation of the same type and name.
fn successor(old: &Rules, next: &Rules, relation: RelationId) -> Option<RelationId> {
    let relation = old.relation(relation);
    next.relation_id(same_type(old, next, relation.object_type)?, &relation.name)
}

fn same_type(old: &Rules, next: &Rules, TypeId(id): TypeId) -> Option<TypeId> {
    next.type_id(old.types.get(usize::from(id))?.as_str())
}

/// What a definition rests on: its own tuples, and other relations.
struct Leaves<'a, 't> {
    old: &'a Rules,
    next: &'a Rules,
    tuples: &'t mut Tuples<'a>,
    relation: RelationId,
    own: Change,
    references: Vec<(RelationId, Sign)>,
}

impl Leaves<'_, '_> {
    fn visit(&mut self, rewrite: &Rewrite, sign: Sign) {
        let object_type = self.old.relation(self.relation).object_type;
        match rewrite {
            Rewrite::This => {
                self.own |= sign.of(self.tuples.change(self.relation));
                let usersets = self.old.relation(self.relation).usersets.iter();
                self.references.extend(usersets.map(|userset| (*userset, sign)));
            }
            Rewrite::Computed(name) => {
                self.references.extend(self.old.relation_id(object_type, name).map(|id| (id, sign)));
            }
            Rewrite::TupleToUserset { tupleset, computed } => {
                let Some(tupleset) = self.old.relation_id(object_type, tupleset) else { return };
                self.references.push((tupleset, sign));
                for way in self.old.relation(tupleset).allowed.iter() {
                    let SubjectKind::Object(named) = self.old.subject_kind(way.kind) else { continue };
                    if let Some(id) = self.old.relation_id(named, computed) {
                        self.references.push((id, sign));
                    } else if same_type(self.old, self.next, named)
                        .is_some_and(|named| self.next.relation_id(named, computed).is_some())
                    {
                        // The objects named get the relation only now.
                        self.own |= sign.of(Change::GAINS);
                    }
                }
            }
            Rewrite::Union(operands) | Rewrite::Intersection(operands) => {
                for operand in operands {
                    self.visit(operand, sign);
                }
            }
            Rewrite::Exclusion { base, subtract } => {
                self.visit(base, sign);
                self.visit(subtract, !sign);
            }
        }
    }
}

/// Which tuples of a relation both schemas allow. In dialect 1.0 nearly all relations share one
/// long list, which is held against its successor once.
struct Tuples<'a> {
    old: &'a Rules,
    next: &'a Rules,
    known: HashMap<(usize, usize), Change>,
}

impl<'a> Tuples<'a> {
    fn new(old: &'a Rules, next: &'a Rules) -> Self {
        Self { old, next, known: HashMap::new() }
    }

    fn change(&mut self, relation: RelationId) -> Change {
        let allowed = &self.old.relation(relation).allowed;
        let Some(successor) = successor(self.old, self.next, relation) else { return Change::LOSES };
        let allowed_next = &self.next.relation(successor).allowed;
        let lists = (Arc::as_ptr(allowed).addr(), Arc::as_ptr(allowed_next).addr());
        if let Some(known) = self.known.get(&lists) {
            return *known;
        }
        let before: BTreeSet<String> =
            allowed.iter().map(|way| self.old.describe(way.kind, way.condition)).collect();
        let after: BTreeSet<String> =
            allowed_next.iter().map(|way| self.next.describe(way.kind, way.condition)).collect();
        let mut change = Change { loses: !before.is_subset(&after), gains: !after.is_subset(&before) };
        if allowed.iter().any(|way| self.condition_changes(*way)) {
            change |= Change::EITHER;
        }
        self.known.insert(lists, change);
        change
    }

    /// Whether the condition of the same name says something else.
    fn condition_changes(&self, way: Allowed) -> bool {
        let Some(ConditionId(id)) = way.condition else { return false };
        let Some(old) = self.old.conditions.get(usize::from(id)) else { return false };
        let next = self.next.condition_id(old.name().as_str());
        let next = next.and_then(|ConditionId(id)| self.next.conditions.get(usize::from(id)));
        next.is_some_and(|next| {
            next.parameters() != old.parameters() || next.expression() != old.expression()
        })
    }
}

/// What one definition in place of another does, if all that they refer to stays as it is.
fn between(old: &Rewrite, new: &Rewrite) -> Change {
    use Rewrite::{Exclusion, Intersection, Union};
    if old == new {
        return Change::NONE;
    }
    match (old, new) {
        (Union(old), Union(new)) => operands(old, new, Change::LOSES),
        (Intersection(old), Intersection(new)) => operands(old, new, Change::GAINS),
        (Exclusion { base, subtract }, Exclusion { base: new_base, subtract: new_subtract }) => {
            between(base, new_base) | !between(subtract, new_subtract)
        }
        (Union(old), new) => operands(old, std::slice::from_ref(new), Change::LOSES),
        (old, Union(new)) => operands(std::slice::from_ref(old), new, Change::LOSES),
        (Intersection(old), new) => operands(old, std::slice::from_ref(new), Change::GAINS),
        (old, Intersection(new)) => operands(std::slice::from_ref(old), new, Change::GAINS),
        (Exclusion { base, .. }, new) => between(base, new) | Change::GAINS,
        (old, Exclusion { base, .. }) => between(old, base) | Change::LOSES,
        // Different leaves: other tuples, or other relations.
        (
            Rewrite::This | Rewrite::Computed(_) | Rewrite::TupleToUserset { .. },
            Rewrite::This | Rewrite::Computed(_) | Rewrite::TupleToUserset { .. },
        ) => Change::EITHER,
    }
}

/// Operands whose order does not matter; `removed` is what it does to lose one.
fn operands(old: &[Rewrite], new: &[Rewrite], removed: Change) -> Change {
    let gone: Vec<_> = old.iter().filter(|operand| !new.contains(operand)).collect();
    let come: Vec<_> = new.iter().filter(|operand| !old.contains(operand)).collect();
    match (gone.as_slice(), come.as_slice()) {
        ([], []) => Change::NONE,
        (_, []) => removed,
        ([], _) => !removed,
        ([one], [other]) => between(one, other),
        (_, _) => Change::EITHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(relations: &str) -> Rules {
        let text = format!("model\n  schema 1.1\ntype user\n{relations}");
        Rules::compile(&crate::schema::parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}")))
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let told = |effects: Vec<Effect>| -> Vec<String> {
            let one = |effect: &Effect| {
                let because: Vec<_> = effect.because.iter().map(|(_, relation)| relation.as_str()).collect();
                let direction = format!("{:?}", effect.direction).to_lowercase();
                format!("{} {direction} because of {}", effect.relation, because.join(" "))
            };
            effects.iter().map(one).collect()
        };
        let (old, new) = (rules(old), rules(new));
        assert_eq!(told(old.effects_of(&new)), expected);
        // The other way round, each direction is the opposite.
        let turned = |direction| match direction {
            Direction::Narrower => Direction::Wider,
            Direction::Wider => Direction::Narrower,
            Direction::Either => Direction::Either,
        };
        let back = new.effects_of(&old);
        for effect in old.effects_of(&new) {
            let same = back.iter().find(|other| {
                (&other.object_type, &other.relation) == (&effect.object_type, &effect.relation)
            });
            assert!(
                same.is_none_or(|other| other.direction == turned(effect.direction)),
                "{effect:?}: {same:?}"
            );
        }
    }

    const DOC: &str = "type doc\n  relations\n    define owner: [user]\n";

    fn doc(rest: &[&str]) -> String {
        rest.iter().fold(DOC.to_owned(), |text, relation| text + "    define " + relation + "\n")
    }

    #[test]
    fn narrowing_inside_a_subtract_is_widening() {
        let with = |blocked: &str| {
            doc(&[
                &format!("blocked: {blocked}"),
                "viewer: owner but not blocked",
                "hidden: owner but not viewer",
            ])
        };
        check(
            &with("[user, user:*]"),
            &with("[user]"),
            &[
                "blocked narrower because of blocked",
                "viewer wider because of blocked",
                "hidden narrower because of blocked",
            ],
        );
        check(
            &doc(&["a: [user]", "b: [user]", "viewer: owner but not (a or b)"]),
            &doc(&["a: [user]", "b: [user]", "viewer: owner but not a"]),
            &["viewer wider because of viewer"],
        );
        check(
            &doc(&["a: [user]", "viewer: owner but not a"]),
            &doc(&["a: [user]", "viewer: owner"]),
            &["viewer wider because of viewer"],
        );
    }

    #[test]
    fn operands_come_and_go() {
        let a_b = ["a: [user]", "b: [user]"];
        let with = |viewer: &str| doc(&[a_b[0], a_b[1], viewer]);
        check(&with("viewer: a or b"), &with("viewer: b or a"), &[]);
        check(&with("viewer: a or b"), &with("viewer: a"), &["viewer narrower because of viewer"]);
        check(&with("viewer: a or b"), &with("viewer: a or b or owner"), &["viewer wider because of viewer"]);
        check(&with("viewer: a and b"), &with("viewer: a"), &["viewer wider because of viewer"]);
        check(&with("viewer: a"), &with("viewer: b"), &["viewer either because of viewer"]);
        check(
            &with("viewer: owner or (a and b)"),
            &with("viewer: owner or a"),
            &["viewer wider because of viewer"],
        );
        check(&with("viewer: a"), &doc(&a_b), &["viewer narrower because of viewer"]);
        check(&doc(&a_b), &with("viewer: a"), &[]);
    }

    #[test]
    fn changes_travel_through_usersets_parents_and_cycles() {
        let with = |member: &str| {
            format!(
                "type group\n  relations\n    define member: {member}\ntype folder\n  relations\n    define viewer: [group#member]\n{}",
                doc(&[
                    "parent: [folder]",
                    "viewer: owner or viewer from parent",
                    "editor: [user] but not viewer"
                ])
            )
        };
        check(
            &with("[user, group#member]"),
            &with("[user]"),
            &[
                "member narrower because of member",
                "viewer narrower because of member",
                "viewer narrower because of member",
                "editor wider because of member",
            ],
        );
        // An object named by a tupleset gets the relation that is asked of it.
        let folder = |relation: &str| {
            format!(
                "type folder\n  relations\n    define owner: [user]\n{relation}type team\n  relations\n    define viewer: [user]\n{}",
                doc(&["parent: [folder, team]", "viewer: viewer from parent"])
            )
        };
        check(&folder(""), &folder("    define viewer: owner\n"), &["viewer wider because of viewer"]);
    }

    #[test]
    fn a_condition_that_says_something_else_may_do_either() {
        let with = |limit: &str| {
            let conditions = format!("condition small(amount: int) {{\n  amount < {limit}\n}}\n");
            doc(&["viewer: [user with small]", "pays: viewer or owner"]) + &conditions
        };
        let either = ["viewer either because of viewer", "pays either because of viewer"];
        check(&with("10"), &with("20"), &either);
        check(&with("10"), &with("10"), &[]);
    }
}
