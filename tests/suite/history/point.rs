//! Where an answer stands: a revision, and in which history.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A revision of one history, as a zookie names it: the number, and eight bytes of the write
/// that made it. After a failover that lost commits the number may be given out again; the bytes
/// are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub revision: u64,
    pub tag: u64,
}

/// Version, database and store come before the revision, a checksum after the tag.
const REVISION_AT: usize = 1 + 4 + 6;
const TAG_AT: usize = REVISION_AT + 8;
const LENGTH: usize = TAG_AT + 8 + 3;

impl Point {
    /// Before the first write.
    pub const ZERO: Self = Self { revision: 0, tag: 0 };

    /// What a zookie names. The checker reads it without the server's own code.
    pub fn of_zookie(zookie: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(zookie).ok().filter(|bytes| bytes.len() == LENGTH)?;
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        Some(Self { revision: number(REVISION_AT)?, tag: number(TAG_AT)? })
    }

    /// From a revision row: the tag is the second half of the write id.
    pub fn of_row(revision: u64, write_id: [u8; 16]) -> Self {
        let (_, tag) = write_id.split_at(8);
        Self { revision, tag: tag.try_into().map_or(0, u64::from_be_bytes) }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{:08x}", self.revision, self.tag >> 32)
    }
}

#[test]
fn a_zookie_names_a_point() {
    use relata::revision::{DatabaseId, Revision, StoreId, WriteId, Zookie};
    let write = uuid::Uuid::now_v7();
    let (database, store) = (DatabaseId(uuid::Uuid::new_v4()), StoreId(uuid::Uuid::new_v4()));
    let zookie = Zookie::new(database, store, Revision(1_234_567), WriteId(write)).to_string();
    assert_eq!(Point::of_zookie(&zookie), Some(Point::of_row(1_234_567, *write.as_bytes())));
    let zero = Zookie::new(database, store, Revision::ZERO, WriteId::NIL).to_string();
    assert_eq!(Point::of_zookie(&zero), Some(Point::ZERO));
    assert_eq!(Point::of_zookie("nonsense"), None);
}
