//! What a caller may do: four rights, and sets of them.

use std::fmt;
use std::str::FromStr;

/// What a caller may do with a store. None of the first three implies another; `admin` implies
/// them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Ask questions, read tuples and schemas, follow changes.
    Read,
    /// Change tuples.
    Write,
    /// Change the schema.
    Schema,
    /// Everything with the store, deleting it included. On every store: everything.
    Admin,
}

impl Right {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Schema, Self::Admin];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Schema => "schema",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Schema => 4,
            Self::Admin => 8,
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a right: use read, write, schema or admin")]
pub struct UnknownRight(pub String);

impl FromStr for Right {
    type Err = UnknownRight;

    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        Self::ALL
            .into_iter()
            .find(|right| right.as_str() == text)
            .ok_or_else(|| UnknownRight(text.to_owned()))
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// Every right.
    pub const ALL: Self = Self::of(&Right::ALL);

    /// These rights.
    #[must_use]
    pub const fn of(rights: &[Right]) -> Self {
        let mut bits = 0;
        let mut rest = rights;
        while let [right, tail @ ..] = rest {
            bits |= right.bit();
            rest = tail;
        }
        Self(bits)
    }

    /// The rights of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether who has these has one of `wanted`: `admin` counts as every right.
    #[must_use]
    pub const fn suffice(self, wanted: Self) -> bool {
        self.0 & (wanted.0 | Right::Admin.bit()) != 0
    }

    /// The rights in it, in the order they are written.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.into_iter().filter(move |right| self.0 & right.bit() != 0)
    }
}

impl fmt::Display for Rights {
    /// `read,write`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, right) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(right.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `read` and so on say which rights suffice for which.
    #[test]
    fn only_admin_implies_others() {
        for held in Right::ALL {
            for wanted in Right::ALL {
                let expected = held == wanted || held == Right::Admin;
                assert_eq!(
                    Rights::of(&[held]).suffice(Rights::of(&[wanted])),
                    expected,
                    "{held} for {wanted}"
                );
            }
            assert!(!Rights::NONE.suffice(Rights::of(&[held])));
        }
        let either = Rights::of(&[Right::Read, Right::Schema]);
        assert!(Rights::of(&[Right::Schema]).suffice(either));
        assert!(!Rights::of(&[Right::Write]).suffice(either));
    }

    #[test]
    fn rights_print_as_they_are_written() {
        assert_eq!(Rights::of(&[Right::Write, Right::Read]).to_string(), "read,write");
        assert_eq!(Rights::ALL.to_string(), "read,write,schema,admin");
        for right in Right::ALL {
            assert_eq!(right.as_str().parse(), Ok(right));
        }
        for wrong in ["", "Read", "all", "reader"] {
            assert!(wrong.parse::<Right>().is_err(), "{wrong}");
        }
    }
}
