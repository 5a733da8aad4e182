//! Mistakes as people read them: the line, the place underlined, the hint.

use std::fmt::Write as _;

use super::{Diagnostic, Diagnostics, Place, Severity};

/// Whether a rendering may use terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Text only.
    #[default]
    Plain,
    /// ANSI escape sequences.
    Colour,
}

impl Diagnostics {
    /// All mistakes with their lines underlined. `file` is named beside each place.
    #[must_use]
    pub fn render(&self, file: Option<&str>, style: Style) -> String {
        let mut out = String::new();
        for item in &self.items {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(item, file, style));
        }
        if self.omitted > 0 {
            let _ = write!(out, "\nand {} more\n", self.omitted);
        }
        out
    }

    /// One mistake of these, its lines underlined.
    #[must_use]
    pub fn render_one(&self, item: &Diagnostic, file: Option<&str>, style: Style) -> String {
        let paint = Paint(style);
        let mut out = String::new();
        let (label, colour) = match item.severity() {
            Severity::Error => ("error", Paint::RED),
            Severity::Warning => ("warning", Paint::YELLOW),
        };
        let _ = write!(out, "{}", paint.with(colour, &format!("{label}[{}]", item.kind)));
        let _ = writeln!(out, "{}", paint.with(Paint::BOLD, &format!(": {}", item.message)));
        let last = item.place.iter().chain(item.related.iter().map(|(_, place)| place)).map(|p| p.line).max();
        // The gutter is as wide as the largest line number shown.
        let width = last.unwrap_or(0).to_string().len();
        if let (Some(place), Some(source)) = (&item.place, &self.source) {
            let excerpt = Excerpt { source, file, width, paint };
            match &item.related {
                Some((label, related)) if related.line == place.line => {
                    excerpt.write(place, colour, Some((label, related)), &mut out);
                }
                Some((label, related)) => {
                    excerpt.write(place, colour, None, &mut out);
                    let _ =
                        writeln!(out, "{:width$} {}", "", paint.with(Paint::BLUE, &format!("= {label}:")));
                    excerpt.write(related, Paint::BLUE, None, &mut out);
                }
                None => excerpt.write(place, colour, None, &mut out),
            }
        } else if let Some(within) = &item.within {
            let _ = writeln!(out, "{} in {within}", paint.with(Paint::BLUE, "-->"));
        }
        if let Some(hint) = &item.hint {
            let _ = writeln!(out, "{:width$} {} {hint}", "", paint.with(Paint::BLUE, "= hint:"));
        }
        out
    }
}

/// Shows lines of a source with places underlined.
struct Excerpt<'a> {
    source: &'a str,
    file: Option<&'a str>,
    /// Of the gutter.
    width: usize,
    paint: Paint,
}

impl Excerpt<'_> {
    /// Longest part of a line that is shown, in characters, and how much of it may stand before
    /// the place.
    const SHOWN: usize = 110;
    const BEFORE: usize = 60;

    /// Shows the line of a place, and marks a second place in the same line.
    fn write(&self, place: &Place, colour: &str, second: Option<(&str, &Place)>, out: &mut String) {
        let Self { file, width, paint, .. } = *self;
        let at = match file {
            Some(file) => format!("{file}:{}:{}", place.line, place.column),
            None => format!("line {}, column {}", place.line, place.column),
        };
        let bar = paint.with(Paint::BLUE, "|");
        let line = self.source.lines().nth(place.line - 1).unwrap_or("");
        let (shown, skipped) = Self::crop(line, place);
        let _ = writeln!(out, "{:width$}{} {at}", "", paint.with(Paint::BLUE, "-->"));
        let _ = writeln!(out, "{:width$} {bar}", "");
        let _ = writeln!(out, "{} {shown}", paint.with(Paint::BLUE, &format!("{:width$} |", place.line)));
        let (start, length) = Self::columns(line, place, skipped);
        let mark = paint.with(colour, &"^".repeat(length));
        // The second place is marked only where it is in view.
        let second =
            second.map(|(label, place)| (label, Self::columns(line, place, skipped), place.column > skipped));
        let Some((label, (other, other_length), true)) = second else {
            let _ = writeln!(out, "{:width$} {bar} {:start$}{mark}", "", "");
            return;
        };
        let other_mark = paint.with(Paint::BLUE, &"-".repeat(other_length));
        let marks = if other < start {
            let gap = start.saturating_sub(other + other_length);
            format!("{:other$}{other_mark}{:gap$}{mark}", "", "")
        } else {
            let gap = other.saturating_sub(start + length);
            format!("{:start$}{mark}{:gap$}{other_mark}", "", "")
        };
        let _ = writeln!(out, "{:width$} {bar} {marks}", "");
        let _ = writeln!(out, "{:width$} {bar} {:other$}{}", "", "", paint.with(Paint::BLUE, label));
    }

    /// The part of a line worth showing, and how many characters of it are left out before.
    fn crop(line: &str, place: &Place) -> (String, usize) {
        let length = line.chars().count();
        let skipped = if length <= Self::SHOWN { 0 } else { (place.column - 1).saturating_sub(Self::BEFORE) };
        // A tab is as wide as the terminal likes; a space is as wide as the mark under it.
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let mut shown: String = line.chars().skip(skipped).take(Self::SHOWN).map(visible).collect();
        if skipped > 0 {
            shown.insert(0, '…');
        }
        if skipped + Self::SHOWN < length {
            shown.push('…');
        }
        (shown, skipped)
    }

    /// Where the marks of a place begin in what is shown, and how many there are: at least one.
    fn columns(line: &str, place: &Place, skipped: usize) -> (usize, usize) {
        let end = if place.end_line == place.line { place.end_column } else { line.chars().count() + 1 };
        let start = (place.column - 1).saturating_sub(skipped);
        let room = Self::SHOWN.saturating_sub(start).max(1);
        (start + usize::from(skipped > 0), end.saturating_sub(place.column).clamp(1, room))
    }
}

#[derive(Clone, Copy)]
struct Paint(Style);

impl Paint {
    const RED: &str = "\u{1b}[1;31m";
    const YELLOW: &str = "\u{1b}[1;33m";
    const BLUE: &str = "\u{1b}[34m";
    const BOLD: &str = "\u{1b}[1m";

    fn with(self, colour: &str, text: &str) -> String {
        match self.0 {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("{colour}{text}\u{1b}[0m"),
        }
    }
}
