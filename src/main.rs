//! The `relata` program: hands its arguments to the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    relata::cli::run(std::env::args_os()).into()
}
