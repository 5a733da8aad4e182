//! The YAML of a store file as written: texts with their places, nothing interpreted.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

/// A context as JSON values.
pub(super) type RawContext = serde_json::Map<String, serde_json::Value>;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStoreFile {
    pub(super) name: Option<String>,
    pub(super) model: Option<String>,
    pub(super) model_file: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) tuples: Vec<Spanned<RawTuple>>,
    pub(super) tuple_file: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) tuple_files: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) tests: Vec<Spanned<RawTest>>,
}

/// A tuple in any of the formats that name its parts. `user` is what other tools call a subject.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTuple {
    #[serde(alias = "user")]
    pub(super) subject: String,
    pub(super) relation: String,
    pub(super) object: String,
    pub(super) condition: Option<RawCondition>,
    pub(super) expires_at: Option<String>,
}

/// The condition of a tuple.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCondition {
    pub(super) name: String,
    #[serde(default)]
    pub(super) context: Option<RawContext>,
}

/// One test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTest {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) now: Option<String>,
    #[serde(default)]
    pub(super) tuples: Vec<Spanned<RawTuple>>,
    pub(super) tuple_file: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) tuple_files: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) check: Vec<Spanned<RawCheck>>,
    #[serde(default)]
    pub(super) list_objects: Vec<Spanned<RawListObjects>>,
    #[serde(default)]
    pub(super) list_users: Vec<Spanned<RawListUsers>>,
}

/// Checks: every user with every object, each asked for every relation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCheck {
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) users: Vec<String>,
    pub(super) object: Option<String>,
    #[serde(default)]
    pub(super) objects: Vec<String>,
    pub(super) context: Option<RawContext>,
    pub(super) assertions: BTreeMap<String, RawExpected>,
}

/// `true`, `false` or `conditional`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RawExpected {
    Decided(bool),
    Word(String),
}

/// Objects of a type, per relation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListObjects {
    pub(super) user: String,
    #[serde(rename = "type")]
    pub(super) object_type: String,
    pub(super) context: Option<RawContext>,
    pub(super) assertions: BTreeMap<String, Vec<String>>,
}

/// Subjects of an object, per relation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListUsers {
    pub(super) object: String,
    pub(super) user_filter: Vec<RawUserFilter>,
    pub(super) context: Option<RawContext>,
    pub(super) assertions: BTreeMap<String, RawExpectedUsers>,
}

/// A type of subject, or a userset of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUserFilter {
    #[serde(rename = "type")]
    pub(super) subject_type: String,
    pub(super) relation: Option<String>,
}

/// The subjects expected, and, if given, those excepted from a wildcard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpectedUsers {
    #[serde(default)]
    pub(super) users: Vec<String>,
    pub(super) excluded_users: Option<Vec<String>>,
}
