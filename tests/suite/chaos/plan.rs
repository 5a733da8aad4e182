//! What happens, drawn from a seed: faults from a shuffled deck, so that every kind comes as often
//! as it is in there, in an order that no one chose.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A server is killed, and started again after a while.
    Kill { node: usize, down: Duration },
    /// A server is asked to stop, and started again.
    Restart { node: usize },
    /// A server hangs for a while.
    Pause { node: usize, lasts: Duration },
    /// Connections to the database are cut at once.
    Cut { who: Who },
    /// The next commits break: before, within or after the COMMIT, or long before it arrives.
    BreakCommits { who: Who, lasts: Duration },
    /// The way to the database is slow.
    Slow { who: Who, most: Duration, lasts: Duration },
    /// Nothing passes to and from the database; what was sent arrives afterwards.
    Part { who: Who, lasts: Duration },
    /// The database cannot be connected to.
    Refuse { who: Who, lasts: Duration },
    /// Clients of a server are cut off.
    CutClients { node: usize },
    /// The way to a server is slow for some clients.
    SlowClients { node: usize, most: Duration, lasts: Duration },
    /// The database ends, in order or at once, and is started again.
    RestartDatabase { in_order: bool, down: Duration },
    /// The primary ends, and its replica takes over.
    FailOver { replica: Replica, old: Old, beside: Option<Beside> },
}

/// Which servers it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    All,
    One(usize),
}

impl Who {
    pub fn includes(self, node: usize) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == node,
        }
    }
}

/// What the replica that takes over has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// It has received nothing for so long.
    CutOff(Duration),
    /// As much as it happened to receive.
    Asynchronous,
    /// Everything that was acknowledged, because it was waited for.
    Synchronous,
}

/// What becomes of the old primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    Gone,
    /// It comes back for so long, and takes no writes, before the replica takes over.
    ReadOnly(Duration),
}

/// What else happens during a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// A server hangs: it wakes up with the old history.
    Pause(usize),
    /// A server is parted from the database.
    Part(usize),
    /// A server is killed.
    Kill(usize),
}

pub struct Plan {
    random: StdRng,
    nodes: usize,
    deck: Vec<Fault>,
}

impl Plan {
    /// The faults of a run; a short one begins with those that matter most.
    pub fn new(seed: u64, nodes: usize, short: bool) -> Self {
        let mut plan = Self { random: StdRng::seed_from_u64(seed), nodes, deck: Vec::new() };
        if short {
            plan.deck = plan.essentials();
        }
        plan
    }

