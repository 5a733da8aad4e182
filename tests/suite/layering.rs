//! Arrows between modules point one way. Reads the `use` lines and paths of every source file
//! and says which file broke which rule.

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may name of the crate's own modules, in reading order.
const MAY_USE: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("context", &[]),
    ("tuple", &["time", "context"]),
    ("revision", &["time"]),
    ("metrics", &[]),
    ("trace", &["metrics"]),
    ("footprint", &["context", "tuple"]),
    ("condition", &["time", "context", "tuple"]),
    ("schema", &["time", "context", "tuple", "condition"]),
    ("graph", &["time", "context", "tuple", "footprint", "schema"]),
    ("engine", &["time", "context", "tuple", "schema", "condition", "graph"]),
    ("datastore", &["time", "context", "tuple", "revision", "metrics", "trace"]),
    (
        "feed",
        &["time", "context", "tuple", "revision", "metrics", "footprint", "schema", "graph", "datastore"],
    ),
    ("upkeep", &["time", "tuple", "revision", "datastore", "metrics"]),
    ("doctor", &["datastore"]),
];

/// Crates that only some layers may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("tonic", &["server", "cli", "lib", "main"]),
    ("prost", &["server", "cli", "lib", "main"]),
    ("prost_types", &["server", "cli", "lib", "main"]),
    ("axum", &["server"]),
    ("opentelemetry_proto", &["server"]),
    ("prometheus_client", &["metrics"]),
    ("sqlx", &["datastore"]),
    ("rusqlite", &["datastore"]),
    ("clap", &["cli", "main"]),
    ("tokio", &["trace", "datastore", "feed", "upkeep", "server", "cli", "main"]),
    ("dashmap", &["feed", "server"]),
    ("pest", &["schema", "condition"]),
];

/// Ways to read a clock, which the core takes as a parameter instead.
const CLOCKS: &[&str] = &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];
const CLOCKLESS: &[&str] = &["time", "context", "tuple", "schema", "condition", "graph", "engine", "doctor"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable source tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether `text` names `module` as the head of a path, as in `tonic::Status`.
fn names(text: &str, module: &str) -> bool {
    let pattern = format!("{module}::");
    text.match_indices(&pattern).any(|(at, _)| {
        text.get(..at)
            .and_then(|before| before.chars().next_back())
            .is_none_or(|previous| !previous.is_alphanumeric() && previous != '_' && previous != ':')
    })
}

/// A file without its comments and its unit tests.
fn without_tests(text: &str) -> String {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    code.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn arrows_point_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10, "found only {} source files under {}", files.len(), root.display());

    let mut broken = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("under src").to_path_buf();
        let first = relative.components().next().expect("a path").as_os_str().to_string_lossy().into_owned();
        let layer = first.trim_end_matches(".rs");
        let text = fs::read_to_string(&file).expect("a readable file");
        let code = without_tests(&text);

        if let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == layer) {
            for module in code.split("crate::").skip(1) {
                let module: String =
                    module.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !module.is_empty() && module != layer && !allowed.contains(&module.as_str()) {
                    broken.push(format!("{}: {layer}/ may not use crate::{module}", relative.display()));
                }
            }
        }
        for (dependency, layers) in RESERVED {
            if names(&code, dependency) && !layers.contains(&layer) {
                broken.push(format!("{}: {layer}/ may not name {dependency}", relative.display()));
            }
        }
        if CLOCKLESS.contains(&layer) {
            for clock in CLOCKS.iter().filter(|clock| code.contains(**clock)) {
                broken.push(format!("{}: {layer}/ may not read a clock ({clock})", relative.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Ways to a store that do not ask what the caller may do, and who goes them; every other file of
/// `server/` gets to one by `Node::store` and `Node::replica`, which take a `Call`, and that cannot
/// be had without passing the access layer.
const WAYS_AROUND: &[(&str, &[&str])] = &[
    // From a text to a store or replica.
    ("node.look_up(", &["registry.rs"]),
    ("registry.replica(", &["node.rs"]),
    // What is resident before anybody calls; the store of a watch that has passed.
    (".preload(", &["readiness.rs"]),
    ("feed.replica(", &["registry.rs", "tuple/watch.rs"]),
    ("feed().replica(", &[]),
    // For access control itself.
    (".name_of(", &["access/store.rs"]),
    (".id_of(", &["access/store.rs"]),
    // The record: for what concerns all stores, and for stores of a call that has passed.
    (".datastore()", &["key/create.rs", "key/revoke.rs", "readiness.rs", "tuple/log.rs", "tuple/read.rs"]),
    (
        "node.ask(",
        &[
            "key/list.rs",
            "schema/list.rs",
            "schema/read.rs",
            "store/create.rs",
            "store/delete.rs",
            "store/get.rs",
            "store/list.rs",
            "tuple/delete.rs",
            "tuple/log.rs",
            "tuple/watch.rs",
        ],
    ),
    // By the id of a store, whoever's it is: a call has it from `Node::store`.
    (".resident(", &["node.rs"]),
    ("commit_unseen(", &["node.rs", "tuple/delete.rs"]),
    ("committers.write(", &["node.rs"]),
    ("wait_a_moment(", &["node.rs", "tuple/delete.rs"]),
    // Having passed.
    ("Admitted { method", &["access/layer.rs"]),
];

/// However it is broken into lines.
fn dense(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

/// A method that finds a new way to a store is looked at before it is let in here.
#[test]
fn no_method_gets_to_a_store_around_the_access_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let code: Vec<(String, String)> = files
        .iter()
        .map(|file| {
            let name = file.strip_prefix(&root).expect("under server").to_string_lossy().into_owned();
            (name, dense(&without_tests(&fs::read_to_string(file).expect("a readable file"))))
        })
        .collect();
    let mut broken = Vec::new();
    for (way, allowed) in WAYS_AROUND {
        let going: Vec<&str> = code
            .iter()
            .filter(|(_, code)| code.contains(&dense(way)))
            .map(|(name, _)| name.as_str())
            .collect();
        for file in going.iter().filter(|file| !allowed.contains(file)) {
            broken.push(format!("{file}: `{way}` leads to a store without asking what the caller may do"));
        }
        for file in allowed.iter().filter(|file| !going.contains(file)) {
            broken.push(format!("{file}: does not use `{way}` any more; take it off the list"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
