//! Collects mistakes through all stages, and gives them their lines and columns at the end.

use std::sync::Arc;

use super::{Diagnostic, Diagnostics, Kind, MAX_REPORTED, Place, Severity};
use crate::schema::ast::Span;

/// Messages quote what was written, but never at any length.
fn clip(mut text: String) -> String {
    const LONGEST: usize = 400;
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A mistake as the stages note it: places in bytes only.
#[derive(Debug)]
pub(in crate::schema) struct Mistake {
    kind: Kind,
    span: Span,
    message: String,
    hint: Option<String>,
    related: Option<(&'static str, Span)>,
    within: Option<String>,
}

impl Mistake {
    pub(in crate::schema) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(clip(hint.into()));
        self
    }

    pub(in crate::schema) fn hint_if_some(&mut self, hint: Option<String>) -> &mut Self {
        if let Some(hint) = hint {
            self.hint(hint);
        }
        self
    }

    pub(in crate::schema) fn related(&mut self, what: &'static str, span: &Span) -> &mut Self {
        self.related = Some((what, span.clone()));
        self
    }
}

/// Collects the mistakes of one schema through all stages.
#[derive(Debug, Default)]
pub(in crate::schema) struct Mistakes {
    noted: Vec<Mistake>,
    omitted: usize,
    errors: usize,
    within: Option<String>,
}

impl Mistakes {
    /// Notes a mistake; the caller may add a hint or a second place to it.
    pub(in crate::schema) fn note(
        &mut self,
        kind: Kind,
        span: &Span,
        message: impl Into<String>,
    ) -> &mut Mistake {
        if kind.severity() == Severity::Error {
            self.errors += 1;
        }
        if self.is_full() {
            self.omitted += 1;
            self.noted.truncate(MAX_REPORTED);
        }
        self.noted.push(Mistake {
            kind,
            span: span.clone(),
            message: clip(message.into()),
            hint: None,
            related: None,
            within: self.within.clone(),
        });
        // INVARIANT: one was pushed on the line above, so the last one is it.
        let last = self.noted.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "just pushed")]
        &mut self.noted[last]
    }

    /// Whether further mistakes are only counted, so that their hints need not be found.
    pub(in crate::schema) fn is_full(&self) -> bool {
        self.noted.len() >= MAX_REPORTED
    }

    /// How many of the mistakes make the schema unusable.
    pub(in crate::schema) const fn errors(&self) -> usize {
        self.errors
    }

    /// Names the definition that the mistakes noted from now on are in.
    pub(in crate::schema) fn enter(&mut self, within: Option<String>) {
        self.within = within.map(clip);
    }

    /// Gives every mistake its line and column.
    pub(in crate::schema) fn finish(mut self, source: Option<&str>) -> Diagnostics {
        self.noted.truncate(MAX_REPORTED);
        self.noted.sort_by_key(|mistake| mistake.span.start);
        let lines = source.map(LineStarts::new);
        let place = |span: &Span| lines.as_ref().map(|lines| lines.place(span));
        let items = self
            .noted
            .into_iter()
            .map(|mistake| Diagnostic {
                kind: mistake.kind,
                message: mistake.message,
                hint: mistake.hint,
                place: place(&mistake.span),
                related: mistake.related.and_then(|(what, span)| Some((what, place(&span)?))),
                within: mistake.within,
            })
            .collect();
        Diagnostics { source: source.map(Arc::from), items, omitted: self.omitted }
    }
}

struct LineStarts<'a> {
    source: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineStarts<'a> {
    fn new(source: &'a str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { source, starts }
    }

    fn place(&self, span: &Span) -> Place {
        let (line, column) = self.position(span.start);
        let (end_line, end_column) = self.position(span.end);
        Place { span: span.clone(), line, column, end_line, end_column }
    }

    /// Line and column from one.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.source.get(start..at).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}
