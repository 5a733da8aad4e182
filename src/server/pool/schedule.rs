//! Whose turn it is: the discipline of the pool, without threads and without a clock.
//!
//! Two things are shared out. **Places**: a search that has one is under way and holds memory.
//! **Turns**: one slice of one search that is under way. Stores take turns, within a store its
//! lines do, and within a line searches that have had few slices go before those that have had
//! many. All slices are of about one size, so who takes turns gets equal shares of the processors,
//! however many searches it brings and however long they are.
//!
//! Few searches are under way, so that each ends soon; the others wait for a place. Had all of them
//! one, all of them would be late. A store that has no search of a kind under way begins one
//! whatever others do: it takes its turns from the start.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::line::{Kind, Line, Place};
use crate::revision::StoreId;

/// Slices after which a search no longer goes before others of its line.
pub const FRESH_SLICES: u32 = 2;
/// So many fresh slices of a line run one after another before one that is not.
const FRESH_TURNS: u32 = 3;
/// How long a search is taken to hold its place before any of its kind has given one back.
const USUAL: Duration = Duration::from_millis(20);

/// How much may be under way and how much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Searches under way while others wait.
    pub usual: usize,
    /// Searches under way at most: each store's first of a kind goes beyond the usual number.
    pub most: usize,
    /// Searches that wait for a place.
    pub waiting: usize,
    /// The same of one store.
    pub waiting_of_store: usize,
}

/// What became of a wish for a place.
#[derive(Debug)]
pub enum Entered<W> {
    /// The place is the caller's.
    Under,
    /// The caller waits under this number. Whom it pushed out, if anybody, is told.
    Waits { ticket: u64, displaced: Option<W> },
    /// Too many wait already.
    Full(W),
}

/// Places and turns. `J` is a slice to run, `W` is told of a place.
#[derive(Debug)]
pub struct Schedule<J, W> {
    bounds: Bounds,
    stores: HashMap<StoreId, Row<J, W>>,
    /// Stores that have slices to run, in turn.
    ready: VecDeque<StoreId>,
    /// Stores of which somebody waits for a place, in turn.
    eager: VecDeque<StoreId>,
    /// Places whose searches pause, by the order in which they began to.
    parked: BTreeMap<u64, (Line, Instant)>,
    under_way: usize,
    waiting: usize,
    /// How long a search of each kind usually holds its place.
    usual: ByKind<Duration>,
    next: u64,
}

/// What there is of one store.
#[derive(Debug)]
struct Row<J, W> {
    lines: HashMap<Place, Queue<J, W>>,
    ready: VecDeque<Place>,
    eager: VecDeque<Place>,
    under_way: ByKind<usize>,
    waiting: usize,
}

/// What there is of one line.
#[derive(Debug)]
struct Queue<J, W> {
    fresh: VecDeque<J>,
    seasoned: VecDeque<J>,
    /// Fresh slices run since the last one that was not.
    fresh_turns: u32,
    /// In the order of their numbers.
    waiting: VecDeque<(u64, W)>,
    /// Searches that have lost their place while they paused; they go first.
    resuming: VecDeque<(u64, W)>,
    under_way: usize,
    /// How long a search usually holds its place; `None`: none has given one back.
    hold: Option<Duration>,
}

impl<J, W> Default for Row<J, W> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            ready: VecDeque::new(),
            eager: VecDeque::new(),
            under_way: ByKind::default(),
            waiting: 0,
        }
    }
}

impl<J, W> Default for Queue<J, W> {
    fn default() -> Self {
        Self {
            fresh: VecDeque::new(),
            seasoned: VecDeque::new(),
            fresh_turns: 0,
            waiting: VecDeque::new(),
            resuming: VecDeque::new(),
            under_way: 0,
            hold: None,
        }
    }
}

impl<J, W> Queue<J, W> {
    fn has_slices(&self) -> bool {
        !self.fresh.is_empty() || !self.seasoned.is_empty()
    }

