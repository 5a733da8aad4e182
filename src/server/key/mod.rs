//! `KeyService`: API keys, made, listed and revoked by whoever is admin of all stores.

mod create;
mod list;
mod revoke;
mod service;
mod wire;

pub use service::Keys;

use crate::proto;

impl std::fmt::Debug for proto::CreateKeyResponse {
    /// Without the key's text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateKeyResponse").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_does_not_print() {
        let answer = proto::CreateKeyResponse { key: None, secret: "hunter2".to_owned() };
        assert!(!format!("{answer:?}").contains("hunter2"));
    }
}
