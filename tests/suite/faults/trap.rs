//! Where a connection breaks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::wire::{Message, Side};

/// What the end of a connection looks like to whoever is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// As if the machine had gone: a reset.
    Reset,
    /// As if the process had ended: an orderly end of the stream.
    Close,
    /// As if the network were gone: the connection stays open, and nothing ever arrives.
    Hang,
}

/// When a connection breaks, seen from the message that springs a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The message is never delivered.
    Before,
    /// Half of its bytes are.
    Within,
    /// It is delivered; nothing later is, in either direction. After a message of the client, the
    /// server gets it and acts on it, and its answer is lost.
    After,
    /// As [`Self::After`], but it arrives so much later than the sender sees the connection end:
    /// it was on its way. Then the sender may be back, and looking, before it arrives.
    Late(Duration),
}

/// A trap: at which message a connection breaks, and how. It springs once.
pub struct Trap {
    pub(super) side: Side,
    pub(super) moment: Moment,
    pub(super) cut: Cut,
    /// Matching messages that pass before it springs.
    pub(super) pass: usize,
    /// Matching messages are counted within a connection, from a message of the client on that
    /// says this.
    since: Option<&'static str>,
    /// Those that passed since, by connection.
    passed: HashMap<u64, usize>,
    matches: Box<dyn Fn(&Message<'_>) -> bool + Send>,
    sprung: Sprung,
}

/// Whether a trap has sprung.
#[derive(Debug, Clone, Default)]
pub struct Sprung(Arc<AtomicBool>);

impl Sprung {
    /// Whether it has.
    pub fn yet(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Trap {
    /// A trap that springs at the next message of one side, and resets the connection.
    pub fn at(side: Side, moment: Moment) -> Self {
        let matches = Box::new(|_: &Message<'_>| true);
        let (since, passed, sprung) = (None, HashMap::new(), Sprung::default());
        Self { side, moment, cut: Cut::Reset, pass: 0, since, passed, matches, sprung }
    }

    /// Only at messages of a kind.
    pub fn when(self, matches: impl Fn(&Message<'_>) -> bool + Send + 'static) -> Self {
        Self { matches: Box::new(matches), ..self }
    }

    /// Not at the first such message but at the n-th, counted from 1, over all connections from
    /// now on. To count within each connection, ask for [`Message::index`].
    pub fn nth(self, n: usize) -> Self {
        Self { pass: n.saturating_sub(1), ..self }
    }

    /// Counts within a connection, and from the last message of the client on that says this: from
    /// `BEGIN` on, the second message is the same one in every transaction.
    pub fn since(self, text: &'static str) -> Self {
        Self { since: Some(text), ..self }
    }

    /// In another way than by a reset.
    pub fn by(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    pub(super) fn sprung(&self) -> Sprung {
        self.sprung.clone()
    }

    /// Whether it springs at a message.
    pub(super) fn springs(&mut self, message: &Message<'_>) -> bool {
        let begins = |text| message.side == Side::Client && message.says(text);
        if self.since.is_some_and(begins) {
            self.passed.insert(message.connection, 0);
        }
        if message.side != self.side || self.sprung.yet() || !(self.matches)(message) {
            return false;
        }
        // All connections count as one, unless they are counted each by itself.
        let passed = match self.since {
            None => self.passed.entry(0).or_default(),
            Some(_) => match self.passed.get_mut(&message.connection) {
                Some(passed) => passed,
                None => return false,
            },
        };
        *passed += 1;
        if *passed != self.pass + 1 {
            return false;
        }
        self.sprung.0.store(true, Ordering::SeqCst);
        true
    }
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a trap {:?} a message of the {:?}", self.moment, self.side)
    }
}
