//! `relata key`: API keys, through a server or, with `--direct`, in the database itself.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::args::ask;
use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::key_direct::{Direct, Record};
use super::output::{Format, Item, Output, remark};
use super::secret::Secret;
use super::settings::Globals;
use super::wire;
use crate::proto;
use crate::server::access::{Grant, Grants, Right, Stores};
use crate::time::Timestamp;

/// Make, list and revoke API keys.
///
/// A key says who calls and what they may do. A server asks for keys if it is started with
/// --api-keys.
#[derive(Debug, Args)]
#[command(after_help = "\
A grant is STORE:RIGHT,RIGHT. The store is a name, an id, or * for all stores; the rights are
read (ask, read, watch), write (tuples), schema, and admin (everything with the store). On all
stores, admin is everything there is.

The first key is made without a server, in the database itself:
  umask 077
  relata key create root --grant '*:admin' --direct > root.key
  relata serve --api-keys

Then with it:
  export RELATA_TOKEN=$(cat root.key)
  relata key create ci --grant 'default:read,write' --expires 90d
  relata key list
  relata key revoke ci")]
pub struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, this once: nobody can look it up again.
    #[command(after_help = "\
The key alone goes to standard output. Several keys may have one name: make the new one, hand it
out, then revoke the old one by its id.

Examples:
  relata key create ci --grant 'default:read,write'
  relata key create docs --grant 'docs:read' --grant 'drafts:read,write' --expires 90d
  relata key create platform --grant '*:schema,read' --expires 2027-12-31T00:00:00Z
  relata key create root --grant '*:admin' --direct --datastore postgres://relata@db/relata")]
    Create {
        /// Who writes with it: the changelog shows `key:NAME`.
        name: String,
        /// What it may do; may be given several times.
        #[arg(long = "grant", value_name = "STORE:RIGHT,…", required = true)]
        grants: Vec<Grant>,
        /// When it ends by itself: 90d, 12h, 30m, 45s, or a time [default: never].
        #[arg(long, value_name = "WHEN")]
        expires: Option<Expiry>,
        #[command(flatten)]
        direct: Direct,
    },
    /// List keys by name; their texts are not kept.
    #[command(after_help = "Examples:\n  relata key list\n  relata key list --revoked --output json")]
    List {
        /// Revoked keys too.
        #[arg(long)]
        revoked: bool,
        #[command(flatten)]
        direct: Direct,
    },
    /// Revoke a key for ever: no server takes it a second later.
    #[command(after_help = "\
Examples:
  relata key revoke ci
  relata key revoke 7k3m9q2x1abc
  relata key revoke ci --all")]
    Revoke {
        /// Its id, or its name.
        #[arg(value_name = "ID|NAME")]
        key: String,
        /// All keys of that name.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        direct: Direct,
    },
}

/// How many keys to ask for at once.
const PAGE: u32 = 1_000;

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    /// After so long.
    In(Duration),
    /// At a moment.
    At(Timestamp),
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse() {
            return Ok(Self::At(moment));
        }
        let wrong = || {
            format!("`{text}` is neither a time like 2027-12-31T00:00:00Z nor a duration like 90d, 12h, 30m")
        };
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let seconds = match unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let count: u32 = text.strip_suffix(unit).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        if count == 0 { Err(wrong()) } else { Ok(Self::In(Duration::from_secs(u64::from(count) * seconds))) }
    }
}

/// A key as it is shown.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) grants: String,
    pub(super) created_at: String,
    pub(super) created_by: String,
    pub(super) expires_at: Option<String>,
    pub(super) revoked_at: Option<String>,
    pub(super) revoked_by: String,
}

impl Key {
    pub(super) fn run(self, globals: &Globals, out: &mut Output) -> Result<Exit, Failure> {
        match self.action {
            Action::Create { name, grants, expires, direct } => {
                let grants = Grants::new(grants).map_err(|error| Failure::usage(error.to_string()))?;
                let (key, secret) = match direct.config()? {
                    Some(config) => {
                        Record::with(&config, async |record| record.create(name, grants, expires).await)?
                    }
                    None => ask_keys(globals, async |server| create(&server, name, &grants, expires).await)?,
                };
                show_new(&key, &secret, out)?;
            }
            Action::List { revoked, direct } => {
                let keys = match direct.config()? {
                    Some(config) => Record::with(&config, async |record| record.list(revoked).await)?,
                    None => ask_keys(globals, async |server| list(&server, revoked).await)?,
                };
                let items = keys.iter().map(item).collect();
                let header = ["NAME", "ID", "GRANTS", "CREATED", "EXPIRES", "REVOKED"];
                let header =
                    if revoked { &header[..] } else { header.split_last().map_or(&[][..], |(_, rest)| rest) };
                out.list("keys", header, items, json!({}))?;
            }
            Action::Revoke { key, all, direct } => {
                let keys = match direct.config()? {
                    Some(config) => Record::with(&config, async |record| record.revoke(key, all).await)?,
                    None => ask_keys(globals, async |server| revoke(&server, key, all).await)?,
                };
                match out.format {
                    Format::Table => keys.iter().for_each(|key| {
                        remark(format_args!("revoked {} ({}), which could {}", key.name, key.id, key.grants));
                    }),
                    Format::Json | Format::Jsonl => {
                        out.json(&json!({ "revoked": keys.iter().map(json_of).collect::<Vec<_>>() }))?;
                    }
                }
            }
        }
        Ok(Exit::Success)
    }
}

