//! What can be known of the rules without a tuple, each by a plain fixpoint.

use std::sync::Arc;

use super::components::Components;
use super::table::{Allowed, KindId, RelationId, Rule, RuleId, Rules, SubjectKind};

/// The facts, by rule, relation or kind.
#[derive(Debug, Default)]
pub(super) struct Analysis {
    /// Bits by kind, one row per rule; `None`: the schema is too large for the table, and
    /// everything counts as reachable.
    reach: Option<Reach>,
    negative_cycle: Vec<bool>,
    gateless: Vec<bool>,
    exclusion_depth: Vec<u32>,
    parents: Vec<Vec<RuleId>>,
    allowing: Vec<Arc<Vec<RelationId>>>,
    tupleset_users: Vec<Vec<RuleId>>,
    this_rules: Vec<Option<RuleId>>,
}

/// No exclusion is nested deeper than this in what [`Rules::exclusion_depth`] reports.
const MAX_EXCLUSION_DEPTH: u32 = u32::MAX;

/// What every rule leads to, on any object: operands, and relations through tuples.
pub(super) fn dependencies(rules: &Rules) -> Vec<Vec<u32>> {
    let rule = |RelationId(id): &RelationId| u32::from(*id);
    rules
        .rules
        .iter()
        .map(|one| match one {
            Rule::Relation(relation) => vec![rules.expression(*relation).0],
            Rule::This(relation) => rules.relation(*relation).usersets.iter().map(rule).collect(),
            Rule::TupleToUserset { computed, .. } => computed.iter().map(|(_, to)| rule(to)).collect(),
            Rule::Or(operands) | Rule::And(operands) => operands.iter().map(|operand| operand.0).collect(),
            Rule::Not { base, subtract } => vec![base.0, subtract.0],
        })
        .collect()
}

#[expect(clippy::indexing_slicing, reason = "tables are by rule, and components hold rules")]
impl Analysis {
    #[cfg(test)]
    pub(super) fn forget_reach(&mut self) {
        self.reach = None;
    }

    pub(super) fn new(rules: &Rules) -> Self {
        let targets = dependencies(rules);
        let components = Components::new(targets.len(), |rule, i| targets[rule as usize].get(i).copied());
        let count = targets.len();
        let mut found = Self {
            reach: Reach::new(rules, &components),
            negative_cycle: vec![false; count],
            gateless: vec![true; count],
            exclusion_depth: vec![0; count],
            parents: parents(rules),
            allowing: allowing(rules),
            tupleset_users: tupleset_users(rules),
            this_rules: this_rules(rules),
        };
        for component in 0..components.len() {
            let (mut negative, mut gateless, mut depth) = (false, true, 0);
            for at in components.nodes(component).iter().map(|rule| *rule as usize) {
                for to in targets[at].iter().map(|to| *to as usize) {
                    negative |= found.negative_cycle[to];
                    gateless &= found.gateless[to];
                    depth = depth.max(found.exclusion_depth[to]);
                }
                match &rules.rules[at] {
                    Rule::Not { subtract, .. } => {
                        negative |= components.of(subtract.0) as usize == component;
                        gateless = false;
                        let below = found.exclusion_depth[subtract.0 as usize];
                        depth = depth.max(below.saturating_add(1));
                    }
                    Rule::And(_) => gateless = false,
                    Rule::Relation(_) | Rule::This(_) | Rule::TupleToUserset { .. } | Rule::Or(_) => {}
                }
            }
            if negative {
                depth = MAX_EXCLUSION_DEPTH;
            }
            for at in components.nodes(component).iter().map(|rule| *rule as usize) {
                found.negative_cycle[at] = negative;
                found.gateless[at] = gateless;
                found.exclusion_depth[at] = depth;
            }
        }
        found
    }
}

impl Rules {
    /// Whether a subject of the kind could satisfy the rule, whatever tuples there are. A plain
    /// object is reached by wildcards of its type too.
    #[must_use]
    pub fn can_reach(&self, rule: RuleId, kind: KindId) -> bool {
        self.analysis.reach.as_ref().is_none_or(|reach| reach.contains(rule, kind))
    }

