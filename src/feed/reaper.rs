//! A thread that frees what is large, so that nobody has to who serves requests.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::metrics::Metrics;

/// What may wait to be freed. Where more is left behind than one thread can free, whoever leaves
/// it behind has to help.
const WAITING: usize = 1_024;

/// Takes things and frees them on a thread of its own, in the order they came.
pub(super) struct Reaper {
    /// `None` where no thread could be had.
    queue: Option<SyncSender<Box<dyn Any + Send>>>,
    metrics: Arc<Metrics>,
}

impl Reaper {
    /// Starts the thread. It ends when the last thing is freed that still knows the reaper.
    pub(super) fn start(metrics: Arc<Metrics>) -> Self {
        let (queue, waiting) = sync_channel::<Box<dyn Any + Send>>(WAITING);
        let counted = Arc::clone(&metrics);
        let thread = std::thread::Builder::new().name("reaper".to_owned());
        let started = thread.spawn(move || {
            for burden in waiting {
                drop(burden);
                counted.memory.graphs_retired.dec();
            }
        });
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread for freeing large graphs; they are freed where they are dropped");
        }
        Self { queue: started.is_ok().then_some(queue), metrics }
    }

    /// Frees something, soon and elsewhere.
    pub(super) fn take(&self, burden: impl Any + Send) {
        let Some(queue) = &self.queue else { return };
        self.metrics.memory.graphs_retired.inc();
        if queue.try_send(Box::new(burden)).is_err() {
            // It came back with the error, and has been freed here.
            self.metrics.memory.graphs_retired.dec();
        }
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    /// Tells where it is freed, and when it likes.
    struct Burden {
        freed: mpsc::Sender<ThreadId>,
        held: Option<mpsc::Receiver<()>>,
    }

    impl Drop for Burden {
        fn drop(&mut self) {
            if let Some(held) = &self.held {
                held.recv_timeout(Duration::from_secs(20)).expect("released");
            }
            // The test may have seen enough.
            let _ = self.freed.send(thread::current().id());
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_taken_is_freed_elsewhere() {
        let metrics = Metrics::new();
        let reaper = Reaper::start(Arc::clone(&metrics));
        let (freed, seen) = mpsc::channel();
        reaper.take(Burden { freed, held: None });
        assert_ne!(seen.recv_timeout(PATIENCE).expect("freed"), thread::current().id());
    }

    #[test]
    fn whoever_leaves_too_much_behind_has_to_help() {
        let metrics = Metrics::new();
        let reaper = Reaper::start(Arc::clone(&metrics));
        let (freed, seen) = mpsc::channel();
        let (release, held) = mpsc::channel();
        reaper.take(Burden { freed: freed.clone(), held: Some(held) });
        // Two more than can wait; three, if the thread has not begun with the first one.
        let burdens = WAITING + 2;
        for _ in 0..burdens {
            reaper.take(Burden { freed: freed.clone(), held: None });
        }
        let here = thread::current().id();
        assert_eq!(seen.recv_timeout(PATIENCE).expect("freed while the thread is busy"), here);
        let mut helped = 1;
        release.send(()).expect("it waits");
        for _ in 0..burdens {
            helped += usize::from(seen.recv_timeout(PATIENCE).expect("freed") == here);
        }
        assert!(helped <= 3, "{helped} of {burdens} were freed here");
        drop(reaper);
        assert!(seen.recv_timeout(Duration::ZERO).is_err(), "nothing is left");
    }
}
