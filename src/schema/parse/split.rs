//! Finds where each declaration begins and ends, before any grammar is involved.
//!
//! The language has one declaration per line; only restriction lists and the bodies of
//! conditions span lines. Splitting first keeps a mistake within its declaration, keeps the
//! time linear, and lets nesting be bounded before a recursive parser sees it.

use super::code::{End, Strings, scan};
use crate::schema::ast::{Code, Span};

/// What a line declares, by its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Model,
    Schema,
    Module,
    Extend,
    Type,
    Relations,
    Define,
    Condition,
}

impl Head {
    pub(super) const ALL: [Self; 8] = [
        Self::Model,
        Self::Schema,
        Self::Module,
        Self::Extend,
        Self::Type,
        Self::Relations,
        Self::Define,
        Self::Condition,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Schema => "schema",
            Self::Module => "module",
            Self::Extend => "extend",
            Self::Type => "type",
            Self::Relations => "relations",
            Self::Define => "define",
            Self::Condition => "condition",
        }
    }
}

/// A declaration: where it is, not yet what it says.
#[derive(Debug)]
pub(super) struct Declaration {
    /// `None`: its first word declares nothing.
    pub head: Option<Head>,
    /// Its first word.
    pub keyword: Span,
    /// What follows the first word, in [`Split::text`]; for a condition up to the brace.
    pub rest: Span,
    /// The body of a condition.
    pub body: Option<Body>,
    /// Whether it begins its line, as it must.
    pub begins_line: bool,
}

/// What stands between the braces of a condition.
#[derive(Debug)]
pub(super) struct Body {
    /// The opening brace.
    pub brace: Span,
    /// The expression.
    pub code: Code,
    /// A brace inside it, outside strings.
    pub inner_brace: Option<Span>,
    /// Whether the closing brace was found.
    pub closed: bool,
}

/// A file split into declarations.
#[derive(Debug)]
pub(super) struct Split {
    /// The source with comments outside conditions blanked: same length, same places.
    pub text: String,
    /// In the order of the file.
    pub declarations: Vec<Declaration>,
}

/// Splits a file. Takes time linear in its length.
pub(super) fn split(source: &str) -> Split {
    let mut splitter = Splitter { source, at: 0, comments: Vec::new(), strings: Strings::AnyLines };
    let mut declarations = Vec::new();
    // A byte order mark is not part of the text.
    splitter.at = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while splitter.at < source.len() {
        declarations.extend(splitter.next());
    }
    Split { text: blank(source, &splitter.comments), declarations }
}

struct Splitter<'a> {
    source: &'a str,
    /// Where the next line begins, or what follows a condition on its last line.
    at: usize,
    /// Comments passed, ascending.
    comments: Vec<Span>,
    /// Whether strings may still span lines.
    strings: Strings,
}

impl Splitter<'_> {
    fn next(&mut self) -> Option<Declaration> {
        let from = self.at;
        let (code, next) = line(self.source, from);
        let start = from + (code.len() - code.trim_start().len());
        if code.trim_start().is_empty() {
            self.pass(from, code, next);
            return None;
        }
        let begins_line = self
            .source
            .get(..start)
            .and_then(|before| before.rsplit('\n').next())
            .is_none_or(|before| before.trim_start_matches('\u{feff}').trim().is_empty());
        let word = first_word(code.trim_start());
        let keyword = start..start + word.len();
        let head = Head::ALL.into_iter().find(|head| head.as_str() == word);
        let (end, body) = if head == Some(Head::Condition) {
            self.condition(from)
        } else {
            (self.definition(from, head), None)
        };
        Some(Declaration { head, rest: keyword.end..end, keyword, body, begins_line })
    }

    /// Moves past a line and notes its comment.
    fn pass(&mut self, from: usize, code: &str, next: usize) {
        let comment = from + code.len()..next;
        if !comment.is_empty() {
            self.comments.push(comment);
        }
        self.at = next;
    }

    /// Passes a line, and the lines after it that a reader would take as its continuation: an
    /// open restriction list, and a definition broken at an operator (which is then refused as
    /// a whole). Returns where its code ends.
    fn definition(&mut self, from: usize, head: Option<Head>) -> usize {
        let (mut code, mut next) = line(self.source, from);
        let mut end = from + code.len();
        self.pass(from, code, next);
        if !matches!(head, Some(Head::Define) | None) {
            return end;
        }
        let mut brackets = Brackets::default();
        brackets.read(code);
        let mut ended_open = ends_open(code);
        while self.at < self.source.len() {
            // Comments and blank lines may stand between the items of a list.
            let mut from = self.at;
            loop {
                (code, next) = line(self.source, from);
                if !code.trim_start().is_empty() || next >= self.source.len() {
                    break;
                }
                from = next;
            }
            let continues =
                brackets.square > 0 || brackets.round > 0 || ended_open || begins_with_operator(code);
            if !continues || code.trim_start().is_empty() || declares(code) {
                break;
            }
            let mut at = self.at;
            while at < next {
                let (code, after) = line(self.source, at);
                self.pass(at, code, after);
                at = after;
            }
            end = from + code.len();
            brackets.read(code);
            ended_open = ends_open(code);
        }
        end
    }

    /// Passes a condition: its head up to the brace and its body up to the closing brace.
    /// Returns where its head ends.
    fn condition(&mut self, from: usize) -> (usize, Option<Body>) {
        let mut from = from;
        loop {
            let (code, next) = line(self.source, from);
            if let Some(brace) = code.find('{') {
                let brace = from + brace;
                let body = self.body(brace);
                return (brace, Some(body));
            }
            self.pass(from, code, next);
            let (following, _) = line(self.source, next);
            if next >= self.source.len() || following.trim().is_empty() || declares(following) {
                return (from + code.len(), None);
            }
            from = next;
        }
    }

    fn body(&mut self, brace: usize) -> Body {
        let scan = scan(self.source, brace + 1, End::Brace, self.strings);
        self.at = scan.end;
        if !scan.closed {
            // The brace is missing: go on at the next declaration, so that it is not swallowed.
            // A string that ran past it must not do so again and again.
            self.strings = Strings::OneLine;
            self.at = line(self.source, brace).1;
            while self.at < self.source.len() && !interrupts(line(self.source, self.at).0) {
                self.at = line(self.source, self.at).1;
            }
        }
        Body { brace: brace..brace + 1, code: scan.code, inner_brace: scan.inner_brace, closed: scan.closed }
    }
}

