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
//! A token is taken apart and held against its issuer here: few things are allowed, and everything
//! else is refused. RFC 8725 lists the ways in which such tokens have been abused; the tests go
//! through them. Signatures are verified by *ring*.
//!
//! # Why not a library for all of it
//!
//! `jsonwebtoken` 11.1 was given what the tests beside these files are given. It verifies as fast,
//! since both leave that to *ring*: of its own two providers of cryptography one brings an open
//! advisory (RUSTSEC-2023-0071), the other a second library of cryptography. What it would do:
//!
//! - **Key sets.** Its `JwkSet` refuses all keys of an issuer where one is not as expected: `null`,
//!   a number for `kid` or `alg`, a text for `x5c` or `key_ops`. Read one by one, its keys still have
//!   coordinates of any length, Ed25519 keys on curve P-256, and moduli with a leading zero under
//!   which no signature holds; they do not heed `use`, and cannot be compared, which is how guests
//!   of a withdrawn key are found.
//! - **Headers.** An unknown `alg` and a broken header are one error, a token that demands an
//!   extension (`crit`) or announces a logout (`typ`) is taken, and `jwk` and `x5c` of a stranger
//!   are read before anything is verified.
//! - **Claims.** It looks at the system's clock alone, in whole seconds: with 30 s of leeway, 30.5 s
//!   after its end a token is taken. It does not say when a token ends, does not look at `iat`, and
//!   takes a list for `iss`. Algorithms of several families are refused together, and the issuer, by
//!   which keys are chosen, has to be read by a function that it calls dangerous.
//!
//! What it lacks can be put around it. Of 424 lines of code, without tests and comments, 402 are left
//! then: 80 instead of 116 for algorithms, 132 instead of 118 for keys, and tokens as they are, since
//! header, times and end are still read here. Against that stand a provider for the whole process,
//! without which the first token panics and none can be installed afterwards, and 14 more packages (4
//! without PEM).

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
