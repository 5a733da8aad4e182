//! The program itself, when it fills an empty store before anybody has called.

use std::sync::Arc;

use super::authenticator::{Authenticator, Presented, Recognition};
use super::grants::Grants;
use super::principal::Principal;
use crate::metrics::Credential;
use crate::server::connection::Peer;

/// Recognises connections that come from this process. They may do everything: whoever can start
/// the server can read its record.
#[derive(Debug)]
pub struct FromInside(Arc<Principal>);

impl Default for FromInside {
    fn default() -> Self {
        Self(Arc::new(Principal::new("bootstrap", Grants::everything())))
    }
}

impl Authenticator for FromInside {
    fn kind(&self) -> Credential {
        Credential::Open
    }

    fn recognise(&self, presented: &Presented<'_>) -> Recognition {
        match presented.connection.get() {
            Some(Peer::Inside) => Recognition::Settled(Ok(Arc::clone(&self.0))),
            Some(Peer::Network { .. }) | None => Recognition::Foreign,
        }
    }
}
