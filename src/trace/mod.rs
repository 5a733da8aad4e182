//! What one call does and how long each part of it takes, for whoever follows it through several
//! services.
//!
//! ```text
//! caller    where the caller is, as the header `traceparent` says (W3C Trace Context)
//! tracer    decides which calls are recorded; takes spans that have ended, or drops them
//! span      a part of a call, from its beginning to its end
//! current   the span that the present task works for
//! ```
//!
//! **A call that is not recorded costs next to nothing.** No span is made for it, and whoever asks
//! for the current one finds none. **Recording never waits.** Spans that have ended go into a bounded
//! queue; when it is full they are dropped and counted. What becomes of the queue is the business
//! of whoever has its other end: `server::traces` sends it to a collector.
//!
//! Spans tell of methods, statements and counts. Nothing of what a caller has sent goes into one:
//! no store, no id, no name.

mod caller;
mod current;
mod span;
mod tracer;

pub use caller::{Caller, Place, SpanId, TraceId};
pub use current::{Within, carried, child, current, inside, under};
pub use span::{Ended, Kind, Parent, Span, Value};
pub use tracer::{Ratio, RatioError, Tracer};
