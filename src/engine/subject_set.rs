//! Sets of subjects of one kind, finite or all but a few.

use std::sync::Arc;

/// Subjects of one kind by their ordinals. Without names it costs nothing, and a copy shares the
/// names, so that a chain of usersets holds them once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SubjectSet {
    /// Whether `names` are the subjects left out. That makes it the set of a wildcard: it holds
    /// every subject that nothing names, and the wildcard itself.
    all_but: bool,
    /// Ascending, without repetitions; `None`: no names.
    names: Option<Arc<Vec<u32>>>,
}

impl SubjectSet {
    /// Exactly these; they need not be sorted.
    pub(super) fn of(mut names: Vec<u32>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self::sorted(false, names)
    }

    /// Every subject.
    pub(super) fn everyone() -> Self {
        Self { all_but: true, names: None }
    }

    fn sorted(all_but: bool, names: Vec<u32>) -> Self {
        Self { all_but, names: if names.is_empty() { None } else { Some(Arc::new(names)) } }
    }

    fn names(&self) -> &[u32] {
        self.names.as_ref().map_or(&[], |names| names.as_slice())
    }

    /// Whether nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        !self.all_but && self.names.is_none()
    }

    /// How many names it lists.
    pub(super) fn len(&self) -> usize {
        self.names().len()
    }

    /// Whether it holds the subjects that nothing names.
    pub(super) fn holds_rest(&self) -> bool {
        self.all_but
    }

    pub(super) fn contains(&self, name: u32) -> bool {
        self.names().binary_search(&name).is_ok() != self.all_but
    }

    /// Whoever is in one of them.
    pub(super) fn union(sets: &[Self]) -> Self {
        let (everyone_but, finite): (Vec<&Self>, Vec<&Self>) =
            sets.iter().filter(|set| !set.is_empty()).partition(|set| set.all_but);
        let finite = match finite.as_slice() {
            [] => Self::default(),
            [only] => (*only).clone(),
            several => Self::of(several.iter().flat_map(|set| set.names()).copied().collect()),
        };
        // Left out of a union is who is left out of all and named by none.
        let mut rest: Option<Self> = None;
        for set in everyone_but {
            rest = Some(match rest {
                None => set.clone(),
                Some(before) => {
                    Self::sorted(true, merge(before.names(), set.names(), |left, right| left && right))
                }
            });
        }
        match rest {
            None => finite,
            Some(rest) if finite.is_empty() => rest,
            Some(rest) => Self::sorted(true, merge(rest.names(), finite.names(), |out, named| out && !named)),
        }
    }

    /// Whoever is in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |left, right| left && right)
    }

    /// Whoever is in this and not in the other.
    pub(super) fn difference(&self, other: &Self) -> Self {
        if other.is_empty() { self.clone() } else { self.combine(other, |left, right| left && !right) }
    }

    /// Membership as a function of membership in both; it must map (no, no) to no.
    fn combine(&self, other: &Self, holds: impl Fn(bool, bool) -> bool) -> Self {
        let all_but = holds(self.all_but, other.all_but);
        let names = merge(self.names(), other.names(), |left, right| {
            holds(left != self.all_but, right != other.all_but) != all_but
        });
        Self::sorted(all_but, names)
    }
}

/// Names listed in one or both for which `keep(in left, in right)`.
fn merge(left: &[u32], right: &[u32], keep: impl Fn(bool, bool) -> bool) -> Vec<u32> {
    let mut kept = Vec::new();
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    loop {
        let name = match (left.peek(), right.peek()) {
            (None, None) => return kept,
            (Some(name), None) | (None, Some(name)) => *name,
            (Some(one), Some(other)) => *one.min(other),
        };
        let in_left = left.next_if_eq(&name).is_some();
        let in_right = right.next_if_eq(&name).is_some();
        if keep(in_left, in_right) {
            kept.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_set() -> impl Strategy<Value = SubjectSet> {
        (any::<bool>(), proptest::collection::btree_set(0_u32..8, 0..8))
            .prop_map(|(all_but, names)| SubjectSet::sorted(all_but, names.into_iter().collect()))
    }

    proptest! {
        /// Pointwise, for every name and for one that no set mentions.
        #[test]
        fn operations_act_pointwise(sets in proptest::collection::vec(any_set(), 0..4), a in any_set(), b in any_set()) {
            let union = SubjectSet::union(&sets);
            let (both, less) = (a.intersection(&b), a.difference(&b));
            for name in 0..9 {
                prop_assert_eq!(union.contains(name), sets.iter().any(|set| set.contains(name)));
                prop_assert_eq!(both.contains(name), a.contains(name) && b.contains(name));
                prop_assert_eq!(less.contains(name), a.contains(name) && !b.contains(name));
            }
            prop_assert_eq!(union.holds_rest(), union.contains(8));
            prop_assert!(union.is_empty() != (0..9).any(|name| union.contains(name)));
        }
    }
}
