//! A small service that keeps documents in a database of its own and their owners in Relata.
//!
//! It shows how one request changes both without either drifting. `docs/dual-write.md` explains
//! the steps; the test `dual_write` kills this program between any two of them.
//!
//! ```text
//! cargo run --example dual-write -- create --request r1 --document plan --title "The plan" --owner ann
//! cargo run --example dual-write -- read --document plan --user ann
//! ```

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use relata::proto::consistency::Requirement;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::precondition::Operation as Expectation;
use relata::proto::tuple_service_client::TupleServiceClient;
use relata::proto::update::Operation;
use relata::proto::{
    CheckRequest, Consistency, Precondition, Tuple, TupleFilter, Update, Verdict, WriteRequest,
};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

/// Documents in SQLite, their owners in Relata.
#[derive(Parser)]
struct Arguments {
    /// The service's own database.
    #[arg(long, default_value = "documents.db")]
    database: PathBuf,
    /// Where Relata listens. Its store needs the schema of schema-examples/drive.
    #[arg(long, env = "RELATA_ENDPOINT", default_value = "http://127.0.0.1:8081")]
    endpoint: String,
    /// Relata's store.
    #[arg(long, env = "RELATA_STORE", default_value = "default")]
    store: String,
    /// End the process at this step, as a crash would: before-relation, after-relation,
    /// after-commit, after-rejection, after-undo.
    #[arg(long, hide = true)]
    crash_at: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Creates a document and makes its creator the owner. Repeating a request is safe.
    Create {
        /// Names this request: a retry uses the same one.
        #[arg(long)]
        request: String,
        /// The document's id.
        #[arg(long)]
        document: String,
        /// Titles are unique; a taken one is why a request can be rejected.
        #[arg(long)]
        title: String,
        /// The user who creates it.
        #[arg(long)]
        owner: String,
    },
    /// Prints a document's title, if the user may read it.
    Read {
        /// The document's id.
        #[arg(long)]
        document: String,
        /// Who asks.
        #[arg(long)]
        user: String,
    },
}

/// What the service's own database says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Accepted,
    Rejected,
}

/// What the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The document exists, with its owner.
    Created,
    /// Another document has the title.
    TitleTaken,
    /// Somebody has the document already, or is about to.
    DocumentTaken,
}

struct Service {
    database: Connection,
    tuples: TupleServiceClient<Channel>,
    permissions: PermissionServiceClient<Channel>,
    store: String,
    crash_at: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let channel = Channel::from_shared(arguments.endpoint.clone())?
        .connect()
        .await
        .with_context(|| format!("Relata does not answer at {}", arguments.endpoint))?;
    let mut service = Service {
        database: open(&arguments.database)?,
        tuples: TupleServiceClient::new(channel.clone()),
        permissions: PermissionServiceClient::new(channel),
        store: arguments.store,
        crash_at: arguments.crash_at,
    };
    match arguments.command {
        Command::Create { request, document, title, owner } => {
            match service.create(&request, &document, &title, &owner).await? {
                Answer::Created => println!("created document:{document}"),
                Answer::TitleTaken => bail!("rejected: the title `{title}` is taken"),
                Answer::DocumentTaken => bail!("rejected: the document `{document}` is taken"),
            }
        }
        Command::Read { document, user } => println!("{}", service.read(&document, &user).await?),
    }
    Ok(())
}

fn open(path: &PathBuf) -> anyhow::Result<Connection> {
    let database = Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.execute_batch(
        "create table if not exists request (id text primary key, decision text not null);
         create table if not exists document (
             id text primary key, title text not null unique, owner text not null, zookie text not null);",
    )?;
    Ok(database)
}

impl Service {
    /// The three steps. Whatever step the process dies at, calling this again with the same
    /// request ends in the same place.
    async fn create(
        &mut self,
        request: &str,
        document: &str,
        title: &str,
        owner: &str,
    ) -> anyhow::Result<Answer> {
        let relation = Tuple {
            object: format!("doc:{document}"),
            relation: "owner".to_owned(),
            subject: format!("user:{owner}"),
            ..Tuple::default()
        };
        let decision = if let Some(decision) = self.decision(request)? {
            decision
        } else {
            if self.exists(document)? {
                return Ok(Answer::DocumentTaken);
            }
            self.crash_point("before-relation");
            // 1. Write the relation. The key makes a retry return the first zookie.
            let Some(zookie) = self.grant(request, document, &relation).await? else {
                return Ok(Answer::DocumentTaken);
            };
            self.crash_point("after-relation");
            // 2. Decide, once and durably, in our own transaction: the row with the zookie
            //    beside it, or the rejection.
            let decision = self.decide(request, document, title, owner, &zookie)?;
            self.crash_point("after-commit");
            decision
        };
        match decision {
            Decision::Accepted => Ok(Answer::Created),
            Decision::Rejected => {
                self.crash_point("after-rejection");
                // 3. Undo, only after the rejection is on record: a retry that finds no decision
                //    may rely on the relation of step 1 being there.
                self.revoke(request, &relation).await?;
                self.crash_point("after-undo");
                Ok(Answer::TitleTaken)
            }
        }
    }

