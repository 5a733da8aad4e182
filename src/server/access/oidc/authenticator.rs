//! Recognises signed tokens, and follows the file that says whose.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use super::fetch::Fetcher;
use super::issuer::{ByName, Issuer, Judgement};
use super::recent::Recent;
use super::refresh;
use super::settings::{self, Configured, OidcConfigError};
use super::token::{Token, TokenError, is_one};
use crate::metrics::{Credential, Metrics};
use crate::server::access::authenticator::{Authenticator, Bearer, Presented, Recognition};
use crate::server::access::principal::Principal;
use crate::server::changes::Changes;
use crate::server::convert::clip;
use crate::server::logging::{Pace, with_cause};
use crate::server::status::Error;

/// Takes tokens of the issuers of a file.
pub struct Oidc {
    issuers: Arc<ArcSwap<Issuers>>,
    recent: Arc<Recent>,
    /// Follows the file for as long as this is asked.
    _following: JoinSet<()>,
}

/// The issuers in force.
type Issuers = ByName<Arc<Running>>;

/// An issuer, whose keys are kept fresh for as long as it is in force.
struct Running {
    issuer: Arc<Issuer>,
    metrics: Arc<Metrics>,
    _refreshing: JoinSet<()>,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} issuers", self.issuers.load().len())
    }
}

impl Oidc {
    /// Reads the file, and begins to fetch the keys of its issuers on the current runtime. That an
    /// issuer cannot be reached is no reason not to start.
    pub fn open(path: &Path, metrics: &Arc<Metrics>) -> Result<Self, OidcConfigError> {
        let reading = settings::read(path);
        let issuers = run(reading.outcome?, &Issuers::default(), metrics)?;
        let changes = Changes::follow(reading.files, reading.contents.as_ref());
        let issuers = Arc::new(ArcSwap::from_pointee(issuers));
        let mut following = JoinSet::new();
        following.spawn(follow(path.to_owned(), changes, Arc::clone(&issuers), Arc::clone(metrics)));
        Ok(Self { issuers, recent: Arc::new(Recent::new()), _following: following })
    }
}

impl Authenticator for Oidc {
    fn kind(&self) -> Credential {
        Credential::Oidc
    }

    fn recognise(&self, presented: &Presented<'_>) -> Recognition {
        let Some(text) = presented.bearer.map(Bearer::expose).filter(|text| is_one(text)) else {
            return Recognition::Foreign;
        };
        let digest = self.recent.digest(text);
        if let Some(principal) = self.recent.find(&digest) {
            return Recognition::Settled(Ok(principal));
        }
        let token = match Token::read(text) {
            Ok(token) => token,
            Err(error) => return Recognition::Settled(Err(refused(None, error))),
        };
        let issuers = self.issuers.load();
        let Some(running) = token.issuer().and_then(|name| issuers.get(name)) else {
            return Recognition::Settled(Err(refused(Some(&token), TokenError::Issuer)));
        };
        let judgement = running.issuer.judge(&token);
        if matches!(judgement, Judgement::UnknownKey | Judgement::NoKeys) && running.issuer.asking().is_open()
        {
            let (issuer, recent) = (Arc::clone(&running.issuer), Arc::clone(&self.recent));
            let text: Box<str> = text.into();
            return Recognition::Asked(Box::pin(async move {
                issuer.asking().ask().await;
                let token = Token::read(&text).map_err(|error| refused(None, error))?;
                settle(issuer.judge(&token), &token, &recent, digest)
            }));
        }
        Recognition::Settled(settle(judgement, &token, &self.recent, digest))
    }
}

fn settle(
    judgement: Judgement,
    token: &Token<'_>,
    recent: &Recent,
    digest: blake3::Hash,
) -> Result<Arc<Principal>, Error> {
    match judgement {
        Judgement::Admitted(principal) => {
            recent.remember(digest, &principal);
            Ok(principal)
        }
        Judgement::Refused(error) => Err(refused(Some(token), error)),
        Judgement::UnknownKey => Err(refused(Some(token), TokenError::Key)),
        Judgement::NoKeys => Err(Error::IssuerUnavailable),
    }
}

/// What the caller is told. What they are not told is logged here, at a pace: strangers can send any
/// number of tokens.
fn refused(token: Option<&Token<'_>>, error: TokenError) -> Error {
    static PACE: Pace = Pace::new();
    if error.is_told() {
        return Error::Token(error);
    }
    let issuer = token.and_then(Token::issuer).map(clip);
    let key = token.and_then(Token::key_id).map(clip);
    if let Some(passed_over) = PACE.admit(Instant::now()) {
        tracing::info!(issuer, key, passed_over, "refusing a token: {error}");
    } else {
        tracing::debug!(issuer, key, "refusing a token: {error}");
    }
    Error::UnknownCredential
}

