//! Which server, store and token a command uses: a flag, else a `RELATA_*` variable, else the
//! context in use, else the default.
//!
//! Contexts are named sets of these, kept in `$RELATA_CONFIG`, or
//! `$XDG_CONFIG_HOME/relata/contexts.json`, or `~/.config/relata/contexts.json`. The file holds
//! tokens, so it is readable by its owner only.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::exit::{Exit, Failure};
use super::output::Format;
use super::secret::Secret;
use super::tls::{ClientTls, TlsFlags};

/// Where `relata serve` listens by default.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8081";

/// Flags that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    #[arg(
        long,
        global = true,
        env = "RELATA_ENDPOINT",
        value_name = "URL",
        help = "Server to ask [default: that of the context in use, or http://127.0.0.1:8081]"
    )]
    pub endpoint: Option<String>,
    /// Token to present.
    #[arg(long, global = true, env = "RELATA_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Secret>,
    #[command(flatten)]
    pub tls: TlsFlags,
    /// Store to ask, by name or id [default: `default`, or the context in use].
    #[arg(long, global = true, env = "RELATA_STORE", value_name = "STORE")]
    pub store: Option<String>,
    /// How to print results.
    #[arg(
        long,
        short,
        global = true,
        env = "RELATA_OUTPUT",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// How long to wait for an answer, in seconds.
    #[arg(long, global = true, env = "RELATA_TIMEOUT", default_value = "30", value_name = "SECONDS")]
    pub timeout: f64,
}

/// What a command talks to.
#[derive(Clone)]
pub struct Settings {
    /// Base URL of the server.
    pub endpoint: String,
    /// Token to present.
    pub token: Option<Secret>,
    /// How an `https://` server is verified, and who the client says it is.
    pub tls: ClientTls,
    /// Store to ask; empty: the server's default.
    pub store: String,
    /// How long to wait for an answer.
    pub timeout: Duration,
}

impl Globals {
    /// Whether a flag, a variable or a context says which server is meant.
    pub fn names_a_server(&self) -> Result<bool, Failure> {
        let named = self.endpoint.as_ref().is_some_and(|endpoint| !endpoint.is_empty());
        Ok(named || Contexts::load()?.in_use.is_some())
    }

    /// Flags, variables, the context in use and defaults, put together.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let contexts = Contexts::load()?;
        let saved = contexts.in_use.as_ref().and_then(|name| contexts.contexts.get(name));
        let given = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
        let timeout =
            Duration::try_from_secs_f64(self.timeout).ok().filter(|timeout| !timeout.is_zero()).ok_or_else(
                || Failure::usage(format!("--timeout {} is not a positive number of seconds", self.timeout)),
            )?;
        // What was saved for one server, above all its token, is for no other one named by flag.
        let same =
            saved.filter(|saved| given(&self.endpoint).is_none_or(|endpoint| endpoint == saved.endpoint));
        Ok(Settings {
            endpoint: given(&self.endpoint)
                .or_else(|| saved.map(|saved| saved.endpoint.clone()))
                .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()),
            token: self
                .token
                .clone()
                .filter(|token| !token.expose().is_empty())
                .or_else(|| same.and_then(|saved| saved.token.as_deref().map(Secret::from))),
            tls: self.tls.or(same.map(|saved| &saved.tls)),
            store: given(&self.store)
                .or_else(|| saved.and_then(|saved| saved.store.clone()))
                .unwrap_or_default(),
            timeout,
        })
    }
}

/// One named context. It has no `Debug`, so that a token is shown by no accident.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Base URL of the server.
    pub endpoint: String,
    /// Token to present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// TLS.
    #[serde(default, skip_serializing_if = "ClientTls::is_empty")]
    pub tls: ClientTls,
    /// Store to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// The context file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The context that commands use; none: the defaults.
    pub in_use: Option<String>,
    /// All contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Saved>,
}

impl Contexts {
    /// Where the file is; `None` on a machine without a home.
    #[must_use]
    pub fn path() -> Option<PathBuf> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("RELATA_CONFIG").or_else(|| {
            let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
            Some(base.join("relata").join("contexts.json"))
        })
    }

    /// Reads the file; an absent one holds nothing.
    pub fn load() -> Result<Self, Failure> {
        let Some(path) = Self::path() else { return Ok(Self::default()) };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::bad_input(error).about(path.display())),
        };
        serde_json::from_str(&text).map_err(|error| {
            Failure::bad_input(format!("{}: {error}", path.display()))
                .advise("mend the file, or remove it and set the contexts anew")
        })
    }

    /// Replaces the file in one step; its owner alone may read it.
    pub fn save(&self) -> Result<(), Failure> {
        let path = Self::path().ok_or_else(|| {
            Failure::bad_input("there is no place for the context file").advise("set HOME or RELATA_CONFIG")
        })?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        write_private(&path, &text).map_err(|error| Failure::bad_input(error).about(path.display()))
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let staged = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&staged).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&staged, path)).inspect_err(|_| {
        // What could not be put in place must not lie around with a token in it.
        let _ = fs::remove_file(&staged);
    })
}
