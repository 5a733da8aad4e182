//! What the targets share.

use std::fs;
use std::path::Path;

/// Puts what a target starts from into the folder that `RELATA_FUZZ_CORPUS` names.
///
/// # Panics
/// If the folder cannot be written to.
pub fn plant(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os("RELATA_FUZZ_CORPUS") else { return };
    for (at, seed) in seeds.into_iter().enumerate() {
        fs::write(Path::new(&folder).join(format!("seed-{at}")), seed).expect("a writable corpus");
    }
}
