//! Who may do what: one layer in front of every method, and one way to a store.
//!
//! ```text
//! layer          finds the method's row, has the caller recognised, refuses what the headers
//!                are enough to refuse
//!   methods      the table: what each method needs; no row, no call
//!   authenticator  what recognises a credential: tokens, and whatever else is configured
//!     inside     the program itself, filling an empty store
//!     principal  who it is, with their grants, until it ends or is withdrawn
//! store          when the call begins: the right on the store that its request names
//!   grants       STORE:RIGHT,RIGHT …
//!   right        read, write, schema, admin
//! ```
//!
//! `Call` cannot be had without passing [`enter`], and `Node` gives a store or replica for a
//! `Call` only: a method that forgets to ask cannot be written.

mod authenticator;
mod grants;
mod inside;
mod layer;
mod methods;
mod principal;
mod right;
mod store;
mod tokens;

pub use authenticator::{Authenticator, Bearer, Presented, Recognition};
pub use grants::{Grant, GrantError, Grants, MAX_GRANTS, StoreName, Stores, is_store};
pub use inside::FromInside;
pub use layer::{AccessLayer, Admitted, Gate};
pub use methods::{Addressed, Needs};
pub use principal::{Principal, now};
pub use right::{Right, Rights};
pub use store::{Scope, enter};
pub use tokens::{TokenFileError, Tokens};
