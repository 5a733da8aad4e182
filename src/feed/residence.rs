//! One stay of a store in memory: what it takes, and who frees it.
//!
//! Everything large that belongs to a stay knows it: the writer's index, every snapshot, every
//! published state. The last of them to be freed ends it, and with it the charge against the budget.

use std::sync::Arc;

use super::budget::{Bytes, Charge};
use super::reaper::Reaper;
use super::ring::Ring;
use crate::graph::{Keeper, Remains};

/// What is freed on the spot: it takes less time than handing it over is worth.
const SMALL: usize = 500;

/// See the module.
#[derive(Debug)]
pub(super) struct Residence {
    pub(super) charge: Charge,
    reaper: Arc<Reaper>,
}

impl Residence {
    pub(super) fn new(charge: Charge, reaper: Arc<Reaper>) -> Arc<Self> {
        Arc::new(Self { charge, reaper })
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> Bytes {
        self.charge.bytes()
    }

    /// Frees a ring that a dropped state of this stay held.
    pub(super) fn bury(self: &Arc<Self>, ring: Ring) {
        if ring.len() > SMALL {
            self.reaper.take((ring, Arc::clone(self)));
        }
    }
}

impl Keeper for Residence {
    fn take(&self, remains: Remains) {
        if remains.len() > SMALL {
            self.reaper.take(remains);
        }
    }
}
