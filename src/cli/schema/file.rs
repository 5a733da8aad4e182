//! Schema files as the commands take them: a path or `-`, in the language or, if called `.json`,
//! in OpenFGA's JSON form; checked before a server is asked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::schema::{self, Diagnostics, Severity};
use crate::store_file;

/// The text of a file, or of standard input for `-`, and the name to call it by.
pub fn read(path: &str) -> Result<(String, String), Failure> {
    let name = if path == "-" { "standard input" } else { path };
    let limit = schema::MAX_TEXT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let got = if path == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    got.map_err(|error| Failure::bad_input(error).about(name))?;
    if bytes.len() > schema::MAX_TEXT_BYTES {
        return Err(Failure::bad_input(format!(
            "{name}: longer than the {} KiB a schema may have",
            schema::MAX_TEXT_BYTES >> 10
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::bad_input("not UTF-8").about(name))?;
    if is_json(path) {
        let text =
            store_file::schema_of_json(&text).map_err(|error| Failure::bad_input(error).about(name))?;
        return Ok((text, name.to_owned()));
    }
    Ok((text, name.to_owned()))
}

/// Whether a file promises OpenFGA's JSON form.
pub fn is_json(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Says what is wrong with a schema, and how the command ends for it.
pub fn report(diagnostics: &Diagnostics, name: &str, out: &mut Output) -> Result<Exit, Failure> {
    match out.format {
        Format::Table => remark(diagnostics.render(Some(name), out.style()).trim_end()),
        Format::Json | Format::Jsonl => {
            let items: Vec<_> = diagnostics
                .items()
                .iter()
                .map(|item| {
                    let place = item.place.as_ref();
                    json!({
                        "kind": item.kind.as_str(),
                        "severity": match item.severity() {
                            Severity::Error => "error",
                            Severity::Warning => "warning",
                        },
                        "message": item.message,
                        "hint": item.hint,
                        "line": place.map(|place| place.line),
                        "column": place.map(|place| place.column),
                        "end_line": place.map(|place| place.end_line),
                        "end_column": place.map(|place| place.end_column),
                    })
                })
                .collect();
            out.json(&json!({ "valid": !diagnostics.has_errors(), "diagnostics": items }))?;
        }
    }
    Ok(if diagnostics.has_errors() { Exit::BadInput } else { Exit::Success })
}
