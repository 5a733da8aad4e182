//! Changes everything: alone and against others, one fact and many, with conditions and keys.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng as _;

use super::client::{Client, Written};
use crate::history::fact::Relation::{
    Auditor, Blocked, Granted, Member, Owner, Parent, Reader, Writer as Wrote,
};
use crate::history::fact::{Fact, Subject};
use crate::history::journal::History;
use crate::history::operation::{Condition, Demand, Operation, Update};

pub const USERS: u32 = 10;
pub const GROUPS: u32 = 5;
pub const FOLDERS: u32 = 4;
pub const DOCS: u32 = 12;
/// Documents that at most one user owns at a time, by a condition of everybody's.
const LEASES: std::ops::Range<u32> = DOCS..DOCS + 4;
/// Own marks that are kept standing.
const STANDING: usize = 12;
/// Marks 0 to 3 are written by everybody, in blocks.
const BLOCKS: u32 = 4;
const BLOCK: u32 = 40;

pub struct Writer {
    client: Client,
    /// Tells its marks from those of others.
    index: u32,
    marks: u32,
    standing: VecDeque<u32>,
    lease: Option<u32>,
    pace: Duration,
}

impl Writer {
    pub fn new(client: Client, index: u32, pace: Duration) -> Self {
        Self { client, index, marks: 0, standing: VecDeque::new(), lease: None, pace }
    }

    /// Writes until the run is over; returns what it was told.
    pub async fn write(mut self) -> History {
        while !self.client.shared.is_over() {
            match self.client.random.random_range(0..100) {
                0..26 => self.state_own_mark().await,
                26..40 => self.withdraw_own_mark().await,
                40..66 => self.change_shared_facts().await,
                66..74 => self.move_document().await,
                74..82 => self.change_block().await,
                82..90 => self.take_or_leave_lease().await,
                90..99 => self.write_at_once().await,
                _ => self.change_schema().await,
            }
            let pause = self.pace.mul_f64(self.client.random.random());
            tokio::time::sleep(pause).await;
            if self.client.random.random_ratio(1, 40) {
                self.client.move_on();
            }
        }
        self.client.history
    }

    async fn tell(&mut self, updates: Vec<Update>, conditions: Vec<Condition>) -> Written {
        let keyed = self.client.random.random();
        let demand = Demand::Tuples { updates: updates.into(), conditions: conditions.into() };
        let written = self.client.write(demand, keyed).await;
        if matches!(written, Written::Unknown) {
            self.client.move_on();
        }
        written
    }

    /// Nobody else writes it.
    fn mark(&mut self) -> (u32, Fact) {
        self.marks += 1;
        // Block marks come first.
        let number = BLOCKS + self.index * 10_000_000 + self.marks;
        (number, self.own(number))
    }

    fn own(&self, number: u32) -> Fact {
        Fact::new(Wrote, number, Subject::User(self.index % USERS))
    }

    async fn state_own_mark(&mut self) {
        let (number, fact) = self.mark();
        if let Written::Done = self.tell(vec![of(Operation::Create, fact)], Vec::new()).await {
            self.standing.push_back(number);
        }
    }

    async fn withdraw_own_mark(&mut self) {
        if self.standing.len() < STANDING {
            return self.state_own_mark().await;
        }
        if let Some(number) = self.standing.pop_front() {
            let fact = self.own(number);
            self.tell(vec![of(Operation::Remove, fact)], Vec::new()).await;
        }
    }

    /// Some of which may be there already, or contended for.
    async fn change_shared_facts(&mut self) {
        let many = self.client.random.random_range(1..=4);
        let mut facts: Vec<Fact> = (0..many).map(|_| self.shared_fact()).collect();
        facts.sort_unstable();
        facts.dedup();
        let random = &mut self.client.random;
        let contends = random.random_ratio(1, 4);
        let updates = facts.into_iter().map(|fact| {
            let operation = match (random.random(), contends) {
                (true, false) => Operation::Touch,
                (false, false) => Operation::Delete,
                (true, true) => Operation::Create,
                (false, true) => Operation::Remove,
            };
            of(operation, fact)
        });
        let updates = updates.collect();
        self.tell(updates, Vec::new()).await;
    }

