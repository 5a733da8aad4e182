//! Finds where the expression of a condition ends, and takes the comments out of it.

use super::split::{interrupts, line};
use crate::schema::ast::{Code, Span};

/// What ends an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum End {
    /// The brace that closes its condition.
    Brace,
    /// The end of the text.
    Text,
}

/// Whether a string in three quotes may span lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schema) enum Strings {
    /// As the condition language has it.
    AnyLines,
    /// Not in a file where a string or brace was left open before.
    OneLine,
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
pub(in crate::schema) fn scan(source: &str, from: usize, until: End, strings: Strings) -> Scan {
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
                at = string_end(bytes, at, strings);
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
            b'\n' => {
                cleaned.end_line(at);
                if until == End::Brace && interrupts(line(source, at + 1).0) {
                    break;
                }
            }
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
fn string_end(bytes: &[u8], start: usize, strings: Strings) -> usize {
    let quote = bytes.get(start).copied();
    let prefix = bytes.get(start.saturating_sub(2)..start).unwrap_or(&[]);
    let raw = match prefix {
        [before, b'r' | b'R'] => !is_word(*before) || matches!(before, b'b' | b'B'),
        [b'r' | b'R', b'b' | b'B'] | [b'r' | b'R'] => true,
        _ => false,
    };
    let same = |at: usize| bytes.get(at).copied() == quote;
    let triple = strings == Strings::AnyLines && same(start + 1) && same(start + 2);
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
