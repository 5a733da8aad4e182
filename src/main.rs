//! The `relata` program: parses arguments and hands over to the command line.

fn main() {}
