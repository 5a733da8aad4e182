//! Finds where each declaration begins and ends, before any grammar is involved.
//!
//! The language has one declaration per line; only restriction lists and the bodies of
//! conditions span lines. Splitting first keeps a mistake within its declaration, keeps the
//! time linear, and lets nesting be bounded before a recursive parser sees it.

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
    let mut splitter = Splitter { source, at: 0, comments: Vec::new() };
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
}

impl<'a> Splitter<'a> {
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
        let mut scan = scan(self.source, brace + 1, End::Brace);
        if !scan.closed {
            // The brace is missing: give up at the next declaration, so that it is not swallowed.
            let (_, mut next) = line(self.source, brace);
            while next < self.source.len() && !declares(line(self.source, next).0) {
                next = line(self.source, next).1;
            }
            let upto = self.source.get(..next).unwrap_or(self.source);
            scan = self::scan(upto, brace + 1, End::Text);
            scan.closed = false;
        }
        self.at = scan.end;
        Body { brace: brace..brace + 1, code: scan.code, inner_brace: scan.inner_brace, closed: scan.closed }
    }
}

/// The code of the line at `from` (without its comment and outer space at the end), and where
/// the next line begins.
fn line(source: &str, from: usize) -> (&str, usize) {
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

/// What ends an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum End {
    /// The brace that closes its condition.
    Brace,
    /// The end of the text.
    Text,
}

/// An expression as scanned.
#[derive(Debug)]
pub(in crate::schema) struct Scan {
    /// Without comments and outer space.
    pub code: Code,
    /// Where it ends, after the closing brace.
    pub end: usize,
    /// The first brace inside it, outside strings.
    pub inner_brace: Option<Span>,
    /// Whether the closing brace was found.
    pub closed: bool,
}

/// Reads an expression: strings are skipped over, comments (`//`, and `#` after a space, which
/// other tools cut) and space at line ends are left out.
pub(in crate::schema) fn scan(source: &str, from: usize, until: End) -> Scan {
    let bytes = source.as_bytes();
    let byte = |at: usize| bytes.get(at).copied();
    let mut cleaned = Cleaned { source, code: Code::default(), run: from, string_end: 0 };
    let mut inner_brace = None;
    let mut depth = 0_usize;
    let mut closed = false;
    let mut at = from;
    while let Some(here) = byte(at) {
        match here {
            b'"' | b'\'' => {
                at = string_end(bytes, at);
                cleaned.keep_to(at);
                continue;
            }
            b'{' | b'}' if until == End::Brace || inner_brace.is_none() => {
                if here == b'}' && depth == 0 && until == End::Brace {
                    closed = true;
                    break;
                }
                inner_brace.get_or_insert(at..at + 1);
                depth = if here == b'{' { depth + 1 } else { depth.saturating_sub(1) };
            }
            b'/' if byte(at + 1) == Some(b'/') => {
                let end = line_end(bytes, at);
                cleaned.skip(at, end);
                at = end;
                continue;
            }
            b'#' if at == from || matches!(byte(at - 1), Some(b' ' | b'\t' | b'\n')) => {
                let end = line_end(bytes, at);
                cleaned.skip(at, end);
                at = end;
                continue;
            }
            b'\n' => cleaned.end_line(at),
            _ => {}
        }
        at += 1;
    }
    let code = cleaned.finish(at);
    Scan { code, end: if closed { at + 1 } else { at }, inner_brace, closed }
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes.iter().skip(from).position(|byte| *byte == b'\n').map_or(bytes.len(), |length| from + length)
}

/// Where the string that begins at `start` ends. One left open ends with its line.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes.get(start).copied();
    let prefix = bytes.get(start.saturating_sub(2)..start).unwrap_or(&[]);
    let raw = match prefix {
        [before, b'r' | b'R'] => !is_word(*before) || matches!(before, b'b' | b'B'),
        [b'r' | b'R', b'b' | b'B'] | [b'r' | b'R'] => true,
        _ => false,
    };
    let same = |at: usize| bytes.get(at).copied() == quote;
    let triple = same(start + 1) && same(start + 2);
    let mut at = start + if triple { 3 } else { 1 };
    while let Some(byte) = bytes.get(at).copied() {
        if byte == b'\\' && !raw {
            at += 2;
        } else if byte == b'\n' && !triple {
            return at;
        } else if same(at) && (!triple || (same(at + 1) && same(at + 2))) {
            return at + if triple { 3 } else { 1 };
        } else {
            at += 1;
        }
    }
    bytes.len()
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Builds the cleaned text of an expression run by run.
struct Cleaned<'a> {
    source: &'a str,
    code: Code,
    /// Where in the source the run begins that is not yet copied.
    run: usize,
    /// Space before this length of the text is inside a string and stays.
    string_end: usize,
}

impl Cleaned<'_> {
    fn copy(&mut self, upto: usize) {
        let run = self.source.get(self.run..upto).unwrap_or("");
        if !run.is_empty() {
            self.code.origin.push((self.code.text.len(), self.run));
            self.code.text.push_str(run);
        }
        self.run = upto;
    }

    fn trim(&mut self) {
        let kept = self.code.text.trim_end_matches([' ', '\t', '\r']).len().max(self.string_end);
        self.code.text.truncate(kept);
    }

    fn keep_to(&mut self, upto: usize) {
        self.copy(upto);
        self.string_end = self.code.text.len();
    }

    fn skip(&mut self, from: usize, to: usize) {
        self.copy(from);
        self.run = to;
    }

    fn end_line(&mut self, at: usize) {
        self.copy(at);
        self.trim();
    }

    fn finish(mut self, end: usize) -> Code {
        self.copy(end);
        let Code { mut text, mut origin } = self.code;
        let kept = text.trim_end().len().max(self.string_end.min(text.len()));
        text.truncate(kept);
        let cut = text.len() - text.trim_start().len();
        text.drain(..cut);
        // Places before the cut collapse onto its end; the last run before it still leads there.
        let first = origin.partition_point(|(start, _)| *start <= cut).saturating_sub(1);
        origin.drain(..first);
        for (start, file) in &mut origin {
            *file += cut.saturating_sub(*start);
            *start = start.saturating_sub(cut);
        }
        Code { text, origin }
    }
}
