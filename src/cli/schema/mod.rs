//! `relata schema`: upload, read, check and compare schemas.

mod diff;
pub(super) mod file;
mod fmt;
mod list;
mod outline;
mod plan;
mod read;
mod validate;
mod write;

use clap::{Args, Subcommand};

use super::args::ask;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::settings::Globals;

/// Upload, read, check and compare schemas.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata schema validate schema.fga
  relata schema plan schema.fga
  relata schema write schema.fga
  relata schema read")]
pub struct Schema {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Write(write::Write),
    Read(read::Read),
    List(list::List),
    Validate(validate::Validate),
    Fmt(fmt::Fmt),
    Diff(diff::Diff),
    Plan(plan::Plan),
}

impl Schema {
    pub(super) fn run(self, globals: &Globals, out: &mut Output) -> Result<Exit, Failure> {
        match self.action {
            Action::Validate(validate) => validate.run(out),
            Action::Fmt(fmt) => fmt.run(out),
            Action::Diff(diff) => ask(globals, async |settings| diff.run(settings, out).await),
            Action::Write(write) => ask(globals, async |settings| write.run(settings, out).await),
            Action::Read(read) => ask(globals, async |settings| read.run(settings, out).await),
            Action::List(list) => ask(globals, async |settings| list.run(settings, out).await),
            Action::Plan(plan) => ask(globals, async |settings| plan.run(settings, out).await),
        }
    }
}
