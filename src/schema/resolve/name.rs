//! Which words may be names (OpenFGA's identifiers).

use crate::schema::ast::Name;
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::tuple::{MAX_RELATION_CHARS, MAX_TYPE_CHARS};

/// Words the language keeps for itself wherever a name may stand.
const RESERVED: [&str; 11] =
    ["and", "or", "from", "with", "define", "relations", "condition", "in", "true", "false", "null"];

/// Words that name the types of parameters, so that no parameter can be called so.
const PARAMETER_TYPES: [&str; 10] =
    ["bool", "string", "int", "uint", "double", "duration", "timestamp", "ipaddress", "map", "list"];

/// What a name is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Type,
    Relation,
    Condition,
    Parameter,
}

impl Naming {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Relation => "relation",
            Self::Condition => "condition",
            Self::Parameter => "parameter",
        }
    }

    const fn limit(self) -> usize {
        match self {
            Self::Type => MAX_TYPE_CHARS,
            Self::Relation | Self::Condition | Self::Parameter => MAX_RELATION_CHARS,
        }
    }
}

/// Notes what is wrong with a name that is being declared; says whether nothing is.
pub(super) fn check_name(naming: Naming, name: &Name, mistakes: &mut Mistakes) -> bool {
    let what = naming.as_str();
    let text = name.text.as_str();
    let length = text.chars().count();
    if length > naming.limit() {
        let limit = naming.limit();
        mistakes.note(
            Kind::InvalidName,
            &name.span,
            format!("the name of this {what} is too long: {length} characters, at most {limit} are allowed"),
        );
        return false;
    }
    if text == "self" || text == "this" {
        let kind = match naming {
            Naming::Type => Kind::ReservedTypeKeyword,
            Naming::Relation => Kind::ReservedRelationKeyword,
            Naming::Condition | Naming::Parameter => return true,
        };
        mistakes
            .note(kind, &name.span, format!("a {what} cannot be named `{text}`"))
            .hint("`self` and `this` stand for the direct members of a relation");
        return false;
    }
    let reserved =
        RESERVED.contains(&text) || (naming == Naming::Parameter && PARAMETER_TYPES.contains(&text));
    if reserved {
        mistakes.note(
            Kind::Syntax,
            &name.span,
            format!("`{text}` is a word of the language and cannot name a {what}"),
        );
        return false;
    }
    match wrong_character(naming, text) {
        None => true,
        Some((why, hint)) => {
            mistakes
                .note(
                    Kind::Syntax,
                    &name.span,
                    format!("`{}` cannot name a {what}: {why}", text.escape_debug()),
                )
                .hint_if_some(hint.map(str::to_owned));
            false
        }
    }
}

fn wrong_character(naming: Naming, text: &str) -> Option<(String, Option<&'static str>)> {
    const LETTERS: Option<&str> =
        Some("names are made of ASCII letters, digits, `_` and `-`; types and relations also of `.` and `/`");
    const SEPARATORS: Option<&str> = Some("`.` and `/` stand singly between letters, digits or `_`");
    let first = text.chars().next()?;
    if !(first.is_ascii_alphabetic() || first == '_') {
        return Some((
            format!("it begins with `{}`", first.escape_debug()),
            Some("names begin with a letter or `_`"),
        ));
    }
    if text.contains("//") {
        return Some(("it holds `//`".to_owned(), Some("a comment needs a space before it")));
    }
    let separators = matches!(naming, Naming::Type | Naming::Relation);
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || (separators && (c == '.' || c == '/'));
    if let Some(wrong) = text.chars().find(|c| !allowed(*c)) {
        return Some((format!("it holds `{}`", wrong.escape_debug()), LETTERS));
    }
    if naming == Naming::Parameter && text.contains('-') {
        // The language lets it pass and no expression can ever name it.
        return Some(("it holds `-`, which is subtraction in an expression".to_owned(), Some("use `_`")));
    }
    // Without `.` and `/`, `-` may stand anywhere after the first character.
    if !text.contains(['.', '/']) {
        return None;
    }
    let separator = |c: char| matches!(c, '.' | '/' | '-');
    let doubled = text.chars().zip(text.chars().skip(1)).any(|(a, b)| separator(a) && separator(b));
    if doubled || text.ends_with(separator) {
        return Some(("its separators do not stand singly".to_owned(), SEPARATORS));
    }
    None
}