    /// Whether below the rule, itself included, a relation can depend on its own absence: some
    /// recursion passes through the subtract of a `but not`.
    #[must_use]
    pub fn negative_cycle(&self, RuleId(rule): RuleId) -> bool {
        self.analysis.negative_cycle.get(rule as usize).copied().unwrap_or(false)
    }

    /// Whether below the rule there is neither `and` nor `but not`.
    #[must_use]
    pub fn gateless(&self, RuleId(rule): RuleId) -> bool {
        self.analysis.gateless.get(rule as usize).copied().unwrap_or(false)
    }

    /// The greatest number of subtracts on a way down from the rule; `u32::MAX` if recursion
    /// passes through one.
    #[must_use]
    pub fn exclusion_depth(&self, RuleId(rule): RuleId) -> u32 {
        self.analysis.exclusion_depth.get(rule as usize).copied().unwrap_or(0)
    }

    /// The rules a rule is an operand of, or the relations it defines; all on the same object.
    #[must_use]
    pub fn parents(&self, RuleId(rule): RuleId) -> &[RuleId] {
        self.analysis.parents.get(rule as usize).map_or(&[], Vec::as_slice)
    }

    /// The relations to which a subject of the kind may be written.
    #[must_use]
    pub fn relations_allowing(&self, KindId(kind): KindId) -> &[RelationId] {
        self.analysis.allowing.get(usize::from(kind)).map_or(&[], |relations| relations.as_slice())
    }

    /// The rule that stands for the relation's own tuples, if they count.
    #[must_use]
    pub fn this_rule(&self, RelationId(relation): RelationId) -> Option<RuleId> {
        self.analysis.this_rules.get(usize::from(relation)).copied().flatten()
    }

    /// The `… from …` rules that ask the relation of the objects they reach.
    #[must_use]
    pub fn tupleset_users(&self, RelationId(relation): RelationId) -> &[RuleId] {
        self.analysis.tupleset_users.get(usize::from(relation)).map_or(&[], Vec::as_slice)
    }
}

fn ids(rules: &Rules) -> impl Iterator<Item = (RuleId, &Rule)> {
    (0..).map(RuleId).zip(&rules.rules)
}

#[expect(clippy::indexing_slicing, reason = "the table is by rule")]
fn parents(rules: &Rules) -> Vec<Vec<RuleId>> {
    let mut parents: Vec<Vec<RuleId>> = vec![Vec::new(); rules.rules.len()];
    for (id, rule) in ids(rules) {
        match rule {
            Rule::Relation(relation) => parents[rules.expression(*relation).0 as usize].push(id),
            Rule::Or(operands) | Rule::And(operands) => {
                for operand in operands {
                    parents[operand.0 as usize].push(id);
                }
            }
            Rule::Not { base, subtract } => {
                parents[base.0 as usize].push(id);
                if subtract != base {
                    parents[subtract.0 as usize].push(id);
                }
            }
            Rule::This(_) | Rule::TupleToUserset { .. } => {}
        }
    }
    parents
}

#[expect(clippy::indexing_slicing, reason = "the table is by kind")]
fn allowing(rules: &Rules) -> Vec<Arc<Vec<RelationId>>> {
    let mut lists: Vec<Vec<RelationId>> = vec![Vec::new(); rules.kind_count()];
    for (relation, id) in rules.relations.iter().zip(0..=u16::MAX) {
        for way in relation.allowed.iter() {
            let list = &mut lists[usize::from(way.kind.0)];
            if list.last() != Some(&RelationId(id)) {
                list.push(RelationId(id));
            }
        }
    }
    // In dialect 1.0 the lists of neighbouring kinds are equal: keep one of them.
    let mut shared: Vec<Arc<Vec<RelationId>>> = Vec::with_capacity(lists.len());
    for list in lists {
        match shared.last() {
            Some(last) if **last == list => shared.push(Arc::clone(last)),
            _ => shared.push(Arc::new(list)),
        }
    }
    shared
}

