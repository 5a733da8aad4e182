//! `relata schema fmt`: one spelling for every schema; comments, and empty lines that group
//! relations, are kept.

use std::collections::HashMap;

use clap::Args;

use super::file;
use super::outline::{Declaration, Declared, Outline};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, remark};
use crate::schema;

/// Print a schema file in its canonical form; comments stay with what they stand above.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code with --check: 0 canonical already, 1 not, 65 not a valid schema.

Examples:
  relata schema fmt schema.fga
  relata schema fmt schema.fga --write
  relata schema fmt schema.fga --check
  relata schema fmt model.json > schema.fga")]
pub struct Fmt {
    /// Schema file, or `-`.
    #[arg(value_name = "FILE")]
    path: String,
    /// Print nothing; say by the exit code whether the file is canonical.
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Replace the file.
    #[arg(long)]
    write: bool,
}

impl Fmt {
    pub(super) fn run(&self, out: &mut Output) -> Result<Exit, Failure> {
        let (text, name) = file::read(&self.path)?;
        let document = match schema::parse_document(&text) {
            Ok(document) => document,
            Err(diagnostics) => return file::report(&diagnostics, &name, out),
        };
        let canonical =
            schema::print_document(&document).map_err(|error| Failure::bad_input(error).about(&name))?;
        let formatted = with_comments(&canonical, &text);
        if Outline::of(&formatted).comments() != Outline::of(&text).comments() {
            return Err(Failure::bad_input(format!("{name}: a comment stands where it cannot be kept"))
                .advise("move comments to lines of their own, above what they explain"));
        }
        if self.check {
            if formatted == text {
                return Ok(Exit::Success);
            }
            remark(format_args!(
                "{name} is not canonical: `relata schema fmt {} --write` mends it",
                self.path
            ));
            return Ok(Exit::Denied);
        }
        if self.write && (self.path == "-" || file::is_json(&self.path)) {
            return Err(Failure::usage("--write needs the name of a file in the schema language"));
        }
        if !self.write {
            out.line(formatted.trim_end())?;
        } else if formatted != text {
            std::fs::write(&self.path, &formatted).map_err(|error| Failure::bad_input(error).about(&name))?;
            remark(format_args!("wrote {name}"));
        }
        Ok(Exit::Success)
    }
}

/// The canonical text with the comments of the original.
fn with_comments(canonical: &str, original: &str) -> String {
    let original = Outline::of(original);
    let by_declared: HashMap<&Declared, &Declaration> =
        original.declarations.iter().map(|declaration| (&declaration.declared, declaration)).collect();
    let mut lines: Vec<String> = Vec::new();
    let mut open = Outline::of(canonical).declarations.into_iter().peekable();
    for line in canonical.lines() {
        let begins = open.next_if(|declaration| declaration.lines.first().is_some_and(|first| first == line));
        let Some(written) = begins.and_then(|begun| by_declared.get(&begun.declared).copied()) else {
            lines.push(line.to_owned());
            continue;
        };
        let follows_relation = lines.last().is_some_and(|last| last.trim_start().starts_with("define "));
        if written.apart && follows_relation && matches!(written.declared, Declared::Relation(..)) {
            lines.push(String::new());
        }
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        lines.extend(written.above.iter().map(|comment| format!("{indent}{comment}")));
        match &written.beside {
            Some(comment) => lines.push(format!("{line} {comment}")),
            None => lines.push(line.to_owned()),
        }
    }
    lines.extend(original.trailing);
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_with_what_they_explain() {
        let written = "model\n  schema 1.1\n# people\ntype   user\ntype doc\n  relations\n  # readers\n    define  viewer :[user]   or owner # all\n    define owner: [user]\n# end\n";
        let document = schema::parse_document(written).expect("a schema");
        let canonical = schema::print_document(&document).expect("a text");
        assert_eq!(
            with_comments(&canonical, written),
            "model\n  schema 1.1\n\n# people\ntype user\n\ntype doc\n  relations\n    # readers\n    \
             define viewer: [user] or owner # all\n    define owner: [user]\n# end\n"
        );
    }

    #[test]
    fn what_is_canonical_stays_as_it_is() {
        for name in ["drive", "code-hosting", "rbac", "endpoints", "banking", "multi-tenant"] {
            let path = format!("{}/schema-examples/{name}/schema.fga", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("an example");
            let document = schema::parse_document(&text).expect("a schema");
            assert_eq!(
                with_comments(&schema::print_document(&document).expect("a text"), &text),
                text,
                "{name}"
            );
        }
    }
}
