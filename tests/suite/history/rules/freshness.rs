//! Each answer is as fresh as was asked for; what was said to be lost is lost.

use super::{Bounds, by_number};
use crate::history::journal::History;
use crate::history::knowledge::{Knowledge, When};
use crate::history::lineage::{Lineage, Place};
use crate::history::operation::{Answer, Asked, Freshness, Moment};
use crate::history::point::Point;
use crate::history::report::{Report, Rule};

pub fn judge(
    history: &History,
    lineage: &Lineage,
    knowledge: &Knowledge<'_>,
    bounds: Bounds,
    report: &mut Report,
) {
    let judge = Judge { lineage, bounds };
    let numbered = by_number(history);
    // Full answers and those without a wish are held against what was known at some moment.
    let mut known: Vec<(usize, Place, When)> = Vec::new();
    for (index, asked) in history.asked.iter().enumerate() {
        match (&asked.answer, asked.freshness) {
            (Answer::At(point, _), freshness) => {
                let Some(place) = lineage.place(*point) else {
                    report.break_rule(Rule::NoSuchRevision, || format!("{point}: {asked:?}"));
                    continue;
                };
                let write = lineage.entries[place.entry].write.and_then(|number| numbered.get(&number));
                if write.is_some_and(|write| history.writes[*write].span.begun > asked.span.ended) {
                    report.break_rule(Rule::FromTheFuture, || format!("{asked:?}"));
                }
                report.see(name(freshness));
                match freshness {
                    Freshness::Newest => known.extend(judge.recently(asked).map(|when| (index, place, when))),
                    Freshness::Full => {
                        let live = lineage.live_during(asked.span);
                        known.extend(live.map(|branch| (index, place, (asked.span.begun, branch))));
                    }
                    Freshness::AtLeast(wanted) => judge.at_least(asked, wanted, place, report),
                    Freshness::Exact(wanted) if wanted != *point => {
                        report.break_rule(Rule::AnotherRevision, || {
                            format!("{wanted} was asked for: {asked:?}")
                        });
                    }
                    Freshness::Exact(_) => {}
                }
            }
            (Answer::Lost, Freshness::AtLeast(wanted) | Freshness::Exact(wanted)) => {
                judge.lost(asked, wanted, report);
            }
            (Answer::OutOfRange, Freshness::Exact(wanted)) => judge.out_of_range(asked, wanted, report),
            (Answer::Lost | Answer::OutOfRange, _) => {
                report.break_rule(Rule::Defect, || format!("no zookie was given: {asked:?}"));
            }
        }
    }
    judge_known(history, lineage, knowledge, &known, report);
}

/// A full answer must have all that was known when it was asked for, on one of the branches that
/// were live meanwhile; any answer all that was known long before.
fn judge_known(
    history: &History,
    lineage: &Lineage,
    knowledge: &Knowledge<'_>,
    known: &[(usize, Place, When)],
    report: &mut Report,
) {
    let asked: Vec<When> = known.iter().map(|(_, _, when)| *when).collect();
    let floors = knowledge.floors(&asked);
    let mut satisfied = vec![false; history.asked.len()];
    for ((index, place, (moment, branch)), floor) in known.iter().zip(floors) {
        let asked = &history.asked[*index];
        if asked.freshness == Freshness::Full {
            satisfied[*index] |= place.is_on(*branch) && place.revision >= floor;
            continue;
        }
        // A branch that began since is as good as any.
        let stale = if place.is_on(*branch) { place.revision < floor } else { place.last < *branch };
        if stale {
            report.break_rule(Rule::Stale, || {
                format!("{floor} of branch {branch} was known at {moment:?}: {asked:?}")
            });
        }
    }
    for (asked, satisfied) in history.asked.iter().zip(satisfied) {
        let Answer::At(point, _) = &asked.answer else { continue };
        if asked.freshness == Freshness::Full && !satisfied && lineage.place(*point).is_some() {
            let floors: Vec<_> =
                lineage.live_during(asked.span).map(|branch| (asked.span.begun, branch)).collect();
            let known = knowledge.floors(&floors);
            report
                .break_rule(Rule::NotEverything, || format!("{known:?} was known at {floors:?}: {asked:?}"));
        }
    }
}

struct Judge<'l> {
    lineage: &'l Lineage,
    bounds: Bounds,
}

impl Judge<'_> {
    /// The last moment of which an answer without any wish must know.
    fn recently(&self, asked: &Asked) -> Option<When> {
        let bound = u64::try_from(self.bounds.staleness.as_micros()).unwrap_or(u64::MAX);
        let moment = Moment(asked.span.begun.0.checked_sub(bound)?);
        Some((moment, self.lineage.branch_at(moment)))
    }

    fn at_least(&self, asked: &Asked, wanted: Point, place: Place, report: &mut Report) {
        // A zookie of no database was reported when it was handed out.
        let Some(least) = self.lineage.place(wanted) else { return };
        if !least.leads_to(place) {
            report.break_rule(Rule::OlderThanAsked, || format!("{wanted} was asked for: {asked:?}"));
        }
    }

    /// Lost is what is not on the path of a branch that was live meanwhile.
    fn lost(&self, asked: &Asked, wanted: Point, report: &mut Report) {
        report.check("zookies said to be lost", 1);
        let Some(place) = self.lineage.place(wanted) else { return };
        let before = self.lineage.branch_at(asked.span.begun);
        let mut branches = self.lineage.live_during(asked.span).chain([before]);
        if branches.all(|branch| place.is_on(branch)) {
            report.break_rule(Rule::SaidToBeLost, || format!("{wanted} is not: {asked:?}"));
        }
    }

    fn out_of_range(&self, asked: &Asked, wanted: Point, report: &mut Report) {
        report.check("zookies said to be out of reach", 1);
        let Some(place) = self.lineage.place(wanted) else { return };
        let last = self.lineage.branches[usize::from(place.last)].entries.end.saturating_sub(1);
        let age = self.lineage.entries[last].committed_at - self.lineage.entries[place.entry].committed_at;
        if age < i64::try_from(self.bounds.reach.as_micros()).unwrap_or(i64::MAX) {
            report.break_rule(Rule::SaidToBeOutOfReach, || format!("{wanted} is not: {asked:?}"));
        }
    }
}

fn name(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Newest => "answers without any wish",
        Freshness::AtLeast(_) => "answers at least at a zookie",
        Freshness::Exact(_) => "answers at exactly a zookie",
        Freshness::Full => "full answers",
    }
}
