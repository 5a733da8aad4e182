//! Which rights on which stores: what a key or token carries.
//!
//! A grant names a store by its name or by its id, and the two differ: a name means whichever
//! store has it at the moment, an id means that one store for ever. Where names are given out
//! anew after stores were deleted, grant ids.

use std::fmt;
use std::str::FromStr;

use super::right::{Right, Rights, UnknownRight};
use crate::config::MAX_STORE_NAME_CHARS;
use crate::revision::StoreId;

/// Most grants of one caller. A call that names its store otherwise than the grants do looks up
/// each of them.
pub const MAX_GRANTS: usize = 32;

/// A store as a request or a grant names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreName {
    /// By id, in any spelling of it.
    Id(StoreId),
    /// By name.
    Name(Box<str>),
}

impl StoreName {
    /// What a text means: whatever reads as an id is one, since no name may.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match uuid::Uuid::try_parse(text) {
            Ok(id) => Self::Id(StoreId(id)),
            Err(_) => Self::Name(text.into()),
        }
    }

    /// Whether there can be a store that a text means: it is an id in any spelling, or a name.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        is_store(text) || uuid::Uuid::try_parse(text).is_ok()
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Which stores a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stores {
    /// `*`: all there are and will be.
    All,
    /// One.
    One(StoreName),
}

/// Some rights on some stores, written `STORE:RIGHT,RIGHT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// On which stores.
    pub stores: Stores,
    /// Which rights; never none.
    pub rights: Rights,
}

/// Why a text is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No `:` between store and rights.
    #[error("`{0}` is not a grant: write STORE:RIGHT,RIGHT as in `default:read,write` or `*:admin`")]
    Shape(String),
    /// What stands before the `:` can be no store.
    #[error("`{0}` is not the name or id of a store; `*` means all stores")]
    Store(String),
    /// A word after the `:` is no right.
    #[error(transparent)]
    Right(#[from] UnknownRight),
    /// Nothing is granted, which is most likely a mistake.
    #[error("nothing is granted; write at least one STORE:RIGHT")]
    Nothing,
    /// More than a call may look through.
    #[error("{0} grants, at most {MAX_GRANTS} are allowed; grant `*`, or use several keys")]
    TooMany(usize),
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let shape = || GrantError::Shape(text.to_owned());
        let (store, rights) = text.split_once(':').ok_or_else(shape)?;
        let stores = match store {
            "*" => Stores::All,
            name if is_store(name) => Stores::One(StoreName::of(name)),
            wrong => return Err(GrantError::Store(wrong.to_owned())),
        };
        if rights.is_empty() {
            return Err(shape());
        }
        let rights = rights.split(',').map(str::parse).collect::<Result<Vec<Right>, _>>()?;
        Ok(Self { stores, rights: Rights::of(&rights) })
    }
}

/// Whether a store can have this name or id.
pub fn is_store(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // What is allowed has one byte for each character.
    !text.is_empty() && text.len() <= MAX_STORE_NAME_CHARS && text.chars().all(allowed)
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stores {
            Stores::All => f.write_str("*")?,
            Stores::One(store) => store.fmt(f)?,
        }
        write!(f, ":{}", self.rights)
    }
}

/// All that a caller was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// Every right on every store.
    #[must_use]
    pub fn everything() -> Self {
        Self(vec![Grant { stores: Stores::All, rights: Rights::of(&[Right::Admin]) }])
    }

    /// No right at all.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(Vec::new())
    }

    /// These grants, of which there must be some and not too many.
    pub fn new(grants: Vec<Grant>) -> Result<Self, GrantError> {
        match grants.len() {
            0 => Err(GrantError::Nothing),
            count if count > MAX_GRANTS => Err(GrantError::TooMany(count)),
            _ => Ok(Self(grants)),
        }
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// Whether one of `wanted` is granted on all stores.
    #[must_use]
    pub fn on_all(&self, wanted: Rights) -> bool {
        self.0.iter().any(|grant| grant.stores == Stores::All && grant.rights.suffice(wanted))
    }

    /// The stores on which one of `wanted` is granted, as the grants name them.
    pub fn stores(&self, wanted: Rights) -> impl Iterator<Item = &StoreName> {
        self.0.iter().filter(move |grant| grant.rights.suffice(wanted)).filter_map(|grant| {
            match &grant.stores {
                Stores::One(store) => Some(store),
                Stores::All => None,
            }
        })
    }
}

impl FromStr for Grants {
    type Err = GrantError;

    /// Grants between spaces, as [`fmt::Display`] writes them.
    fn from_str(text: &str) -> Result<Self, GrantError> {
        Self::new(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, grant) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            grant.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_print_as_they_are_written() {
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let text = format!("*:read tenant-7:read,write {id}:admin");
        let grants: Grants = text.parse().expect("grants");
        assert_eq!(grants.to_string(), text);
        assert_eq!(StoreName::of(&id.to_uppercase()), StoreName::of(id), "an id has many spellings");
        assert_eq!("a:write,read".parse::<Grant>().expect("a grant").to_string(), "a:read,write");
    }

    #[test]
    fn what_is_not_a_grant_says_why() {
        let check = |text: &str, expected: &str| {
            let message = text.parse::<Grants>().expect_err("refused").to_string();
            assert!(message.contains(expected), "{text}: {message}");
        };
        check("", "nothing is granted");
        check("default", "STORE:RIGHT");
        check("default:", "STORE:RIGHT");
        check(":read", "not the name or id of a store");
        check("a/b:read", "not the name or id of a store");
        check("a*:read", "not the name or id of a store");
        check("default:reed", "`reed` is not a right");
        check("default:read,", "`` is not a right");
        check("default:read:write", "`read:write` is not a right");
        check(&"a:read ".repeat(MAX_GRANTS + 1), "at most 32");
    }

    #[test]
    fn grants_are_asked_by_right() {
        let grants: Grants = "*:read a:write b:schema c:admin".parse().expect("grants");
        let stores = |right: Right| {
            grants.stores(Rights::of(&[right])).map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert!(grants.on_all(Rights::of(&[Right::Read])) && !grants.on_all(Rights::of(&[Right::Write])));
        assert_eq!((stores(Right::Write), stores(Right::Schema)), ("a c".into(), "b c".into()));
        assert!(Grants::everything().on_all(Rights::of(&[Right::Schema])));
        assert!(!Grants::nothing().on_all(Rights::ALL));
    }
}
