//! Goes through the history revision by revision, as the model sees it: each revision makes
//! exactly the changes that its write asked for, and every answer that names it is the one the
//! model gives there.
//!
//! Where a branch begins, the state is taken back to the fork by undoing.

use std::collections::{HashMap, HashSet};

use super::by_number;
use crate::history::journal::History;
use crate::history::knowledge::{Knowledge, When};
use crate::history::lineage::{Entry, Lineage};
use crate::history::model::{Model, Viewing};
use crate::history::operation::{Answer, Asked, Demand, Given, Question, Refusal};
use crate::history::report::{Report, Rule};

pub fn judge(history: &History, lineage: &Lineage, knowledge: &Knowledge<'_>, report: &mut Report) {
    let mut replay = Replay {
        history,
        lineage,
        numbered: by_number(history),
        model: Model::default(),
        path: Vec::new(),
        written: HashMap::new(),
        answers: answers(history, lineage),
        idle: idle(history, lineage),
        deserved: HashSet::new(),
        report,
    };
    let mut windows = windows(history, lineage, knowledge);
    replay.enter(0);
    for (index, branch) in (0_u16..).zip(&lineage.branches) {
        let mut waiting: Vec<Window> = windows.extract_if(.., |window| window.branch == index).collect();
        waiting.sort_unstable_by_key(|window| std::cmp::Reverse(window.from));
        let earliest = waiting.last().map_or(u64::MAX, |window| window.from);
        // What was there before the fork is gone through once more, for the refusals of clients
        // whose calls began before it.
        let again = replay.back_to(branch.fork.min(earliest), branch.fork);
        let mut open = Vec::new();
        replay.refuse(&mut waiting, &mut open);
        for entry in again {
            replay.apply(entry);
            replay.refuse(&mut waiting, &mut open);
        }
        for entry in branch.entries.clone() {
            replay.enter(entry);
            replay.refuse(&mut waiting, &mut open);
        }
    }
    replay.judge_refusals();
}

struct Replay<'h> {
    history: &'h History,
    lineage: &'h Lineage,
    numbered: HashMap<u32, usize>,
    model: Model,
    /// The entries that led here, with what is needed to undo each.
    path: Vec<Step>,
    /// The writes on the path, and where.
    written: HashMap<u32, usize>,
    /// (entry, index of the answer that names it), the last first.
    answers: Vec<(usize, usize)>,
    /// (entry, index of a write that says it had nothing to change there), the last first.
    idle: Vec<(usize, usize)>,
    /// Refused writes whose refusal was right at some revision.
    deserved: HashSet<usize>,
    report: &'h mut Report,
}

struct Step {
    entry: usize,
    before: (Option<Viewing>, Option<u64>),
    /// Changes that changed nothing, by their index: a fault, and not to be undone.
    void: Vec<usize>,
}

/// The revisions of one branch at which a refusal may have been decided.
struct Window {
    branch: u16,
    from: u64,
    /// Exclusive.
    until: u64,
    write: usize,
}

fn answers(history: &History, lineage: &Lineage) -> Vec<(usize, usize)> {
    let named = history.asked.iter().enumerate().filter_map(|(index, asked)| match asked.answer {
        Answer::At(point, _) => Some((lineage.place(point)?.entry, index)),
        Answer::Lost | Answer::OutOfRange => None,
    });
    let mut named: Vec<_> = named.collect();
    named.sort_unstable_by(|a, b| b.cmp(a));
    named
}

fn idle(history: &History, lineage: &Lineage) -> Vec<(usize, usize)> {
    let mut idle = Vec::new();
    for (index, write) in history.writes.iter().enumerate() {
        for told in &write.acknowledged {
            let Some(place) = lineage.place(told.at) else { continue };
            if lineage.entries[place.entry].write != Some(write.number) {
                idle.push((place.entry, index));
            }
        }
    }
    idle.sort_unstable_by(|a, b| b.cmp(a));
    idle
}

fn windows(history: &History, lineage: &Lineage, knowledge: &Knowledge<'_>) -> Vec<Window> {
    let mut refused: Vec<(usize, When, When)> = Vec::new();
    for (index, write) in history.writes.iter().enumerate() {
        let Some(refused_as) = write.refused.filter(|refused| refused.why != Refusal::Unable) else {
            continue;
        };
        let span = refused_as.span;
        let live = lineage.live_during(span);
        refused.extend(live.map(|branch| (index, (span.begun, branch), (span.ended, branch))));
    }
    let (begun, ended): (Vec<When>, Vec<When>) =
        refused.iter().map(|(_, begun, ended)| (*begun, *ended)).unzip();
    let bounds = knowledge.floors(&begun).into_iter().zip(knowledge.ceilings(&ended));
    let windows = refused.iter().zip(bounds);
    windows
        .map(|((write, (_, branch), _), (from, until))| Window {
            branch: *branch,
            from,
            until,
            write: *write,
        })
        .collect()
}

