//! `CreateStore`.

use crate::config::MAX_STORE_NAME_CHARS;
use crate::proto;
use crate::revision::{Revision, WriteId, Zookie};
use crate::server::call::Call;
use crate::server::convert::{self, clip};
use crate::server::node::Node;
use crate::server::status::{Error, Reason};

pub(super) async fn create_store(
    node: &Node,
    call: &Call,
    request: proto::CreateStoreRequest,
) -> Result<proto::CreateStoreResponse, Error> {
    check_name(&request.name)?;
    let store = node.ask(move |record| async move { record.create_store(&request.name).await }).await?;
    let principal = &*call.principal;
    tracing::info!(principal, store = %store.id, name = store.name, "created a store");
    let zookie = Zookie::new(node.database(), store.id, Revision::ZERO, WriteId::NIL);
    Ok(proto::CreateStoreResponse { store: Some(convert::wire_store(&store)), zookie: zookie.to_string() })
}

/// A name may not look like an id, or a request that names it would be ambiguous.
fn check_name(name: &str) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::field("name", Reason::InvalidField, message));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.chars().count() > MAX_STORE_NAME_CHARS {
        return refuse(format!("the name of a store has 1 to {MAX_STORE_NAME_CHARS} characters"));
    }
    if !name.chars().all(allowed) {
        return refuse(format!(
            "`{}` is not the name of a store: use letters, digits, `-`, `_` and `.`",
            clip(name)
        ));
    }
    if uuid::Uuid::try_parse(name).is_ok() {
        return refuse(format!("`{name}` looks like the id of a store; choose another name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        assert!(check_name("tenant-7_a.B").is_ok());
        for name in ["", "a b", "ä", "a/b", "67e55044-10b1-426f-9247-bb680e5fe0c8", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
