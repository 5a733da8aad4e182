//! What a server of these settings needs.

use std::time::Duration;

/// What a database and a machine are held against.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// How far clocks may be apart before a server does not serve.
    pub max_clock_skew: Duration,
    /// Connections that one server may open.
    pub connections: u32,
    /// Bytes that this machine, or the container, has; absent where nobody says.
    pub machine_memory: Option<u64>,
    /// Bytes that stores in memory may take together; absent: as much as they like.
    pub memory_budget: Option<u64>,
}
