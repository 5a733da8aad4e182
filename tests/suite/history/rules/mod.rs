//! The promises, each held against the whole run.
//!
//! ```text
//! writes     each acknowledged write is in the log once, each refused one is not
//! replay     revision by revision: what each made, and every answer that names it
//! order      writes follow those that were acknowledged before them
//! freshness  each answer is as fresh as was asked; what was said to be lost is
//! process    no server goes back, in revisions or to a history it has left
//! streams    Watch shows every revision once, as it is, and ends where histories part
//! ```

mod freshness;
mod order;
mod process;
mod replay;
mod streams;
mod writes;

use std::collections::HashMap;
use std::time::Duration;

use super::journal::History;
use super::knowledge::Knowledge;
use super::lineage::{Lineage, Log};
use super::operation::Answer;
use super::point::Point;
use super::report::{Report, Rule};

/// What the servers were told to keep to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How old an answer without any wish may be.
    pub staleness: Duration,
    /// A write acknowledged faster than this, and well within its deadline, is in the memory of the
    /// server that wrote it: it would have waited longer for that.
    pub visible: Duration,
    /// How far back servers reach.
    pub reach: Duration,
}

impl Default for Bounds {
    /// The defaults of the server, with a second for the way there and back.
    fn default() -> Self {
        Self {
            staleness: Duration::from_secs(10 + 1),
            visible: Duration::from_secs(1),
            reach: Duration::from_mins(15),
        }
    }
}

/// Decides whether a run kept the promises.
pub fn judge(history: &History, logs: Vec<Log>, bounds: Bounds) -> Report {
    let mut report = Report::default();
    for defect in &history.defects {
        report.break_rule(Rule::Defect, || defect.clone());
    }
    let lineage = Lineage::new(logs, &mut report);
    let knowledge = Knowledge::of(history, &lineage);
    writes::judge(history, &lineage, &mut report);
    replay::judge(history, &lineage, &knowledge, &mut report);
    order::judge(history, &lineage, &knowledge, &mut report);
    freshness::judge(history, &lineage, &knowledge, bounds, &mut report);
    process::judge(history, &lineage, bounds, &mut report);
    streams::judge(history, &lineage, &knowledge, &mut report);
    nothing_lost_though_synchronous(history, &lineage, &mut report);
    report
}

/// Where each write is in the history, by its number.
pub fn by_number(history: &History) -> HashMap<u32, usize> {
    history.writes.iter().enumerate().map(|(index, write)| (write.number, index)).collect()
}

/// A failover to a replica that was waited for may lose only what nobody was told of.
fn nothing_lost_though_synchronous(history: &History, lineage: &Lineage, report: &mut Report) {
    let mut look = |point: Point| {
        let Some(place) = lineage.place(point) else { return };
        let next = lineage.branches.get(usize::from(place.last) + 1);
        if next.is_some_and(|next| next.synchronous) {
            report.break_rule(Rule::LostThoughSynchronous, || format!("{point} was told of, and is lost"));
        }
    };
    for write in &history.writes {
        write.acknowledged.iter().for_each(|told| look(told.at));
    }
    for asked in &history.asked {
        if let Answer::At(point, _) = asked.answer {
            look(point);
        }
    }
}
