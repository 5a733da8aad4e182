//! Tokens from a file: one line each, with a name and grants. The file is read again when it
//! changes.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::authenticator::{Authenticator, Presented, Recognition};
use super::grants::{GrantError, Grants};
use super::principal::Principal;
use crate::metrics::Credential;
use crate::server::changes::{Changes, Contents, FileError};
use crate::server::logging::cause;

/// Shortest token accepted, in bytes: guessing one must be hopeless.
const MIN_TOKEN_BYTES: usize = 16;

/// The tokens that may call. Only their digests are kept.
#[derive(Clone)]
pub struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    digest: blake3::Hash,
    principal: Arc<Principal>,
}

impl std::fmt::Debug for Tokens {
    /// How many there are, and not the digests.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

/// Why a token file cannot be used. No message shows any part of a token.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("the token file cannot be used")]
    Unreadable(#[from] FileError),
    /// The file is no text.
    #[error("the token file is not UTF-8")]
    NotText,
    /// A line is not `TOKEN [NAME] [GRANT…]`.
    #[error("line {line} of the token file holds more than a token, a name and grants")]
    Shape { line: usize },
    /// A grant cannot be understood.
    #[error("line {line} of the token file")]
    Grant { line: usize, source: GrantError },
    /// A token can be guessed.
    #[error(
        "the token on line {line} is shorter than {MIN_TOKEN_BYTES} bytes; make one with `openssl rand -hex 32`"
    )]
    TooShort { line: usize },
    /// The same token twice, which would make its name ambiguous.
    #[error("the token on line {line} is on an earlier line too")]
    Repeated { line: usize },
    /// No token at all would lock everybody out.
    #[error("the token file holds no token; write one per line")]
    Empty,
}

impl Tokens {
    fn of(contents: &Contents) -> Result<Self, TokenFileError> {
        Self::parse(std::str::from_utf8(contents.get(0)).map_err(|_| TokenFileError::NotText)?)
    }

    /// These tokens after others. Who stays the same stays the same principal; who is gone, or may
    /// do something else now, has their streams ended.
    fn after(mut self, before: &Self) -> Self {
        for was in &before.0 {
            let same = self.0.iter_mut().find(|token| {
                token.digest == was.digest
                    && token.principal.name() == was.principal.name()
                    && token.principal.grants() == was.principal.grants()
            });
            match same {
                Some(token) => token.principal = Arc::clone(&was.principal),
                None => was.principal.withdraw(),
            }
        }
        self
    }

    /// Takes the text of a token file: one `TOKEN [NAME] [GRANT…]` per line, `#` begins a comment.
    /// The name is what the changelog shows, after `token:`; without one it shows the first digits
    /// of the digest. A line without grants may do everything.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut tokens: Vec<Token> = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let line = index + 1;
            let mut words = raw
                .split_whitespace()
                .take_while(|word| !word.starts_with('#'))
                .collect::<Vec<_>>()
                .into_iter();
            let Some(token) = words.next() else { continue };
            if token.len() < MIN_TOKEN_BYTES {
                return Err(TokenFileError::TooShort { line });
            }
            let digest = blake3::hash(token.as_bytes());
            if tokens.iter().any(|known| known.digest == digest) {
                return Err(TokenFileError::Repeated { line });
            }
            let name = match words.as_slice().first() {
                Some(word) if !word.contains(':') => words.next().map(str::to_owned),
                Some(_) | None => None,
            };
            let name = name.unwrap_or_else(|| digest.to_hex().chars().take(8).collect());
            let grants = words.as_slice();
            if grants.iter().any(|word| !word.contains(':')) {
                return Err(TokenFileError::Shape { line });
            }
            let grants = if grants.is_empty() {
                Grants::everything()
            } else {
                grants.join(" ").parse().map_err(|source| TokenFileError::Grant { line, source })?
            };
            let principal = Arc::new(Principal::new(format!("token:{name}"), grants));
            tokens.push(Token { digest, principal });
        }
        if tokens.is_empty() { Err(TokenFileError::Empty) } else { Ok(Self(tokens)) }
    }

    /// Who presents a token. Every digest is compared, each in constant time, so that the time
    /// taken says nothing of how close a guess came or which token it was.
    #[must_use]
    pub fn principal(&self, presented: &str) -> Option<&Arc<Principal>> {
        let digest = blake3::hash(presented.as_bytes());
        self.0
            .iter()
            .fold(None, |found, token| if token.digest == digest { Some(&token.principal) } else { found })
    }
}

/// A token file, as it is now.
#[derive(Debug)]
pub struct TokenFile(Arc<ArcSwap<Tokens>>);

