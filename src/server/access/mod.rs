//! Who may do what: one layer in front of every method, and one way to a store.
//!
//! ```text
//! layer          finds the method's row, has the caller recognised, refuses what the headers
//!                are enough to refuse
//!   methods      the table: what each method needs; no row, no call
//!   authenticator  what recognises a credential, one kind each
//!     tokens       those of a file, read again when it changes
//!     key_ring     API keys: those of the record, followed; api_key is their text
//!     oidc         tokens that an issuer has signed
//!     certificates client certificates
//!     inside     the program itself, filling an empty store
//!     principal  who it is, with their grants, until it ends or is withdrawn
//! store          when the call begins: the right on the store that its request names
//!   grants       STORE:RIGHT,RIGHT …
//!   right        read, write, schema, admin
//! ```
//!
//! `Call` cannot be had without passing [`enter`], and `Node` gives a store or replica for a
//! `Call` only: a method that forgets to ask cannot be written.

mod api_key;
mod authenticator;
mod certificates;
mod grants;
mod inside;
mod key_ring;
mod key_work;
mod layer;
mod methods;
pub mod oidc;
mod principal;
mod right;
mod store;
mod tokens;

pub use authenticator::Authenticator;
pub use certificates::{CertificateGrants, CertificateGrantsError};
pub use grants::{Grant, Grants, StoreName, Stores, is_store};
pub use inside::FromInside;
pub use key_ring::{ApiKeys, KeyRing};
pub use key_work::{KeyWish, KeyWorkError, make_key, revoke_keys};
pub use layer::{AccessLayer, Admitted, Gate};
pub use methods::{Addressed, Needs};
pub use principal::{Principal, now};
pub use right::{Right, Rights};
pub use store::{Scope, enter};
pub use tokens::{TokenFile, TokenFileError};
