//! Bytes as the message of every method of the API, on a whole server without its port: decoded,
//! converted, answered. A call that panics, hangs, or ends with a status that blames the server
//! is a finding. The first byte chooses the method.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use relata::server::fuzzing::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let target = TARGET.get_or_init(|| Target::start().expect("a server"));
        relata_fuzz::plant(target.seeds());
    },
    |input: &[u8]| {
        let (Some((method, message)), Some(target)) = (input.split_first(), TARGET.get()) else { return };
        target.call(usize::from(*method), message);
    }
);
