//! TLS: who the server says it is, and which clients it lets connect.
//!
//! ```text
//! files ──▶ material: PEM becomes a rustls configuration, or a reason why not
//!               │
//!               ▼
//!           certificates: the configuration in force ──▶ every new handshake
//!               ▲
//!           changes of the files, every second and at SIGHUP
//! ```
//!
//! What is replaced by something broken stays in force; the log and a gauge say so. Nothing is
//! resumed from an earlier session, so that every connection shows its certificate to the rules
//! that are in force when it begins.

mod certificate;
mod certificates;
mod material;

pub use certificate::ClientCertificate;
pub use certificates::{Certificates, Vouched};
pub use material::TlsError;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The cryptography of every connection, in and out: *ring*.
pub fn provider() -> Arc<CryptoProvider> {
    install();
    CryptoProvider::get_default()
        .map_or_else(|| Arc::new(rustls::crypto::ring::default_provider()), Arc::clone)
}

/// Makes *ring* what libraries take that ask for the default of the process. A second call does
/// nothing.
pub fn install() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
