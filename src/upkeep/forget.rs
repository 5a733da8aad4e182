//! Forgets idempotency keys that need not be remembered any longer.

use std::time::Duration;

use super::duty::{Duty, Left, Round};
use super::settings::UpkeepSettings;
use crate::datastore::DatastoreError;
use crate::metrics::Task;

pub(super) struct Forget {
    interval: Duration,
    batch: u32,
}

impl Forget {
    pub(super) fn new(settings: &UpkeepSettings) -> Self {
        Self { interval: settings.trim_interval, batch: settings.batch }
    }
}

#[async_trait::async_trait]
impl Duty for Forget {
    fn task(&self) -> Task {
        Task::Idempotency
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn round(&mut self, round: &Round<'_>) -> Result<Left, DatastoreError> {
        let forgotten = round.record.forget_keys(self.batch).await?;
        round.removed(forgotten);
        Ok(if forgotten < u64::from(self.batch) { Left::Nothing } else { Left::More })
    }
}
