//! OIDC: tokens that an issuer has signed, such as those of an identity provider.
//!
//! ```text
//! authenticator  a bearer text that looks like a signed token ──▶ its issuer, or a refusal
//!   token        the three parts, taken apart; what is claimed of time, audience and subject
//!   issuer       the keys in force; who was let in by which of them
//!     keys       a key set as issuers publish it
//!     algorithm  the signatures that are understood: asymmetric ones, verified by ring
//!     refresh    fetches keys now and then, and when a token names an unknown one
//!       fetch    HTTP: discovery and key set, bounded in size and time
//!   rules        claims become grants
//!   recent       tokens verified a moment ago
//! settings       the file that says all this; read again when it changes
//! ```
//!
//! A token is taken apart and verified here, and not by a library with an option for every habit
//! of issuers: few things are allowed, and everything else is refused. RFC 8725 lists the ways
//! in which such tokens have been abused; the tests go through them.

mod algorithm;
mod authenticator;
mod fetch;
mod issuer;
mod keys;
mod recent;
mod refresh;
mod rules;
mod settings;
mod token;

pub use authenticator::Oidc;
pub use settings::OidcConfigError;
pub use token::TokenError;
