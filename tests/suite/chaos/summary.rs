//! What a run says of itself.

use std::fmt::Write as _;
use std::io::Write as _;

use super::Settings;
use super::director::seconds;
use crate::history::journal::History;
use crate::history::operation::Moment;
use crate::history::report::Report;

/// Prints past the test runner, which keeps what a passing test prints to itself.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub fn print(
    name: &str,
    settings: &Settings,
    events: &[(Moment, String)],
    ended: Moment,
    branches: usize,
    history: &History,
    report: &Report,
) {
    let mut text = format!("\n{name}: seed {}, {:.0} s\n", settings.seed, seconds(ended));
    if !settings.short {
        for (at, event) in events {
            let _ = writeln!(text, "{:9.2} s  {event}", seconds(*at));
        }
    }
    let rounds = events.iter().filter(|(_, event)| !event.starts_with(' ')).count();
    let mut row = |what: &str, count: u64| {
        let _ = writeln!(text, "  {what:<46}{count:>12}");
    };
    row("rounds", rounds as u64);
    row("branches of the history", branches as u64);
    for (kind, count) in &report.checked {
        row(kind, *count);
    }
    row("calls that were answered", (history.asked.len() + history.writes.len()) as u64);
    row("operations checked", report.operations());
    for (what, count) in &report.seen {
        row(&format!("of which {what}"), *count);
    }
    for (reason, count) in &history.unanswered {
        row(&format!("told nothing: {reason}"), *count);
    }
    row("violations", report.violations());
    say(&text);
}
