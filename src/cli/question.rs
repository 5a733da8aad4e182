//! The flags that all questions share: how fresh, under which context, with which extra tuples.

use std::path::Path;

use clap::Args;

use super::exit::Failure;
use super::wire;
use crate::context::Context;
use crate::proto::{self, consistency::Requirement};
use crate::store_file::tuple_text;

/// Flags of a question.
#[derive(Debug, Args)]
pub struct Question {
    #[command(flatten)]
    freshness: Freshness,
    /// Tuple that counts for this question only; may be given several times.
    #[arg(long, value_name = "TUPLE")]
    contextual: Vec<String>,
    /// Schema version to ask under, instead of the one in force.
    #[arg(long = "schema", value_name = "ID", default_value = "", hide_default_value = true)]
    pub schema_id: String,
}

/// How fresh an answer must be. Without any: the newest the server has.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct Freshness {
    /// Answer at least as fresh as this zookie.
    #[arg(long, value_name = "ZOOKIE")]
    at_least: Option<String>,
    /// Answer at exactly the revision of this zookie.
    #[arg(long, value_name = "ZOOKIE")]
    exact: Option<String>,
    /// Answer with everything acknowledged before the question.
    #[arg(long)]
    full: bool,
}

/// Values for conditions, for the questions that evaluate them.
#[derive(Debug, Args)]
pub struct ContextArg {
    /// Values for conditions, as a JSON object, or `@FILE`.
    #[arg(long, value_name = "JSON")]
    context: Option<String>,
}

impl Question {
    /// How fresh, as the API takes it.
    pub fn consistency(&self) -> Option<proto::Consistency> {
        let Freshness { at_least, exact, full } = &self.freshness;
        let requirement = match (at_least, exact, full) {
            (Some(zookie), _, _) => Requirement::AtLeast(zookie.clone()),
            (None, Some(zookie), _) => Requirement::Exact(zookie.clone()),
            (None, None, true) => Requirement::Full(()),
            (None, None, false) => return None,
        };
        Some(proto::Consistency { requirement: Some(requirement) })
    }

    /// The extra tuples, as the API takes them.
    pub fn contextual_tuples(&self) -> Result<Vec<proto::Tuple>, Failure> {
        let parse = |text: &String| match tuple_text::parse(text) {
            Ok(tuple) => Ok(wire::tuple(&tuple)),
            Err(error) => Err(Failure::bad_input(error).about("--contextual")),
        };
        self.contextual.iter().map(parse).collect()
    }
}

impl ContextArg {
    /// The values, as the API takes them.
    pub fn values(&self) -> Result<Option<prost_types::Struct>, Failure> {
        self.context.as_deref().map(|text| parse_context("--context", text)).transpose()
    }
}

/// A JSON object given as such or as `@FILE`.
pub fn parse_context(flag: &str, text: &str) -> Result<prost_types::Struct, Failure> {
    let read;
    let json = match text.strip_prefix('@') {
        None => text,
        Some(path) => {
            read = std::fs::read_to_string(Path::new(path))
                .map_err(|error| Failure::bad_input(format!("{flag}: {path}: {error}")))?;
            &read
        }
    };
    let context: Context = json.parse().map_err(|error| Failure::bad_input(error).about(flag))?;
    Ok(wire::context(&context))
}
