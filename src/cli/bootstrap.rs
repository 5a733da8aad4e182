//! Fills an empty store from a store file, over the API like any client: what is refused there
//! is refused here.

use std::time::Duration;

use tonic::Code;

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::settings::Settings;
use super::wire;
use crate::proto;
use crate::proto::update::Operation;
use crate::schema;
use crate::server::Inside;
use crate::store_file::{Expected, StoreFile};

/// What was done with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrapped {
    /// Schema and tuples were written.
    Filled {
        /// How many tuples.
        tuples: usize,
    },
    /// The store has this schema and tuples; nothing was written.
    Kept,
    /// The store has another schema; nothing was written.
    OtherSchema,
}

impl Bootstrapped {
    /// What happened, in words.
    pub fn sentence(self, file: &StoreFile) -> String {
        let name = file.name.clone().unwrap_or_else(|| file.path.display().to_string());
        match self {
            Self::Filled { tuples } => format!("loaded {name}: schema and {tuples} tuples"),
            Self::Kept => format!("kept what the store holds; {name} was loaded before"),
            Self::OtherSchema => format!("kept what the store holds: its schema is not that of {name}"),
        }
    }
}

/// How often a starting server is asked whether it is there yet.
const POLL: Duration = Duration::from_millis(20);
/// Tuples of one write.
const STEP: usize = 1_000;

/// Waits until the server of this process answers, then fills the store if a file is given. Waits
/// for ever for a server that does not come: the caller sees it end.
pub async fn when_ready(
    inside: &Inside,
    settings: &Settings,
    file: Option<&StoreFile>,
) -> Result<Option<Bootstrapped>, Failure> {
    let connection = loop {
        if let Ok(connection) = Connection::inside(inside, settings).await {
            let question = connection.request(proto::GetStoreRequest { store: String::new() });
            match connection.stores().get_store(question).await {
                Ok(_) => break connection,
                Err(status) if status.code() == Code::Unavailable => {}
                Err(status) => return Err(status.into()),
            }
        }
        tokio::time::sleep(POLL).await;
    };
    match file {
        None => Ok(None),
        Some(file) => fill(&connection, file)
            .await
            .map(Some)
            .map_err(|failure| failure.about(format_args!("--bootstrap {}", file.path.display()))),
    }
}

async fn fill(connection: &Connection, file: &StoreFile) -> Result<Bootstrapped, Failure> {
    if let Err(diagnostics) = schema::parse(&file.model.text) {
        let name = file.model.path.display().to_string();
        let text = diagnostics.render(Some(&name), schema::Style::Plain);
        return Err(Failure::new(Exit::BadInput, format!("the schema is not valid\n{}", text.trim_end())));
    }
    match schema_in_force(connection, &store(connection).await?).await? {
        Some(text) if text != file.model.text => return Ok(Bootstrapped::OtherSchema),
        Some(_) => {}
        None => {
            let request = proto::WriteSchemaRequest {
                store: connection.store.clone(),
                text: file.model.text.clone(),
                note: "bootstrap".to_owned(),
                ..Default::default()
            };
            connection.schemas().write_schema(connection.request(request)).await?;
        }
    }
    // A start that ended between schema and tuples is taken up here.
    if holds_tuples(connection).await? {
        return Ok(Bootstrapped::Kept);
    }
    for step in file.tuples.chunks(STEP) {
        let updates = step
            .iter()
            .map(|tuple| proto::Update {
                operation: Operation::Touch.into(),
                tuple: Some(wire::tuple(tuple)),
                must_exist: false,
            })
            .collect();
        let request = proto::WriteRequest {
            store: connection.store.clone(),
            updates,
            note: "bootstrap".to_owned(),
            ..Default::default()
        };
        connection.tuples().write(connection.request(request)).await?;
    }
    Ok(Bootstrapped::Filled { tuples: file.tuples.len() })
}

/// The store, created if one is named and there is none.
async fn store(connection: &Connection) -> Result<proto::Store, Failure> {
    let request = connection.request(proto::GetStoreRequest { store: connection.store.clone() });
    let store = match connection.stores().get_store(request).await {
        Ok(answer) => answer.into_inner().store,
        Err(status) if status.code() == Code::NotFound => {
            let request = connection.request(proto::CreateStoreRequest { name: connection.store.clone() });
            connection.stores().create_store(request).await?.into_inner().store
        }
        Err(status) => return Err(status.into()),
    };
    wire::required(store, "store")
}

async fn schema_in_force(connection: &Connection, store: &proto::Store) -> Result<Option<String>, Failure> {
    if store.schema_id.is_empty() {
        return Ok(None);
    }
    let request =
        proto::ReadSchemaRequest { store: connection.store.clone(), schema_id: store.schema_id.clone() };
    let answer = connection.schemas().read_schema(connection.request(request)).await?.into_inner();
    Ok(Some(wire::required(answer.schema, "schema")?.text))
}

async fn holds_tuples(connection: &Connection) -> Result<bool, Failure> {
    let request = proto::ReadRequest { store: connection.store.clone(), page_size: 1, ..Default::default() };
    let mut answers = connection.tuples().read(connection.request(request)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if !answer.tuples.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A question that the file says is allowed, as the arguments of `relata check`.
pub fn sample_question(file: &StoreFile) -> Option<String> {
    file.tests
        .iter()
        .flat_map(|test| test.checks.iter().filter(|_| test.tuples.is_empty()))
        .find(|case| case.expected == Expected::Allowed && case.context.is_empty())
        .map(|case| format!("{} {} {}", case.object, case.relation, case.subject))
}
