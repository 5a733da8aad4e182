//! What every question needs before the engine is asked: a revision, a schema, the tuples as the
//! question sees them, and its names as dense ids.

use std::sync::Arc;

use crate::condition::Required;
use crate::config::RequestLimits;
use crate::context::Context;
use crate::engine::{Limits, Scope, Verdict};
use crate::feed::{At, Replica, SchemaVersion};
use crate::graph::{Ordinal, QuestionView, SubjectNode};
use crate::proto;
use crate::schema::{RelationId, Rules, TypeId};
use crate::server::call::Call;
use crate::server::cursor::Pin;
use crate::server::node::Node;
use crate::server::status::{Error, refuse_duplicates};
use crate::server::{consistency, convert};
use crate::time::Timestamp;
use crate::tuple::{Object, RelationName, Subject, Tuple, TypeName};

/// The fields that all questions share.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) consistency: Option<proto::Consistency>,
    pub(super) schema_id: String,
    pub(super) context: Option<prost_types::Struct>,
    pub(super) contextual_tuples: Vec<proto::Tuple>,
}

/// A question's surroundings. Owns all it needs, so that a search can move between threads.
pub(super) struct Question {
    schema: Arc<SchemaVersion>,
    view: QuestionView,
    context: Arc<Context>,
    limits: Limits,
    /// What the pages of a list share.
    pub(super) pin: Pin,
    /// Names the revision in the answer.
    pub(super) zookie: String,
}

impl Question {
    /// Sets a question up at the revision it asks for.
    pub(super) async fn new(
        node: &Node,
        call: &Call,
        replica: &Arc<Replica>,
        asked: Asked,
    ) -> Result<Self, Error> {
        let named = convert::schema_id("schema_id", &asked.schema_id)?;
        let (context, tuples) = given(asked.context, asked.contextual_tuples, &node.config().limits)?;
        let at = consistency::resolve(node, call, replica, asked.consistency).await?;
        let schema = match (named, &at.schema) {
            (Some(id), Some(schema)) if schema.id == id => Arc::clone(schema),
            (Some(id), _) => Box::pin(node.schema_version(replica, id)).await?,
            (None, Some(schema)) => Arc::clone(schema),
            (None, None) => return Err(Error::NoSchema),
        };
        Self::at(node, replica, &at, schema, consistency::now(replica), context, &tuples)
    }

    /// Sets it up as the page before had it.
    pub(super) async fn resume(
        node: &Node,
        call: &Call,
        replica: &Arc<Replica>,
        asked: Asked,
        pin: &Pin,
    ) -> Result<Self, Error> {
        let (context, tuples) = given(asked.context, asked.contextual_tuples, &node.config().limits)?;
        let at = consistency::pinned(node, call, replica, pin).await?;
        let schema = match (pin.schema, &at.schema) {
            (Some(id), Some(schema)) if schema.id == id => Arc::clone(schema),
            (Some(id), _) => Box::pin(node.schema_version(replica, id)).await?,
            (None, _) => return Err(Error::NoSchema),
        };
        Self::at(node, replica, &at, schema, pin.now, context, &tuples)
    }

    fn at(
        node: &Node,
        replica: &Replica,
        at: &At,
        schema: Arc<SchemaVersion>,
        now: Timestamp,
        context: Context,
        tuples: &[Tuple],
    ) -> Result<Self, Error> {
        for (index, tuple) in tuples.iter().enumerate() {
            let field = || format!("contextual_tuples[{index}]");
            schema
                .rules
                .validate(tuple)
                .map_err(|source| Error::Tuple { field: field(), source: Box::new(source) })?;
        }
        let mut view = at.view(&schema, now);
        if !tuples.is_empty() {
            view = view.with_contextual(tuples);
        }
        Ok(Self {
            pin: Pin { revision: at.revision, write: at.write_tag, schema: Some(schema.id), now },
            zookie: consistency::zookie(node, replica, at).to_string(),
            context: Arc::new(context),
            limits: node.config().search.clone(),
            schema,
            view,
        })
    }

    /// The compiled schema.
    pub(super) fn rules(&self) -> &Rules {
        &self.schema.rules
    }

    /// The compiled schema, for what outlives the search.
    pub(super) fn shared_rules(&self) -> Arc<Rules> {
        Arc::clone(&self.schema.rules)
    }

    /// What the engine is asked of.
    pub(super) fn scope(&self) -> Scope<'_, QuestionView> {
        Scope {
            rules: &self.schema.rules,
            view: &self.view,
            context: &self.context,
            required: Required::Deciding,
            limits: &self.limits,
        }
    }

    /// An object and a relation of its type.
    pub(super) fn goal(
        &mut self,
        object: &Object,
        relation: &RelationName,
    ) -> Result<(Ordinal, RelationId), Error> {
        let object_type = self.type_named("object", object.object_type())?;
        let relation = self.relation_of("relation", object_type, object.object_type(), relation)?;
        Ok((self.view.object(object), relation))
    }

    /// A subject, whether or not any tuple names it.
    pub(super) fn subject(&mut self, subject: &Subject) -> Result<SubjectNode, Error> {
        if let Some(node) = self.view.subject(subject) {
            return Ok(node);
        }
        let subject_type = self.type_named("subject", subject.subject_type())?;
        if let Some(relation) = subject.relation() {
            self.relation_of("subject", subject_type, subject.subject_type(), relation)?;
        }
        Err(Error::Internal(anyhow::anyhow!("a subject of a known kind has no node: `{subject}`")))
    }

    /// The object of a question about all its relations.
    pub(super) fn object(&mut self, object: &Object) -> Result<(Ordinal, TypeId), Error> {
        let object_type = self.type_named("object", object.object_type())?;
        Ok((self.view.object(object), object_type))
    }

    /// A type of the schema.
    pub(super) fn type_named(&self, field: &'static str, name: &TypeName) -> Result<TypeId, Error> {
        self.rules().type_id(name.as_str()).ok_or_else(|| Error::UnknownType { field, name: name.clone() })
    }

    /// A relation of a type.
    pub(super) fn relation_of(
        &self,
        field: &'static str,
        object_type: TypeId,
        type_name: &TypeName,
        relation: &RelationName,
    ) -> Result<RelationId, Error> {
        self.rules().relation_id(object_type, relation).ok_or_else(|| Error::UnknownRelation {
            field,
            object_type: type_name.clone(),
            name: relation.clone(),
        })
    }
}

fn given(
    context: Option<prost_types::Struct>,
    tuples: Vec<proto::Tuple>,
    limits: &RequestLimits,
) -> Result<(Context, Vec<Tuple>), Error> {
    let context = convert::context(context, limits)?;
    let tuples = convert::contextual_tuples(tuples, limits)?;
    refuse_duplicates("contextual_tuples", tuples.iter().map(|tuple| &tuple.key))?;
    Ok((context, tuples))
}

/// A verdict as the wire has it, and the parameters that would decide.
pub(super) fn wire_verdict(verdict: Verdict) -> (proto::Verdict, Vec<String>) {
    match verdict {
        Verdict::Allowed => (proto::Verdict::Allowed, Vec::new()),
        Verdict::Denied => (proto::Verdict::Denied, Vec::new()),
        Verdict::Conditional { missing } => (proto::Verdict::Conditional, missing),
    }
}
