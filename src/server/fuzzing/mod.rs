//! What a fuzzer calls: the parts of the server that read bytes of strangers, without a network.
//!
//! Nothing else uses this. It is compiled like any other code, so that it cannot fall behind.

mod cursor;
mod seeds;
mod target;

pub use cursor::cursor;
pub use target::Target;
