//! The commands, and how each is started.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::exit::{Exit, Failure};
use super::output::{Format, Output, remark};
use super::settings::{Globals, Settings};
use super::{
    check, completions, context, doctor, expand, key, list_objects, list_relations, list_subjects, migrate,
    object, schema, serve, store, test, tuple, version,
};

/// An authorization server, and the way to ask it.
///
/// Services store facts `object#relation@subject`, a schema says how relations derive from one
/// another, and `relata check` says who may do what.
#[derive(Debug, Parser)]
#[command(
    name = "relata",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Begin:
  relata serve --bootstrap schema-examples/drive/store.fga.yaml
  relata check doc:roadmap can_read user:beth --explain

Exit code: 0 allowed or done, 1 denied, a failed test or a problem found, 2 conditional, 64 wrong usage, 65 bad input,
69 server unavailable, 70 internal error, 77 not permitted."
)]
pub(super) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // Boxed: it has many more settings than the others.
    Serve(Box<serve::Serve>),
    Migrate(migrate::Migrate),
    Check(check::Check),
    Expand(expand::Expand),
    ListObjects(list_objects::ListObjects),
    ListSubjects(list_subjects::ListSubjects),
    ListRelations(list_relations::ListRelations),
    Tuple(tuple::Tuple),
    Object(object::Object),
    Schema(schema::Schema),
    Test(test::Test),
    Store(store::Store),
    Key(key::Key),
    Doctor(doctor::Doctor),
    Context(context::Context),
    Completions(completions::Completions),
    Version(version::Version),
}

/// Runs the command line and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is wrong usage.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // A closed output leaves nobody to tell.
            let _ = error.print();
            return exit;
        }
    };
    let mut out = Output::new(cli.globals.output);
    let ended = dispatch(cli, &mut out);
    match ended.and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            // What was printed before the failure is still an answer.
            let _ = out.flush();
            if !failure.is_closed_pipe() {
                match out.format {
                    Format::Table => remark(&failure),
                    Format::Json | Format::Jsonl => remark(failure.json()),
                }
            }
            failure.exit
        }
    }
}

fn dispatch(cli: Cli, out: &mut Output) -> Result<Exit, Failure> {
    let globals = cli.globals;
    match cli.command {
        Command::Serve(serve) => serve.run(&globals, out),
        Command::Test(test) => test.run(out),
        Command::Migrate(migrate) => migrate.run(out),
        Command::Doctor(doctor) => doctor.run(&globals, out),
        Command::Context(context) => context.run(&globals, out),
        Command::Completions(completions) => completions.run(out),
        Command::Version(version::Version {}) => version::Version::run(out),
        Command::Check(check) => ask(&globals, async |settings| check.run(settings, out).await),
        Command::Expand(expand) => ask(&globals, async |settings| expand.run(settings, out).await),
        Command::ListObjects(list) => ask(&globals, async |settings| list.run(settings, out).await),
        Command::ListSubjects(list) => ask(&globals, async |settings| list.run(settings, out).await),
        Command::ListRelations(list) => ask(&globals, async |settings| list.run(settings, out).await),
        Command::Key(key) => key.run(&globals, out),
        Command::Store(store) => ask(&globals, async |settings| store.run(settings, out).await),
        Command::Tuple(tuple) => ask(&globals, async |settings| tuple.run(settings, out).await),
        Command::Object(object) => ask(&globals, async |settings| object.run(settings, out).await),
        Command::Schema(schema) => schema.run(&globals, out),
    }
}

/// Runs one conversation with the server that the settings name. A command says what is wrong
/// with its arguments before it connects.
pub(super) fn ask(
    globals: &Globals,
    conversation: impl AsyncFnOnce(&Settings) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let settings = globals.settings()?;
    runtime()?.block_on(conversation(&settings))
}

/// A client needs one thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot start: {error}")))
}