impl Replay<'_> {
    fn revision(&self) -> u64 {
        self.path.last().map_or(0, |step| self.lineage.entries[step.entry].point.revision)
    }

    /// Takes back what came after a revision; returns what of it belongs before `fork`, in order.
    fn back_to(&mut self, revision: u64, fork: u64) -> Vec<usize> {
        let mut again = Vec::new();
        while self.revision() > revision {
            let Some(step) = self.path.pop() else { break };
            let entry = &self.lineage.entries[step.entry];
            for (index, (fact, present)) in entry.changes.iter().enumerate().rev() {
                if !step.void.contains(&index) {
                    self.model.put(*fact, !present);
                }
            }
            (self.model.viewing, self.model.schema) = step.before;
            if let Some(number) = entry.write {
                self.written.remove(&number);
            }
            if entry.point.revision <= fork {
                again.push(step.entry);
            }
        }
        again.reverse();
        again
    }

    /// Goes to the next revision and judges all that concerns it.
    fn enter(&mut self, index: usize) {
        let entry = &self.lineage.entries[index];
        self.judge_changes(entry);
        self.apply(index);
        while let Some((_, asked)) = self.answers.pop_if(|(at, _)| *at == index) {
            self.judge_answer(asked);
        }
        while let Some((_, write)) = self.idle.pop_if(|(at, _)| *at == index) {
            self.judge_idle(write);
        }
    }

    fn apply(&mut self, index: usize) {
        let entry = &self.lineage.entries[index];
        let before = (self.model.viewing, self.model.schema);
        let mut void = Vec::new();
        for (index, (fact, present)) in entry.changes.iter().enumerate() {
            if !self.model.put(*fact, *present) {
                void.push(index);
            }
        }
        if let Some((viewing, id)) = entry.schema {
            self.model.viewing = Some(viewing);
            self.model.schema = Some(id);
        }
        if let Some(number) = entry.write {
            self.written.insert(number, index);
        }
        self.path.push(Step { entry: index, before, void });
    }

    fn judge_changes(&mut self, entry: &Entry) {
        if entry.point.revision == 0 {
            return;
        }
        let at = entry.point;
        let write = entry.write.and_then(|number| self.history.writes.get(*self.numbered.get(&number)?));
        let Some(write) = write else {
            self.report.break_rule(Rule::Stranger, || format!("nobody wrote {at}: {entry:?}"));
            return;
        };
        if let Some(before) = self.written.get(&write.number) {
            let before = self.lineage.entries[*before].point;
            self.report.break_rule(Rule::WrittenTwice, || format!("w{} is {before} and {at}", write.number));
        }
        let wanted = write.demand.changes(&self.model);
        let schema = match write.demand {
            Demand::Schema { viewing, .. } => Some(viewing),
            Demand::Tuples { .. } => None,
        };
        let mut made = entry.changes.to_vec();
        made.sort_unstable();
        let whole = wanted.as_ref() == Some(&made) && schema == entry.schema.map(|(viewing, _)| viewing);
        if !whole || (made.is_empty() && schema.is_none()) {
            self.report.break_rule(Rule::HalfApplied, || {
                format!("{at} made {made:?}, w{} asked for {wanted:?}", write.number)
            });
        }
    }

    fn judge_answer(&mut self, index: usize) {
        let asked = &self.history.asked[index];
        let Answer::At(point, given) = &asked.answer else { return };
        let expected = asked.question.answer(&self.model);
        self.report.check(kind(&asked.question), weight(&asked.question));
        if *given != expected {
            self.report
                .break_rule(Rule::WrongAnswer, || difference(asked, given, &expected, &point.to_string()));
        }
    }

    /// A write that changed nothing is acknowledged with the newest revision, where everything
    /// is as it asked for.
    fn judge_idle(&mut self, index: usize) {
        let write = &self.history.writes[index];
        self.report.see("writes that found everything done");
        if write.demand.changes(&self.model).is_none_or(|changes| !changes.is_empty()) {
            self.report.break_rule(Rule::AcknowledgedElsewhere, || {
                let at = write.acknowledged.iter().map(|told| told.at.to_string()).collect::<Vec<_>>();
                format!("w{} was acknowledged as {at:?}, which another write made: {write:?}", write.number)
            });
        }
    }

    /// Looks whether refusals that may have been decided at this revision are right here.
    fn refuse(&mut self, waiting: &mut Vec<Window>, open: &mut Vec<Window>) {
        let revision = self.revision();
        while let Some(window) = waiting.pop_if(|window| window.from <= revision) {
            open.push(window);
        }
        open.retain(|window| {
            if window.until <= revision {
                return false;
            }
            let write = &self.history.writes[window.write];
            let right = write.refused.is_some_and(|refused| write.demand.deserves(refused.why, &self.model));
            if right {
                self.deserved.insert(window.write);
            }
            !right
        });
    }

    fn judge_refusals(self) {
        for (index, write) in self.history.writes.iter().enumerate() {
            let Some(refused) = write.refused.filter(|refused| refused.why != Refusal::Unable) else {
                continue;
            };
            if !self.deserved.contains(&index) {
                self.report.break_rule(Rule::RefusedForNothing, || {
                    format!("w{}: {refused:?} of {:?}", write.number, write.demand)
                });
            }
        }
    }
}

fn kind(question: &Question) -> &'static str {
    match question {
        Question::Check(_) => "checks",
        Question::Batch(_) => "checks in batches",
        Question::Objects(..) => "lists of objects",
        Question::Users(..) => "lists of subjects",
        Question::Read(_) => "reads of tuples",
    }
}

/// How many answers there are in one.
fn weight(question: &Question) -> usize {
    match question {
        Question::Batch(facts) => facts.len(),
        Question::Check(_) | Question::Objects(..) | Question::Users(..) | Question::Read(_) => 1,
    }
}

fn difference(asked: &Asked, given: &Given, expected: &Given, at: &str) -> String {
    let Asked { process, span, freshness, question, .. } = asked;
    format!(
        "at {at} {question:?} ({freshness:?}) was answered {given:?}, not {expected:?}; {process:?} {span:?}"
    )
}