/// Takes what the file holds whenever it changes, until it is dropped.
async fn follow(path: PathBuf, mut changes: Changes, issuers: Arc<ArcSwap<Issuers>>, metrics: Arc<Metrics>) {
    loop {
        // Whether it can be read is found out below, together with the files that it names.
        let _ = changes.next().await;
        let reading = {
            let path = path.clone();
            let Ok(reading) = tokio::task::spawn_blocking(move || settings::read(&path)).await else {
                continue;
            };
            reading
        };
        changes = Changes::follow(reading.files, reading.contents.as_ref());
        let outcome = match reading.outcome {
            // Whoever takes the last one out means it, unless the file is only being written.
            Err(OidcConfigError::Nobody { .. }) if changes.stays().await => Ok(Vec::new()),
            Err(OidcConfigError::Nobody { .. }) => continue,
            outcome => outcome,
        };
        match outcome.and_then(|configured| run(configured, &issuers.load(), &metrics)) {
            Ok(next) => {
                tracing::info!(issuers = next.len(), "taking tokens by new settings");
                let before = issuers.swap(Arc::new(next));
                let now = issuers.load();
                for (name, gone) in &*before {
                    if !now.get(name).is_some_and(|running| Arc::ptr_eq(running, gone)) {
                        // Whoever came in by other settings comes in anew, or does not.
                        refresh::hold(&gone.issuer, &metrics, Issuer::retire);
                    }
                }
            }
            Err(error) => tracing::error!("keeping the issuers in force: {}", with_cause(&error)),
        }
    }
}

/// Puts issuers in force. Those whose settings are as before go on as they are.
fn run(
    configured: Vec<Configured>,
    before: &Issuers,
    metrics: &Arc<Metrics>,
) -> Result<Issuers, OidcConfigError> {
    let mut running = Issuers::new();
    let mut fresh = Vec::new();
    for Configured { settings, keys } in configured {
        let name = settings.issuer.clone();
        let known = before.get(&name).filter(|known| *known.issuer.settings() == settings);
        let one = match (known, keys) {
            (Some(known), keys) => {
                fresh.extend(keys.map(|keys| (known, keys)));
                Arc::clone(known)
            }
            (None, keys) => {
                let fetcher = Fetcher::new(&settings).map_err(|error| OidcConfigError::Client {
                    issuer: name.to_string(),
                    why: with_cause(&error),
                })?;
                Arc::new(Running::start(Issuer::new(settings, keys), fetcher, metrics))
            }
        };
        running.insert(name, one);
    }
    // Not before all of them can be put in force: a file that cannot be used changes nothing.
    for (known, keys) in fresh {
        refresh::hold(&known.issuer, metrics, |issuer| issuer.take(keys));
    }
    Ok(running)
}

impl Running {
    fn start(issuer: Issuer, fetcher: Option<Fetcher>, metrics: &Arc<Metrics>) -> Self {
        let issuer = Arc::new(issuer);
        metrics.access.oidc_keys.inc_by(i64::try_from(issuer.key_count()).unwrap_or(0));
        let mut refreshing = JoinSet::new();
        if let Some(fetcher) = fetcher {
            refreshing.spawn(refresh::follow(Arc::clone(&issuer), fetcher, Arc::clone(metrics)));
        }
        Self { issuer, metrics: Arc::clone(metrics), _refreshing: refreshing }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.access.oidc_keys.dec_by(i64::try_from(self.issuer.key_count()).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::oidc::keys::KeySet;
    use serde_json::json;

    /// A file of which one issuer cannot be put in force leaves the others as they were, keys of
    /// their files included.
    #[tokio::test]
    async fn a_file_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        let read = || settings::read(&folder.path().join("oidc.yaml")).outcome.expect("settings");
        let first = "{issuer: https://a.example, audience: relata, jwks_file: keys.json}";
        // RFC 8037 appendix A.2.
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        write("keys.json", &json!({ "keys": [key] }).to_string());
        write("oidc.yaml", &format!("issuers: [{first}]"));
        let metrics = Metrics::new();
        let before = run(read(), &Issuers::default(), &metrics).expect("in force");
        let keys = || before.get("https://a.example").expect("an issuer").issuer.key_count();

        write("keys.json", r#"{"keys": []}"#);
        write("ca.pem", "no certificate");
        let second = "{issuer: https://b.example, audience: relata, ca_file: ca.pem}";
        write("oidc.yaml", &format!("issuers: [{first}, {second}]"));
        let Err(error) = run(read(), &before, &metrics) else { panic!("put in force") };
        assert!(error.to_string().contains("`ca_file` holds no certificate"), "{error}");
        assert_eq!((keys(), metrics.access.oidc_keys.get()), (1, 1));

        write("oidc.yaml", &format!("issuers: [{first}]"));
        run(read(), &before, &metrics).expect("in force");
        assert_eq!((keys(), metrics.access.oidc_keys.get()), (0, 0));
    }

    /// Keys that arrive while their issuer is retired are neither taken nor counted.
    #[tokio::test]
    async fn a_retired_issuer_takes_no_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("oidc.yaml");
        std::fs::write(&path, "issuers: [{issuer: https://a.example, audience: relata}]").expect("a file");
        let Configured { settings, .. } =
            settings::read(&path).outcome.expect("settings").pop().expect("an issuer");
        let issuer = Issuer::new(settings, None);
        let keys = || {
            let text = br#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
            KeySet::read(text).expect("a key set")
        };
        assert_eq!(issuer.take(keys()), (0, 1));
        assert_eq!(issuer.take(keys()), (1, 1));
        assert_eq!(issuer.retire(), (1, 0));
        assert_eq!(issuer.take(keys()), (0, 0));
        assert_eq!(issuer.key_count(), 0);
    }
}
