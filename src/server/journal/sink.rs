//! Where lines end up: a file that is opened anew when it has been moved away, or standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::settings::DecisionPlace;

/// A file or standard output.
#[derive(Debug)]
pub(super) struct Sink {
    place: DecisionPlace,
    /// Absent on standard output, and while the file cannot be opened.
    file: Option<File>,
    /// Whether the last write stopped in the middle of a line.
    torn: bool,
}

/// Lines that did not get through, the torn one included.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Sink {
    pub(super) fn open(place: DecisionPlace) -> io::Result<Self> {
        let file = match &place {
            DecisionPlace::Stdout => None,
            DecisionPlace::File(path) => Some(open(path)?),
        };
        Ok(Self { place, file, torn: false })
    }

    /// Opens the file anew at the next write, wherever the present one is.
    pub(super) fn let_go(&mut self) {
        self.file = None;
        self.torn = false;
    }

    /// Writes lines, each with its end.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let path = match &self.place {
            DecisionPlace::Stdout => {
                return written(&mut io::stdout().lock(), lines, &mut self.torn);
            }
            DecisionPlace::File(path) => path,
        };
        if self.file.as_ref().is_some_and(|file| !is_at(file, path)) {
            // Moved away or removed: whoever did it waits for the next one.
            self.file = None;
            self.torn = false;
        }
        if self.file.is_none() {
            match open(path) {
                Ok(file) => self.file = Some(file),
                Err(error) => return Err(Unwritten { lines: ends(lines), error }),
            }
        }
        match &mut self.file {
            Some(file) => written(file, lines, &mut self.torn),
            None => Ok(()),
        }
    }
}

fn ends(lines: &[u8]) -> u64 {
    lines.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Writes lines, and remembers whether one was torn: the next one then begins on a line of its own.
fn written(out: &mut impl Write, lines: &[u8], torn: &mut bool) -> Result<(), Unwritten> {
    let mut rest = lines;
    let outcome = loop {
        if *torn {
            match out.write(b"\n") {
                Ok(1..) => *torn = false,
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            continue;
        }
        if rest.is_empty() {
            break out.flush();
        }
        match out.write(rest) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    let before = lines.len().saturating_sub(rest.len());
    if outcome.is_err() && before > 0 {
        *torn = lines.get(before.saturating_sub(1)) != Some(&b'\n');
    }
    outcome.map_err(|error| Unwritten { lines: ends(rest), error })
}

/// Opens a file to append to it. Its owner alone may read it: it says who may do what.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
        if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            // To write alone would wait for a reader, who may never come.
            return options.read(true).write(true).open(path);
        }
        options.mode(0o600);
    }
    options.create(true).append(true).open(path)
}

/// Whether a path still leads to an open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    match (file.metadata().map(identity), std::fs::metadata(path).map(identity)) {
        (Ok(open), Ok(there)) => open == there,
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Takes so many bytes, then has no room for a while.
    struct Full {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.extend(&bytes[..count]);
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_torn_spoils_no_other() {
        let mut out = Full { room: 7, taken: Vec::new() };
        let mut torn = false;
        let unwritten = written(&mut out, b"one\ntwo-and\nthree\n", &mut torn).expect_err("no room");
        assert_eq!((unwritten.lines, torn), (2, true), "the torn one and the one after it");
        assert_eq!(written(&mut out, b"four\n", &mut torn).expect_err("no room").lines, 1);
        out.room = 100;
        written(&mut out, b"five\n", &mut torn).expect("room");
        assert_eq!(String::from_utf8_lossy(&out.taken), "one\ntwo\nfive\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
        let mut sink = Sink::open(DecisionPlace::File(path.clone())).expect("opened");
        sink.write(b"one\n").expect("written");
        fs::rename(&path, &old).expect("moved");
        sink.write(b"two\n").expect("written");
        sink.let_go();
        sink.write(b"three\n").expect("written");
        let read = |path: &Path| fs::read_to_string(path).expect("readable");
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("one\n", "two\nthree\n"));
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("in its way");
        assert_eq!(sink.write(b"four\nfive\n").expect_err("no file").lines, 2);
        fs::remove_dir(&path).expect("removed");
        sink.write(b"six\n").expect("written");
        assert_eq!(read(&path), "six\n");
    }
}
