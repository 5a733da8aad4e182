//! Claims become grants.
//!
//! A rule looks at one claim and gives grants if it holds. All rules that hold give theirs; where
//! none does, the caller is known and may do nothing.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::token::TokenError;
use crate::server::access::grants::{Grant, GrantError, Grants, MAX_GRANTS};

/// What some callers may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `None`: everybody the issuer vouches for.
    condition: Option<(Path, Test)>,
    grants: Vec<Grant>,
}

/// Where a claim is: its name, or the names on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Path {
    /// A claim of the token. Names may hold dots and slashes and mean them.
    Name(String),
    /// A member of an object in a claim, such as `[realm_access, roles]`.
    Within(Vec<String>),
}

/// What is asked of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It is this text, number or truth value.
    Equals(Value),
    /// It is a list, and this is one of its elements.
    Contains(Value),
    /// It is a text of words between spaces, as `scope` is, and this is one of them.
    HasWord(String),
}

/// A rule as the file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    claim: Option<Path>,
    equals: Option<Value>,
    contains: Option<Value>,
    has_word: Option<String>,
    grants: Vec<String>,
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A claim and nothing asked of it, or the other way round, or too much asked.
    #[error(
        "a rule names a `claim` and one of `equals`, `contains` and `has_word`; or none of them, and is for everybody"
    )]
    Shape,
    /// A list of names without one.
    #[error("`claim` names nothing")]
    Path,
    /// A claim is compared with a list or an object.
    #[error("`equals` and `contains` take a text, a number or a truth value")]
    Value,
    /// The grants cannot be understood.
    #[error(transparent)]
    Grants(#[from] GrantError),
}

impl TryFrom<RuleText> for Rule {
    type Error = RuleError;

    fn try_from(text: RuleText) -> Result<Self, RuleError> {
        let condition = match (text.equals, text.contains, text.has_word) {
            (None, None, None) => None,
            (Some(value), None, None) => Some(Test::Equals(scalar(value)?)),
            (None, Some(value), None) => Some(Test::Contains(scalar(value)?)),
            (None, None, Some(word)) => Some(Test::HasWord(word)),
            _ => return Err(RuleError::Shape),
        };
        let condition = match (text.claim, condition) {
            (None, None) => None,
            (Some(Path::Within(names)), _) if names.is_empty() => return Err(RuleError::Path),
            (Some(path), Some(expected)) => Some((path, expected)),
            (Some(_), None) | (None, Some(_)) => return Err(RuleError::Shape),
        };
        let grants: Vec<Grant> = text.grants.iter().map(|one| one.parse()).collect::<Result<_, _>>()?;
        // A rule that gives nothing is most likely a mistake.
        Grants::new(grants.clone())?;
        Ok(Self { condition, grants })
    }
}

fn scalar(value: Value) -> Result<Value, RuleError> {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(value),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(RuleError::Value),
    }
}

/// What all rules that hold for some claims give together.
pub fn grants(rules: &[Rule], claims: &Map<String, Value>) -> Result<Grants, TokenError> {
    let mut all: Vec<Grant> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.holds(claims)) {
        for grant in &rule.grants {
            if !all.contains(grant) {
                all.push(grant.clone());
            }
        }
    }
    match all.len() {
        0 => Ok(Grants::nothing()),
        1..=MAX_GRANTS => Grants::new(all).map_err(|_| TokenError::Grants),
        _ => Err(TokenError::Grants),
    }
}

impl Rule {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        let Some((path, test)) = &self.condition else { return true };
        let Some(value) = path.find(claims) else { return false };
        match test {
            Test::Equals(wanted) => value == wanted,
            Test::Contains(wanted) => value.as_array().is_some_and(|list| list.contains(wanted)),
            Test::HasWord(wanted) => {
                value.as_str().is_some_and(|text| text.split(' ').any(|word| word == wanted))
            }
        }
    }
}

