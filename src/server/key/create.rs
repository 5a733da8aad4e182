//! `CreateKey`.

use std::time::Duration;

use super::wire;
use crate::proto;
use crate::proto::create_key_request::Expiry;
use crate::server::access::{KeyWish, make_key, now};
use crate::server::call::Call;
use crate::server::convert;
use crate::server::node::Node;
use crate::server::status::{Error, Reason};
use crate::time::Timestamp;

/// Longest time until a key expires: a hundred years.
const LONGEST: Duration = Duration::from_hours(100 * 366 * 24);

pub(super) async fn create_key(
    node: &Node,
    call: &Call,
    request: proto::CreateKeyRequest,
) -> Result<proto::CreateKeyResponse, Error> {
    let grants = wire::grants(&request.grants)?;
    let expires_at = request.expiry.map(|expiry| moment(&expiry)).transpose()?;
    let wish = KeyWish { name: request.name, grants, expires_at };
    let (record, by) = (node.datastore().clone(), call.principal.clone());
    let (key, stored) = node.in_background(make_key(record, wish, by)).await??;
    Ok(proto::CreateKeyResponse { key: Some(wire::key(&stored)), secret: key.expose().to_owned() })
}

fn moment(expiry: &Expiry) -> Result<Timestamp, Error> {
    let refuse = |field: &str, message: &str| Err(Error::field(field, Reason::InvalidField, message));
    match expiry {
        Expiry::ExpiresAt(at) => {
            let at = convert::timestamp("expires_at", at)?;
            if at > now() {
                Ok(at)
            } else {
                refuse("expires_at", "a key cannot have expired before it is made")
            }
        }
        Expiry::ExpiresIn(lasting) => match Duration::try_from(*lasting) {
            Ok(lasting) if !lasting.is_zero() && lasting <= LONGEST => Ok(now().saturating_add(lasting)),
            Ok(_) | Err(_) => refuse("expires_in", "a key lasts up to 100 years, or has no expiry"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_lies_ahead() {
        let at = |seconds: i64, nanos| Expiry::ExpiresAt(prost_types::Timestamp { seconds, nanos });
        let lasting = |seconds: i64, nanos| Expiry::ExpiresIn(prost_types::Duration { seconds, nanos });
        let day = moment(&lasting(86_400, 0)).expect("a day");
        assert!(day > now() && day <= now().saturating_add(Duration::from_hours(24)));
        assert!(moment(&at(4_000_000_000, 0)).is_ok());
        for wrong in
            [at(0, 0), at(1, -1), at(i64::MAX, 0), lasting(0, 0), lasting(-5, 0), lasting(i64::MAX, 0)]
        {
            assert!(matches!(moment(&wrong), Err(Error::Field { .. })), "{wrong:?}");
        }
    }
}
