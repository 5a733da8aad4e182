//! What anybody could know at a moment: which revisions there certainly were, and which there
//! could not be yet.
//!
//! Questions are put together and answered in one pass over the run, since there are as many of
//! them as there were operations.

use super::journal::History;
use super::lineage::{Lineage, Place};
use super::operation::{Answer, Moment};
use super::point::Point;

/// A moment and a branch that something is asked about.
pub type When = (Moment, u16);

pub struct Knowledge<'l> {
    lineage: &'l Lineage,
    /// When somebody was told of an entry, in the order of time.
    told: Vec<(Moment, u32)>,
    /// When the write of an entry was begun, in the order of time.
    begun: Vec<(Moment, u32)>,
}

impl<'l> Knowledge<'l> {
    pub fn of(history: &History, lineage: &'l Lineage) -> Self {
        let entry = |point: Point| Some(u32::try_from(lineage.place(point)?.entry).expect("few entries"));
        let answered = history.asked.iter().filter_map(|asked| match asked.answer {
            Answer::At(point, _) => Some((asked.span.ended, entry(point)?)),
            Answer::Lost | Answer::OutOfRange => None,
        });
        let acknowledged = history.writes.iter().flat_map(|write| &write.acknowledged);
        let acknowledged = acknowledged.filter_map(|told| Some((told.span.ended, entry(told.at)?)));
        let mut told: Vec<(Moment, u32)> = answered.chain(acknowledged).collect();
        told.sort_unstable();

        let numbered = super::rules::by_number(history);
        let write = |entry: usize| history.writes.get(*numbered.get(&lineage.entries[entry].write?)?);
        let entries = (0_u32..).zip(0..lineage.entries.len());
        let mut begun: Vec<(Moment, u32)> =
            entries.filter_map(|(index, entry)| Some((write(entry)?.span.begun, index))).collect();
        begun.sort_unstable();
        Self { lineage, told, begun }
    }

    /// For each: the newest revision on the path of that branch that somebody had been told of
    /// before that moment.
    pub fn floors(&self, asked: &[When]) -> Vec<u64> {
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_unstable_by_key(|index| asked[*index].0);
        let mut known = vec![0; self.lineage.branches.len()];
        let mut told = self.told.iter().peekable();
        let mut floors = vec![0; asked.len()];
        for index in order {
            let (moment, branch) = asked[index];
            while let Some((_, entry)) = told.next_if(|(at, _)| *at < moment) {
                let place = self.place(*entry);
                for known in &mut known[usize::from(place.first)..=usize::from(place.last)] {
                    *known = place.revision.max(*known);
                }
            }
            floors[index] = known.get(usize::from(branch)).copied().unwrap_or_default();
        }
        floors
    }

    /// For each: the oldest revision on the path of that branch whose write was begun after that
    /// moment.
    pub fn ceilings(&self, asked: &[When]) -> Vec<u64> {
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_unstable_by_key(|index| asked[*index].0);
        let mut oldest = vec![u64::MAX; self.lineage.branches.len()];
        let mut begun = self.begun.iter().rev().peekable();
        let mut ceilings = vec![u64::MAX; asked.len()];
        for index in order.into_iter().rev() {
            let (moment, branch) = asked[index];
            while let Some((_, entry)) = begun.next_if(|(at, _)| *at > moment) {
                let place = self.place(*entry);
                for oldest in &mut oldest[usize::from(place.first)..=usize::from(place.last)] {
                    *oldest = place.revision.min(*oldest);
                }
            }
            ceilings[index] = oldest.get(usize::from(branch)).copied().unwrap_or(u64::MAX);
        }
        ceilings
    }

    fn place(&self, entry: u32) -> Place {
        self.lineage.places[entry as usize]
    }
}