    fn is_eager(&self) -> bool {
        !self.waiting.is_empty() || !self.resuming.is_empty()
    }

    fn is_idle(&self) -> bool {
        !self.has_slices() && !self.is_eager() && self.under_way == 0
    }

    fn take(&mut self) -> Option<J> {
        let seasoned_waited = self.fresh_turns >= FRESH_TURNS && !self.seasoned.is_empty();
        if !seasoned_waited && let Some(job) = self.fresh.pop_front() {
            self.fresh_turns = self.fresh_turns.saturating_add(1);
            return Some(job);
        }
        self.fresh_turns = 0;
        self.seasoned.pop_front()
    }
}

/// One for each kind of search.
#[derive(Debug, Clone, Copy, Default)]
struct ByKind<T> {
    one: T,
    many: T,
}

impl<T> ByKind<T> {
    fn of(&self, kind: Kind) -> &T {
        match kind {
            Kind::One => &self.one,
            Kind::Many => &self.many,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut T {
        match kind {
            Kind::One => &mut self.one,
            Kind::Many => &mut self.many,
        }
    }
}

/// An eighth of the way from what was usual to what was seen.
fn blend(usual: Duration, seen: Duration) -> Duration {
    (usual * 7 + seen) / 8
}

impl<J, W> Schedule<J, W> {
    /// Nobody has come yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds: Bounds { usual: bounds.usual.min(bounds.most), ..bounds },
            stores: HashMap::new(),
            ready: VecDeque::new(),
            eager: VecDeque::new(),
            parked: BTreeMap::new(),
            under_way: 0,
            waiting: 0,
            usual: ByKind { one: USUAL, many: USUAL },
            next: 0,
        }
    }

    /// Searches that have a place.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Searches that wait for a place; those that lost theirs while they paused are not counted.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a place that pauses would be of use to somebody.
    pub fn wants_parked(&self) -> bool {
        !self.eager.is_empty() && !self.parked.is_empty()
    }

    /// How long whoever joins a line now is going to wait for a place: nothing where there is one.
    pub fn wait(&self, line: &Line) -> Duration {
        let queue = self.queue(line);
        if self.has_room(line) && queue.is_none_or(|queue| !queue.is_eager()) {
            return Duration::ZERO;
        }
        let (ahead, under_way) =
            queue.map_or((0, 0), |queue| (queue.waiting.len() + queue.resuming.len(), queue.under_way));
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
        let under_way = u32::try_from(under_way).unwrap_or(u32::MAX).max(1);
        self.hold(line).saturating_mul(ahead) / under_way
    }

    /// How long a search of a line usually holds its place.
    pub fn hold(&self, line: &Line) -> Duration {
        let seen = self.queue(line).and_then(|queue| queue.hold);
        seen.unwrap_or(*self.usual.of(line.place.kind))
    }

    fn queue(&self, line: &Line) -> Option<&Queue<J, W>> {
        self.stores.get(&line.store)?.lines.get(&line.place)
    }

    fn has_room(&self, line: &Line) -> bool {
        let first = self.stores.get(&line.store).is_none_or(|row| *row.under_way.of(line.place.kind) == 0);
        self.under_way < self.bounds.most && (first || self.under_way < self.bounds.usual)
    }

    /// Takes a place, or joins the line for one.
    pub fn enter(&mut self, line: &Line, waiter: W) -> Entered<W> {
        if self.has_room(line) && self.queue(line).is_none_or(|queue| !queue.is_eager()) {
            self.begin(line);
            return Entered::Under;
        }
        if self.bounds.most == 0 {
            return Entered::Full(waiter);
        }
        let mine = self.stores.get(&line.store).map_or(0, |row| row.waiting);
        if mine >= self.bounds.waiting_of_store {
            return Entered::Full(waiter);
        }
        let mut displaced = None;
        if self.waiting >= self.bounds.waiting {
            displaced = self.push_out(mine);
            if displaced.is_none() {
                return Entered::Full(waiter);
            }
        }
        let ticket = self.wait_in(line, waiter, |queue| &mut queue.waiting);
        self.waiting += 1;
        if let Some(row) = self.stores.get_mut(&line.store) {
            row.waiting += 1;
        }
        Entered::Waits { ticket, displaced }
    }

