//! A text that must not appear in any output: tokens, and addresses that may hold a password.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A secret. It prints as `***`, and [`Secret::expose`] is the one way to the text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Named so that every place that uses it can be searched for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::from("hunter2");
        assert_eq!((format!("{secret:?}").as_str(), secret.expose()), ("***", "hunter2"));
    }
}