/// The code of the line at `from` (without its comment and outer space at the end), and where
/// the next line begins.
pub(super) fn line(source: &str, from: usize) -> (&str, usize) {
    let rest = source.get(from..).unwrap_or("");
    let (line, next) =
        rest.find('\n').map_or((rest, source.len()), |end| (rest.get(..end).unwrap_or(""), from + end + 1));
    (without_comment(line).trim_end(), next)
}

/// A comment begins with `#` or `//`, at the start of a line or after a space; elsewhere these
/// belong to what is written (`group#member`).
fn without_comment(line: &str) -> &str {
    let mut after_space = true;
    for (at, character) in line.char_indices() {
        let rest = line.get(at..).unwrap_or("");
        if after_space && (character == '#' || rest.starts_with("//")) {
            return line.get(..at).unwrap_or("");
        }
        after_space = character == ' ' || character == '\t';
    }
    line
}

fn blank(source: &str, comments: &[Span]) -> String {
    let mut text = String::with_capacity(source.len());
    let mut at = 0;
    for comment in comments {
        text.push_str(source.get(at..comment.start).unwrap_or(""));
        text.extend(source.get(comment.clone()).unwrap_or("").bytes().map(|byte| match byte {
            b'\n' => '\n',
            _ => ' ',
        }));
        at = comment.end;
    }
    text.push_str(source.get(at..).unwrap_or(""));
    text
}

fn first_word(code: &str) -> &str {
    let end = code.find(|c: char| c.is_whitespace() || "()[]{}<>,#*:".contains(c)).unwrap_or(code.len());
    // A line may begin with punctuation, which then stands for the word.
    let end = if end == 0 { code.chars().next().map_or(0, char::len_utf8) } else { end };
    code.get(..end).unwrap_or("")
}

/// Whether a line surely begins a declaration, wherever it is found: `type` alone may also be
/// a type in a restriction list.
fn declares(code: &str) -> bool {
    let mut words = code.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("define" | "condition"), Some(_), _)
        | (Some("relations" | "model"), None, _)
        | (Some("extend"), Some("type"), _) => true,
        (Some("type" | "schema" | "module"), Some(name), None) => {
            name.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        }
        _ => false,
    }
}

/// Whether a line surely begins a declaration even inside an expression, where `model` alone
/// may be a parameter.
pub(super) fn interrupts(code: &str) -> bool {
    declares(code) && matches!(first_word(code.trim_start()), "define" | "condition" | "extend" | "type")
}

fn begins_with_operator(code: &str) -> bool {
    matches!(first_word(code.trim_start()), "or" | "and" | "but" | "from" | ")" | "]" | ",")
}

fn ends_open(code: &str) -> bool {
    let last = code.rsplit(|c: char| c.is_whitespace()).next().unwrap_or("");
    matches!(last, "or" | "and" | "not" | "but" | "from" | "with" | ":" | "as")
        || code.ends_with([':', '(', ','])
}

#[derive(Default)]
struct Brackets {
    square: i64,
    round: i64,
}

impl Brackets {
    fn read(&mut self, code: &str) {
        for byte in code.bytes() {
            match byte {
                b'[' => self.square += 1,
                b']' => self.square -= 1,
                b'(' => self.round += 1,
                b')' => self.round -= 1,
                _ => {}
            }
        }
    }
}