    /// Reads with the zookie stored beside the row, so that the owner of a document just
    /// created is never told that it cannot be read.
    async fn read(&mut self, document: &str, user: &str) -> anyhow::Result<String> {
        let row: Option<(String, String)> = self
            .database
            .query_row("select title, zookie from document where id = ?1", [document], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((title, zookie)) = row else { bail!("no document `{document}`") };
        let answer = self
            .permissions
            .check(CheckRequest {
                store: self.store.clone(),
                object: format!("doc:{document}"),
                relation: "can_read".to_owned(),
                subject: format!("user:{user}"),
                consistency: Some(Consistency { requirement: Some(Requirement::AtLeast(zookie)) }),
                ..CheckRequest::default()
            })
            .await?
            .into_inner();
        match answer.verdict() {
            Verdict::Allowed => Ok(title),
            Verdict::Denied | Verdict::Conditional | Verdict::Unspecified => {
                bail!("user `{user}` may not read document `{document}`")
            }
        }
    }

    /// Makes the owner, unless the document has one: no request may touch what another one
    /// relies on. `None` if it has.
    async fn grant(
        &mut self,
        request: &str,
        document: &str,
        relation: &Tuple,
    ) -> anyhow::Result<Option<String>> {
        let owned = TupleFilter {
            object_type: "doc".to_owned(),
            object_id: document.to_owned(),
            relation: "owner".to_owned(),
            ..TupleFilter::default()
        };
        let nobody_owns_it =
            Precondition { operation: Expectation::MustNotMatch.into(), filter: Some(owned) };
        let key = format!("{request}/grant");
        match self.write(Operation::Create, relation, vec![nobody_owns_it], key).await {
            Ok(zookie) => Ok(Some(zookie)),
            Err(status) if reason(&status).as_deref() == Some("PRECONDITION_FAILED") => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Takes back what [`Self::grant`] wrote. A retry that comes late does nothing, even if
    /// somebody has been made the owner since: its key has been used.
    async fn revoke(&mut self, request: &str, relation: &Tuple) -> anyhow::Result<()> {
        self.write(Operation::Delete, relation, Vec::new(), format!("{request}/revoke")).await?;
        Ok(())
    }

    async fn write(
        &mut self,
        operation: Operation,
        tuple: &Tuple,
        preconditions: Vec<Precondition>,
        idempotency_key: String,
    ) -> Result<String, Status> {
        let update = Update { operation: operation.into(), tuple: Some(tuple.clone()), must_exist: false };
        let written = self
            .tuples
            .write(WriteRequest {
                store: self.store.clone(),
                updates: vec![update],
                preconditions,
                idempotency_key,
                ..WriteRequest::default()
            })
            .await?;
        Ok(written.into_inner().zookie)
    }

    fn decision(&self, request: &str) -> anyhow::Result<Option<Decision>> {
        let found: Option<String> = self
            .database
            .query_row("select decision from request where id = ?1", [request], |row| row.get(0))
            .optional()?;
        Ok(found.map(|decision| if decision == "accepted" { Decision::Accepted } else { Decision::Rejected }))
    }

    fn decide(
        &mut self,
        request: &str,
        document: &str,
        title: &str,
        owner: &str,
        zookie: &str,
    ) -> anyhow::Result<Decision> {
        let transaction = Transaction::new(&mut self.database, TransactionBehavior::Immediate)?;
        let inserted = transaction.execute(
            "insert into document (id, title, owner, zookie) values (?1, ?2, ?3, ?4) on conflict do nothing",
            [document, title, owner, zookie],
        )?;
        let decision = if inserted == 1 { Decision::Accepted } else { Decision::Rejected };
        let word = if decision == Decision::Accepted { "accepted" } else { "rejected" };
        transaction.execute("insert into request (id, decision) values (?1, ?2)", [request, word])?;
        transaction.commit()?;
        Ok(decision)
    }

    fn exists(&self, document: &str) -> anyhow::Result<bool> {
        let question = "select exists (select 1 from document where id = ?1)";
        Ok(self.database.query_row(question, [document], |row| row.get(0))?)
    }

    /// Ends the process as a crash would, when the test asks for it here.
    fn crash_point(&self, step: &str) {
        if self.crash_at.as_deref() == Some(step) {
            std::process::abort();
        }
    }
}

/// What a program branches on when Relata refuses.
fn reason(status: &Status) -> Option<String> {
    Some(status.get_details_error_info()?.reason)
}