    /// Takes a place again for a search that lost it, before all that have not begun.
    pub fn enter_again(&mut self, line: &Line, waiter: W) -> Entered<W> {
        if self.has_room(line) && self.queue(line).is_none_or(|queue| queue.resuming.is_empty()) {
            self.begin(line);
            return Entered::Under;
        }
        let ticket = self.wait_in(line, waiter, |queue| &mut queue.resuming);
        Entered::Waits { ticket, displaced: None }
    }

    fn wait_in(
        &mut self,
        line: &Line,
        waiter: W,
        pick: impl FnOnce(&mut Queue<J, W>) -> &mut VecDeque<(u64, W)>,
    ) -> u64 {
        let ticket = self.number();
        let row = self.stores.entry(line.store).or_default();
        if row.eager.is_empty() {
            self.eager.push_back(line.store);
        }
        let queue = row.lines.entry(line.place.clone()).or_default();
        if !queue.is_eager() {
            row.eager.push_back(line.place.clone());
        }
        pick(queue).push_back((ticket, waiter));
        ticket
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn begin(&mut self, line: &Line) {
        self.under_way += 1;
        let row = self.stores.entry(line.store).or_default();
        *row.under_way.of_mut(line.place.kind) += 1;
        row.lines.entry(line.place.clone()).or_default().under_way += 1;
    }

    /// The newest of the longest line of the store of which most wait, if that are more than `mine`
    /// and one: who floods makes room, and nobody else.
    fn push_out(&mut self, mine: usize) -> Option<W> {
        let longest = self.stores.iter().max_by_key(|(_, row)| row.waiting)?;
        if longest.1.waiting <= mine + 1 {
            return None;
        }
        let store = *longest.0;
        let (place, queue) = longest.1.lines.iter().max_by_key(|(_, queue)| queue.waiting.len())?;
        let (line, ticket) = (Line { store, place: place.clone() }, queue.waiting.back()?.0);
        self.leave(&line, ticket)
    }

    /// Gives up waiting. `None`: it is over already, one way or the other.
    pub fn leave(&mut self, line: &Line, ticket: u64) -> Option<W> {
        let row = self.stores.get_mut(&line.store)?;
        let queue = row.lines.get_mut(&line.place)?;
        let left = if let Ok(at) = queue.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            row.waiting -= 1;
            self.waiting -= 1;
            queue.waiting.remove(at)
        } else {
            let at = queue.resuming.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
            queue.resuming.remove(at)
        };
        self.tidy(line);
        left.map(|(_, waiter)| waiter)
    }

    /// Gives a place back that was held for so long.
    pub fn release(&mut self, line: &Line, held: Duration) {
        let usual = self.usual.of_mut(line.place.kind);
        *usual = blend(*usual, held);
        if let Some(row) = self.stores.get_mut(&line.store)
            && let Some(queue) = row.lines.get_mut(&line.place)
        {
            queue.hold = Some(queue.hold.map_or(held, |usual| blend(usual, held)));
        }
        self.vacate(line);
    }

