//! Compiles the protos with a compiler written in Rust: no protoc on the machine.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(
        [
            "relata/v1/permission.proto",
            "relata/v1/tuple.proto",
            "relata/v1/schema.proto",
            "relata/v1/store.proto",
            "relata/v1/key.proto",
        ],
        ["proto"],
    )?;
    std::fs::write(out.join("relata_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // It holds the text of a key: `server::key` says how it prints.
        .skip_debug(["relata.v1.CreateKeyResponse"])
        .compile_fds(descriptors)?;
    Ok(())
}
