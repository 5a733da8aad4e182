//! `relata key --direct`: keys in the database itself, before there is a key to ask a server
//! with, or when the last one is lost.

use std::sync::Arc;

use clap::Args;

use super::exit::{Exit, Failure};
use super::key::{Expiry, Shown};
use super::migrate;
use super::secret::Secret;
use super::serve::with_causes;
use crate::config::DatastoreConfig;
use crate::datastore::{Datastore, DatastoreError, KeyFilter, StoredKey};
use crate::metrics::Metrics;
use crate::server;
use crate::server::access::{Grants, KeyWish, KeyWorkError, make_key, now, revoke_keys};

/// Whether to work on the database itself, and on which.
#[derive(Debug, Args)]
pub(super) struct Direct {
    /// Work on the database itself, without a server: that of --datastore, else of the variable
    /// `RELATA_DATASTORE`, else sqlite:relata.db.
    #[arg(long)]
    direct: bool,
    /// The database to work on, `sqlite:PATH` or `postgres://…`; implies --direct.
    #[arg(long, value_name = "URL")]
    datastore: Option<Secret>,
}

impl Direct {
    /// The database to work on; `None` asks a server.
    pub(super) fn config(&self) -> Result<Option<DatastoreConfig>, Failure> {
        let url = match &self.datastore {
            Some(url) => url.clone(),
            None if self.direct => {
                let set = std::env::var("RELATA_DATASTORE").ok().filter(|url| !url.is_empty());
                Secret::from(set.as_deref().unwrap_or("sqlite:relata.db"))
            }
            None => return Ok(None),
        };
        let config = url.expose().parse().map_err(|error| Failure::usage(format!("--datastore: {error}")))?;
        Ok(Some(config))
    }
}

/// Who the record says made or revoked a key: somebody who can reach the database.
const OPERATOR: &str = "operator";
/// How many keys to read at once.
const PAGE: u32 = 1_000;

/// An open database.
pub(super) struct Record(Arc<dyn Datastore>);

impl Record {
    /// Opens the database, works on it and closes it. The tables of a SQLite file are made if
    /// need be, as `relata serve` does.
    pub(super) fn with<T>(
        config: &DatastoreConfig,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        super::args::runtime()?.block_on(async {
            let opened = server::lifecycle::open(config, Metrics::new()).await;
            let record = Self(opened.map_err(|error| refused(error.into()))?);
            let ready = match config {
                DatastoreConfig::Sqlite(_) => record.0.migrate().await,
                DatastoreConfig::Postgres(_) => record.0.ping().await,
            };
            let outcome = match ready {
                Ok(()) => work(&record).await,
                Err(error) => Err(refused(error.into())),
            };
            record.0.close().await;
            outcome
        })
    }

    pub(super) async fn create(
        &self,
        name: String,
        grants: Grants,
        expires: Option<Expiry>,
    ) -> Result<(Shown, Secret), Failure> {
        let expires_at = match expires {
            None => None,
            Some(Expiry::In(lasting)) => Some(now().saturating_add(lasting)),
            Some(Expiry::At(moment)) if moment <= now() => {
                return Err(Failure::bad_input("--expires: a key cannot have expired before it is made"));
            }
            Some(Expiry::At(moment)) => Some(moment),
        };
        let wish = KeyWish { name, grants, expires_at };
        let (key, stored) = make_key(Arc::clone(&self.0), wish, OPERATOR.into()).await.map_err(refused)?;
        Ok((shown(&stored), Secret::from(key.expose())))
    }

    pub(super) async fn list(&self, revoked: bool) -> Result<Vec<Shown>, Failure> {
        let filter = KeyFilter { revoked, ..KeyFilter::default() };
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page =
                self.0.keys(&filter, after.as_ref(), PAGE).await.map_err(|error| refused(error.into()))?;
            let Some(last) = page.last() else { return Ok(keys) };
            after = Some((Arc::clone(&last.name), last.id.clone()));
            keys.extend(page.iter().map(shown));
        }
    }

    pub(super) async fn revoke(&self, key: String, all: bool) -> Result<Vec<Shown>, Failure> {
        let revoked = revoke_keys(Arc::clone(&self.0), key, all, OPERATOR.into()).await.map_err(refused)?;
        Ok(revoked.iter().map(shown).collect())
    }
}

fn shown(key: &StoredKey) -> Shown {
    Shown {
        id: key.id.to_string(),
        name: key.name.to_string(),
        grants: key.grants.to_string(),
        created_at: key.created_at.to_string(),
        created_by: key.created_by.to_string(),
        expires_at: key.expires_at.map(|at| at.to_string()),
        revoked_at: key.revoked_at.map(|at| at.to_string()),
        revoked_by: key.revoked_by.as_deref().unwrap_or_default().to_owned(),
    }
}

fn refused(error: KeyWorkError) -> Failure {
    match error {
        KeyWorkError::Record(error) => {
            let failure = Failure::new(migrate::exit_of(&error), with_causes(&error));
            match error {
                DatastoreError::InUse(_) => failure.advise(
                    "a server has the file: ask it with a key that is admin of all stores (--token) \
                     and without --direct, or stop it first",
                ),
                DatastoreError::Unavailable(_) => failure
                    .advise("check that the database runs, and the address and password in --datastore"),
                DatastoreError::OutcomeUnknown(_)
                | DatastoreError::NotMigrated { .. }
                | DatastoreError::TooNew { .. }
                | DatastoreError::Corrupt(_)
                | DatastoreError::Trimmed { .. }
                | DatastoreError::StoreNotFound
                | DatastoreError::StoreExists(_)
                | DatastoreError::TooCostly { .. }
                | DatastoreError::Other(_) => failure,
            }
        }
        KeyWorkError::Name(_) | KeyWorkError::TooMany | KeyWorkError::NotFound(_) => {
            Failure::new(Exit::BadInput, error.to_string())
        }
        KeyWorkError::Ambiguous { .. } => {
            Failure::new(Exit::BadInput, error.to_string()).advise("name one by its id, or add --all")
        }
    }
}
