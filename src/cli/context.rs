//! `relata context`: named servers, so that an endpoint is typed once.

use std::io::{IsTerminal as _, Read as _};

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Item, Output, remark};
use super::settings::{Contexts, DEFAULT_ENDPOINT, Globals, Saved};

/// Name servers and choose between them.
#[derive(Debug, Args)]
#[command(after_help = "\
A context holds an endpoint, a store, a token and TLS files. Flags and RELATA_* variables beat it.

Examples:
  relata context set staging --endpoint https://staging:8081 --store docs --token-stdin < token
  relata context set mesh --endpoint https://relata.internal:8081 --tls-ca ca.pem \
    --tls-cert me.pem --tls-key me.key
  relata context use staging
  relata context list
  relata context remove staging")]
pub struct Context {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create or replace a context from --endpoint, --store, --token and --tls-*, and use it if none is in use.
    #[command(after_help = "Example:\n  relata context set local --endpoint http://127.0.0.1:8081")]
    Set {
        /// Its name.
        name: String,
        /// Read the token from standard input, so that it does not appear among the processes.
        #[arg(long)]
        token_stdin: bool,
    },
    /// Use a context from now on.
    #[command(after_help = "Example:\n  relata context use staging")]
    Use {
        /// Its name.
        name: String,
    },
    /// List contexts; tokens are not shown.
    #[command(after_help = "Example:\n  relata context list")]
    List,
    /// Remove a context.
    #[command(after_help = "Example:\n  relata context remove staging")]
    Remove {
        /// Its name.
        name: String,
    },
}

/// Longest token read from standard input, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

impl Context {
    pub(super) fn run(self, globals: &Globals, out: &mut Output) -> Result<Exit, Failure> {
        let mut contexts = Contexts::load()?;
        match self.action {
            Action::Set { name, token_stdin } => {
                let given = globals.token.as_ref().map(|token| token.expose().to_owned());
                let token = if token_stdin { Some(token_from_stdin()?) } else { given };
                let saved = Saved {
                    endpoint: globals.endpoint.clone().unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
                    token,
                    tls: globals.tls.saved()?,
                    store: globals.store.clone(),
                };
                contexts.contexts.insert(name.clone(), saved);
                let in_use = contexts.in_use.get_or_insert_with(|| name.clone()) == &name;
                contexts.save()?;
                remark(format_args!("saved context {name}{}", if in_use { ", in use" } else { "" }));
            }
            Action::Use { name } => {
                known(&contexts, &name)?;
                contexts.in_use = Some(name.clone());
                contexts.save()?;
                remark(format_args!("using context {name}"));
            }
            Action::List => list(&contexts, out)?,
            Action::Remove { name } => {
                known(&contexts, &name)?;
                contexts.contexts.remove(&name);
                contexts.in_use = contexts.in_use.filter(|in_use| *in_use != name);
                contexts.save()?;
                remark(format_args!("removed context {name}"));
            }
        }
        Ok(Exit::Success)
    }
}

fn known(contexts: &Contexts, name: &str) -> Result<(), Failure> {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    Err(Failure::bad_input(format!("no context is called `{name}`"))
        .advise("`relata context list` shows them, `relata context set` makes one"))
}

fn list(contexts: &Contexts, out: &mut Output) -> Result<(), Failure> {
    let items = contexts
        .contexts
        .iter()
        .map(|(name, saved)| {
            let in_use = contexts.in_use.as_ref() == Some(name);
            let store = saved.store.clone().unwrap_or_else(|| "default".to_owned());
            let token = if saved.token.is_some() { "yes" } else { "no" };
            Item {
                cells: vec![
                    if in_use { "*" } else { "" }.to_owned(),
                    name.clone(),
                    saved.endpoint.clone(),
                    store.clone(),
                    token.to_owned(),
                ],
                json: json!({
                    "name": name,
                    "in_use": in_use,
                    "endpoint": saved.endpoint,
                    "store": store,
                    "has_token": saved.token.is_some(),
                }),
            }
        })
        .collect();
    out.list("contexts", &["", "NAME", "ENDPOINT", "STORE", "TOKEN"], items, json!({}))
}

fn token_from_stdin() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        remark("paste the token, then press Enter and Ctrl-D:");
    }
    let mut token = String::new();
    stdin
        .take(MAX_TOKEN_BYTES)
        .read_to_string(&mut token)
        .map_err(|error| Failure::bad_input(error).about("standard input"))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(Failure::bad_input("standard input holds no token"));
    }
    Ok(token.to_owned())
}