fn tupleset_users(rules: &Rules) -> Vec<Vec<RuleId>> {
    let mut users: Vec<Vec<RuleId>> = vec![Vec::new(); rules.relations.len()];
    for (id, rule) in ids(rules) {
        let Rule::TupleToUserset { computed, .. } = rule else { continue };
        for (_, RelationId(relation)) in computed {
            if let Some(list) = users.get_mut(usize::from(*relation)) {
                list.push(id);
            }
        }
    }
    users
}

fn this_rules(rules: &Rules) -> Vec<Option<RuleId>> {
    let mut found = vec![None; rules.relations.len()];
    for (id, rule) in ids(rules) {
        if let Rule::This(RelationId(relation)) = rule
            && let Some(slot) = found.get_mut(usize::from(*relation))
        {
            *slot = Some(id);
        }
    }
    found
}

/// A bit per rule and kind.
#[derive(Debug)]
struct Reach {
    width: usize,
    bits: Vec<u64>,
}

impl Reach {
    /// Beyond 64 MiB the table is not worth its memory.
    const MAX_WORDS: usize = 1 << 23;
    const WORD: usize = u64::BITS as usize;

    /// The least fixpoint. Components come in an order in which most of what a rule leads to is
    /// final when its turn comes; only recursion needs more than one pass.
    fn new(rules: &Rules, components: &Components) -> Option<Self> {
        let width = rules.kind_count().div_ceil(Self::WORD);
        let words = width.checked_mul(rules.rules.len()).filter(|words| *words <= Self::MAX_WORDS)?;
        let mut reach = Self { width, bits: vec![0; words] };
        let mut row = vec![0; width];
        for component in 0..components.len() {
            loop {
                let mut changed = false;
                for rule in components.nodes(component).iter().copied().map(RuleId) {
                    row.fill(0);
                    reach.derive(rules, rule, &mut row);
                    changed |= reach.replace(rule, &row);
                }
                if !changed {
                    break;
                }
            }
        }
        Some(reach)
    }

    /// What a rule reaches, given what its dependencies are known to reach by now.
    fn derive(&self, rules: &Rules, rule: RuleId, row: &mut [u64]) {
        match rules.rule(rule) {
            Rule::Relation(relation) => {
                Self::set(row, rules.kind_id(SubjectKind::Userset(*relation)));
                self.unite(row, rules.expression(*relation));
            }
            Rule::This(relation) => {
                let relation = rules.relation(*relation);
                for Allowed { kind, .. } in relation.allowed.iter() {
                    Self::set(row, *kind);
                    if let SubjectKind::Wildcard(subject_type) = rules.subject_kind(*kind) {
                        Self::set(row, rules.kind_id(SubjectKind::Object(subject_type)));
                    }
                }
                for userset in relation.usersets.iter() {
                    self.unite(row, rules.relation_rule(*userset));
                }
            }
            Rule::TupleToUserset { computed, .. } => {
                for (_, relation) in computed {
                    self.unite(row, rules.relation_rule(*relation));
                }
            }
            Rule::Or(operands) => {
                for operand in operands {
                    self.unite(row, *operand);
                }
            }
            Rule::And(operands) => {
                row.fill(u64::MAX);
                for operand in operands {
                    for (word, other) in row.iter_mut().zip(self.row(*operand)) {
                        *word &= other;
                    }
                }
            }
            Rule::Not { base, .. } => self.unite(row, *base),
        }
    }

    fn set(row: &mut [u64], KindId(kind): KindId) {
        if let Some(word) = row.get_mut(usize::from(kind) / Self::WORD) {
            *word |= 1 << (usize::from(kind) % Self::WORD);
        }
    }

    fn row(&self, RuleId(rule): RuleId) -> &[u64] {
        let start = rule as usize * self.width;
        self.bits.get(start..start + self.width).unwrap_or(&[])
    }

    fn unite(&self, row: &mut [u64], rule: RuleId) {
        for (word, other) in row.iter_mut().zip(self.row(rule)) {
            *word |= other;
        }
    }

