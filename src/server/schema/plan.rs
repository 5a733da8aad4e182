//! `PlanSchema`: what would happen if a schema were written.

use std::sync::Arc;

use super::{orphans, text};
use crate::feed::SchemaVersion;
use crate::proto;
use crate::proto::schema_effect::Direction as Wire;
use crate::schema::{Direction, Effect, Rules};
use crate::server::call::Call;
use crate::server::consistency;
use crate::server::convert::at_most;
use crate::server::node::Node;
use crate::server::status::Error;

const DEFAULT_SAMPLE: usize = 10;
const MAX_SAMPLE: usize = 100;

pub(super) async fn plan_schema(
    node: &Node,
    call: &Call,
    request: proto::PlanSchemaRequest,
) -> Result<proto::PlanSchemaResponse, Error> {
    let sample = match usize::try_from(request.sample_size).unwrap_or(usize::MAX) {
        0 => DEFAULT_SAMPLE,
        size => size,
    };
    at_most("sample_size", sample, MAX_SAMPLE, "tuples")?;
    let replica = node.replica(call).await?;
    let at = consistency::newest(node, call, &replica).await?;
    let zookie = consistency::zookie(node, &replica, &at).to_string();
    // Mistakes are what was asked about: they are the answer, and no error.
    match text::compile(node, call, &request.text).await? {
        Err(mistakes) => Ok(proto::PlanSchemaResponse {
            diagnostics: text::wire_diagnostics(&mistakes),
            orphans: Vec::new(),
            effects: Vec::new(),
            zookie,
        }),
        Ok(compiled) => {
            let (snapshot, now) = (at.published().snapshot.clone(), consistency::now(&replica));
            let effects = effects(node, call, at.schema.as_deref(), &compiled.rules).await?;
            let found = orphans::find(node, snapshot, compiled.rules, now, sample).await?;
            Ok(proto::PlanSchemaResponse {
                diagnostics: text::wire_diagnostics(&compiled.warnings),
                orphans: orphans::wire(found),
                effects,
                zookie,
            })
        }
    }
}

/// What the schema does to the answers, compared with the one in force. On the pool, as reading
/// the text is.
async fn effects(
    node: &Node,
    call: &Call,
    in_force: Option<&SchemaVersion>,
    next: &Arc<Rules>,
) -> Result<Vec<proto::SchemaEffect>, Error> {
    let Some(in_force) = in_force else { return Ok(Vec::new()) };
    let (old, next) = (Arc::clone(&in_force.rules), Arc::clone(next));
    let effects = text::on_the_pool(node, call, move || old.effects_of(&next)).await?;
    Ok(effects.iter().map(wire).collect())
}

fn wire(effect: &Effect) -> proto::SchemaEffect {
    let direction = match effect.direction {
        Direction::Narrower => Wire::Narrower,
        Direction::Wider => Wire::Wider,
        Direction::Either => Wire::Either,
    };
    proto::SchemaEffect {
        relation: format!("{}#{}", effect.object_type, effect.relation),
        direction: direction.into(),
        because: effect.because.iter().map(|(name, relation)| format!("{name}#{relation}")).collect(),
    }
}
