//! What the server wants to know of a certificate: until when it is valid, and whom it names.
//!
//! Everything else, above all whether it can be trusted, is decided by rustls. The few fields are
//! read here, in the order in which RFC 5280 §4.1 lays them out.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;

/// Longest name taken from a certificate, in bytes: it goes into the log of changes.
const MAX_IDENTITY_BYTES: usize = 255;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
/// `[0]` and `[3]` of a certificate, `[2]` and `[6]` of a general name.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

/// 2.5.29.17
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// A certificate that a client has shown, and that holds under the rules of this server.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whom it names: the first URI among its alternative names, else the first DNS name. One without
    /// alternative names is named by the common name of its subject, if that has no `:` and no `/`.
    /// `None` if it has none of them, or one that is longer than 255 bytes or holds spaces or
    /// control characters.
    pub identity: Option<Arc<str>>,
    /// When it ends.
    pub not_after: SystemTime,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.identity.as_deref().unwrap_or("a certificate that names nobody"))
    }
}

impl ClientCertificate {
    /// Reads a certificate; `None` if it is none.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let fields = Fields::read(der)?;
        // An authority may look at the alternative names closely and let everybody choose the common
        // name, which must not pass for one of them.
        let named = match fields.alternative_names {
            Some(names) => name(names, URI).or_else(|| name(names, DNS_NAME)),
            None => common_name(fields.subject).filter(|name| !name.contains([':', '/'])),
        };
        let identity = named.filter(|name| is_usable(name));
        Some(Self { identity: identity.map(Arc::from), not_after: fields.not_after })
    }
}

/// When a certificate ends; `None` if it is none.
pub fn not_after(der: &[u8]) -> Option<SystemTime> {
    Fields::read(der).map(|fields| fields.not_after)
}

fn is_usable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_IDENTITY_BYTES
        && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// The parts of a certificate that are looked at.
struct Fields<'a> {
    not_after: SystemTime,
    subject: &'a [u8],
    alternative_names: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let certificate = Der(der).expect(SEQUENCE)?;
        let mut fields = Der(Der(certificate).expect(SEQUENCE)?);
        fields.skip_if(VERSION);
        // Serial number, algorithm, issuer.
        let (_, _, _) = (fields.next()?, fields.next()?, fields.expect(SEQUENCE)?);
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (_, not_after) = (validity.next()?, validity.next()?);
        let subject = fields.expect(SEQUENCE)?;
        let mut alternative_names = None;
        while let Some((tag, value)) = fields.next() {
            if tag == EXTENSIONS {
                alternative_names = extension(value, SUBJECT_ALTERNATIVE_NAME);
            }
        }
        Some(Self { not_after: moment(not_after)?, subject, alternative_names })
    }
}

/// The value of an extension.
fn extension<'a>(extensions: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some((_, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(OBJECT_ID)? != wanted {
            continue;
        }
        // Whether it is critical may stand between.
        while let Some((tag, value)) = extension.next() {
            if tag == OCTET_STRING {
                return Some(value);
            }
        }
    }
    None
}

/// The first alternative name of a kind.
fn name(alternative_names: &[u8], kind: u8) -> Option<&str> {
    let mut names = Der(Der(alternative_names).expect(SEQUENCE)?);
    while let Some((tag, value)) = names.next() {
        if tag == kind {
            return std::str::from_utf8(value).ok();
        }
    }
    None
}

/// The last common name of a subject: names grow more specific from left to right.
fn common_name(subject: &[u8]) -> Option<&str> {
    let mut found = None;
    let mut parts = Der(subject);
    while let Some((SET, part)) = parts.next() {
        let mut part = Der(Der(part).expect(SEQUENCE)?);
        if part.expect(OBJECT_ID)? == COMMON_NAME
            && let Some((UTF8_STRING | PRINTABLE_STRING, value)) = part.next()
        {
            found = std::str::from_utf8(value).ok();
        }
    }
    found
}

