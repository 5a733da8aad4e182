//! Certificates made for a test: an authority, and those it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// The name in every good server certificate.
pub const SERVER_NAME: &str = "relata.test";

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server's certificate for [`SERVER_NAME`].
    pub fn server(&self) -> Pair {
        self.sign(|params| {
            params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into().expect("a name"))];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// A client's certificate that names it by a URI.
    pub fn client(&self, uri: &str) -> Pair {
        self.sign(|params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A certificate as one likes.
    pub fn sign(&self, adapt: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        adapt(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

/// Makes a certificate one that ended long ago.
pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 2, 1);
}

impl Pair {
    /// Writes both into a folder as `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (
            write(folder, &format!("{name}.pem"), &self.certificate),
            write(folder, &format!("{name}.key"), &self.key),
        )
    }
}

/// Replaces a file in one step, as tools that renew certificates do.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, staged) = (folder.join(name), folder.join(format!("{name}.new")));
    std::fs::write(&staged, text).expect("a file");
    std::fs::rename(&staged, &path).expect("replaced");
    path
}
