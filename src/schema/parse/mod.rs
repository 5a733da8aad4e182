//! Text → [`ast::Document`](super::ast::Document): `split` finds the declarations, the grammar
//! reads each of them, `definition` and `condition` say what it means or what is wrong with it.
//!
//! A declaration that cannot be read is reported once and leaves behind what is known of it
//! (its name), so that what refers to it is not reported as well.

mod code;
mod condition;
mod definition;
mod file;
mod split;
mod syntax;

pub(super) use code::{End, Strings, scan};
pub(super) use file::document;

/// The grammar and its rules.
mod grammar {
    /// Reads one declaration.
    #[derive(pest_derive::Parser)]
    #[grammar = "schema/grammar.pest"]
    pub(super) struct Grammar;
}
use grammar::Rule;
