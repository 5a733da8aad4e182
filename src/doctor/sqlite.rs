//! The judgement of a SQLite file.

use std::time::Duration;

use super::words::{samples, size};
use super::{Expectations, Finding, Topic, shared};
use crate::datastore::sqlite::{FileFacts, FileSystem, Place, SqliteSurvey};

/// Less than this is nearly nothing: the write-ahead log alone may need as much.
const LITTLE_SPACE: u64 = 256 << 20;
/// A disk that flushes faster than this does not flush.
const IMPOSSIBLE_FLUSH: Duration = Duration::from_micros(15);
/// A flush that takes longer makes every write wait noticeably.
const SLOW_FLUSH: Duration = Duration::from_millis(50);

/// What is to be said of a file.
#[must_use]
pub fn judge(survey: &SqliteSurvey, expected: &Expectations) -> Vec<Finding> {
    let path = survey.path.display();
    let version = Finding::ok(Topic::Version, format!("SQLite {}, built in", survey.sqlite_version));
    let mut findings = Vec::new();
    let file = match &survey.file {
        Ok(Some(file)) if file.ours => {
            let holder = if file.in_use { "a server has it" } else { "no server has it" };
            findings.push(Finding::ok(Topic::Connection, format!("`{path}`: {holder}")));
            Some(file)
        }
        Ok(Some(_)) => {
            let what = format!("`{path}` holds the tables of another program");
            findings.push(Finding::problem(Topic::Connection, what, "name another file with --datastore"));
            None
        }
        Ok(None) => {
            let what = format!("`{path}` does not exist yet: `relata serve` makes it");
            findings.push(Finding::note(Topic::Connection, what));
            None
        }
        Err(why) => {
            let what = format!("`{path}` cannot be read: {why}");
            let remedy = "check the path and its permissions; if the file is damaged, put a backup in its place (docs/operations/sqlite-backup.md)";
            findings.push(Finding::problem(Topic::Connection, what, remedy));
            None
        }
    };
    findings.push(version);
    if let Some(file) = file {
        findings.push(tables(file));
        findings.push(role(file, survey));
        findings.push(journal(file));
    }
    findings.extend(place(&survey.place, file));
    if let Some(file) = file {
        findings.extend(shared::newest(&file.newest_ahead, "this machine's clock"));
        let bytes = file.bytes.saturating_add(file.log_bytes);
        findings.push(shared::stores(&file.stores, file.tuples, false, bytes));
    }
    findings.push(shared::memory(file.and_then(|file| file.tuples), expected));
    findings
}

/// A server migrates a file by itself, so that an older one is nothing to worry about.
fn tables(file: &FileFacts) -> Finding {
    match &file.tables {
        Ok(version) if version.found < version.known => {
            let what = format!("version {}; `relata serve` makes it {}", version.found, version.known);
            Finding::note(Topic::Tables, what).advise("copy the file before, if you may want to go back")
        }
        seen => shared::tables(seen),
    }
}

fn role(file: &FileFacts, survey: &SqliteSurvey) -> Finding {
    if file.writable {
        return Finding::ok(Topic::Role, "this user may write to the file");
    }
    let what = "this user may not write to the file";
    let remedy =
        format!("run the server as its owner, or change the permissions of `{}`", survey.path.display());
    Finding::problem(Topic::Role, what, remedy)
}

fn journal(file: &FileFacts) -> Finding {
    match file.journal_mode.as_str() {
        "wal" => Finding::ok(
            Topic::Durability,
            "journal_mode is wal, and a server sets synchronous=FULL: a commit that was acknowledged survives a power loss",
        ),
        other => Finding::note(
            Topic::Durability,
            format!("journal_mode is {other}; a server makes it wal when it starts"),
        ),
    }
}

fn place(place: &Place, file: Option<&FileFacts>) -> Vec<Finding> {
    let directory = place.directory.display();
    let mut findings = Vec::new();
    match place.file_system {
        FileSystem::Ordinary => {}
        FileSystem::Memory => {
            let what = format!("`{directory}` is in memory: the record is gone when the machine restarts");
            let remedy = "keep the file on a disk, unless nobody needs it tomorrow";
            findings.push(Finding::problem(Topic::Durability, what, remedy));
        }
        FileSystem::Network(protocol) => {
            let what = format!("`{directory}` is on another machine ({protocol}), where locks may not hold");
            let remedy = "keep the file on a disk of this machine, or use PostgreSQL";
            findings.push(Finding::problem(Topic::Durability, what, remedy));
        }
    }
    if let Some(reads) = file.and_then(|file| file.reads.as_ref()) {
        findings.push(Finding::ok(Topic::Latency, format!("a read takes {}", samples(reads))));
    }
    findings.push(match &place.flushes {
        Ok(flushes) => {
            let what = format!("a flush of one page takes {}", samples(flushes));
            if flushes.median() < IMPOSSIBLE_FLUSH && place.file_system == FileSystem::Ordinary {
                let what = format!("{what}: no disk is so fast, so something in between does not flush");
                let remedy = "look for a write cache without a battery, or a virtual disk told to ignore flushes (cache=unsafe): a power loss may take back acknowledged writes";
                Finding::warning(Topic::Commit, what, remedy)
            } else if flushes.median() > SLOW_FLUSH {
                let remedy = "each group of writes waits for a flush: use a faster disk, or one with fewer other writers";
                Finding::warning(Topic::Commit, what, remedy)
            } else {
                Finding::ok(Topic::Commit, what)
            }
        }
        Err(why) => {
            let what = format!("`{directory}` cannot be written to: {why}");
            let remedy = "make the directory, or give it to the user that runs the server: SQLite keeps its log beside the file";
            Finding::problem(Topic::Commit, what, remedy)
        }
    });
    findings.push(match &place.space {
        Ok((free, all)) => space(*free, *all, file.map_or(0, |file| file.bytes)),
        Err(why) => shared::unseen(Topic::Space, "how much room there is", why),
    });
    findings
}

fn space(free: u64, all: u64, file: u64) -> Finding {
    let what = format!("{} of {} are free", size(free), size(all));
    let remedy = "make room, or move the file: when the disk is full, every write fails until there is room";
    if free < LITTLE_SPACE {
        return Finding::problem(Topic::Space, what, remedy);
    }
    if free < file {
        let what = format!("{what}, less than the file's {}: a backup beside it does not fit", size(file));
        return Finding::warning(Topic::Space, what, remedy);
    }
    if free < all / 20 {
        return Finding::warning(Topic::Space, what, remedy);
    }
    Finding::ok(Topic::Space, what)
}