/// Runs one conversation about keys with the server that the settings name.
fn ask_keys<T>(
    globals: &Globals,
    conversation: impl AsyncFnOnce(Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut answer = None;
    ask(globals, async |settings| {
        answer = Some(conversation(Connection::open(settings).await?).await?);
        Ok(Exit::Success)
    })?;
    answer.ok_or_else(|| Failure::new(Exit::Internal, "the conversation ended without an answer"))
}

async fn create(
    server: &Connection,
    name: String,
    grants: &Grants,
    expires: Option<Expiry>,
) -> Result<(Shown, Secret), Failure> {
    use proto::create_key_request::Expiry as Wire;
    let expiry = match expires {
        None => None,
        Some(Expiry::At(moment)) => Some(Wire::ExpiresAt(wire::timestamp(moment))),
        Some(Expiry::In(lasting)) => {
            let lasting = prost_types::Duration::try_from(lasting)
                .map_err(|_| Failure::usage("--expires is too far away"))?;
            Some(Wire::ExpiresIn(lasting))
        }
    };
    let request = proto::CreateKeyRequest { name, grants: grants.iter().map(wire_grant).collect(), expiry };
    let answer = server.keys().create_key(server.request(request)).await?.into_inner();
    Ok((shown(wire::required(answer.key, "key")?), Secret::from(answer.secret.as_str())))
}

async fn list(server: &Connection, include_revoked: bool) -> Result<Vec<Shown>, Failure> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = proto::ListKeysRequest { page_size: PAGE, cursor, include_revoked };
        let answer = server.keys().list_keys(server.request(request)).await?.into_inner();
        keys.extend(answer.keys.into_iter().map(shown));
        cursor = answer.cursor;
        if cursor.is_empty() {
            return Ok(keys);
        }
    }
}

async fn revoke(server: &Connection, key: String, all: bool) -> Result<Vec<Shown>, Failure> {
    let request = server.request(proto::RevokeKeyRequest { key, all });
    let answer = server.keys().revoke_key(request).await?.into_inner();
    Ok(answer.keys.into_iter().map(shown).collect())
}

fn wire_grant(grant: &Grant) -> proto::Grant {
    let right = |right| match right {
        Right::Read => proto::Right::Read,
        Right::Write => proto::Right::Write,
        Right::Schema => proto::Right::Schema,
        Right::Admin => proto::Right::Admin,
    };
    proto::Grant {
        store: match &grant.stores {
            Stores::All => "*".to_owned(),
            Stores::One(store) => store.to_string(),
        },
        rights: grant.rights.iter().map(|held| right(held).into()).collect(),
    }
}

fn shown(key: proto::Key) -> Shown {
    let word = |right| match right {
        proto::Right::Unspecified => "?",
        proto::Right::Read => "read",
        proto::Right::Write => "write",
        proto::Right::Schema => "schema",
        proto::Right::Admin => "admin",
    };
    let grant = |grant: &proto::Grant| {
        let rights = grant.rights.iter().map(|right| proto::Right::try_from(*right).map_or("?", word));
        format!("{}:{}", grant.store, rights.collect::<Vec<_>>().join(","))
    };
    Shown {
        grants: key.grants.iter().map(grant).collect::<Vec<_>>().join(" "),
        id: key.id,
        name: key.name,
        created_at: key.created_at.as_ref().map(wire::moment).unwrap_or_default(),
        created_by: key.created_by,
        expires_at: key.expires_at.as_ref().map(wire::moment),
        revoked_at: key.revoked_at.as_ref().map(wire::moment),
        revoked_by: key.revoked_by,
    }
}

/// The key alone on standard output, so that it can be piped to where it is kept.
fn show_new(key: &Shown, secret: &Secret, out: &mut Output) -> Result<(), Failure> {
    match out.format {
        Format::Table => {
            let until = key.expires_at.as_ref().map(|at| format!(" until {at}")).unwrap_or_default();
            remark(format_args!("made {} ({}): {}{until}", key.name, key.id, key.grants));
            remark("keep it now: it is shown this once");
            out.line(secret.expose())
        }
        Format::Json | Format::Jsonl => {
            let mut document = json_of(key);
            if let Json::Object(fields) = &mut document {
                fields.insert("secret".to_owned(), secret.expose().into());
            }
            out.json(&document)
        }
    }
}

fn item(key: &Shown) -> Item {
    let or_never = |moment: &Option<String>| moment.clone().unwrap_or_else(|| "never".to_owned());
    Item {
        cells: vec![
            key.name.clone(),
            key.id.clone(),
            key.grants.clone(),
            key.created_at.clone(),
            or_never(&key.expires_at),
            key.revoked_at.clone().unwrap_or_default(),
        ],
        json: json_of(key),
    }
}

fn json_of(key: &Shown) -> Json {
    json!({
        "id": key.id,
        "name": key.name,
        "grants": key.grants.split(' ').collect::<Vec<_>>(),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "revoked_by": key.revoked_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_or_a_moment() {
        let check = |text: &str, seconds: u64| {
            assert_eq!(text.parse(), Ok(Expiry::In(Duration::from_secs(seconds))), "{text}");
        };
        check("90d", 90 * 86_400);
        check("12h", 12 * 3_600);
        check("30m", 1_800);
        check("45s", 45);
        let moment = "2027-12-31T00:00:00Z";
        assert_eq!(moment.parse(), Ok(Expiry::At(moment.parse().expect("a time"))));
        for wrong in ["", "d", "90", "90w", "0d", "-1d", "1.5d", "9999999999d", "tomorrow", "é"] {
            assert!(wrong.parse::<Expiry>().is_err(), "{wrong}");
        }
    }
}
