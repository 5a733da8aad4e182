//! Text that should be a zookie, and real zookies with bytes changed: read without a panic, and
//! what is read prints as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relata::revision::{DatabaseId, Revision, StoreId, Zookie};
use uuid::Uuid;

fn read(text: &str) -> Option<Zookie> {
    let zookie = text.parse::<Zookie>().ok()?;
    let printed = zookie.to_string();
    assert_eq!(printed, text.trim(), "one zookie has one text");
    assert!(printed.len() < 60, "{printed}");
    Some(zookie)
}

fuzz_target!(|input: (&str, u64, [u8; 8], &[u8])| {
    let (text, number, bytes, noise) = input;
    read(text);
    let zookie = Zookie::tagged(DatabaseId(Uuid::max()), StoreId(Uuid::nil()), Revision(number), bytes);
    let printed = zookie.to_string();
    assert_eq!(read(&printed), Some(zookie));
    let mut changed = printed.into_bytes();
    for pair in noise.chunks_exact(2) {
        let place = usize::from(pair[0]) % changed.len();
        changed[place] ^= pair[1];
    }
    if let Ok(changed) = String::from_utf8(changed) {
        read(&changed);
    }
});
