//! Where the record is: flags that `serve` and `migrate` have in common.

use clap::Args;

use super::exit::Failure;
use super::secret::Secret;
use crate::config::DatastoreConfig;

/// Where the record is kept.
#[derive(Debug, Args)]
pub(super) struct Record {
    /// Where facts are kept: `sqlite:PATH` or `postgres://…` [default: sqlite:relata.db].
    #[arg(long, env = "RELATA_DATASTORE", hide_env_values = true, value_name = "URL")]
    datastore: Option<Secret>,
    /// The same PostgreSQL past a pooler in transaction mode: to migrate and to hear notifications,
    /// which such a pooler breaks.
    #[arg(long, env = "RELATA_DIRECT_DATASTORE", hide_env_values = true, value_name = "URL")]
    direct_datastore: Option<Secret>,
    /// Prepared statements kept per connection to PostgreSQL [default: 100; none if a pooler in
    /// transaction mode is noticed]. Say how many behind one that follows them, such as `PgBouncer`
    /// from 1.21 on with `max_prepared_statements`; 0 says that nothing may be kept.
    #[arg(long, env = "RELATA_STATEMENT_CACHE", value_name = "N")]
    statement_cache: Option<usize>,
}

/// Where facts are kept when nothing is said.
const DEFAULT: &str = "sqlite:relata.db";

impl Record {
    /// Whether a flag or a variable says where.
    pub(super) fn is_named(&self) -> bool {
        self.datastore.is_some()
    }

    pub(super) fn config(&self) -> Result<DatastoreConfig, Failure> {
        let mut config = parse("--datastore", self.datastore.as_ref().unwrap_or(&DEFAULT.into()))?;
        match (&mut config, &self.direct_datastore) {
            (DatastoreConfig::Postgres(settings), direct) => {
                settings.statement_cache_capacity = self.statement_cache;
                if let Some(direct) = direct {
                    let DatastoreConfig::Postgres(direct) = parse("--direct-datastore", direct)? else {
                        return Err(Failure::usage("--direct-datastore: must be a PostgreSQL URL"));
                    };
                    settings.direct_url = Some(direct.url);
                }
            }
            (DatastoreConfig::Sqlite(_), None) => {}
            (DatastoreConfig::Sqlite(_), Some(_)) => {
                return Err(Failure::usage("--direct-datastore goes with a PostgreSQL --datastore"));
            }
        }
        Ok(config)
    }
}

fn parse(flag: &str, url: &Secret) -> Result<DatastoreConfig, Failure> {
    url.expose().parse().map_err(|error| Failure::usage(format!("{flag}: {error}")))
}
