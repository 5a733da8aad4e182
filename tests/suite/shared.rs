//! Where the test data of other projects is, if it is there.

use std::path::{Path, PathBuf};

/// The folder `conformance` of the shared data: beside the crate, or beside one of the folders
/// above it, or where `RELATA_SHARED` says. `None` if this machine has none; a test then says
/// so and passes.
pub fn conformance() -> Option<PathBuf> {
    let named = std::env::var_os("RELATA_SHARED").map(PathBuf::from);
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1).map(|folder| folder.join("shared"));
    let found =
        named.into_iter().chain(above).map(|shared| shared.join("conformance")).find(|path| path.is_dir());
    if found.is_none() {
        println!("no conformance data here: set RELATA_SHARED to the folder that holds `conformance`");
    }
    found
}