    fn replace(&mut self, RuleId(rule): RuleId, row: &[u64]) -> bool {
        let start = rule as usize * self.width;
        match self.bits.get_mut(start..start + self.width) {
            Some(old) if old != row => {
                old.copy_from_slice(row);
                true
            }
            _ => false,
        }
    }

    fn contains(&self, rule: RuleId, KindId(kind): KindId) -> bool {
        let word = self.row(rule).get(usize::from(kind) / Self::WORD).copied().unwrap_or(0);
        word >> (usize::from(kind) % Self::WORD) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::rules::testing::{
        but_not, computed, intersection, relation, schema, this, through, union,
    };

    fn rules() -> Rules {
        Rules::compile(&schema(vec![
            ("user", vec![]),
            ("robot", vec![]),
            ("group", vec![relation("member", this(), &["user", "group#member"])]),
            (
                "folder",
                vec![
                    relation("parent", this(), &["folder"]),
                    relation("blocked", this(), &["user"]),
                    relation("viewer", union(vec![through("viewer", "parent"), this()]), &["user:*"]),
                    relation("open", but_not(computed("viewer"), computed("blocked")), &[]),
                    relation("deep", but_not(computed("open"), computed("open")), &[]),
                    relation("odd", but_not(this(), through("odd", "parent")), &["robot"]),
                    relation("above", union(vec![computed("odd"), computed("viewer")]), &[]),
                    relation("none", intersection(vec![computed("odd"), computed("viewer")]), &[]),
                ],
            ),
        ]))
    }

    fn rule(rules: &Rules, object_type: &str, name: &str) -> RuleId {
        let object_type = rules.type_id(object_type).expect("a type");
        let name = name.parse().expect("a name");
        rules.relation_rule(rules.relation_id(object_type, &name).expect("a relation"))
    }

    #[test]
    fn reach_follows_tuples_and_operators() {
        let rules = rules();
        let kind = |subject: &str| rules.kind_of(&subject.parse().expect("a subject")).expect("a kind");
        for (name, subject, expected) in [
            ("viewer", "user:a", true),
            ("viewer", "user:*", true),
            ("viewer", "robot:r", false),
            ("viewer", "folder:f#viewer", true),
            ("above", "folder:f#viewer", true),
            ("above", "robot:r", true),
            ("none", "robot:r", false),
            ("none", "user:a", false),
            ("blocked", "user:*", false),
        ] {
            let reach = rules.can_reach(rule(&rules, "folder", name), kind(subject));
            assert_eq!(reach, expected, "{name} by {subject}");
        }
        assert!(rules.can_reach(rule(&rules, "group", "member"), kind("group:g#member")));
    }

    #[test]
    fn exclusions_are_measured() {
        let rules = rules();
        for (name, depth, cycle) in
            [("viewer", 0, false), ("open", 1, false), ("deep", 2, false), ("odd", u32::MAX, true)]
        {
            let rule = rule(&rules, "folder", name);
            assert_eq!((rules.exclusion_depth(rule), rules.negative_cycle(rule)), (depth, cycle), "{name}");
        }
        assert!(rules.negative_cycle(rule(&rules, "folder", "above")));
        assert!(rules.gateless(rule(&rules, "group", "member")));
        assert!(rules.gateless(rule(&rules, "folder", "viewer")));
        assert!(!rules.gateless(rule(&rules, "folder", "above")));
    }

    #[test]
    fn an_and_starts_with_its_cheapest_operand() {
        let rules = Rules::compile(&schema(vec![
            ("user", vec![]),
            ("group", vec![relation("member", this(), &["user", "group#member"])]),
            (
                "doc",
                vec![
                    relation("member", this(), &["group#member"]),
                    relation("owner", this(), &["user"]),
                    relation("both", intersection(vec![computed("member"), computed("owner")]), &[]),
                ],
            ),
        ]));
        let Rule::And(operands) = rules.rule(rules.expression(RelationId(3))) else { panic!("an and") };
        assert_eq!(operands, &[rule(&rules, "doc", "owner"), rule(&rules, "doc", "member")]);
    }
}
