//! From an uploaded text to what is stored and what is run.

use std::sync::Arc;

use uuid::Uuid;

use crate::proto;
use crate::revision::StoreId;
use crate::schema::{Diagnostics, Rules, Style, parse_with_warnings, to_json};
use crate::server::call::Call;
use crate::server::convert::at_most;
use crate::server::node::Node;
use crate::server::pool::{Kind, Line};
use crate::server::status::Error;

/// A text that is a schema.
pub(super) struct Compiled {
    pub(super) rules: Arc<Rules>,
    /// OpenFGA's JSON form.
    pub(super) json: Arc<str>,
    /// What is odd, although it can be used.
    pub(super) warnings: Diagnostics,
}

/// Reads a text on the pool: the work is bounded by its length, and still too much for a shard.
pub(super) async fn compile(
    node: &Node,
    call: &Call,
    text: &str,
) -> Result<Result<Compiled, Diagnostics>, Error> {
    at_most("text", text.len(), node.config().limits.schema_bytes, "bytes")?;
    let text = text.to_owned();
    on_the_pool(node, call, move || {
        let (schema, warnings) = parse_with_warnings(&text)?;
        let json = to_json(&schema).to_string();
        Ok(Compiled { rules: Arc::new(Rules::compile(&schema)), json: json.into(), warnings })
    })
    .await
}

/// Work on the rules of schemas, in turn with searches: all of it takes the turns of one store.
pub(super) async fn on_the_pool<T: Send + 'static>(
    node: &Node,
    call: &Call,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let line = Line::new(StoreId(Uuid::nil()), &call.principal, Kind::One);
    node.pool().seat(&line, call.deadline).await?.run(work).await
}

/// Every mistake as the wire has it.
pub(super) fn wire_diagnostics(diagnostics: &Diagnostics) -> Vec<proto::Diagnostic> {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let wire = |item: &crate::schema::Diagnostic| {
        let place = item.place.as_ref();
        proto::Diagnostic {
            kind: item.kind.as_str().to_owned(),
            message: item.message.clone(),
            hint: item.hint.clone().unwrap_or_default(),
            line: place.map_or(0, |place| number(place.line)),
            column: place.map_or(0, |place| number(place.column)),
            end_line: place.map_or(0, |place| number(place.end_line)),
            end_column: place.map_or(0, |place| number(place.end_column)),
            rendered: diagnostics.render_one(item, None, Style::Plain),
        }
    };
    diagnostics.items().iter().map(wire).collect()
}
