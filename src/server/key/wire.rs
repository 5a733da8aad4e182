//! Grants and keys from and to the wire.

use crate::datastore::StoredKey;
use crate::proto;
use crate::server::access::{Grant, Grants, KeyWorkError, Right, Rights, StoreName, Stores, is_store};
use crate::server::convert::{clip, wire_timestamp};
use crate::server::status::{Error, Reason};

impl From<KeyWorkError> for Error {
    fn from(error: KeyWorkError) -> Self {
        match error {
            KeyWorkError::Name(message) => Self::field("name", Reason::InvalidField, message),
            KeyWorkError::TooMany => Self::field("name", Reason::LimitExceeded, error.to_string()),
            KeyWorkError::NotFound(key) => Self::KeyNotFound { key: clip(&key) },
            KeyWorkError::Ambiguous { name, ids } => Self::KeyAmbiguous { name: clip(&name), ids },
            KeyWorkError::Record(error) => Self::Record(error),
        }
    }
}

/// What a key is to carry.
pub(super) fn grants(wire: &[proto::Grant]) -> Result<Grants, Error> {
    let refuse = |field: String, message: String| Error::field(field, Reason::InvalidField, message);
    let mut grants = Vec::with_capacity(wire.len());
    for (index, grant) in wire.iter().enumerate() {
        let stores = match grant.store.as_str() {
            "*" => Stores::All,
            store if is_store(store) => Stores::One(StoreName::of(store)),
            wrong => {
                let message =
                    format!("`{}` is not the name or id of a store; `*` means all stores", clip(wrong));
                return Err(refuse(format!("grants[{index}].store"), message));
            }
        };
        let mut rights = Rights::NONE;
        for right in grant.rights() {
            let right = domain(right).ok_or_else(|| {
                let message = "not a right that this server knows: READ, WRITE, SCHEMA or ADMIN";
                refuse(format!("grants[{index}].rights"), message.to_owned())
            })?;
            rights = rights.and(Rights::of(&[right]));
        }
        // An unknown right is not among those iterated over.
        if rights.is_empty() || grant.rights.iter().any(|right| proto::Right::try_from(*right).is_err()) {
            let message = "at least one right is needed, and only READ, WRITE, SCHEMA and ADMIN are known";
            return Err(refuse(format!("grants[{index}].rights"), message.to_owned()));
        }
        grants.push(Grant { stores, rights });
    }
    Grants::new(grants).map_err(|error| refuse("grants".to_owned(), error.to_string()))
}

fn domain(right: proto::Right) -> Option<Right> {
    match right {
        proto::Right::Unspecified => None,
        proto::Right::Read => Some(Right::Read),
        proto::Right::Write => Some(Right::Write),
        proto::Right::Schema => Some(Right::Schema),
        proto::Right::Admin => Some(Right::Admin),
    }
}

fn wire_right(right: Right) -> proto::Right {
    match right {
        Right::Read => proto::Right::Read,
        Right::Write => proto::Right::Write,
        Right::Schema => proto::Right::Schema,
        Right::Admin => proto::Right::Admin,
    }
}

/// A key as the wire has it. Grants that cannot be understood are not shown; the key has no
/// effect then, and the log says so.
pub(super) fn key(stored: &StoredKey) -> proto::Key {
    let grants = stored.grants.parse().unwrap_or_else(|_| Grants::nothing());
    let wire_grant = |grant: &Grant| proto::Grant {
        store: match &grant.stores {
            Stores::All => "*".to_owned(),
            Stores::One(store) => store.to_string(),
        },
        rights: grant.rights.iter().map(|right| wire_right(right).into()).collect(),
    };
    proto::Key {
        id: stored.id.to_string(),
        name: stored.name.to_string(),
        grants: grants.iter().map(wire_grant).collect(),
        created_at: Some(wire_timestamp(stored.created_at)),
        created_by: stored.created_by.to_string(),
        expires_at: stored.expires_at.map(wire_timestamp),
        revoked_at: stored.revoked_at.map(wire_timestamp),
        revoked_by: stored.revoked_by.as_deref().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(store: &str, rights: &[i32]) -> proto::Grant {
        proto::Grant { store: store.to_owned(), rights: rights.to_vec() }
    }

    #[test]
    fn grants_of_the_wire_are_those_of_the_text() {
        let given = [wire("*", &[1]), wire("a", &[2, 3, 2]), wire("b", &[4])];
        assert_eq!(grants(&given).expect("grants").to_string(), "*:read a:write,schema b:admin");
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        for given in [
            vec![],
            vec![wire("", &[1])],
            vec![wire("a b", &[1])],
            vec![wire("a", &[])],
            vec![wire("a", &[0])],
            vec![wire("a", &[1, 9])],
            vec![wire("a", &[1]); 33],
        ] {
            assert!(matches!(grants(&given), Err(Error::Field { .. })), "{given:?}");
        }
    }
}
