//! No server goes back: not in revisions, and not to a history that it has left.

use std::collections::HashMap;

use super::Bounds;
use crate::history::journal::History;
use crate::history::lineage::{Lineage, Place};
use crate::history::operation::{Answer, Freshness, Moment, Process};
use crate::history::report::{Report, Rule};

/// What one server has shown that it has.
struct Shown {
    /// The newest revision on the path of each branch.
    newest: Vec<u64>,
    /// The newest branch that something of its own was shown of.
    branch: u16,
}

pub fn judge(history: &History, lineage: &Lineage, bounds: Bounds, report: &mut Report) {
    let mut shown: Vec<(Moment, Process, Place)> = Vec::new();
    let mut answers: Vec<(Moment, Process, Place, usize)> = Vec::new();
    for (index, asked) in history.asked.iter().enumerate() {
        let (Answer::At(point, _), Some(process)) = (&asked.answer, asked.process) else { continue };
        let Some(place) = lineage.place(*point) else { continue };
        // An earlier revision may be asked for at any time.
        if !matches!(asked.freshness, Freshness::Exact(_)) {
            answers.push((asked.span.begun, process, place, index));
            shown.push((asked.span.ended, process, place));
        }
    }
    for told in history.writes.iter().flat_map(|write| &write.acknowledged) {
        let took = told.span.ended.0.saturating_sub(told.span.begun.0);
        let at_once = u128::from(took) < bounds.visible.min(told.patience / 2).as_micros();
        if let (Some(process), Some(place), true, false) =
            (told.process, lineage.place(told.at), at_once, told.replayed)
        {
            shown.push((told.span.ended, process, place));
        }
    }
    shown.sort_unstable_by_key(|(moment, ..)| *moment);
    answers.sort_unstable_by_key(|(moment, ..)| *moment);

    let mut servers: HashMap<Process, Shown> = HashMap::new();
    let mut shown = shown.into_iter().peekable();
    for (begun, process, place, index) in answers {
        while let Some((_, process, place)) = shown.next_if(|(ended, ..)| *ended < begun) {
            let branches = lineage.branches.len();
            servers.entry(process).or_insert_with(|| Shown::nothing(branches)).see(place);
        }
        let Some(before) = servers.get(&process) else { continue };
        let asked = &history.asked[index];
        if before.branch > place.last {
            report.break_rule(Rule::ReturnedToLostHistory, || {
                format!("branch {} was shown before: {asked:?}", before.branch)
            });
        } else if before.newest[usize::from(place.last)] > place.revision {
            report.break_rule(Rule::WentBack, || {
                format!("{} was shown before: {asked:?}", before.newest[usize::from(place.last)])
            });
        }
    }
}

impl Shown {
    fn nothing(branches: usize) -> Self {
        Self { newest: vec![0; branches], branch: 0 }
    }

    fn see(&mut self, place: Place) {
        self.branch = self.branch.max(place.first);
        for newest in &mut self.newest[usize::from(place.first)..=usize::from(place.last)] {
            *newest = place.revision.max(*newest);
        }
    }
}
