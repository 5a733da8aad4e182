//! Each acknowledged write is in the log once, under the revision its zookie names; a refused one
//! is not there; attempts with one key are told one result.

use std::collections::HashMap;

use crate::history::journal::History;
use crate::history::lineage::Lineage;
use crate::history::operation::{Acknowledged, Span, Write};
use crate::history::report::{Report, Rule};

pub fn judge(history: &History, lineage: &Lineage, report: &mut Report) {
    let mut found: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, entry) in lineage.entries.iter().enumerate() {
        if let Some(number) = entry.write {
            found.entry(number).or_default().push(index);
        }
    }
    for write in &history.writes {
        let found = found.get(&write.number).map_or(&[][..], Vec::as_slice);
        for told in &write.acknowledged {
            acknowledged(write, told, found, lineage, report);
        }
        for (index, one) in write.acknowledged.iter().enumerate() {
            for two in write.acknowledged.iter().skip(index + 1) {
                same_result(write, one, two, lineage, report);
            }
        }
        if !write.acknowledged.is_empty() {
            report.check("writes acknowledged", 1);
        } else if let Some(refused) = write.refused {
            report.check("writes refused", 1);
            if let (Some(entry), false) = (found.first(), write.untold) {
                report.break_rule(Rule::RefusedAndWritten, || {
                    let at = lineage.entries[*entry].point;
                    format!("w{} was refused with {:?} and is there as {at}", write.number, refused.why)
                });
            }
        } else {
            report
                .check(if found.is_empty() { "writes untold, not there" } else { "writes untold, there" }, 1);
        }
    }
}

fn acknowledged(write: &Write, told: &Acknowledged, found: &[usize], lineage: &Lineage, report: &mut Report) {
    let Some(place) = lineage.place(told.at) else {
        report.break_rule(Rule::AcknowledgedAndLost, || {
            format!(
                "w{} was acknowledged as {} at {:?}, which no database holds",
                write.number, told.at, told.span
            )
        });
        return;
    };
    if lineage.branches.len() > usize::from(place.last) + 1 {
        report.see("acknowledged writes lost with a primary");
    }
    if lineage.entries[place.entry].write == Some(write.number) {
        return;
    }
    // It found everything as it wanted it and names the newest revision of then; the replay
    // sees to that. It must not be in the log as well.
    let live: Vec<u16> = lineage.live_during(told.span).collect();
    let elsewhere = found
        .iter()
        .find(|entry| !live.is_empty() && live.iter().all(|branch| lineage.places[**entry].is_on(*branch)));
    if let Some(entry) = elsewhere {
        report.break_rule(Rule::AcknowledgedElsewhere, || {
            let at = lineage.entries[*entry].point;
            format!("w{} was acknowledged as {} and is there as {at}", write.number, told.at)
        });
    }
}

/// Two acknowledgements that came from one and the same history are one.
fn same_result(
    write: &Write,
    one: &Acknowledged,
    two: &Acknowledged,
    lineage: &Lineage,
    report: &mut Report,
) {
    let only = |span: Span| {
        let mut live = lineage.live_during(span);
        live.next().filter(|_| live.next().is_none())
    };
    if one.at != two.at && only(one.span).is_some() && only(one.span) == only(two.span) {
        report.break_rule(Rule::RetriedToAnotherResult, || {
            format!("w{} was acknowledged as {} and as {}", write.number, one.at, two.at)
        });
    }
}
