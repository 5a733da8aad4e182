//! Surveys the database that a server would use.

use super::Section;
use crate::cli::serve::with_causes;
use crate::config::DatastoreConfig;
use crate::datastore::DatastoreError;
use crate::datastore::{postgres, sqlite};
use crate::doctor::{self, Expectations, Finding, Topic};

pub(super) async fn look_over(config: &DatastoreConfig, expected: &Expectations) -> Section {
    match config {
        DatastoreConfig::Sqlite(path) => {
            let path = path.clone();
            let title = "database (SQLite)".to_owned();
            // Files block for as long as the file system takes.
            let survey = tokio::task::spawn_blocking(move || sqlite::survey(&path)).await;
            let findings = match survey {
                Ok(survey) => doctor::judge_sqlite(&survey, expected),
                Err(error) => vec![unreachable("the file", &DatastoreError::Other(error.into()))],
            };
            Section { title, findings }
        }
        DatastoreConfig::Postgres(settings) => {
            let title = "database (PostgreSQL)".to_owned();
            let address = settings.url.to_string();
            let findings = match postgres::survey(settings).await {
                Ok(survey) => doctor::judge_postgres(&address, &survey, expected),
                Err(error) => vec![unreachable(&address, &error)],
            };
            Section { title, findings }
        }
    }
}

fn unreachable(address: &str, error: &DatastoreError) -> Finding {
    let what = format!("{address}: {}", with_causes(error));
    let remedy = "check that the database runs, that nothing on the way refuses, and the address and password in --datastore";
    Finding::problem(Topic::Connection, what, remedy)
}
