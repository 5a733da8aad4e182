//! The order of declarations in a file: header, types with their relations, conditions.

use super::Rule;
use super::condition::condition;
use super::definition::relation;
use super::split::{Declaration, Head, Split, split};
use super::syntax::Part;
use crate::schema::ast::{Document, Name, Span, Type};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;
use crate::schema::resolve::similar;

/// Reads a file. What could not be read is noted; `None`: so much is missing that looking
/// further would only confuse.
pub(in crate::schema) fn document(source: &str, mistakes: &mut Mistakes) -> Option<Document> {
    let Split { text, declarations } = split(source);
    let mut file = File::new(&text, mistakes);
    let rest = file.header(&declarations);
    for declaration in rest {
        file.declaration(declaration);
    }
    file.close_relations();
    if file.modular {
        return None;
    }
    Some(Document { dialect: file.dialect, types: file.types, conditions: file.conditions })
}

struct File<'a, 'm> {
    text: &'a str,
    mistakes: &'m mut Mistakes,
    dialect: Dialect,
    modular: bool,
    types: Vec<Type>,
    conditions: Vec<crate::schema::ast::Condition>,
    place: Where,
    /// The `relations` line of the type being read, while nothing follows it.
    empty_relations: Option<Span>,
    /// Whether the line before declared nothing: a run of such lines is one mistake.
    lost: bool,
}

/// What the next declaration would belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Before the first type.
    Top,
    /// In the last type, before `relations`.
    Type,
    /// In the last type, after `relations`.
    Relations,
    /// In something that was reported and is not kept.
    Ignored,
    /// After the first condition.
    Conditions,
}

impl<'a, 'm> File<'a, 'm> {
    fn new(text: &'a str, mistakes: &'m mut Mistakes) -> Self {
        Self {
            text,
            mistakes,
            dialect: Dialect::V1_1,
            modular: false,
            types: Vec::new(),
            conditions: Vec::new(),
            place: Where::Top,
            empty_relations: None,
            lost: false,
        }
    }

