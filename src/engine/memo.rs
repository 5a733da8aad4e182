//! What is known of goals so far.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::conditions::Conditions;
use super::goal::Goal;
use crate::graph::SubjectNode;

/// What one request has found out, so that no goal is explored twice.
///
/// Valid for one (snapshot, schema, context, contextual tuples, `now`, limits) and shared by the
/// questions of a batch that have these in common; a question about another subject than the one
/// before keeps only what the conditions came to. One search at a time uses it: a search that is
/// suspended must end, or be dropped, before another runs with the same memo.
#[derive(Debug, Default)]
pub struct Memo {
    pub(super) conditions: Conditions,
    pub(super) table: Table,
    subject: Option<SubjectNode>,
}

impl Memo {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was found out about another subject.
    pub(super) fn bind(&mut self, subject: SubjectNode) {
        if self.subject != Some(subject) {
            self.subject = Some(subject);
            self.table.clear();
        }
    }
}

/// Which side an uncertain thing is counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bound {
    /// Unknown counts as absent: what holds here holds for certain.
    Lo,
    /// Unknown counts as present: what does not hold here does not hold for certain.
    Hi,
}

impl Bound {
    pub(super) fn flip(self) -> Self {
        match self {
            Self::Lo => Self::Hi,
            Self::Hi => Self::Lo,
        }
    }
}

/// What is final about a goal, per bound. Lo ⊆ Hi: true in Lo implies true in Hi, false in Hi
/// implies false in Lo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known(u8);

impl Known {
    const LO_TRUE: u8 = 1;
    const LO_FALSE: u8 = 2;
    const HI_TRUE: u8 = 4;
    const HI_FALSE: u8 = 8;

    /// The value in a bound, if it is known.
    pub(super) fn value(self, bound: Bound) -> Option<bool> {
        let (yes, no) = match bound {
            Bound::Lo => (Self::LO_TRUE, Self::LO_FALSE),
            Bound::Hi => (Self::HI_TRUE, Self::HI_FALSE),
        };
        if self.0 & yes != 0 {
            Some(true)
        } else if self.0 & no != 0 {
            Some(false)
        } else {
            None
        }
    }

    /// Whether both bounds are known to agree.
    pub(super) fn is_exact(self) -> bool {
        self.0 & Self::LO_TRUE != 0 || self.0 & Self::HI_FALSE != 0
    }

    /// Learns a value in a bound; `exact`: nothing uncertain was met on the way to it, so that it
    /// is the value in the other bound too.
    pub(super) fn learn(&mut self, bound: Bound, value: bool, exact: bool) {
        self.0 |= match (bound, value) {
            (Bound::Lo, true) => Self::LO_TRUE | Self::HI_TRUE,
            (Bound::Hi, false) => Self::LO_FALSE | Self::HI_FALSE,
            (Bound::Hi, true) => Self::HI_TRUE | if exact { Self::LO_TRUE } else { 0 },
            (Bound::Lo, false) => Self::LO_FALSE | if exact { Self::HI_FALSE } else { 0 },
        };
    }
}

/// A goal met by a search, what is final about it, and its state in the frame that works on it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) goal: Goal,
    /// The order in which goals became certain: a proof rests on lower ranks only. Zero: not
    /// (yet) certain.
    pub(super) rank: u32,
    pub(super) known: Known,
    /// The innermost frame that works on it, or [`NO_FRAME`].
    pub(super) frame: u32,
    /// How far that frame is with it.
    pub(super) state: State,
}

/// No frame works on the entry.
pub(super) const NO_FRAME: u32 = 0;

/// How far a frame is with an entry.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The fewest hops to it from the root, if they are counted.
    pub(super) depth: u32,
    /// The operand of an `and` that is waited for.
    pub(super) cursor: u32,
    pub(super) proved: bool,
    /// Entries to notify when it is proved.
    pub(super) waiters: SmallVec<[u32; 4]>,
}

/// Goals by number, in the order they were met.
#[derive(Debug, Default)]
pub(super) struct Table {
    numbers: HashMap<Goal, u32, foldhash::fast::FixedState>,
    entries: Vec<Entry>,
    /// What was found by searches that count hops: only the roots of their frames, since what
    /// lies below depends on where the count began.
    by_depth: HashMap<(Goal, u32), Known, foldhash::fast::FixedState>,
    spilled: usize,
    frames: u32,
    ranks: u32,
}

#[expect(
    clippy::indexing_slicing,
    reason = "numbers are given by the table and it never shrinks in a search"
)]
impl Table {
    /// Bytes of an entry with its place in the index.
    const ENTRY_BYTES: usize = size_of::<Entry>() + 2 * size_of::<(Goal, u32)>();

    fn clear(&mut self) {
        self.numbers.clear();
        self.entries.clear();
        self.by_depth.clear();
        self.spilled = 0;
    }

    /// The number of a goal, which is entered if it is new.
    pub(super) fn number(&mut self, goal: Goal) -> u32 {
        let next = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(goal).or_insert(next);
        if number == next {
            self.entries.push(Entry {
                goal,
                rank: 0,
                known: Known::default(),
                frame: NO_FRAME,
                state: State::default(),
            });
        }
        number
    }

    pub(super) fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }

    pub(super) fn entry_mut(&mut self, number: u32) -> &mut Entry {
        &mut self.entries[number as usize]
    }

    /// The entry of a goal, if it was met.
    pub(super) fn find(&self, goal: Goal) -> Option<&Entry> {
        self.numbers.get(&goal).map(|number| self.entry(*number))
    }

    /// What is final about a goal; `depth`: for a search that counts hops, how many led here.
    pub(super) fn known(&self, goal: Goal, depth: Option<u32>) -> Known {
        match depth {
            None => self.find(goal).map_or_else(Known::default, |entry| entry.known),
            Some(depth) => self.by_depth.get(&(goal, depth)).copied().unwrap_or_default(),
        }
    }

    /// Records what is final about the root of a search that counts hops.
    pub(super) fn learn_at(&mut self, goal: Goal, depth: u32, bound: Bound, value: bool, exact: bool) {
        self.by_depth.entry((goal, depth)).or_default().learn(bound, value, exact);
    }

    /// Records what is final about an entry.
    pub(super) fn learn(&mut self, number: u32, bound: Bound, value: bool, exact: bool) {
        let next = self.ranks + 1;
        let entry = &mut self.entries[number as usize];
        entry.known.learn(bound, value, exact);
        if entry.rank == 0 && entry.known.value(Bound::Lo) == Some(true) {
            entry.rank = next;
            self.ranks = next;
        }
    }

    pub(super) fn wait(&mut self, number: u32, waiter: u32) {
        let waiters = &mut self.entries[number as usize].state.waiters;
        if waiters.len() >= waiters.inline_size() {
            self.spilled += 1;
        }
        waiters.push(waiter);
    }

    /// A number for a frame, never given before.
    pub(super) fn next_frame(&mut self) -> u32 {
        self.frames += 1;
        self.frames
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * Self::ENTRY_BYTES
            + self.by_depth.len() * 2 * size_of::<((Goal, u32), Known)>()
            + self.spilled * 2 * size_of::<u32>()
    }
}
