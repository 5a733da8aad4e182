//! Client certificates as credentials: a file says what which identity may do. It is read again
//! when it changes.
//!
//! That a certificate is good is the connection's business. Being able to connect gives no right:
//! an authority may have signed for many more clients than should call.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use super::authenticator::{Authenticator, Presented, Recognition};
use super::grants::GrantError;
use super::principal::Principal;
use crate::metrics::Credential;
use crate::server::changes::{Changes, Contents, FileError};
use crate::server::connection::Peer;
use crate::server::logging::with_cause;

/// Why a file of certificate grants cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateGrantsError {
    /// The file cannot be read.
    #[error("the certificate grants cannot be used")]
    Unreadable(#[from] FileError),
    /// The file is no text.
    #[error("the file of certificate grants is not UTF-8")]
    NotText,
    /// A grant cannot be understood, or there is none.
    #[error("line {line} of the certificate grants")]
    Grant { line: usize, source: GrantError },
    /// The same identity twice: which grants count must not be a question.
    #[error("the identity on line {line} of the certificate grants is on an earlier line too")]
    Repeated { line: usize },
    /// Nobody could call.
    #[error("the file of certificate grants names nobody; write `IDENTITY STORE:RIGHT,RIGHT` on a line")]
    Empty,
    /// No certificate is ever shown.
    #[error("certificate grants mean nothing to a server that asks no client for a certificate")]
    NoAuthorities,
}

/// Who may call, by the identity of their certificate.
type Known = HashMap<Box<str>, Arc<Principal>>;

/// Takes client certificates for what a file says they are.
pub struct CertificateGrants {
    known: Arc<ArcSwap<Known>>,
    /// Follows the file for as long as this is asked.
    _following: JoinSet<()>,
}

impl std::fmt::Debug for CertificateGrants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.known.load().len())
    }
}

impl CertificateGrants {
    /// Reads the file. What cannot be used when it changes is logged, and the grants stay what they
    /// were. A file that goes on to name nobody takes all of them back.
    pub fn open(path: &Path) -> Result<Self, CertificateGrantsError> {
        let paths = vec![path.to_owned()];
        let contents = Contents::read(&paths)?;
        let known = Arc::new(ArcSwap::from_pointee(read_grants(&contents)?));
        let changes = Changes::follow(paths, Ok(&contents));
        let mut following = JoinSet::new();
        following.spawn(follow(Arc::clone(&known), changes));
        Ok(Self { known, _following: following })
    }
}

impl Authenticator for CertificateGrants {
    fn kind(&self) -> Credential {
        Credential::Certificate
    }

    /// A key or token that is sent along decides, and if it is not known, the call is refused:
    /// whoever sends it means to be known by it.
    fn recognise(&self, presented: &Presented<'_>) -> Recognition {
        let Some(Peer::Network { certificate: Some(certificate), .. }) = presented.connection.get() else {
            return Recognition::Foreign;
        };
        let Some(identity) = certificate.identity.as_deref().filter(|_| presented.bearer.is_none()) else {
            return Recognition::Foreign;
        };
        match self.known.load().get(identity) {
            Some(principal) => Recognition::Settled(Ok(Arc::clone(principal))),
            None => Recognition::Foreign,
        }
    }
}

async fn follow(known: Arc<ArcSwap<Known>>, mut changes: Changes) {
    loop {
        let read = changes.next().await.map_err(CertificateGrantsError::from);
        let outcome = match read.and_then(|contents| read_grants(&contents)) {
            // Whoever takes the last one out means it, unless the file is only being written.
            Err(CertificateGrantsError::Empty) if changes.stays().await => Ok(Known::new()),
            Err(CertificateGrantsError::Empty) => continue,
            outcome => outcome,
        };
        match outcome {
            Ok(mut next) => {
                let before = known.load_full();
                let gone = keep(&mut next, &before);
                tracing::info!("the certificate grants have changed: {} identities", next.len());
                known.store(Arc::new(next));
                // Their streams end; whoever has other grants now comes in anew.
                for principal in gone {
                    principal.withdraw();
                }
            }
            Err(error) => tracing::error!("keeping the certificate grants in force: {}", with_cause(&error)),
        }
    }
}

/// Lets those who may do what they could before go on as they are; returns the others.
fn keep(next: &mut Known, before: &Known) -> Vec<Arc<Principal>> {
    let mut gone = Vec::new();
    for (identity, was) in before {
        match next.get_mut(identity) {
            Some(is) if is.grants() == was.grants() => *is = Arc::clone(was),
            Some(_) | None => gone.push(Arc::clone(was)),
        }
    }
    gone
}

fn read_grants(contents: &Contents) -> Result<Known, CertificateGrantsError> {
    parse(std::str::from_utf8(contents.get(0)).map_err(|_| CertificateGrantsError::NotText)?)
}

/// One `IDENTITY GRANT…` per line; `#` at the beginning of a word begins a comment.
fn parse(text: &str) -> Result<Known, CertificateGrantsError> {
    let mut known = Known::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let mut words = raw.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(identity) = words.next() else { continue };
        let grants = words.collect::<Vec<_>>().join(" ");
        let grants = grants.parse().map_err(|source| CertificateGrantsError::Grant { line, source })?;
        let principal = Arc::new(Principal::new(format!("mtls:{identity}"), grants));
        if known.insert(identity.into(), principal).is_some() {
            return Err(CertificateGrantsError::Repeated { line });
        }
    }
    if known.is_empty() { Err(CertificateGrantsError::Empty) } else { Ok(known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# services\nspiffe://example.com/docs docs:read,write wiki:read # two\n\nops *:admin\n";

    #[test]
    fn an_identity_has_its_grants() {
        let known = parse(FILE).expect("grants");
        let docs = known.get("spiffe://example.com/docs").expect("known");
        assert_eq!(&**docs.name(), "mtls:spiffe://example.com/docs");
        assert_eq!(docs.grants().to_string(), "docs:read,write wiki:read");
        assert_eq!(known.get("ops").expect("known").grants().to_string(), "*:admin");
        assert_eq!(known.len(), 2);
    }

    #[test]
    fn a_mistaken_file_is_refused() {
        let check = |text: &str, expected: &str| {
            let message = with_cause(&parse(text).expect_err("refused"));
            assert!(message.contains(expected), "{text}: {message}");
        };
        check("", "names nobody");
        check("# only a comment", "names nobody");
        check("ops", "line 1 of the certificate grants: nothing is granted");
        check("ops *:admin\nops a:read", "line 2 of the certificate grants is on an earlier line");
        check("ops admin", "line 1");
        check("ops a:reed", "`reed` is not a right");
    }

    #[test]
    fn who_may_do_the_same_goes_on() {
        let before = parse(FILE).expect("grants");
        let mut next =
            parse("spiffe://example.com/docs docs:read\nops *:admin\nnew a:read\n").expect("grants");
        let gone = keep(&mut next, &before);
        assert!(Arc::ptr_eq(&next["ops"], &before["ops"]));
        assert!(matches!(gone.as_slice(), [one] if Arc::ptr_eq(one, &before["spiffe://example.com/docs"])));
    }
}
