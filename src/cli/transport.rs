//! Why a server could not be spoken to, in words that say what to do.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::dial::{Trouble, tls_error};
use super::exit::{Exit, Failure};

/// Explains why no connection came about.
pub fn unreachable_server(endpoint: &str, error: &(dyn Error + 'static)) -> Failure {
    if let Some(failure) = explain(error) {
        return failure.about(endpoint);
    }
    let why = innermost(error);
    Failure::new(Exit::Unavailable, format!("no server answers at {endpoint}: {why}"))
        .advise("start one with `relata serve`, or name another with --endpoint")
}

/// Explains an error of TLS, or of its absence; `None` for any other. A refused client certificate
/// shows only at the first call, since in TLS 1.3 the client is done before the server has looked
/// at it.
pub fn explain(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref() {
            Some(Trouble::Tls(error)) => return Some(of_tls(error)),
            Some(Trouble::SpeaksTls) => {
                let failure = Failure::new(Exit::Unavailable, "the server speaks TLS");
                return Some(failure.advise("name it by https:// instead of http://"));
            }
            None => {}
        }
        if let Some(error) = tls_error(error) {
            return Some(of_tls(error));
        }
        next = error.source();
    }
    None
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library knows dozens, and may know more")]
fn of_tls(error: &TlsError) -> Failure {
    let (what, advice) = match error {
        TlsError::InvalidCertificate(error) => of_certificate(error),
        TlsError::InvalidMessage(_) => (
            "the server does not speak TLS".to_owned(),
            "name it by http:// instead of https://, or start it with --tls-cert and --tls-key",
        ),
        TlsError::NoCertificatesPresented
        | TlsError::AlertReceived(AlertDescription::CertificateRequired) => (
            "the server asks for a client certificate".to_owned(),
            "present one with --tls-cert FILE and --tls-key FILE",
        ),
        TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => (
            format!("the server refused the client certificate: {error}"),
            "present one of an authority in the server's --tls-client-ca, that is valid now and for clients",
        ),
        TlsError::InconsistentKeys(_) => (
            "the client certificate does not belong to the private key".to_owned(),
            "--tls-cert and --tls-key must name one pair",
        ),
        error => (format!("TLS failed: {error}"), "the log of the server may say more with RELATA_LOG=debug"),
    };
    Failure::new(Exit::Unavailable, what).advise(advice)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library knows dozens, and may know more")]
fn of_certificate(error: &CertificateError) -> (String, &'static str) {
    match error {
        CertificateError::UnknownIssuer => (
            "the server's certificate is of an authority that is not trusted here".to_owned(),
            "name its authority with --tls-ca FILE",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("this is not the server that its certificate names: {error}"),
            "use a name of the certificate in --endpoint, or expect it with --tls-server-name NAME",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            format!("the server's certificate has expired: {error}"),
            "renew it; the server takes new files without a restart. Is the clock here right?",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            format!("the server's certificate is not valid yet: {error}"),
            "is the clock of this machine right?",
        ),
        error => (
            format!("the server's certificate cannot be trusted: {error}"),
            "`openssl s_client -connect HOST:PORT -showcerts` shows it",
        ),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        why = inner.to_string();
        cause = inner.source();
    }
    why
}
