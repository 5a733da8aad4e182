//! `PlanSchema`: what would happen if a schema were written.

use super::{orphans, text};
use crate::proto;
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
    match text::compile(node, &request.text).await? {
        Err(mistakes) => Ok(proto::PlanSchemaResponse {
            diagnostics: text::wire_diagnostics(&mistakes),
            orphans: Vec::new(),
            zookie,
        }),
        Ok(compiled) => {
            let (snapshot, now) = (at.published().snapshot.clone(), consistency::now(&replica));
            let found = orphans::find(node, snapshot, compiled.rules, now, sample).await?;
            Ok(proto::PlanSchemaResponse {
                diagnostics: text::wire_diagnostics(&compiled.warnings),
                orphans: orphans::wire(found),
                zookie,
            })
        }
    }
}