impl TokenFile {
    /// Reads a token file, and reads it again when it changes for as long as the current runtime
    /// lives. What cannot be used then is logged, and the tokens stay what they were. A file that goes
    /// on to hold no token takes all of them back.
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let paths = vec![path.to_owned()];
        let contents = Contents::read(&paths)?;
        let tokens = Arc::new(ArcSwap::from_pointee(Tokens::of(&contents)?));
        let changes = Changes::follow(paths, Ok(&contents));
        tokio::spawn(follow(Arc::clone(&tokens), changes));
        Ok(Self(tokens))
    }
}

async fn follow(tokens: Arc<ArcSwap<Tokens>>, mut changes: Changes) {
    loop {
        let read = changes.next().await.map_err(TokenFileError::from);
        match read.and_then(|contents| Tokens::of(&contents)) {
            Ok(new) => {
                let new = new.after(&tokens.load());
                tracing::info!("the token file has changed: {new:?}");
                tokens.store(Arc::new(new));
            }
            // Whoever takes the last one out means it.
            Err(TokenFileError::Empty) if changes.stays().await => {
                tracing::warn!("the token file holds no token any more: nobody is let in by it");
                tokens.store(Arc::new(Tokens(Vec::new()).after(&tokens.load())));
            }
            Err(TokenFileError::Empty) => {}
            Err(error) => {
                tracing::error!(cause = cause(&error), "{error}; the tokens stay what they were");
            }
        }
    }
}

impl Authenticator for TokenFile {
    fn kind(&self) -> Credential {
        Credential::Token
    }

    /// A token has no shape of its own: what is in the file is one, anything else is another's.
    fn recognise(&self, presented: &Presented<'_>) -> Recognition {
        let tokens = self.0.load();
        match presented.bearer.and_then(|bearer| tokens.principal(bearer.expose())) {
            Some(principal) => Recognition::Settled(Ok(Arc::clone(principal))),
            None => Recognition::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# deploy\n0123456789abcdef ci\n\n  fedcba9876543210   # no name\n\
                        0123456789abcdefg app default:read,write *:read # two grants\n\
                        0123456789abcdefh default:read\n";

    fn principal(token: &str) -> Option<(String, String)> {
        let tokens = Tokens::parse(FILE).expect("tokens");
        tokens.principal(token).map(|known| (known.name().to_string(), known.grants().to_string()))
    }

    #[test]
    fn a_token_names_its_principal_and_its_grants() {
        let known = |name: &str, grants: &str| Some((name.to_owned(), grants.to_owned()));
        assert_eq!(principal("0123456789abcdef"), known("token:ci", "*:admin"));
        assert_eq!(principal("0123456789abcdefg"), known("token:app", "default:read,write *:read"));
        let (unnamed, grants) = principal("fedcba9876543210").expect("known");
        assert!(unnamed.starts_with("token:") && unnamed.len() == 14 && grants == "*:admin", "{unnamed}");
        assert_eq!(principal("0123456789abcdefh").expect("known").1, "default:read");
        assert_eq!(principal("0123456789abcdeF"), None);
        assert_eq!(principal(""), None);
    }

    #[test]
    fn who_stays_the_same_is_not_disturbed() {
        let before = Tokens::parse(FILE).expect("tokens");
        let find = |tokens: &Tokens, token: &str| tokens.principal(token).map(Arc::clone);
        let was = |token: &str| find(&before, token).expect("known");
        let changed = "fedcba9876543210 renamed\n0123456789abcdef ci\n0123456789abcdefg app default:read\n";
        let after = Tokens::parse(changed).expect("tokens").after(&before);
        assert!(Arc::ptr_eq(&was("0123456789abcdef"), &find(&after, "0123456789abcdef").expect("known")));
        assert!(!was("0123456789abcdef").has_ended());
        for gone in ["fedcba9876543210", "0123456789abcdefg", "0123456789abcdefh"] {
            assert!(was(gone).has_ended(), "{gone}");
        }
        assert!(!find(&after, "0123456789abcdefg").expect("known").has_ended(), "under its new grants");
    }

    #[test]
    fn a_bad_token_file_is_refused_without_showing_it() {
        let check = |text: &str, expected: &str| {
            let error = Tokens::parse(text).expect_err("refused");
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let message = format!("{error}: {cause}");
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        };
        check("", "no token");
        check("# only a comment\n", "no token");
        check("s3cret", "line 1 is shorter than 16 bytes");
        check("s3cret-s3cret-s3cret a b", "line 1 of the token file holds more");
        check("s3cret-s3cret-s3cret a b:read c", "line 1 of the token file holds more");
        check("s3cret-s3cret-s3cret a b:reed", "line 1 of the token file: `reed` is not a right");
        check("s3cret-s3cret-s3cret a\ns3cret-s3cret-s3cret b", "line 2 is on an earlier line");
    }
}
