//! A filter on one line: `[type[:id]][#relation][@type[:id][#relation]]`.
//!
//! An object id may hold `@`, so a subject follows a `#`, or stands alone at the start.

use crate::cli::exit::Failure;
use crate::proto::TupleFilter;

/// How the filter is described in `--help`.
pub const HELP: &str =
    "`doc`, `doc:plan`, `doc:plan#viewer`, `doc#viewer@user`, `doc:plan#@user:ann`, `@group:eng#member`";

/// Reads a filter; empty matches everything.
pub fn parse(text: &str) -> Result<TupleFilter, Failure> {
    let mut filter = TupleFilter::default();
    let (object, rest) = match text.strip_prefix('@') {
        Some(_) => ("", Some(text)),
        None => match text.split_once('#') {
            Some((object, rest)) => (object, Some(rest)),
            None => (text, None),
        },
    };
    (filter.object_type, filter.object_id) = type_and_id(object);
    let (relation, subject) =
        match rest.map(|rest| rest.split_once('@').map_or((rest, None), |(r, s)| (r, Some(s)))) {
            None => ("", None),
            Some((relation, subject)) => (relation, subject),
        };
    relation.clone_into(&mut filter.relation);
    if let Some(subject) = subject {
        let (subject, relation) = subject.split_once('#').map_or((subject, None), |(s, r)| (s, Some(r)));
        (filter.subject_type, filter.subject_id) = type_and_id(subject);
        filter.subject_relation = relation.map(str::to_owned);
    }

    let refused = |what: &str| {
        Failure::bad_input(format!("`{text}` {what}")).advise(format!("write a filter like {HELP}"))
    };
    if filter.object_type.is_empty() && !(filter.object_id.is_empty() && filter.relation.is_empty()) {
        return Err(refused("names no object type"));
    }
    if subject.is_some() && filter.subject_type.is_empty() {
        return Err(refused("names no subject type after `@`"));
    }
    Ok(filter)
}

fn type_and_id(text: &str) -> (String, String) {
    let (name, id) = text.split_once(':').unwrap_or((text, ""));
    (name.to_owned(), id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: [&str; 5], subject_relation: Option<&str>) {
        let filter = parse(text).expect(text);
        let parts = [
            &filter.object_type,
            &filter.object_id,
            &filter.relation,
            &filter.subject_type,
            &filter.subject_id,
        ];
        assert_eq!(parts.map(String::as_str), expected, "{text}");
        assert_eq!(filter.subject_relation.as_deref(), subject_relation, "{text}");
    }

    #[test]
    fn each_part_may_be_left_out() {
        check("", ["", "", "", "", ""], None);
        check("doc", ["doc", "", "", "", ""], None);
        check("doc:plan", ["doc", "plan", "", "", ""], None);
        check("doc:ann@example.org", ["doc", "ann@example.org", "", "", ""], None);
        check("doc#viewer", ["doc", "", "viewer", "", ""], None);
        check("doc:plan#viewer@user", ["doc", "plan", "viewer", "user", ""], None);
        check("doc:plan#@user:ann", ["doc", "plan", "", "user", "ann"], None);
        check("@user:*", ["", "", "", "user", "*"], None);
        check("@group:eng#member", ["", "", "", "group", "eng"], Some("member"));
        check("doc#viewer@group#member", ["doc", "", "viewer", "group", ""], Some("member"));
        check("@group:eng#", ["", "", "", "group", "eng"], Some(""));
    }

    #[test]
    fn a_part_that_needs_its_type_is_refused_without() {
        for text in [":plan", "#viewer", ":plan#viewer", "doc#viewer@", "@:ann"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
