//! Writes, the groups they are committed in, and the queues where they wait.

use super::declare::{Counter, Gauge, families};
use super::histogram::{Durations, Sizes};
use super::label::{By, labels};

labels! {
    /// How a write ended.
    "outcome": WriteOutcome {
        /// It has a revision.
        Committed = "committed",
        /// Its idempotency key had been used for it before.
        Replayed = "replayed",
        /// It was decided and refused: a precondition, an existing tuple, a reused key.
        Refused = "refused",
        /// The schema had changed since it was validated; it is validated again.
        SchemaChanged = "schema_changed",
        /// It is larger than a transaction may be.
        TooLarge = "too_large",
        /// Too much waited already.
        QueueFull = "queue_full",
        /// Its deadline passed, or its caller went away, while it waited.
        Abandoned = "abandoned",
        /// The database failed, and nothing was written.
        Failed = "failed",
        /// It could not be found out whether it was written.
        Unknown = "unknown",
    }

    /// How a transaction of a group ended.
    "outcome": GroupOutcome {
        /// It was committed, and the database said so.
        Committed = "committed",
        /// It failed, and nothing was written.
        Failed = "failed",
        /// The connection was lost at its commit.
        InDoubt = "in_doubt",
    }

    /// What was found out about a group whose commit was in doubt.
    "outcome": InDoubt {
        /// It had been committed.
        Committed = "committed",
        /// It had not.
        Absent = "absent",
        /// It was not found out in time.
        Unresolved = "unresolved",
    }
}

families! {
    /// Writes, the groups they are committed in, and the queues where they wait.
    Record in "relata_" {
        /// Writes, by how they ended.
        writes: By<WriteOutcome, Counter>,
        /// Transactions of groups of writes, by how they ended.
        commit_groups: By<GroupOutcome, Counter>,
        /// Writes committed together in one transaction.
        commit_group_writes: Sizes = Sizes::up_to_ten_to_the(3),
        /// Tuples and preconditions of one transaction.
        commit_group_tuples: Sizes = Sizes::up_to_ten_to_the(4),
        /// How long the transaction of a group took, from its begin to the answer to its commit.
        commit_seconds: Durations,
        /// How long a transaction waited for the lock of its store.
        commit_lock_wait_seconds: Durations,
        /// Writes that wait for their transaction, over all stores.
        commit_queue_writes: Gauge,
        /// Approximate bytes of the writes that wait.
        commit_queue_bytes: Gauge,
        /// Groups whose commit was in doubt, by what was found out under the store's lock.
        in_doubt_groups: By<InDoubt, Counter>,
        /// Groups committed again because their first transaction turned out to have had no effect.
        commit_groups_repeated: Counter,
        /// Groups taken apart because a statement was refused, so that only the write at fault fails.
        commit_groups_split: Counter,
    }
}