    fn vacate(&mut self, line: &Line) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(row) = self.stores.get_mut(&line.store) {
            let of_kind = row.under_way.of_mut(line.place.kind);
            *of_kind = of_kind.saturating_sub(1);
            if let Some(queue) = row.lines.get_mut(&line.place) {
                queue.under_way = queue.under_way.saturating_sub(1);
            }
        }
        self.tidy(line);
    }

    /// The next who gets a place, if there is one for anybody. Stores take turns at that as well.
    pub fn grant(&mut self) -> Option<(Line, W)> {
        for _ in 0..self.eager.len() {
            let store = self.eager.pop_front()?;
            self.eager.push_back(store);
            let places = self.stores.get(&store).map_or(0, |row| row.eager.len());
            for _ in 0..places {
                let row = self.stores.get_mut(&store)?;
                let place = row.eager.pop_front()?;
                row.eager.push_back(place.clone());
                let line = Line { store, place };
                if !self.has_room(&line) {
                    continue;
                }
                let row = self.stores.get_mut(&store)?;
                let queue = row.lines.get_mut(&line.place)?;
                let waiter = if let Some((_, waiter)) = queue.resuming.pop_front() {
                    waiter
                } else {
                    let (_, waiter) = queue.waiting.pop_front()?;
                    row.waiting -= 1;
                    self.waiting -= 1;
                    waiter
                };
                self.begin(&line);
                self.tidy(&line);
                return Some((line, waiter));
            }
        }
        None
    }

    /// The place of a search that pauses: it keeps it unless others need it.
    pub fn park(&mut self, line: &Line, now: Instant) -> u64 {
        let number = self.number();
        self.parked.insert(number, (line.clone(), now));
        number
    }

    /// Whether the place of a search that paused is still its own; it no longer pauses.
    pub fn unpark(&mut self, number: u64) -> bool {
        self.parked.remove(&number).is_some()
    }

    /// Takes a place away from a search that has paused since before `moment`, if others wait.
    pub fn reclaim(&mut self, moment: Instant) -> bool {
        if !self.wants_parked() {
            return false;
        }
        match self.parked.first_entry() {
            Some(oldest) if oldest.get().1 <= moment => {
                let (line, _) = oldest.remove();
                self.vacate(&line);
                true
            }
            _ => false,
        }
    }

    /// A slice of a search under way that is to run, and how many it has had.
    pub fn push(&mut self, line: &Line, had: u32, job: J) {
        let row = self.stores.entry(line.store).or_default();
        if row.ready.is_empty() {
            self.ready.push_back(line.store);
        }
        let queue = row.lines.entry(line.place.clone()).or_default();
        if !queue.has_slices() {
            row.ready.push_back(line.place.clone());
        }
        if had < FRESH_SLICES { queue.fresh.push_back(job) } else { queue.seasoned.push_back(job) }
    }

    /// The slice whose turn it is.
    pub fn pop(&mut self) -> Option<J> {
        let store = self.ready.pop_front()?;
        let row = self.stores.get_mut(&store)?;
        let place = row.ready.pop_front()?;
        let queue = row.lines.get_mut(&place)?;
        let job = queue.take();
        if queue.has_slices() {
            row.ready.push_back(place.clone());
        }
        if !row.ready.is_empty() {
            self.ready.push_back(store);
        }
        self.tidy(&Line { store, place });
        job
    }

    /// Forgets everybody who waits.
    pub fn close(&mut self) {
        for row in self.stores.values_mut() {
            row.eager.clear();
            row.waiting = 0;
            for queue in row.lines.values_mut() {
                queue.waiting.clear();
                queue.resuming.clear();
            }
        }
        self.eager.clear();
        self.waiting = 0;
    }

    /// Takes a line off the lists that it is no longer part of, and forgets it if it is empty.
    fn tidy(&mut self, line: &Line) {
        let Some(row) = self.stores.get_mut(&line.store) else { return };
        let Some(queue) = row.lines.get(&line.place) else { return };
        if !queue.is_eager() && row.eager.contains(&line.place) {
            row.eager.retain(|place| *place != line.place);
            if row.eager.is_empty() {
                self.eager.retain(|store| *store != line.store);
            }
        }
        if queue.is_idle() {
            row.lines.remove(&line.place);
            if row.lines.is_empty() {
                self.stores.remove(&line.store);
            }
        }
    }
}

#[cfg(test)]
mod tests;