/// RFC 5280 §4.1.2.5: both forms are in UTC and to the second.
fn moment((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits of a year stand for 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let moment = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    // What ended before 1970 ended long ago. The last moment there is, of certificates that are
    // to have no end, is beyond the time stamps of the library, so calendars are compared.
    let since = moment.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    Some(SystemTime::UNIX_EPOCH + Duration::try_from(since).unwrap_or_default())
}

/// A row of values, each with tag and length.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match usize::from(first) {
            short @ 0..0x80 => (short, rest),
            // The length takes as many bytes as the low bits say; no certificate takes more.
            long => {
                let (bytes, rest) =
                    rest.split_at_checked(long & 0x7f).filter(|(bytes, _)| bytes.len() <= 3)?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(tag, value)| (tag == wanted).then_some(value))
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

    fn certificate(common_name: &str, names: &[SanType]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        if !common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.subject_alt_names = names.to_vec();
        params.not_after = date_time_ymd(2031, 2, 3);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn identity(common_name: &str, names: &[SanType]) -> Option<String> {
        let read = ClientCertificate::read(&certificate(common_name, names)).expect("a certificate");
        read.identity.map(|identity| identity.to_string())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().expect("ASCII"))
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().expect("ASCII"))
    }

    #[test]
    fn a_uri_names_before_a_dns_name_before_the_common_name() {
        let names = [dns("a.example"), uri("spiffe://example/a"), uri("spiffe://example/b")];
        assert_eq!(identity("ann", &names).as_deref(), Some("spiffe://example/a"));
        assert_eq!(identity("ann", &names[..1]).as_deref(), Some("a.example"));
        assert_eq!(identity("ann", &[]).as_deref(), Some("ann"));
        assert_eq!(identity("", &[SanType::IpAddress([127, 0, 0, 1].into())]), None);
    }

    /// An authority that verifies alternative names may sign any common name.
    #[test]
    fn a_common_name_does_not_pass_for_another_kind() {
        for name in ["spiffe://example/a", "urn:a", "a/b"] {
            assert_eq!(identity(name, &[]), None, "{name}");
        }
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        assert_eq!(identity("ann", &[address]), None);
        assert_eq!(identity("spiffe://example/a", &[dns("b.example")]).as_deref(), Some("b.example"));
    }

    #[test]
    fn what_would_be_misread_in_a_log_names_nobody() {
        assert_eq!(identity("ann\nbob", &[]), None);
        assert_eq!(identity("two words", &[]), None);
        assert_eq!(identity(&"x".repeat(256), &[]), None);
        assert_eq!(identity("zoë", &[]).as_deref(), Some("zoë"));
    }

    #[test]
    fn the_end_is_read_in_both_forms() {
        let expected: SystemTime = "2031-02-03T00:00:00Z".parse::<jiff::Timestamp>().expect("a time").into();
        assert_eq!(not_after(&certificate("ann", &[])), Some(expected));
        let seconds = |tag, text: &str| {
            moment((tag, text.as_bytes()))
                .map(|moment| moment.duration_since(SystemTime::UNIX_EPOCH).expect("after").as_secs())
        };
        assert_eq!(seconds(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(seconds(UTC_TIME, "490101000000Z"), Some(2_493_072_000));
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        assert_eq!(seconds(GENERALIZED_TIME, "20501301000000Z"), None);
        assert_eq!(seconds(UTC_TIME, "é"), None);
    }

    #[test]
    fn broken_bytes_are_no_certificate() {
        let good = certificate("ann", &[uri("spiffe://example/a")]);
        for end in 0..good.len() {
            assert_eq!(ClientCertificate::read(&good[..end]), None, "cut at {end}");
        }
        // Every byte replaced by some others: any answer will do, but an answer it is.
        for at in 0..good.len() {
            for byte in [0x00, 0x30, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = ClientCertificate::read(&bad);
            }
        }
    }
}
