//! `relata completions`: a script that lets a shell complete the command line.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::args::Cli;
use super::exit::{Exit, Failure};
use super::output::Output;

/// Print a script that lets a shell complete commands and flags.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata completions bash > /etc/bash_completion.d/relata
  relata completions zsh > \"${fpath[1]}/_relata\"
  relata completions fish > ~/.config/fish/completions/relata.fish")]
pub struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "relata", &mut script);
        out.line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Success)
    }
}