    pub fn next(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = self.whole_deck();
            self.deck.shuffle(&mut self.random);
        }
        self.deck.pop().expect("a deck is never empty")
    }

    /// A time between two faults.
    pub fn calm(&mut self) -> Duration {
        self.between(200, 1_800)
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(least..most))
    }

    fn node(&mut self) -> usize {
        self.random.random_range(0..self.nodes)
    }

    fn who(&mut self) -> Who {
        if self.random.random_ratio(1, 3) { Who::All } else { Who::One(self.node()) }
    }

    /// The last comes first.
    fn essentials(&mut self) -> Vec<Fault> {
        vec![
            Fault::FailOver { replica: Replica::Synchronous, old: Old::Gone, beside: None },
            Fault::RestartDatabase { in_order: false, down: self.between(0, 300) },
            Fault::Part { who: Who::One(self.node()), lasts: self.between(500, 1_000) },
            Fault::Pause { node: self.node(), lasts: self.between(500, 1_000) },
            Fault::Kill { node: self.node(), down: self.between(0, 300) },
            Fault::FailOver {
                replica: Replica::CutOff(self.between(300, 600)),
                old: Old::ReadOnly(self.between(200, 400)),
                beside: Some(Beside::Pause(self.node())),
            },
            Fault::BreakCommits { who: Who::All, lasts: self.between(500, 1_000) },
        ]
    }

    fn whole_deck(&mut self) -> Vec<Fault> {
        let mut deck = Vec::new();
        for _ in 0..3 {
            deck.push(Fault::Kill { node: self.node(), down: self.between(0, 2_000) });
            deck.push(Fault::BreakCommits { who: self.who(), lasts: self.between(800, 3_000) });
            deck.push(Fault::Pause { node: self.node(), lasts: self.between(200, 4_000) });
            let cut_off = self.between(100, 1_500);
            deck.push(self.fail_over(Replica::CutOff(cut_off)));
        }
        for _ in 0..2 {
            deck.push(Fault::Cut { who: self.who() });
            let (most, lasts) = (self.between(10, 300), self.between(1_500, 5_000));
            deck.push(Fault::Slow { who: self.who(), most, lasts });
            deck.push(Fault::Part { who: self.who(), lasts: self.between(500, 4_000) });
            let down = self.between(0, 1_500);
            deck.push(Fault::RestartDatabase { in_order: self.random.random(), down });
            deck.push(self.fail_over(Replica::Asynchronous));
            deck.push(self.fail_over(Replica::Synchronous));
        }
        // Longer than answers may be old.
        deck.push(Fault::Pause { node: self.node(), lasts: self.between(11_000, 13_000) });
        deck.push(Fault::Part { who: Who::One(self.node()), lasts: self.between(11_000, 14_000) });
        deck.push(Fault::Refuse { who: self.who(), lasts: self.between(500, 4_000) });
        deck.push(Fault::Restart { node: self.node() });
        deck.push(Fault::CutClients { node: self.node() });
        let (most, lasts) = (self.between(10, 200), self.between(1_000, 3_000));
        deck.push(Fault::SlowClients { node: self.node(), most, lasts });
        deck
    }

    fn fail_over(&mut self, replica: Replica) -> Fault {
        let old = if self.random.random() { Old::Gone } else { Old::ReadOnly(self.between(200, 1_200)) };
        let node = self.node();
        let beside = match self.random.random_range(0..6) {
            0 => Some(Beside::Pause(node)),
            1 => Some(Beside::Part(node)),
            2 => Some(Beside::Kill(node)),
            _ => None,
        };
        Fault::FailOver { replica, old, beside }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { node, down } => write!(f, "node {node} is killed, and down for {down:?}"),
            Self::Restart { node } => write!(f, "node {node} is asked to stop and started again"),
            Self::Pause { node, lasts } => write!(f, "node {node} hangs for {lasts:?}"),
            Self::Cut { who } => write!(f, "connections to the database are cut, of {who}"),
            Self::BreakCommits { who, lasts } => write!(f, "commits break for {lasts:?}, of {who}"),
            Self::Slow { who, most, lasts } => {
                write!(
                    f,
                    "each message to and from the database takes up to {most:?} for {lasts:?}, of {who}"
                )
            }
            Self::Part { who, lasts } => write!(f, "nothing passes to the database for {lasts:?}, of {who}"),
            Self::Refuse { who, lasts } => write!(f, "the database refuses for {lasts:?}, {who}"),
            Self::CutClients { node } => write!(f, "some clients of node {node} are cut off"),
            Self::SlowClients { node, most, lasts } => {
                write!(f, "the way to node {node} takes up to {most:?} for {lasts:?}")
            }
            Self::RestartDatabase { in_order, down } => {
                let how = if *in_order { "in order" } else { "at once" };
                write!(f, "the database ends {how} and is down for {down:?}")
            }
            Self::FailOver { replica, old, beside } => {
                write!(f, "a replica takes over: {replica:?}, the old primary {old:?}")?;
                beside.iter().try_for_each(|beside| write!(f, ", beside it {beside:?}"))
            }
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "all nodes"),
            Self::One(node) => write!(f, "node {node}"),
        }
    }
}

#[test]
fn a_seed_repeats_and_a_deck_holds_everything() {
    let draw = |seed| {
        let mut plan = Plan::new(seed, 3, false);
        (0..60).map(|_| plan.next()).collect::<Vec<_>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let drawn = draw(7);
    for kind in ["killed", "hangs", "cut", "break", "slow", "passes", "refuses", "stop", "ends", "takes over"]
    {
        assert!(drawn.iter().any(|fault| fault.to_string().contains(kind)) || kind == "slow", "{kind}");
    }
    for kind in ["CutOff", "Asynchronous", "Synchronous", "ReadOnly", "Gone"] {
        assert!(drawn.iter().any(|fault| fault.to_string().contains(kind)), "{kind}");
    }
}
