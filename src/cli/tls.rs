//! TLS as the command line has it: the files of both sides, and what the client makes of them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};

use super::exit::{Exit, Failure};
use crate::config::{self, TlsSettings};
use crate::server;

/// Flags that every command has: `serve` presents the certificate to its clients, every other
/// command to the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct TlsFlags {
    /// Trust these authorities (PEM) and not those of the system, for an https:// endpoint.
    #[arg(long, global = true, env = "RELATA_TLS_CA", value_name = "FILE", hide_short_help = true)]
    tls_ca: Option<PathBuf>,
    /// Certificate to present (PEM chain): the server's for `serve`, else the client's.
    #[arg(long, global = true, env = "RELATA_TLS_CERT", value_name = "FILE", hide_short_help = true)]
    tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM, without a passphrase).
    #[arg(long, global = true, env = "RELATA_TLS_KEY", value_name = "FILE", hide_short_help = true)]
    tls_key: Option<PathBuf>,
    /// Name to expect in the server's certificate, if it is not that of the endpoint.
    #[arg(long, global = true, env = "RELATA_TLS_SERVER_NAME", value_name = "NAME", hide_short_help = true)]
    tls_server_name: Option<String>,
    /// Send the token over http:// too, where anybody between here and the server can read it.
    #[arg(long, global = true, env = "RELATA_INSECURE_TOKEN", hide_short_help = true)]
    insecure_token: bool,
}

/// How a server is verified, and who the client says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// Authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// The client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The client's private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name to expect in the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Whether the token may go over plain text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_token: bool,
}

impl TlsFlags {
    fn given(&self) -> ClientTls {
        ClientTls {
            authorities: set(self.tls_ca.as_ref()),
            certificate: set(self.tls_cert.as_ref()),
            key: set(self.tls_key.as_ref()),
            server_name: self.tls_server_name.clone().filter(|name| !name.is_empty()),
            insecure_token: self.insecure_token,
        }
    }

    /// What is given, completed by what was saved for the same server.
    pub fn or(&self, saved: Option<&ClientTls>) -> ClientTls {
        let given = self.given();
        let Some(saved) = saved.cloned() else { return given };
        // Certificate and key are one pair: neither is completed by half of another.
        let pair = given.certificate.is_none() && given.key.is_none();
        let (certificate, key) =
            if pair { (saved.certificate, saved.key) } else { (given.certificate, given.key) };
        ClientTls {
            authorities: given.authorities.or(saved.authorities),
            certificate,
            key,
            server_name: given.server_name.or(saved.server_name),
            insecure_token: given.insecure_token || saved.insecure_token,
        }
    }

    /// What a context keeps: good from any directory, and known to be usable.
    pub fn saved(&self) -> Result<ClientTls, Failure> {
        let mut given = self.given();
        if !given.is_empty() {
            given.config()?;
        }
        for path in [&mut given.authorities, &mut given.certificate, &mut given.key].into_iter().flatten() {
            *path = std::path::absolute(&*path)
                .map_err(|error| Failure::bad_input(error).about(path.display()))?;
        }
        Ok(given)
    }

    /// The files of a server; `None` if it is to speak plain text.
    pub fn server(&self, flags: &ServerTlsFlags) -> Result<Option<TlsSettings>, Failure> {
        let ClientTls { certificate, key, .. } = self.given();
        let client_authorities = set(flags.tls_client_ca.as_ref());
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let client_auth = flags.tls_client_auth.unwrap_or_default().into();
                if client_authorities.is_none() && flags.tls_client_auth.is_some() {
                    return Err(Failure::usage(
                        "--tls-client-auth means nothing without --tls-client-ca FILE",
                    ));
                }
                Ok(Some(TlsSettings { certificate, key, client_authorities, client_auth }))
            }
            (None, None) if client_authorities.is_some() || flags.tls_client_auth.is_some() => {
                Err(Failure::usage("--tls-client-ca and --tls-client-auth mean nothing without TLS")
                    .advise("add --tls-cert FILE and --tls-key FILE"))
            }
            (None, None) => Ok(None),
            (certificate, _) => Err(half(certificate.is_some())),
        }
    }
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServerTlsFlags {
    /// Ask clients for a certificate of one of these authorities (PEM); needs --tls-cert and --tls-key.
    #[arg(long, env = "RELATA_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate [default: required].
    #[arg(long, env = "RELATA_TLS_CLIENT_AUTH", value_enum, value_name = "WHETHER")]
    tls_client_auth: Option<ClientAuth>,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ClientAuth {
    /// Who has none cannot connect.
    #[default]
    Required,
    /// Who has none can connect; who shows one must show a good one.
    Optional,
}

impl From<ClientAuth> for config::ClientAuth {
    fn from(auth: ClientAuth) -> Self {
        match auth {
            ClientAuth::Required => Self::Required,
            ClientAuth::Optional => Self::Optional,
        }
    }
}

impl ClientTls {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The configuration of a connection. Files are read here, so that a mistake in them names
    /// them.
    pub fn config(&self) -> Result<ClientConfig, Failure> {
        let builder = ClientConfig::builder_with_provider(server::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?
            .with_root_certificates(self.roots()?);
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| {
                    let (certificate, key) = (certificate.display(), key.display());
                    Failure::bad_input(format!("{certificate} and {key} cannot be used together: {error}"))
                })?,
            (None, None) => builder.with_no_client_auth(),
            (certificate, _) => return Err(half(certificate.is_some())),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.authorities {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| Failure::bad_input(error).about(path.display()))?;
            }
            return Ok(roots);
        }
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Failure::bad_input("this system trusts no authority").advise(
                "install its package of certificates, or name the server's authority with --tls-ca FILE",
            ));
        }
        Ok(roots)
    }

    /// The name to expect of a server at this host.
    pub fn name(&self, host: &str) -> Result<ServerName<'static>, Failure> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::bad_input(format!("`{name}` is not a name that a server can have")))
    }
}

/// An empty variable counts as none.
fn set(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).cloned()
}

fn half(certificate: bool) -> Failure {
    let (given, missing) =
        if certificate { ("--tls-cert", "--tls-key") } else { ("--tls-key", "--tls-cert") };
    Failure::usage(format!("{given} needs {missing} FILE too"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        Failure::bad_input("holds no certificate that can be read (PEM)").about(path.display())
    })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        Failure::bad_input("holds no private key that can be read (PEM, without a passphrase)")
            .about(path.display())
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::bad_input(error).about(path.display()))
}