impl Path {
    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        match self {
            Self::Name(name) => claims.get(name),
            Self::Within(names) => {
                let (first, rest) = names.split_first()?;
                rest.iter().try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(text: Value) -> Result<Rule, RuleError> {
        serde_json::from_value::<RuleText>(text).expect("a rule's fields").try_into()
    }

    fn given(rules: &[Value], claims: &Value) -> String {
        let rules: Vec<_> = rules.iter().map(|text| rule(text.clone()).expect("a rule")).collect();
        grants(&rules, claims.as_object().expect("an object")).expect("grants").to_string()
    }

    #[test]
    fn a_rule_looks_at_one_claim() {
        let check = |condition: Value, claims: Value, holds: bool| {
            let mut text = condition.clone();
            text["grants"] = json!(["a:read"]);
            assert_eq!(given(&[text], &claims) == "a:read", holds, "{condition} of {claims}");
        };
        check(json!({"claim": "email", "equals": "ann"}), json!({"email": "ann"}), true);
        check(json!({"claim": "email", "equals": "ann"}), json!({"email": ["ann"]}), false);
        check(json!({"claim": "email", "equals": "ann"}), json!({"email": "Ann"}), false);
        check(json!({"claim": "email_verified", "equals": true}), json!({"email_verified": true}), true);
        check(json!({"claim": "email_verified", "equals": true}), json!({"email_verified": "true"}), false);
        check(json!({"claim": "groups", "contains": "ops"}), json!({"groups": ["dev", "ops"]}), true);
        check(json!({"claim": "groups", "contains": "ops"}), json!({"groups": "ops"}), false);
        check(json!({"claim": "groups", "contains": "ops"}), json!({"groups": ["devops", ["ops"]]}), false);
        check(json!({"claim": "scope", "has_word": "relata"}), json!({"scope": "openid relata"}), true);
        check(json!({"claim": "scope", "has_word": "relata"}), json!({"scope": "relata.read"}), false);
        check(json!({"claim": "scope", "has_word": "relata"}), json!({"scope": ["relata"]}), false);
        let nested = json!({"claim": ["realm_access", "roles"], "contains": "ops"});
        check(nested.clone(), json!({"realm_access": {"roles": ["ops"]}}), true);
        check(nested.clone(), json!({"realm_access.roles": ["ops"]}), false);
        check(nested, json!({"realm_access": ["ops"]}), false);
        let dotted = json!({"claim": "https://example.com/roles", "contains": "ops"});
        check(dotted, json!({"https://example.com/roles": ["ops"]}), true);
        check(json!({}), json!({}), true);
    }

    #[test]
    fn rules_that_hold_add_up_and_none_is_nothing() {
        let rules = [
            json!({"claim": "groups", "contains": "a", "grants": ["x:read", "y:write"]}),
            json!({"claim": "groups", "contains": "b", "grants": ["x:read", "*:admin"]}),
        ];
        assert_eq!(given(&rules, &json!({"groups": ["a", "b"]})), "x:read y:write *:admin");
        assert_eq!(given(&rules, &json!({"groups": ["c"]})), "");
        assert_eq!(given(&[], &json!({})), "");
        let many: Vec<_> =
            (0..40).map(|n| rule(json!({"grants": [format!("s{n}:read")]})).expect("a rule")).collect();
        assert_eq!(grants(&many, &Map::new()).err(), Some(TokenError::Grants));
    }

    #[test]
    fn a_mistaken_rule_is_refused() {
        assert_eq!(rule(json!({"claim": "a", "grants": ["a:read"]})), Err(RuleError::Shape));
        assert_eq!(rule(json!({"equals": "a", "grants": ["a:read"]})), Err(RuleError::Shape));
        let both = json!({"claim": "a", "equals": "b", "contains": "c", "grants": ["a:read"]});
        assert_eq!(rule(both), Err(RuleError::Shape));
        assert_eq!(rule(json!({"claim": [], "equals": "b", "grants": ["a:read"]})), Err(RuleError::Path));
        assert_eq!(rule(json!({"claim": "a", "equals": ["b"], "grants": ["a:read"]})), Err(RuleError::Value));
        assert!(matches!(rule(json!({"grants": []})), Err(RuleError::Grants(GrantError::Nothing))));
        assert!(matches!(rule(json!({"grants": ["a:reed"]})), Err(RuleError::Grants(_))));
        assert!(serde_json::from_value::<RuleText>(json!({"claims": "a", "grants": ["a:read"]})).is_err());
    }
}