    fn part(&self, span: &Span) -> Part<'a> {
        Part::new(self.text, span, self.dialect)
    }

    /// Reads the header, settles the dialect and returns the declarations after it.
    fn header<'d>(&mut self, declarations: &'d [Declaration]) -> &'d [Declaration] {
        let evident = self.evident_dialect(declarations);
        self.dialect = evident.unwrap_or(Dialect::V1_1);
        let Some((first, rest)) = declarations.split_first() else {
            self.version_required(&(0..0));
            return &[];
        };
        match first.head {
            Some(Head::Model) => {
                self.nothing_after(first);
                match rest.split_first() {
                    Some((schema, rest)) if schema.head == Some(Head::Schema) => {
                        self.version(schema);
                        rest
                    }
                    Some((other, after)) => {
                        let found = self.text.get(other.keyword.clone()).unwrap_or("");
                        self.mistakes
                            .note(
                                Kind::Syntax,
                                &other.keyword,
                                format!("expected `schema` after `model`, found `{}`", found.escape_debug()),
                            )
                            .hint("write `schema 1.1`");
                        if other.head.is_none() { after } else { rest }
                    }
                    None => {
                        self.version_required(&first.keyword);
                        rest
                    }
                }
            }
            Some(Head::Schema) => {
                self.mistakes
                    .note(Kind::Syntax, &first.keyword, "a file begins with `model`, then `schema`")
                    .hint("put a line `model` above");
                self.version(first);
                rest
            }
            Some(Head::Module) => {
                self.modular = true;
                self.dialect = Dialect::V1_2;
                self.mistakes
                    .note(Kind::ModulesUnsupported, &first.keyword, "modules are not accepted yet")
                    .hint("combine the modules into one file that begins with `model` and `schema 1.2`");
                rest
            }
            Some(Head::Extend | Head::Type | Head::Relations | Head::Define | Head::Condition) | None => {
                if evident.is_none() {
                    self.version_required(&first.keyword);
                }
                declarations
            }
        }
    }

    fn version_required(&mut self, span: &Span) {
        self.mistakes
            .note(Kind::SchemaVersionRequired, span, "the schema version is missing")
            .hint("begin the file with the lines `model` and `schema 1.1`");
    }

    fn version(&mut self, declaration: &Declaration) {
        let Some(name) = self.one_word(declaration) else { return };
        match name.text.as_str() {
            "1.0" => self.dialect = Dialect::V1_0,
            "1.1" => self.dialect = Dialect::V1_1,
            "1.2" => self.dialect = Dialect::V1_2,
            other => {
                let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                let numeric = other.split_once('.').is_some_and(|(a, b)| digits(a) && digits(b));
                let kind = if numeric { Kind::InvalidSchema } else { Kind::Syntax };
                let shown: String = other.chars().take(40).collect();
                self.mistakes
                    .note(
                        kind,
                        &name.span,
                        format!("`{}` is not a known schema version", shown.escape_debug()),
                    )
                    .hint("known are `1.0`, `1.1` and `1.2`");
            }
        }
    }

    /// Without a header, how the first relation is defined tells the dialect.
    fn evident_dialect(&self, declarations: &[Declaration]) -> Option<Dialect> {
        declarations.iter().filter(|declaration| declaration.head == Some(Head::Define)).find_map(|define| {
            let rest = self.text.get(define.rest.clone())?.trim_start();
            let name = rest.find(|c: char| c.is_whitespace() || c == ':')?;
            let after = rest.get(name..)?.trim_start();
            if after.starts_with(':') {
                Some(Dialect::V1_1)
            } else if after.split_whitespace().next() == Some("as") {
                Some(Dialect::V1_0)
            } else {
                None
            }
        })
    }

    fn declaration(&mut self, declaration: &Declaration) {
        if !declaration.begins_line {
            self.mistakes
                .note(Kind::Syntax, &declaration.keyword, "nothing may follow the `}` that ends a condition")
                .hint("begin a new line");
        }
        let Some(head) = declaration.head.or_else(|| self.misspelt(declaration)) else { return };
        self.lost = false;
        match head {
            Head::Model | Head::Schema | Head::Module => {
                let word = head.as_str();
                self.mistakes.note(
                    Kind::Syntax,
                    &declaration.keyword,
                    format!("`{word}` may stand only at the beginning of a file, once"),
                );
            }
            Head::Extend => self.extend(declaration),
            Head::Type => self.type_declaration(declaration),
            Head::Relations => self.relations(declaration),
            Head::Define => self.define(declaration),
            Head::Condition => {
                self.close_relations();
                self.place = Where::Conditions;
                let part = self.part(&declaration.rest);
                self.conditions.extend(condition(part, declaration, self.mistakes));
            }
        }
    }

    /// What a line is meant to be whose first word is unknown.
    fn misspelt(&mut self, declaration: &Declaration) -> Option<Head> {
        let word = self.text.get(declaration.keyword.clone()).unwrap_or("");
        let meant = similar(&word.to_lowercase(), Head::ALL.iter().map(|head| head.as_str()));
        let head = meant.and_then(|meant| Head::ALL.into_iter().find(|head| head.as_str() == meant));
        if declaration.begins_line && (head.is_some() || !self.lost) {
            let shown: String = word.chars().take(60).collect();
            let hint = match head {
                Some(head) => format!("did you mean `{}`?", head.as_str()),
                None => "a line begins with `type`, `relations`, `define` or `condition`".to_owned(),
            };
            self.mistakes
                .note(
                    Kind::Syntax,
                    &declaration.keyword,
                    format!("`{}` does not begin a declaration", shown.escape_debug()),
                )
                .hint(hint);
        }
        self.lost = true;
        // A condition is split differently, so a misspelt one cannot be read.
        head.filter(|head| *head != Head::Condition)
    }

    fn extend(&mut self, declaration: &Declaration) {
        self.close_relations();
        self.place = Where::Ignored;
        if self.modular {
            return;
        }
        let rest = self.text.get(declaration.rest.clone()).unwrap_or("");
        let name = rest.rsplit(char::is_whitespace).next().unwrap_or("");
        let end = declaration.rest.end;
        let span = if name.is_empty() { declaration.keyword.clone() } else { end - name.len()..end };
        self.mistakes
            .note(Kind::Syntax, &span, "`extend` may be used only in a module")
            .hint("add the relations to the type itself");
    }

    fn type_declaration(&mut self, declaration: &Declaration) {
        self.close_relations();
        if self.place == Where::Conditions {
            self.mistakes
                .note(Kind::Syntax, &declaration.keyword, "types come before conditions")
                .hint("move the conditions to the end of the file");
        }
        self.place = Where::Ignored;
        if let Some(name) = self.one_word(declaration) {
            self.types.push(Type { name, relations: Vec::new() });
            self.place = Where::Type;
        }
    }

    fn relations(&mut self, declaration: &Declaration) {
        self.nothing_after(declaration);
        match self.place {
            Where::Type => {
                self.place = Where::Relations;
                self.empty_relations = Some(declaration.keyword.clone());
            }
            Where::Ignored => {}
            // A misspelt line has been reported.
            Where::Relations if declaration.head.is_none() => {}
            Where::Relations => {
                self.mistakes.note(
                    Kind::Syntax,
                    &declaration.keyword,
                    "`relations` may stand only once in a type",
                );
            }
            Where::Top | Where::Conditions => {
                self.mistakes
                    .note(Kind::Syntax, &declaration.keyword, "`relations` belongs to a type")
                    .hint("put a line `type NAME` above");
                self.place = Where::Ignored;
            }
        }
    }

    fn define(&mut self, declaration: &Declaration) {
        self.empty_relations = None;
        match self.place {
            Where::Relations | Where::Ignored => {}
            Where::Type => {
                self.mistakes
                    .note(
                        Kind::Syntax,
                        &declaration.keyword,
                        "`relations` is missing before the first `define`",
                    )
                    .hint("put a line `relations` above");
                self.place = Where::Relations;
            }
            Where::Top | Where::Conditions => {
                self.mistakes
                    .note(Kind::Syntax, &declaration.keyword, "a relation belongs to a type")
                    .hint("put the lines `type NAME` and `relations` above");
                self.place = Where::Ignored;
            }
        }
        let part = self.part(&declaration.rest);
        let relation = relation(part, self.mistakes);
        if self.place == Where::Relations
            && let Some(last) = self.types.last_mut()
        {
            last.relations.extend(relation);
        }
    }

    fn close_relations(&mut self) {
        if let Some(span) = self.empty_relations.take() {
            self.mistakes
                .note(Kind::Syntax, &span, "`relations` without a `define`")
                .hint("define a relation, or leave the line out");
        }
    }

    fn one_word(&mut self, declaration: &Declaration) -> Option<Name> {
        let part = self.part(&declaration.rest);
        let Some(pair) = part.read(Rule::one_word, self.mistakes) else {
            return part.first_word();
        };
        pair.into_inner().find(|inner| inner.as_rule() == Rule::word).map(|word| part.name(&word))
    }

    fn nothing_after(&mut self, declaration: &Declaration) {
        let part = self.part(&declaration.rest);
        part.read(Rule::nothing, self.mistakes);
    }
}
