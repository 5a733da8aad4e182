//! Fetches an issuer's keys: discovery, then the key set, bounded in size and time.

use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode, Url, redirect};
use serde::Deserialize;

use super::keys::{KeySet, KeySetError};
use super::settings::{IssuerProblem, IssuerSettings, Source, secure_url};
use crate::server::convert::clip;
use crate::server::tls;

/// How long discovery and key set may take together.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Largest document taken, in bytes. Key sets take some thousands.
const MAX_BYTES: usize = 256 << 10;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The authorities of the settings cannot be used, or the system has none.
    #[error("no connection can be made")]
    Client(#[source] reqwest::Error),
    /// Nobody could be trusted, so nothing could ever be fetched.
    #[error("`ca_file` holds no certificate")]
    NoAuthority,
    /// The issuer cannot be reached, or breaks off.
    #[error("`{url}` cannot be fetched")]
    Request { url: Url, source: reqwest::Error },
    /// It takes too long.
    #[error("the issuer did not answer within {PATIENCE:?}")]
    TooSlow,
    /// It answers with something else; redirects are not followed.
    #[error("`{url}` answered {status}")]
    Status { url: Url, status: StatusCode },
    /// It does not stop.
    #[error("`{url}` is larger than {MAX_BYTES} bytes")]
    TooLarge { url: Url },
    /// It is no discovery document.
    #[error("`{url}` is no discovery document")]
    Discovery { url: Url, source: serde_json::Error },
    /// It speaks for somebody else (`OpenID` Connect Discovery §4.3).
    #[error("`{url}` is of issuer `{found}`")]
    OtherIssuer { url: Url, found: String },
    /// It says that its keys are at a place that is not safe.
    #[error("its discovery document leads elsewhere: {0}")]
    Leads(IssuerProblem),
    /// It is no key set.
    #[error("`{url}` holds no keys: {source}")]
    Keys { url: Url, source: KeySetError },
}

/// What a discovery document says; the rest is for other uses.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys of one issuer.
pub struct Fetcher {
    client: Client,
    issuer: Box<str>,
    keys: Option<Url>,
}

impl Fetcher {
    /// A fetcher for an issuer; `None` if its keys are in a file.
    pub fn new(settings: &IssuerSettings) -> Result<Option<Self>, FetchError> {
        let keys = match &settings.source {
            Source::Discovery => None,
            Source::Address(url) => Some(url.clone()),
            Source::File => return Ok(None),
        };
        tls::install();
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            // Keys are fetched every few minutes; connections are not kept for that.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("relata/", env!("CARGO_PKG_VERSION")));
        let plain = keys
            .as_ref()
            .map_or_else(|| settings.issuer.starts_with("http://"), |url| url.scheme() == "http");
        let builder = match &settings.authorities {
            Some(pem) => {
                let authorities = Certificate::from_pem_bundle(pem).map_err(FetchError::Client)?;
                if authorities.is_empty() {
                    return Err(FetchError::NoAuthority);
                }
                builder.tls_certs_only(authorities)
            }
            // Without encryption nobody's authorities matter, and some systems have none.
            None if plain => builder.tls_certs_only([]).no_proxy(),
            None => builder,
        };
        let client = builder.build().map_err(FetchError::Client)?;
        Ok(Some(Self { client, issuer: settings.issuer.clone(), keys }))
    }

    /// Fetches the keys.
    pub async fn keys(&self) -> Result<KeySet, FetchError> {
        tokio::time::timeout(PATIENCE, self.fetch()).await.unwrap_or(Err(FetchError::TooSlow))
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let url = match &self.keys {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let text = self.get(&url).await?;
        KeySet::read(&text).map_err(|source| FetchError::Keys { url, source })
    }

    /// Where the issuer says that its keys are.
    async fn discover(&self) -> Result<Url, FetchError> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let url = secure_url(&address).map_err(FetchError::Leads)?;
        let text = self.get(&url).await?;
        let discovery: Discovery = match serde_json::from_slice(&text) {
            Ok(discovery) => discovery,
            Err(source) => return Err(FetchError::Discovery { url, source }),
        };
        if *discovery.issuer != *self.issuer {
            return Err(FetchError::OtherIssuer { url, found: clip(&discovery.issuer) });
        }
        keys_address(&url, &discovery.jwks_uri).map_err(FetchError::Leads)
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let broken = |source| FetchError::Request { url: url.clone(), source };
        let mut answer = self.client.get(url.clone()).send().await.map_err(broken)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.clone(), status: answer.status() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge { url: url.clone() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Where a discovery document says that the keys are. One that came encrypted does not lead to
/// where nothing is, not even on this machine: others here are not for an issuer to call, and
/// what comes back might have passed through a proxy that can change it.
fn keys_address(discovery: &Url, keys: &str) -> Result<Url, IssuerProblem> {
    let url = secure_url(keys)?;
    if discovery.scheme() == "https" && url.scheme() != "https" {
        return Err(IssuerProblem::Unencrypted { url: clip(keys) });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_issuer_does_not_lead_to_plain_text() {
        let leads = |discovery: &str, keys: &str| {
            let url = format!("{discovery}/.well-known/openid-configuration").parse().expect("a URL");
            keys_address(&url, keys).map(String::from).map_err(|problem| problem.to_string())
        };
        for (discovery, keys) in [
            ("https://a.example", "https://keys.example/keys"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000/keys"),
            ("http://localhost:9000", "https://keys.example/keys"),
        ] {
            assert_eq!(leads(discovery, keys), Ok(keys.to_owned()));
        }
        for keys in ["http://127.0.0.1:9000/keys", "http://localhost/keys", "http://[::1]/keys"] {
            let problem = leads("https://a.example", keys).expect_err(keys);
            assert!(problem.contains("is not encrypted"), "{problem}");
        }
        for keys in ["http://keys.example/keys", "file:///etc/passwd", "https://", "keys", ""] {
            leads("http://127.0.0.1:9000", keys).expect_err(keys);
        }
    }
}
