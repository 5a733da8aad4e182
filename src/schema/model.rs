//! A resolved schema: every name in it exists, every rule of the language holds.

use std::sync::Arc;

use crate::condition::Condition;
use crate::tuple::{ConditionName, RelationName, TypeName};

/// The version of the language a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// `define viewer as self or owner`: without type restrictions; `self` accepts any subject.
    V1_0,
    /// Type restrictions and conditions.
    V1_1,
    /// 1.1 with modules.
    V1_2,
}

impl Dialect {
    /// The version as the language writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

/// A resolved schema. Immutable: a change is a new schema version.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The version of the language it was written in.
    pub dialect: Dialect,
    /// Types in the order of the file.
    pub types: Vec<TypeDefinition>,
    /// Conditions in the order of the file.
    pub conditions: Vec<Arc<Condition>>,
}

/// A type and its relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeDefinition {
    /// Its name, unique in the schema.
    pub name: TypeName,
    /// Its relations in the order of the file.
    pub relations: Vec<RelationDefinition>,
}

/// A relation of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationDefinition {
    /// Its name, unique in its type.
    pub name: RelationName,
    /// How its userset derives.
    pub rewrite: Rewrite,
    /// Which subjects may be written directly; empty when [`Rewrite::This`] does not occur.
    /// Ignored in dialect 1.0, where any subject may.
    pub restrictions: Vec<Restriction>,
}

/// The rule that defines a relation's userset (paper §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// The stored tuples of the relation itself: `[...]`, in dialect 1.0 `self`.
    This,
    /// Another relation of the same object.
    Computed(RelationName),
    /// `computed from tupleset`: that relation of every object the tupleset names.
    TupleToUserset {
        /// The relation whose tuples name the objects.
        tupleset: RelationName,
        /// The relation asked of each of them.
        computed: RelationName,
    },
    /// `a or b or …`, at least two.
    Union(Vec<Rewrite>),
    /// `a and b and …`, at least two.
    Intersection(Vec<Rewrite>),
    /// `base but not subtract`.
    Exclusion {
        /// Who has it …
        base: Box<Rewrite>,
        /// … unless they have this.
        subtract: Box<Rewrite>,
    },
}

/// One item of `[user, user:*, group#member with condition]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Restriction {
    /// The type of subject.
    pub subject_type: TypeName,
    /// Which subjects of that type.
    pub subject: RestrictionSubject,
    /// The condition such a tuple must carry; `None`: it must carry none.
    pub condition: Option<ConditionName>,
}

/// Which subjects of a type a restriction accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RestrictionSubject {
    /// `type`: single objects.
    Object,
    /// `type:*`: the wildcard.
    Wildcard,
    /// `type#relation`: usersets.
    Userset(RelationName),
}

/// Schemas are equal that say the same in the same order; conditions are compared by what was
/// declared, not by what it was compiled to.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        let declared = |condition: &Condition, other: &Condition| {
            condition.name() == other.name()
                && condition.parameters() == other.parameters()
                && condition.expression() == other.expression()
        };
        self.dialect == other.dialect
            && self.types == other.types
            && self.conditions.len() == other.conditions.len()
            && self.conditions.iter().zip(&other.conditions).all(|(a, b)| declared(a, b))
    }
}

impl Eq for Schema {}

impl Schema {
    /// The definition of a type.
    #[must_use]
    pub fn type_definition(&self, name: &str) -> Option<&TypeDefinition> {
        self.types.iter().find(|definition| definition.name.as_str() == name)
    }

    /// The definition of a relation of a type.
    #[must_use]
    pub fn relation(&self, object_type: &str, relation: &str) -> Option<&RelationDefinition> {
        self.type_definition(object_type)?.relation(relation)
    }

    /// A condition.
    #[must_use]
    pub fn condition(&self, name: &str) -> Option<&Arc<Condition>> {
        self.conditions.iter().find(|condition| condition.name().as_str() == name)
    }
}

impl TypeDefinition {
    /// The definition of a relation.
    #[must_use]
    pub fn relation(&self, name: &str) -> Option<&RelationDefinition> {
        self.relations.iter().find(|definition| definition.name.as_str() == name)
    }
}
