//! Answers that are handed out one by one, and what they are made from let go in time.
//!
//! ```text
//!   search or record ──▶ a task, one answer ahead ──▶ transport ──▶ reader
//!                        │
//!                        └ a timer: lets go of the search, and tells the reader so
//! ```
//!
//! The transport asks for the next answer when the reader has taken the last. A stream that looks at
//! the time only then would hold its snapshot for as long as its reader likes: one that never reads
//! on would keep a graph of gigabytes in memory.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::status::Error;
use crate::trace;

/// How long answers are made, and what a reader is told who needed longer.
#[derive(Debug)]
pub struct Terms {
    end: (Instant, Error),
    patience: Option<(Duration, Error)>,
}

impl Terms {
    /// Until a moment.
    pub fn until(moment: Instant, late: Error) -> Self {
        Self { end: (moment, late), patience: None }
    }

    /// And no longer than until a reader has left an answer untaken for so long.
    #[must_use]
    pub fn unless_stalled_for(self, patience: Duration, late: Error) -> Self {
        Self { patience: Some((patience, late)), ..self }
    }
}

/// The same answers, whose source is dropped on those terms however slow the reader is. Nothing is
/// made beyond the answer that waits to be taken.
pub fn outlet<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Error>> + Send + 'static,
    terms: Terms,
) -> impl Stream<Item = Result<T, Error>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(trace::carried(async move {
        if let Some(late) = hand_out(answers, &sender, terms).await {
            // This may wait for as long as the reader does, and holds nothing but itself.
            let _ = sender.send(Err(late)).await;
        }
    }));
    ReceiverStream::new(receiver)
}

/// Hands out all answers, or those before the time is up. What they were made from is gone when
/// it returns what remains to be told.
async fn hand_out<T: Send + 'static>(
    answers: impl Stream<Item = Result<T, Error>>,
    taken: &mpsc::Sender<Result<T, Error>>,
    terms: Terms,
) -> Option<Error> {
    let Terms { end: (moment, late), patience } = terms;
    tokio::pin!(answers);
    let end = sleep_until(moment);
    tokio::pin!(end);
    loop {
        let stalled = async {
            match &patience {
                Some((patience, _)) => sleep(*patience).await,
                None => std::future::pending().await,
            }
        };
        let place = tokio::select! {
            biased;
            () = &mut end => return Some(late),
            // An error: the reader has gone.
            place = taken.reserve() => place.ok()?,
            () = stalled => return patience.map(|(_, late)| late),
        };
        let answer = tokio::select! {
            biased;
            () = &mut end => return Some(late),
            () = taken.closed() => return None,
            answer = answers.next() => answer?,
        };
        place.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::stream::{iter, pending, repeat_with};
    use tokio::time::timeout;

    use super::*;

    /// Short enough to wait for.
    const AGE: Duration = Duration::from_millis(50);
    /// Longer than any test.
    const LONG: Duration = Duration::from_mins(10);

    fn within(age: Duration) -> Terms {
        Terms::until(Instant::now() + age, Error::DeadlineExceeded)
    }

    /// Answers that hold something while they are made, and whether it is still held.
    fn holding(
        answers: impl Stream<Item = u32> + Send + 'static,
    ) -> (impl Stream<Item = Result<u32, Error>> + Send + 'static, impl Fn() -> bool) {
        let held = Arc::new(());
        let watched = Arc::downgrade(&held);
        let answers = answers.map(move |answer| {
            drop(Arc::clone(&held));
            Ok(answer)
        });
        (answers, move || watched.strong_count() > 0)
    }

    async fn let_go(held: impl Fn() -> bool) {
        let gone = async {
            while held() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.expect("let go");
    }

    #[tokio::test]
    async fn a_reader_who_never_reads_holds_nothing_for_longer_than_the_age() {
        let (answers, held) = holding(repeat_with(|| 7));
        let outlet = outlet(answers, within(AGE));
        let_go(held).await;
        // Who reads after all finds what waited, and why no more follows.
        let read: Vec<_> = outlet.collect().await;
        assert!(matches!(read[..], [Ok(7), Err(Error::DeadlineExceeded)]), "{read:?}");
    }

    #[tokio::test]
    async fn a_reader_who_always_reads_is_told_too() {
        let (answers, held) = holding(repeat_with(|| 7));
        let read: Vec<_> = outlet(answers, within(AGE)).collect().await;
        assert!(matches!(read.last(), Some(Err(Error::DeadlineExceeded))));
        assert!(read.len() > 1 && !held());
    }

    #[tokio::test]
    async fn what_finds_nothing_ends_as_well() {
        let (answers, held) = holding(pending());
        let read: Vec<_> = outlet(answers, within(AGE)).collect().await;
        assert!(matches!(read[..], [Err(Error::DeadlineExceeded)]));
        assert!(!held());
    }

    #[tokio::test]
    async fn a_reader_who_stalls_is_told_before_the_end() {
        let (answers, held) = holding(iter(0..100));
        let terms = within(LONG).unless_stalled_for(AGE, Error::ShuttingDown);
        let mut outlet = Box::pin(outlet(answers, terms));
        assert!(matches!(outlet.next().await, Some(Ok(0))));
        let_go(held).await;
        let read: Vec<_> = outlet.collect().await;
        assert!(matches!(read[..], [Ok(1), Err(Error::ShuttingDown)]), "{read:?}");

        // A search that takes its time is no reader who stalls.
        let slow = iter(0..3).then(|answer| async move {
            sleep(AGE * 2).await;
            answer
        });
        let terms = within(LONG).unless_stalled_for(AGE, Error::ShuttingDown);
        let read: Vec<_> = super::outlet(slow.map(Ok), terms).collect().await;
        assert!(matches!(read[..], [Ok(0), Ok(1), Ok(2)]), "{read:?}");
    }

    #[tokio::test]
    async fn a_reader_who_leaves_ends_the_search() {
        let (answers, held) = holding(pending());
        let outlet = outlet(answers, within(LONG));
        tokio::task::yield_now().await;
        assert!(held());
        drop(outlet);
        let_go(held).await;
    }

    #[tokio::test]
    async fn answers_come_whole_and_in_order() {
        let (answers, held) = holding(iter(0..1_000));
        let read: Vec<u32> =
            outlet(answers, within(LONG)).map(|answer| answer.expect("in time")).collect().await;
        assert_eq!(read, (0..1_000).collect::<Vec<_>>());
        assert!(!held());
    }
}
