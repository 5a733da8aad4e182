//! Cursors, real and forged.

use crate::datastore::{Identity, SchemaId};
use crate::proto;
use crate::revision::{DatabaseId, Revision};
use crate::server::cursor::{Cursor, CursorKeys, Pin, RequestDigest};
use crate::time::Timestamp;

/// Opens a text as a cursor, and any text made from a real cursor by changing bytes as `noise`
/// says: only the real one opens.
///
/// # Panics
/// If a cursor opens that was never sealed, or a sealed one does not open. That is the finding.
pub fn cursor(text: &str, noise: &[u8]) {
    let identity = Identity { database: DatabaseId(uuid::Uuid::nil()), cursor_keys: vec![[7; 32], [9; 32]] };
    let keys = CursorKeys::new(&identity);
    let request = RequestDigest::of("fuzz", None, &proto::ReadRequest::default());
    // Nobody finds a text that is authentic by itself.
    assert!(keys.open(request, text).is_err(), "`{text}` was never sealed");
    let number = noise.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let pin = Pin {
        revision: Revision(number),
        write: number.to_be_bytes(),
        schema: (number % 2 == 0).then_some(SchemaId(ulid::Ulid(u128::from(number) + 1))),
        now: Timestamp::from_micros(number.cast_signed()),
    };
    let after: String = text.chars().take(500).collect();
    let sealed_from = Cursor { pin, after };
    let sealed = keys.seal(request, &sealed_from);
    assert_eq!(keys.open(request, &sealed), Ok(sealed_from), "a sealed cursor opens");
    let mut bytes = sealed.clone().into_bytes();
    for pair in noise.chunks_exact(2) {
        let [place, change] = pair else { continue };
        let place = usize::from(*place) % bytes.len();
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= change & 0x7f;
        }
    }
    let Ok(changed) = String::from_utf8(bytes) else { return };
    if changed != sealed {
        assert!(keys.open(request, &changed).is_err(), "`{changed}` was never sealed");
    }
}
