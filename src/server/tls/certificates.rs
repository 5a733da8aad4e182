//! The configuration in force, and its replacement while connections are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate::ClientCertificate;
use super::material::{self, Material, TlsError};
use crate::config::TlsSettings;
use crate::metrics::{Access, Metrics, Outcome};
use crate::server::changes::{Changes, Contents};
use crate::server::logging::cause;

/// A certificate that ends this soon is warned of at every reading.
const ENDS_SOON: Duration = Duration::from_hours(7 * 24);

/// The certificates of a server, shared by all its shards.
pub struct Certificates {
    settings: TlsSettings,
    material: ArcSwap<Material>,
    /// Counts the replacements of the clients' authorities, so that open connections notice.
    generation: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Reads the files. An expired certificate is let through with a warning, since the one that
    /// replaces it is taken without a restart.
    pub fn open(settings: TlsSettings, metrics: Arc<Metrics>) -> Result<(Arc<Self>, Changes), TlsError> {
        let paths = material::paths(&settings);
        let contents = Contents::read(&paths)?;
        let material = material::build(&settings, &contents)?;
        match remaining(material.not_after) {
            None => tracing::error!("the server's certificate has expired; clients will refuse it"),
            Some(left) => announce("serving TLS", &material, left),
        }
        show(&metrics.access, &material);
        let changes = Changes::follow(paths, Ok(&contents));
        let certificates = Arc::new(Self {
            settings,
            material: ArcSwap::from_pointee(material),
            generation: AtomicU64::new(0),
            metrics,
        });
        Ok((certificates, changes))
    }

    /// Follows the files until it is dropped.
    pub async fn follow(self: Arc<Self>, mut changes: Changes) {
        loop {
            let outcome = changes.next().await.map_err(TlsError::from);
            let outcome = outcome.and_then(|contents| self.replace(&contents));
            self.metrics.access.tls_reloads.of(Outcome::from(&outcome)).inc();
            if let Err(error) = outcome {
                tracing::error!(cause = cause(&error), "keeping the certificate in force: {error}");
            }
        }
    }

    /// Takes what the files hold now, or leaves everything as it is.
    fn replace(&self, contents: &Contents) -> Result<(), TlsError> {
        let material = material::build(&self.settings, contents)?;
        let before = self.material.load();
        let Some(left) = remaining(material.not_after) else {
            let not_after = jiff::Timestamp::try_from(material.not_after).unwrap_or(jiff::Timestamp::MAX);
            return Err(TlsError::Expired { path: self.settings.certificate.clone(), not_after });
        };
        announce("serving a new certificate", &material, left);
        show(&self.metrics.access, &material);
        let trusts_others = material.authorities != before.authorities;
        self.material.store(Arc::new(material));
        if trusts_others {
            // After the store: whoever sees the new number judges by the new authorities.
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// What the next handshake is met with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.material.load().config)
    }

    /// What a client has shown in its handshake, to be held against the authorities from now on.
    /// Read the generation before the handshake: authorities that are replaced while it goes on
    /// are then noticed at the first call.
    pub fn vouch(self: &Arc<Self>, generation: u64, chain: &[CertificateDer<'_>]) -> Option<Vouched> {
        let certificate = ClientCertificate::read(chain.first()?)?;
        let left = remaining(certificate.not_after).unwrap_or_default();
        Some(Vouched {
            certificates: Arc::clone(self),
            generation,
            // What ends beyond the range of the clock does not end.
            ends: Instant::now().checked_add(left),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            certificate: Arc::new(certificate),
        })
    }

    /// Which authorities are in force, as a number that grows with every replacement.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// The certificate of a client on an open connection.
pub struct Vouched {
    certificates: Arc<Certificates>,
    generation: u64,
    ends: Option<Instant>,
    chain: Vec<CertificateDer<'static>>,
    certificate: Arc<ClientCertificate>,
}

impl Vouched {
    /// What was shown.
    pub fn certificate(&self) -> &Arc<ClientCertificate> {
        &self.certificate
    }

    /// Whether it still holds: it has not ended, and if the authorities were replaced, the new
    /// ones vouch for it too. Asked whenever something arrives, so the usual case is a comparison
    /// and a look at the clock.
    pub fn holds(&mut self) -> bool {
        if self.ends.is_some_and(|end| Instant::now() >= end) {
            return false;
        }
        let generation = self.certificates.generation();
        if generation == self.generation {
            return true;
        }
        let material = self.certificates.material.load();
        let Some((leaf, intermediates)) = self.chain.split_first() else { return false };
        let holds = material
            .clients
            .as_ref()
            .is_some_and(|clients| clients.verify_client_cert(leaf, intermediates, UnixTime::now()).is_ok());
        if holds {
            self.generation = generation;
        }
        holds
    }
}

/// `None` if it has passed.
fn remaining(end: SystemTime) -> Option<Duration> {
    end.duration_since(SystemTime::now()).ok()
}

fn show(metrics: &Access, material: &Material) {
    let since = material.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    metrics.tls_certificate_expiry_timestamp_seconds.set(seconds);
}

fn announce(what: &str, material: &Material, left: Duration) {
    let days = left.as_secs() / (24 * 60 * 60);
    let fingerprint = &material.fingerprint;
    if left < ENDS_SOON {
        tracing::warn!(fingerprint, "{what}, which ends in {days} days");
    } else {
        tracing::info!(fingerprint, "{what}, valid for {days} days");
    }
}
