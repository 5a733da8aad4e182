//! What each line of a schema text declares: enough to carry comments over to the canonical text
//! and to compare two of them declaration by declaration.

/// What a line declares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Declared {
    /// `model` and `schema 1.1`.
    Header(String),
    /// `type NAME`.
    Type(String),
    /// `relations` of a type.
    Relations(String),
    /// `define NAME: …` of a type.
    Relation(String, String),
    /// `condition NAME(…) {`, with the lines of its body.
    Condition(String),
}

/// A declaration and the lines it takes, without comments around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// What it declares.
    pub declared: Declared,
    /// Its lines, as written.
    pub lines: Vec<String>,
    /// Comment lines directly above, without indentation.
    pub above: Vec<String>,
    /// A comment at the end of its first line.
    pub beside: Option<String>,
    /// Whether an empty line sets it and its comments apart from what is before.
    pub apart: bool,
}

/// The declarations of a text in order, and the comments below the last one.
#[derive(Debug, Default)]
pub struct Outline {
    /// In the order of the text.
    pub declarations: Vec<Declaration>,
    /// Comments that nothing follows.
    pub trailing: Vec<String>,
}

impl Outline {
    /// Reads the outline of a text that has been parsed without mistakes.
    pub fn of(text: &str) -> Self {
        let mut outline = Self::default();
        let mut current_type = String::new();
        let mut in_condition = false;
        let mut apart = false;
        for line in text.lines() {
            let trimmed = line.trim();
            if in_condition {
                if let Some(declaration) = outline.declarations.last_mut() {
                    declaration.lines.push(line.to_owned());
                }
                in_condition = trimmed != "}";
                continue;
            }
            if trimmed.is_empty() {
                apart |= outline.trailing.is_empty();
                continue;
            }
            if trimmed.starts_with('#') {
                outline.trailing.push(trimmed.to_owned());
                continue;
            }
            let (code, beside) = split_comment(trimmed);
            let mut words = code
                .split(|c: char| c.is_whitespace() || c == ':' || c == '(')
                .filter(|word| !word.is_empty());
            let declared = match (words.next(), words.next()) {
                (Some(word @ ("model" | "schema" | "module")), _) => Declared::Header(word.to_owned()),
                (Some("type"), Some(name)) => {
                    name.clone_into(&mut current_type);
                    Declared::Type(name.to_owned())
                }
                (Some("relations"), None) => Declared::Relations(current_type.clone()),
                (Some("define"), Some(name)) => Declared::Relation(current_type.clone(), name.to_owned()),
                (Some("condition"), Some(name)) => {
                    in_condition = !code.ends_with('}');
                    Declared::Condition(name.to_owned())
                }
                _ => {
                    // The rest of a declaration that takes several lines.
                    if let Some(declaration) = outline.declarations.last_mut() {
                        declaration.lines.push(line.to_owned());
                    }
                    outline.trailing.extend(beside.map(str::to_owned));
                    continue;
                }
            };
            outline.declarations.push(Declaration {
                declared,
                lines: vec![line.to_owned()],
                above: std::mem::take(&mut outline.trailing),
                beside: beside.map(str::to_owned),
                apart: std::mem::take(&mut apart),
            });
        }
        outline
    }

    /// How many comments it holds.
    pub fn comments(&self) -> usize {
        let attached = self
            .declarations
            .iter()
            .map(|declaration| declaration.above.len() + usize::from(declaration.beside.is_some()));
        attached.sum::<usize>() + self.trailing.len()
    }
}

/// A line's code and the comment after it. A `#` without a space before it belongs to a userset.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    match line
        .match_indices('#')
        .find(|(at, _)| line.get(..*at).is_some_and(|before| before.ends_with(char::is_whitespace)))
    {
        Some((at, _)) => {
            let (code, comment) = line.split_at(at);
            (code.trim_end(), Some(comment))
        }
        None => (line, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_what_follows_them() {
        let outline = Outline::of(
            "# file\nmodel\n  schema 1.1\n\n# people\ntype user\ntype doc\n  relations\n    # who reads\n    \
             define viewer: [user, group#member] # and groups\ncondition c(a: int) {\n  a > 1\n}\n# end",
        );
        let kinds: Vec<_> = outline.declarations.iter().map(|d| (&d.declared, d.above.len())).collect();
        let relation = Declared::Relation("doc".to_owned(), "viewer".to_owned());
        assert_eq!(kinds.len(), 7);
        assert_eq!(kinds[0], (&Declared::Header("model".to_owned()), 1));
        assert_eq!(kinds[2], (&Declared::Type("user".to_owned()), 1));
        assert_eq!(kinds[5], (&relation, 1));
        assert_eq!(outline.declarations[5].beside.as_deref(), Some("# and groups"));
        assert_eq!(outline.declarations[6].lines.len(), 3);
        assert_eq!(outline.trailing, ["# end"]);
        assert_eq!(outline.comments(), 5);
    }
}
