//! The operations listener: what Prometheus and whoever restarts servers ask.
//!
//! ```text
//! GET /metrics   everything counted and measured, in the OpenMetrics format
//! GET /livez     200 while the process can answer at all
//! GET /readyz    200 while it should be sent calls; 503 with every reason why not
//! ```
//!
//! There is nothing else, on purpose: no settings, no profiles, no command line, which may hold a
//! password (CVE-2023-29193 was such a page). What there is has no authentication, so that it can be
//! asked when everything else is out of order; therefore it is kept to loopback unless said
//! plainly.
//!
//! It runs beside the feed, not beside the calls: searches that take every shard do not silence it.

mod listener;
mod pages;

pub use listener::{Exposure, OperationsListener, serve};
pub use pages::Pages;
