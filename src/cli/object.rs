//! `relata object`: an object as a whole.

use clap::{Args, Subcommand};
use futures::StreamExt as _;

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::removal::{self, Options, Step};
use super::settings::Settings;
use crate::proto;
use crate::tuple;

/// Remove an object with all its tuples.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  relata object delete doc:plan --note 'deleted by its owner'")]
pub struct Object {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove every tuple of an object: about it, and granted to it or to a userset of it.
    #[command(after_help = "\
Tuples go in steps of at most 1,000, between which others write. Interrupted, it is simply run
again. The zookie of the last step goes to standard output.

Examples:
  relata object delete doc:plan --dry-run
  relata object delete group:eng --note 'dissolved'")]
    Delete {
        /// `type:id`.
        object: String,
        #[command(flatten)]
        options: Options,
    },
}

impl Object {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let Action::Delete { object, options } = self.action;
        let object: tuple::Object = object.parse().map_err(Failure::bad_input)?;
        let template = proto::DeleteObjectRequest {
            store: settings.store.clone(),
            object: object.to_string(),
            note: options.note.clone(),
            dry_run: options.dry_run,
            ..Default::default()
        };
        let connection = Connection::open(settings).await?;
        removal::run(&options, out, async |cursor, limit| {
            let request = proto::DeleteObjectRequest { cursor, limit, ..template.clone() };
            let steps = connection.tuples().delete_object(connection.request(request)).await?.into_inner();
            Ok(steps.map(|step| {
                step.map(|step| Step { deleted: step.deleted, zookie: step.zookie, cursor: step.cursor })
            }))
        })
        .await
    }
}
