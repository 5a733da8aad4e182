//! The span that the present task works for.

use std::future::Future;

use tokio::task::futures::TaskLocalFuture;

use super::span::{Kind, Parent, Span};

tokio::task_local! {
    static CURRENT: Option<Parent>;
}

/// Work for a span, or for none.
pub type Within<F> = TaskLocalFuture<Option<Parent>, F>;

/// The span that the present task works for, if its call is recorded.
#[must_use]
pub fn current() -> Option<Parent> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Begins a part of the span that the present task works for.
#[must_use]
pub fn child(kind: Kind, name: &'static str) -> Option<Span> {
    CURRENT.try_with(|current| current.as_ref().map(|parent| parent.child(kind, name))).ok().flatten()
}

/// The same work, for a span.
pub fn under<F: Future>(parent: Option<Parent>, work: F) -> Within<F> {
    CURRENT.scope(parent, work)
}

/// The same work for the same span in another task.
pub fn carried<F: Future>(work: F) -> Within<F> {
    under(current(), work)
}

/// Does something at once for a span.
pub fn inside<T>(parent: Option<Parent>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(parent, work)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::trace::{Ratio, Tracer};

    #[tokio::test]
    async fn parts_know_what_they_are_parts_of() {
        assert!(current().is_none() && child(Kind::Internal, "part").is_none());
        let (tracer, mut ended) = Tracer::new(Ratio::ALL, 8, Metrics::new());
        let call = tracer.begin(None).expect("recorded");
        let whole = call.place();
        let work = async {
            let part = child(Kind::Internal, "part").expect("recorded");
            let other_task = carried(async { drop(child(Kind::Client, "detail")) });
            let spawned = under(Some(part.as_parent()), async {
                tokio::spawn(carried(async {
                    drop(child(Kind::Client, "spawned"));
                }))
                .await
            });
            other_task.await;
            spawned.await.expect("no panic");
            assert!(under(None, async { current() }).await.is_none());
        };
        under(Some(call.as_parent()), work).await;
        assert!(current().is_none());
        drop(call);
        drop(Arc::clone(&tracer));
        let mut spans = Vec::new();
        while let Ok(span) = ended.try_recv() {
            assert_eq!(span.place.trace, whole.trace);
            spans.push(span);
        }
        let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["detail", "spawned", "part", "call"]);
        assert_eq!(spans[0].parent, Some(whole.span));
        assert_eq!(spans[1].parent, Some(spans[2].place.span));
        assert_eq!(spans[2].parent, Some(whole.span));
        assert_eq!(spans[3].parent, None);
    }
}
