//! Files that are read again while the server runs: certificates, issuers' settings.
//!
//! They are read every second and compared by content. A time of modification would miss
//! what is replaced by a link, as mounted secrets are, and what is replaced twice in a second.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// How often files are read again.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Largest file read, in bytes. A chain of certificates takes some thousands.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", .path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    #[source]
    source: io::Error,
}

/// What some files held at one moment, in the order in which they were named. It may hold a
/// private key, so it does not print.
pub struct Contents(Vec<Vec<u8>>);

impl FileError {
    /// A file and what is wrong with it.
    pub fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

impl Contents {
    /// Reads all of them. They are small, but a file system may take its time.
    pub fn read(paths: &[PathBuf]) -> Result<Self, FileError> {
        paths.iter().map(|path| read(path)).collect::<Result<_, _>>().map(Self)
    }

    /// What the file of this place in the order held.
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        self.0.get(index).map_or(&[], Vec::as_slice)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let outcome = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .and_then(|read| {
            let fits = read as u64 <= MAX_BYTES;
            fits.then_some(()).ok_or_else(|| io::Error::other("the file is larger than 1 MiB"))
        });
    match outcome {
        Ok(()) => Ok(bytes),
        Err(source) => Err(FileError::new(path, source)),
    }
}

/// Tells when any of some files holds something else than before.
pub struct Changes {
    paths: Vec<PathBuf>,
    known: blake3::Hash,
    ticks: Interval,
    hangups: Hangups,
}

/// SIGHUP, by which an operator asks for what changes to be looked at now.
pub struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    /// Those from now on.
    pub fn heard() -> Self {
        Self {
            #[cfg(unix)]
            signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    /// Waits for the next one; for ever where there are none. Nothing is lost if the wait is cut.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Changes {
    /// Follows files that held `now` when they were last read, if they could be. They are looked at every
    /// [`INTERVAL`], and at once when the process gets SIGHUP.
    pub fn follow(paths: Vec<PathBuf>, now: Result<&Contents, &FileError>) -> Self {
        Self::every(INTERVAL, paths, now)
    }

    fn every(interval: Duration, paths: Vec<PathBuf>, now: Result<&Contents, &FileError>) -> Self {
        let mut ticks = interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { paths, known: digest(now), ticks, hangups: Hangups::heard() }
    }

    /// Waits for the next change. What cannot be read is told once, not at every look.
    pub async fn next(&mut self) -> Result<Contents, FileError> {
        loop {
            self.due().await;
            let paths = self.paths.clone();
            // A panic or the end of the runtime: look again, or never be asked again.
            let Ok(contents) = tokio::task::spawn_blocking(move || Contents::read(&paths)).await else {
                continue;
            };
            let found = digest(contents.as_ref());
            if std::mem::replace(&mut self.known, found) != found {
                return contents;
            }
        }
    }

    /// Waits for the next look, and says whether the files still hold what was last told. Who writes
    /// a file in place empties it first, so that it holds nothing means something when it stays so.
    pub async fn stays(&mut self) -> bool {
        self.due().await;
        let paths = self.paths.clone();
        let read = tokio::task::spawn_blocking(move || Contents::read(&paths)).await;
        // What is told is told by `next`, so this is not remembered.
        read.is_ok_and(|contents| digest(contents.as_ref()) == self.known)
    }

    async fn due(&mut self) {
        tokio::select! {
            _ = self.ticks.tick() => {}
            () = self.hangups.next() => {}
        }
    }
}

/// Tells two readings apart. Lengths go in, so that bytes moved from one file to the next count.
fn digest(contents: Result<&Contents, &FileError>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    match contents {
        Ok(contents) => {
            for file in &contents.0 {
                hasher.update(&(file.len() as u64).to_le_bytes()).update(file);
            }
        }
        Err(error) => {
            hasher.update(format!("{error}: {}", error.source).as_bytes());
        }
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_change_is_told_once_and_so_is_a_loss() {
        let directory = tempfile::tempdir().expect("a directory");
        let paths: Vec<_> = ["a", "b"].map(|name| directory.path().join(name)).into();
        std::fs::write(&paths[0], "one").expect("a file");
        std::fs::write(&paths[1], "two").expect("a file");
        let now = Contents::read(&paths).expect("contents");
        let interval = Duration::from_millis(5);
        let mut changes = Changes::every(interval, paths.clone(), Ok(&now));
        let quiet = timeout(interval * 10, changes.next()).await;
        assert!(quiet.is_err(), "nothing has changed");

        std::fs::write(&paths[1], "three").expect("a file");
        let contents = changes.next().await.expect("contents");
        let found = (contents.get(0), contents.get(1), contents.get(2));
        assert_eq!(found, (&b"one"[..], &b"three"[..], &b""[..]));

        std::fs::remove_file(&paths[1]).expect("removed");
        let lost = changes.next().await.err().expect("an error");
        assert_eq!(lost.path, paths[1]);
        let quiet = timeout(interval * 10, changes.next()).await;
        assert!(quiet.is_err(), "told once");
        std::fs::write(&paths[1], "three").expect("a file");
        assert_eq!(changes.next().await.expect("back again").get(1), b"three");
    }

    #[tokio::test]
    async fn what_is_gone_at_the_next_look_does_not_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a");
        std::fs::write(&path, "one").expect("a file");
        let now = Contents::read(std::slice::from_ref(&path)).expect("contents");
        let mut changes = Changes::every(Duration::from_millis(5), vec![path.clone()], Ok(&now));
        std::fs::write(&path, "").expect("a file");
        assert_eq!(changes.next().await.expect("contents").get(0), b"");
        assert!(changes.stays().await);
        std::fs::write(&path, "two").expect("a file");
        assert!(!changes.stays().await);
        assert_eq!(changes.next().await.expect("told all the same").get(0), b"two");
    }

    #[test]
    fn bytes_that_move_from_one_file_to_the_next_are_a_change() {
        let contents = |files: [&str; 2]| Contents(files.map(|file| file.as_bytes().to_vec()).into());
        assert_ne!(digest(Ok(&contents(["ab", "c"]))), digest(Ok(&contents(["a", "bc"]))));
        assert_eq!(digest(Ok(&contents(["ab", "c"]))), digest(Ok(&contents(["ab", "c"]))));
    }

    #[test]
    fn a_file_has_a_largest_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("big");
        std::fs::write(&path, vec![b'x'; usize::try_from(MAX_BYTES).expect("fits") + 1]).expect("a file");
        assert!(Contents::read(std::slice::from_ref(&path)).is_err());
        std::fs::write(&path, vec![b'x'; usize::try_from(MAX_BYTES).expect("fits")]).expect("a file");
        assert!(Contents::read(&[path]).is_ok());
    }
}
