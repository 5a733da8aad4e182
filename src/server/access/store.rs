//! The right on a store, and the only way to one.
//!
//! A request names a store by name or id, a grant does too, and the two may differ. What is
//! looked up on behalf of a caller is therefore never the store the request names but those the
//! grants name: a caller learns nothing, not even by the time it takes, of a store they have no
//! right on. A store that does not exist is refused to them like one that does.

use std::sync::Arc;

use super::grants::StoreName;
use super::layer::Admitted;
use super::methods::Needs;
use super::right::Rights;
use crate::server::convert::clip;
use crate::server::node::Node;
use crate::server::status::Error;
use crate::server::store::DEFAULT;

/// What a call may reach. Nothing but [`enter`] makes one.
#[derive(Debug, Clone)]
pub struct Scope(Option<Arc<str>>);

impl Scope {
    /// The store, as it is to be looked up.
    ///
    /// # Errors
    /// A defect, if the method is not about one store.
    pub fn store(&self) -> Result<&Arc<str>, Error> {
        self.0.as_ref().ok_or_else(|| defect("a method that names no store asks for one"))
    }
}

/// Lets a call reach the store its request names, if the caller has the right that the method
/// needs on it. `named` is `None` if the request is not about one store.
pub async fn enter(node: &Node, admitted: &Admitted, named: Option<&str>) -> Result<Scope, Error> {
    match (admitted.method.needs, named) {
        (Needs::OnStore(wanted), Some(named)) => {
            let named = if named.is_empty() { DEFAULT } else { named };
            if admitted.caller.grants().on_all(wanted) {
                // Whatever follows keeps the text, the journal's queue among it, so it must be short.
                return if StoreName::is_one(named) {
                    Ok(Scope(Some(named.into())))
                } else {
                    Err(Error::StoreNotFound { store: clip(named) })
                };
            }
            match granted(node, admitted, wanted, &StoreName::of(named)).await? {
                Some(store) => Ok(Scope(Some(store.to_string().into()))),
                None => Err(Error::Denied { wanted, store: Some(clip(named)) }),
            }
        }
        // The layer has seen to the right on all stores.
        (Needs::Credential | Needs::OnAll(_), None) => Ok(Scope(None)),
        (Needs::OnStore(_) | Needs::Nothing, None)
        | (Needs::Nothing | Needs::Credential | Needs::OnAll(_), Some(_)) => {
            Err(defect("the table of methods and the request disagree on whether there is a store"))
        }
    }
}

/// The store as it is to be looked up: by id if the grant names it so, since its name may be
/// given to another store at any moment.
async fn granted(
    node: &Node,
    admitted: &Admitted,
    wanted: Rights,
    named: &StoreName,
) -> Result<Option<StoreName>, Error> {
    let grants = admitted.caller.grants();
    if grants.stores(wanted).any(|granted| granted == named) {
        return Ok(Some(named.clone()));
    }
    for granted in grants.stores(wanted) {
        match (granted, named) {
            (StoreName::Id(id), StoreName::Name(name)) => {
                if node.name_of(*id).await?.is_some_and(|known| known == *name) {
                    return Ok(Some(granted.clone()));
                }
            }
            (StoreName::Name(name), StoreName::Id(id)) => {
                if node.id_of(name).await? == Some(*id) {
                    return Ok(Some(named.clone()));
                }
            }
            (StoreName::Id(_), StoreName::Id(_)) | (StoreName::Name(_), StoreName::Name(_)) => {}
        }
    }
    Ok(None)
}

fn defect(message: &'static str) -> Error {
    Error::Internal(anyhow::Error::msg(message))
}
