//! Text that should be a cursor, and real cursors with bytes changed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (text, noise) = input;
    relata::server::fuzzing::cursor(text, noise);
});
