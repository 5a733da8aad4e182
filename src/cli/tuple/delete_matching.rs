//! `relata tuple delete-matching`: every tuple that matches a filter.

use clap::Args;
use futures::StreamExt as _;

use super::filter;
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::removal::{self, Options, Step};
use crate::cli::settings::Settings;
use crate::proto;

/// Remove every tuple that matches a filter, in steps.
#[derive(Debug, Args)]
#[command(after_help = "\
A filter is [TYPE[:ID]][#RELATION][@TYPE[:ID][#RELATION]]; what is left out matches anything.

Tuples go in steps of at most 1,000, between which others write; whoever asks meanwhile sees some of
them gone. Interrupted, it is simply run again. The zookie of the last step goes to standard output.

Examples:
  relata tuple delete-matching doc:plan#viewer --dry-run
  relata tuple delete-matching @user:ann --note 'she left'
  relata tuple delete-matching 'doc#viewer@group:eng#member'
  relata --store staging tuple delete-matching --all")]
pub struct DeleteMatching {
    /// Which tuples.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    filter: Option<String>,
    /// Every tuple of the store.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    options: Options,
}

impl DeleteMatching {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let filter = filter::parse(self.filter.as_deref().unwrap_or_default())?;
        if filter == proto::TupleFilter::default() && !self.all {
            return Err(
                Failure::usage("an empty filter matches every tuple").advise("say --all if that is meant")
            );
        }
        let template = proto::DeleteTuplesRequest {
            store: settings.store.clone(),
            filter: Some(filter),
            all: self.all,
            note: self.options.note.clone(),
            dry_run: self.options.dry_run,
            ..Default::default()
        };
        let connection = Connection::open(settings).await?;
        removal::run(&self.options, out, async |cursor, limit| {
            let request = proto::DeleteTuplesRequest { cursor, limit, ..template.clone() };
            let steps = connection.tuples().delete_tuples(connection.request(request)).await?.into_inner();
            Ok(steps.map(|step| {
                step.map(|step| Step { deleted: step.deleted, zookie: step.zookie, cursor: step.cursor })
            }))
        })
        .await
    }
}
