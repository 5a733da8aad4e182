//! Watch shows every revision after its start, in order, once, and as it is; a stream that ends
//! because the history parted says where.

use crate::history::journal::History;
use crate::history::knowledge::{Knowledge, When};
use crate::history::lineage::{Lineage, Place};
use crate::history::operation::{End, Shown, Stream};
use crate::history::point::Point;
use crate::history::report::{Report, Rule};

pub fn judge(history: &History, lineage: &Lineage, knowledge: &Knowledge<'_>, report: &mut Report) {
    let mut from_now = Vec::new();
    for stream in &history.streams {
        report.see("streams");
        let last = follow(stream, lineage, report);
        if let (End::Forked(fork), Some(last)) = (stream.end, last) {
            parted(stream, fork, last, lineage, report);
        }
        match stream.after {
            Some(after) if after != stream.start => {
                report.break_rule(Rule::StreamBegunElsewhere, || {
                    format!("after {after} was asked for, it began after {}", stream.start)
                });
            }
            Some(_) => {}
            None => from_now.push(stream),
        }
    }
    begun_with_everything(&from_now, lineage, knowledge, report);
}

/// Goes along what was shown; where it ended.
fn follow(stream: &Stream, lineage: &Lineage, report: &mut Report) -> Option<Place> {
    let Some(mut last) = lineage.place(stream.start) else {
        report.break_rule(Rule::NoSuchRevision, || format!("a stream began after {}", stream.start));
        return None;
    };
    for shown in &stream.shown {
        let (point, shown_as) = match shown {
            Shown::Revision(point, digest) => (*point, Some(*digest)),
            Shown::Checkpoint(point) => (*point, None),
        };
        let Some(place) = lineage.place(point) else {
            report.break_rule(Rule::NoSuchRevision, || format!("a stream showed {point}"));
            return None;
        };
        let follows = match shown_as {
            Some(_) => place.revision == last.revision + 1 && last.leads_to(place),
            None => place == last,
        };
        if !follows {
            let before = lineage.entries[last.entry].point;
            report.break_rule(Rule::StreamBroken, || format!("{point} was shown after {before} ({shown:?})"));
        }
        if let Some(digest) = shown_as {
            report.check("revisions watched", 1);
            let entry = &lineage.entries[place.entry];
            if entry.digest != digest {
                report.break_rule(Rule::StreamWrong, || format!("{point} is {entry:?}, shown as another"));
            }
        }
        last = place;
    }
    Some(last)
}

/// The last thing shown must be lost, and the fork be the newest one shown that is not.
fn parted(stream: &Stream, fork: Point, last: Place, lineage: &Lineage, report: &mut Report) {
    report.check("streams ended by a fork", 1);
    let shown = stream.shown.iter().rev().map(|shown| match shown {
        Shown::Revision(point, _) | Shown::Checkpoint(point) => *point,
    });
    let shown: Vec<Place> = shown.chain([stream.start]).filter_map(|point| lineage.place(point)).collect();
    let right = lineage.live_during(stream.span).any(|branch| {
        let kept = shown.iter().find(|place| place.is_on(branch));
        let kept = kept.map_or(Point::ZERO, |place| lineage.entries[place.entry].point);
        // Zero is right when the fork is further back than a server remembers.
        !last.is_on(branch) && (fork == kept || fork == Point::ZERO)
    });
    if !right {
        let last = lineage.entries[last.entry].point;
        report.break_rule(Rule::StreamSaidToFork, || {
            format!("{last} was shown last, {fork} named as the fork; {:?}", stream.span)
        });
    }
}

/// "From now on" means after everything that was known before the call.
fn begun_with_everything(
    streams: &[&Stream],
    lineage: &Lineage,
    knowledge: &Knowledge<'_>,
    report: &mut Report,
) {
    let mut asked: Vec<(usize, When)> = Vec::new();
    for (index, stream) in streams.iter().enumerate() {
        let live = lineage.live_during(stream.span);
        asked.extend(live.map(|branch| (index, (stream.span.begun, branch))));
    }
    let moments: Vec<When> = asked.iter().map(|(_, when)| *when).collect();
    let mut complete = vec![false; streams.len()];
    for ((index, (_, branch)), floor) in asked.into_iter().zip(knowledge.floors(&moments)) {
        let start = lineage.place(streams[index].start);
        complete[index] |= start.is_some_and(|start| start.is_on(branch) && start.revision >= floor);
    }
    for (stream, complete) in streams.iter().zip(complete) {
        if !complete {
            report.break_rule(Rule::StreamBegunElsewhere, || {
                format!("from now on, it began after {}; {:?}", stream.start, stream.span)
            });
        }
    }
}
