//! Findings as people and programs read them.

use anstyle::{AnsiColor, Style};
use serde_json::{Value as Json, json};

use super::Section;
use crate::cli::exit::Failure;
use crate::cli::output::{Format, Output};
use crate::doctor::{Finding, Severity};

/// Where text is broken, in characters.
const WIDTH: usize = 100;
/// Where the text of a finding begins: two spaces, the severity, the topic.
const INDENT: usize = 26;

pub(super) fn print(sections: &[Section], out: &mut Output) -> Result<(), Failure> {
    match out.format {
        Format::Table => table(sections, out),
        Format::Json => {
            let all = || sections.iter().flat_map(|section| &section.findings);
            let number = |severity| all().filter(|finding| finding.severity == severity).count();
            out.json(&json!({
                "findings": items(sections),
                "problems": number(Severity::Problem),
                "warnings": number(Severity::Warning),
            }))
        }
        Format::Jsonl => items(sections).iter().try_for_each(|item| out.json(item)),
    }
}

fn items(sections: &[Section]) -> Vec<Json> {
    let item = |section: &Section, finding: &Finding| {
        json!({
            "of": section.title,
            "topic": finding.topic.as_str(),
            "severity": finding.severity.as_str(),
            "finding": finding.what,
            "remedy": finding.remedy,
        })
    };
    let of = |section| move |finding| item(section, finding);
    sections.iter().flat_map(|section| section.findings.iter().map(of(section))).collect()
}

fn table(sections: &[Section], out: &mut Output) -> Result<(), Failure> {
    let (mut problems, mut warnings) = (0_usize, 0_usize);
    for section in sections {
        let title = out.paint(Style::new().bold(), &section.title);
        out.line(title)?;
        for finding in &section.findings {
            match finding.severity {
                Severity::Problem => problems += 1,
                Severity::Warning => warnings += 1,
                Severity::Ok | Severity::Note => {}
            }
            one(finding, out)?;
        }
        out.line("")?;
    }
    out.line(sentence(problems, warnings))
}

fn one(finding: &Finding, out: &mut Output) -> Result<(), Failure> {
    let severity = out.paint(style(finding.severity), &format!("{:<8}", finding.severity.as_str()));
    let mut lines = wrapped(&finding.what, WIDTH - INDENT).into_iter();
    let first = lines.next().unwrap_or_default();
    out.line(format_args!("  {severity} {:<14} {first}", finding.topic.as_str()))?;
    for line in lines {
        out.line(format_args!("{:INDENT$}{line}", ""))?;
    }
    for (number, line) in
        finding.remedy.iter().flat_map(|remedy| wrapped(remedy, WIDTH - INDENT - 2)).enumerate()
    {
        let arrow = if number == 0 { "→" } else { " " };
        out.line(format_args!("{:INDENT$}{arrow} {line}", ""))?;
    }
    Ok(())
}

fn style(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Ok => AnsiColor::Green,
        Severity::Note => AnsiColor::Cyan,
        Severity::Warning => AnsiColor::Yellow,
        Severity::Problem => AnsiColor::Red,
    };
    Style::new().fg_color(Some(colour.into()))
}

fn sentence(problems: usize, warnings: usize) -> String {
    let number = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    match (problems, warnings) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, warnings) => format!("Nothing is wrong; {}.", number(warnings, "warning")),
        (problems, 0) => format!("{}.", number(problems, "problem")),
        (problems, warnings) => format!("{}, {}.", number(problems, "problem"), number(warnings, "warning")),
    }
}

/// Text in lines of at most so many characters, broken at spaces; a longer word keeps its line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable x", 4), ["unbreakable", "x"]);
        assert!(wrapped("", 4).is_empty());
    }

    #[test]
    fn the_end_says_how_it_stands() {
        assert_eq!(sentence(0, 0), "Nothing is wrong.");
        assert_eq!(sentence(0, 1), "Nothing is wrong; 1 warning.");
        assert_eq!(sentence(2, 1), "2 problems, 1 warning.");
        assert_eq!(sentence(1, 0), "1 problem.");
    }
}