    fn shared_fact(&mut self) -> Fact {
        let mut below = |bound| self.client.random.random_range(0..bound);
        let (doc, group, user) = (below(DOCS), below(GROUPS), below(USERS));
        match below(12) {
            // A group is not told to be a member of itself.
            0 => Fact::new(Member, group, Subject::Members((group + 1 + below(GROUPS - 1)) % GROUPS)),
            1..4 => Fact::new(Member, group, Subject::User(user)),
            4 => Fact::new(Reader, below(FOLDERS), Subject::Members(group)),
            5 => Fact::new(Owner, doc, Subject::User(user)),
            6 => Fact::new(Auditor, doc, Subject::User(user)),
            7 => Fact::new(Granted, doc, Subject::Members(group)),
            8..10 => Fact::new(Granted, doc, Subject::User(user)),
            10 => Fact::new(Blocked, doc, Subject::Members(group)),
            _ => Fact::new(Blocked, doc, Subject::User(user)),
        }
    }

    /// From any folder into one, at once.
    async fn move_document(&mut self) {
        let doc = self.client.random.random_range(0..DOCS);
        let into = self.client.random.random_range(0..FOLDERS);
        let updates = (0..FOLDERS).map(|folder| {
            let operation = if folder == into { Operation::Touch } else { Operation::Delete };
            of(operation, Fact::new(Parent, doc, Subject::Folder(folder)))
        });
        self.tell(updates.collect(), Vec::new()).await;
    }

    /// Many facts that stand or fall together.
    async fn change_block(&mut self) {
        let mark = self.client.random.random_range(0..BLOCKS);
        let operation = if self.client.random.random() { Operation::Touch } else { Operation::Delete };
        let facts = (0..BLOCK).map(|user| Fact::new(Wrote, mark, Subject::User(user)));
        self.tell(facts.map(|fact| of(operation, fact)).collect(), Vec::new()).await;
    }

    async fn take_or_leave_lease(&mut self) {
        let owner = Subject::User(self.index);
        if let Some(lease) = self.lease.take() {
            self.tell(vec![of(Operation::Delete, Fact::new(Owner, lease, owner))], Vec::new()).await;
            return;
        }
        let lease = self.client.random.random_range(LEASES);
        let free = Condition { relation: Owner, object: lease, somebody: false };
        let taking = vec![of(Operation::Create, Fact::new(Owner, lease, owner))];
        match self.tell(taking, vec![free]).await {
            Written::Done | Written::Unknown => self.lease = Some(lease),
            Written::Refused => {
                // Somebody may have gone without leaving it.
                let taken = Condition { somebody: true, ..free };
                let all = (0..USERS)
                    .map(|user| of(Operation::Delete, Fact::new(Owner, lease, Subject::User(user))));
                self.tell(all.collect(), vec![taken]).await;
            }
        }
    }

    async fn write_at_once(&mut self) {
        let (number, fact) = self.mark();
        let also = of(Operation::Touch, self.shared_fact());
        let demand = Demand::Tuples {
            updates: [of(Operation::Create, fact), also].into(),
            conditions: Box::default(),
        };
        if let Written::Done = self.client.write_at_once(demand).await {
            self.standing.push_back(number);
        }
    }

    async fn change_schema(&mut self) {
        let in_force = self.client.shared.schema.lock().expect("no panic").clone();
        let Some((id, viewing)) = in_force else { return };
        let replacing = self.client.random.random_ratio(2, 3).then_some(id);
        self.client.write_schema(viewing.other(), replacing).await;
    }
}

fn of(operation: Operation, fact: Fact) -> Update {
    Update { operation, fact }
}
