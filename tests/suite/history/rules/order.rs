//! A write that is begun after another was acknowledged, or seen by anybody, comes after it.

use super::by_number;
use crate::history::journal::History;
use crate::history::knowledge::{Knowledge, When};
use crate::history::lineage::Lineage;
use crate::history::report::{Report, Rule};

pub fn judge(history: &History, lineage: &Lineage, knowledge: &Knowledge<'_>, report: &mut Report) {
    let numbered = by_number(history);
    let write = |number: u32| history.writes.get(*numbered.get(&number)?);
    let mut made: Vec<(usize, When)> = Vec::new();
    for (entry, place) in lineage.entries.iter().zip(&lineage.places) {
        if let Some(write) = entry.write.and_then(write) {
            made.push((place.entry, (write.span.begun, place.first)));
        }
    }
    let asked: Vec<When> = made.iter().map(|(_, when)| *when).collect();
    for ((entry, (begun, _)), known) in made.into_iter().zip(knowledge.floors(&asked)) {
        let entry = &lineage.entries[entry];
        if entry.point.revision <= known {
            report.break_rule(Rule::OutOfOrder, || {
                format!(
                    "the write of {} was begun at {begun:?}, when {known} was known to be there",
                    entry.point
                )
            });
        }
    }
}
