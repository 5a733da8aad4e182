//! PEM files become the configuration of new connections, or a reason why not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::not_after;
use super::provider;
use crate::config::{ClientAuth, TlsSettings};
use crate::server::changes::{Contents, FileError};

/// Why certificates and keys cannot be used. No message shows any part of a key.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not PEM.
    #[error("`{}` is not a PEM file", .path.display())]
    Pem { path: PathBuf, source: pem::Error },
    /// A file holds something else, such as a key where a certificate belongs.
    #[error("`{}` holds no certificate (`-----BEGIN CERTIFICATE-----`)", .path.display())]
    NoCertificate { path: PathBuf },
    /// A file holds something else, such as a certificate where a key belongs.
    #[error(
        "`{}` holds no private key (`-----BEGIN PRIVATE KEY-----`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`)",
        .path.display()
    )]
    NoKey { path: PathBuf },
    /// A key under a passphrase: nobody is there to type it.
    #[error(
        "the private key in `{}` is encrypted; store it without a passphrase, readable by the server only: `openssl pkey -in KEY -out PLAIN`",
        .path.display()
    )]
    EncryptedKey { path: PathBuf },
    /// A key of a kind that cannot be used, such as RSA below 2,048 bits.
    #[error("the private key in `{}` cannot be used", .path.display())]
    Key { path: PathBuf, source: rustls::Error },
    /// Certificate and key are not of one pair.
    #[error(
        "the first certificate in `{}` does not belong to the private key in `{}`",
        .certificate.display(), .key.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
    /// Not a certificate, or one that is not understood.
    #[error("certificate {number} in `{}` cannot be used", .path.display())]
    Certificate { path: PathBuf, number: usize, source: rustls::Error },
    /// The authorities of clients cannot be used.
    #[error("the client authorities in `{}` cannot be used", .path.display())]
    Authorities { path: PathBuf, source: VerifierBuilderError },
    /// The certificate ended before it was put in place.
    #[error("the certificate in `{}` expired at {not_after}", .path.display())]
    Expired { path: PathBuf, not_after: jiff::Timestamp },
    /// The versions of TLS and the cryptography do not fit each other.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What new connections are met with.
pub struct Material {
    /// The configuration of their handshakes.
    pub config: Arc<ServerConfig>,
    /// What judges the certificates of clients; `None` where none is asked for.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// When the server's certificate ends.
    pub not_after: SystemTime,
    /// The authorities of clients, to tell whether they were replaced.
    pub authorities: blake3::Hash,
    /// The SHA-256 of the server's certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
}

/// The files of the settings, in the order in which [`build`] takes their contents.
pub fn paths(settings: &TlsSettings) -> Vec<PathBuf> {
    let mut paths = vec![settings.certificate.clone(), settings.key.clone()];
    paths.extend(settings.client_authorities.clone());
    paths
}

/// Turns what the files hold into a configuration.
pub fn build(settings: &TlsSettings, contents: &Contents) -> Result<Material, TlsError> {
    let chain = certificates(&settings.certificate, contents.get(0))?;
    let leaf = chain.first().cloned();
    let leaf = leaf.ok_or_else(|| TlsError::NoCertificate { path: settings.certificate.clone() })?;
    let key = private_key(&settings.key, contents.get(1))?;
    let certified = certified(settings, chain, key)?;
    let clients = match &settings.client_authorities {
        None => None,
        Some(path) => Some(authorities(path, contents.get(2), settings.client_auth)?),
    };

    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A session that is resumed brings the certificate of its client along unlooked at.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;

    let digest = ring::digest::digest(&ring::digest::SHA256, &leaf);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(Material {
        config: Arc::new(config),
        clients,
        not_after: not_after(&leaf).unwrap_or(SystemTime::UNIX_EPOCH),
        authorities: blake3::hash(contents.get(2)),
        fingerprint: pairs.join(":"),
    })
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

fn private_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|source| {
        let path = path.to_owned();
        if !matches!(source, pem::Error::NoItemsFound) {
            TlsError::Pem { path, source }
        } else if is_encrypted(text) {
            TlsError::EncryptedKey { path }
        } else {
            TlsError::NoKey { path }
        }
    })
}

fn is_encrypted(text: &[u8]) -> bool {
    const MARK: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    text.windows(MARK.len()).any(|window| window == MARK)
}

/// Puts chain and key together; each of the two may be at fault, and so may their being together.
fn certified(
    settings: &TlsSettings,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsError::Key { path: settings.key.clone(), source })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let (certificate, key) = (settings.certificate.clone(), settings.key.clone());
            Err(TlsError::Mismatch { certificate, key })
        }
        Err(source) => Err(TlsError::Certificate { path: settings.certificate.clone(), number: 1, source }),
    }
}

fn authorities(path: &Path, text: &[u8], auth: ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(path, text)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|source| TlsError::Certificate {
            path: path.to_owned(),
            number: index + 1,
            source,
        })?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|source| TlsError::Authorities { path: path.to_owned(), source })
}
