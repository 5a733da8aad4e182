//! A server that is asked for more than it can do: a real program, questions at a fixed rate whatever
//! becomes of them, and what its callers see.
//!
//! ```text
//! world     stores with searches that are long, and what one of them is like
//! load      questions at a rate, and how each ended
//! tally     shares and quantiles of many
//! figure    the table and the picture of docs/operations/overload.md
//! capacity  the test: four times what the server can do
//! ```
//!
//! The short form takes some seconds and runs with every change. In full, with the figures written
//! to `docs/operations/`:
//!
//! ```text
//! RELATA_OVERLOAD_SECONDS=20 scripts/test --release --test suite overload:: -- --nocapture
//! ```

mod capacity;
mod figure;
pub mod load;
pub mod tally;
pub mod world;

/// One at a time: two servers that are asked for too much measure each other.
pub async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}
