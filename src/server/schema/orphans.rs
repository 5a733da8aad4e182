//! Stored tuples that a schema would not allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::feed::At;
use crate::graph::Snapshot;
use crate::proto;
use crate::schema::Rules;
use crate::server::node::Node;
use crate::server::status::Error;
use crate::time::Timestamp;
use crate::tuple::{Subject, Tuple};

/// Tuples judged between two looks at whether anybody still waits.
const STRIDE: usize = 4_096;

/// Stores judged at once. A judgement keeps a processor busy and a snapshot alive for seconds, so
/// that they wait for each other.
static JUDGING: Semaphore = Semaphore::const_new(1);

/// Orphans by relation and kind of subject.
pub(super) type Orphans = BTreeMap<(String, String), Found>;

/// Orphans of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) count: u64,
    pub(super) sample: Vec<String>,
}

/// Judges every live tuple of a snapshot. Takes seconds for tens of millions of tuples, so it runs
/// where that harms nobody, and ends early when its caller has gone.
pub(super) async fn find(
    node: &Node,
    snapshot: Snapshot,
    rules: Arc<Rules>,
    now: Timestamp,
    sample: usize,
) -> Result<Orphans, Error> {
    let _turn = turn().await?;
    let abandoned = Abandoned::default();
    let gone = Arc::clone(&abandoned.0);
    let work = node.in_background(async move {
        tokio::task::spawn_blocking(move || judge(snapshot.tuples(), &rules, now, sample, &gone)).await
    });
    work.await?.map_err(|error| Error::Internal(anyhow::Error::new(error)))
}

/// Whether a schema allows everything that was written between two revisions of one history, as
/// far as memory reaches. `false` decides nothing: what it does not allow may be gone again.
pub(super) async fn none_since(
    node: &Node,
    earlier: &At,
    at: &At,
    rules: Arc<Rules>,
    now: Timestamp,
) -> Result<bool, Error> {
    let published = at.published();
    if published.write_tag(earlier.revision) != Some(earlier.write_tag) {
        return Ok(false);
    }
    let _turn = turn().await?;
    let Some(entries) = published.changes_after(earlier.revision, usize::MAX) else { return Ok(false) };
    let work = node.in_background(async move {
        tokio::task::spawn_blocking(move || {
            entries.iter().flat_map(|entry| &entry.changes).all(|change| match &change.after {
                Some(attributes) if attributes.is_live_at(now) => {
                    let tuple = Tuple { key: change.key.clone(), attributes: attributes.clone() };
                    rules.validate(&tuple).is_ok()
                }
                Some(_) | None => true,
            })
        })
        .await
    });
    work.await?.map_err(|error| Error::Internal(anyhow::Error::new(error)))
}

/// Waits for the judgements of others. Whoever waits may give up.
async fn turn() -> Result<SemaphorePermit<'static>, Error> {
    // INVARIANT: nobody closes it.
    JUDGING.acquire().await.map_err(|_| Error::ShuttingDown)
}

/// Says so when it is dropped.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn judge(
    tuples: impl Iterator<Item = Tuple>,
    rules: &Rules,
    now: Timestamp,
    sample: usize,
    gone: &AtomicBool,
) -> Orphans {
    let mut orphans = Orphans::new();
    for (index, tuple) in tuples.enumerate() {
        if index % STRIDE == 0 && gone.load(Ordering::Relaxed) {
            break;
        }
        let expired = tuple.attributes.expires_at.is_some_and(|expiry| expiry <= now);
        if expired || rules.validate(&tuple).is_ok() {
            continue;
        }
        let found = orphans.entry(kind(&tuple)).or_default();
        found.count += 1;
        if found.sample.len() < sample {
            found.sample.push(tuple.key.to_string());
        }
    }
    orphans
}

fn kind(tuple: &Tuple) -> (String, String) {
    let relation = format!("{}#{}", tuple.key.object.object_type(), tuple.key.relation);
    let subject_type = tuple.key.subject.subject_type();
    let mut subject = match &tuple.key.subject {
        Subject::Object(_) => subject_type.to_string(),
        Subject::Wildcard(_) => format!("{subject_type}:*"),
        Subject::Userset(_, relation) => format!("{subject_type}#{relation}"),
    };
    if let Some(condition) = &tuple.attributes.condition {
        subject.push_str(" with ");
        subject.push_str(condition.name.as_str());
    }
    (relation, subject)
}

/// As the plan shows them.
pub(super) fn wire(orphans: Orphans) -> Vec<proto::Orphans> {
    let wire = |((relation, subject), found): ((String, String), Found)| proto::Orphans {
        relation,
        subject,
        count: found.count,
        sample: found.sample,
    };
    orphans.into_iter().map(wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::{Attributes, TupleCondition, TupleKey};

    fn tuple(text: &str) -> Tuple {
        text.parse::<TupleKey>().expect("a tuple").into()
    }

    #[test]
    fn orphans_are_grouped_counted_and_sampled() {
        let schema = crate::schema::parse(
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n",
        );
        let rules = Rules::compile(&schema.expect("a schema"));
        let now = Timestamp::from_micros(100);
        let mut expired = tuple("gone:1#viewer@user:a");
        expired.attributes.expires_at = Some(now);
        let mut conditional = tuple("doc:9#viewer@user:a");
        let name = crate::tuple::ConditionName::new("office").expect("a name");
        conditional.attributes = Attributes {
            condition: Some(TupleCondition { name, context: Arc::default() }),
            expires_at: None,
        };
        let tuples = [
            tuple("doc:1#viewer@user:a"),
            tuple("doc:1#viewer@user:*"),
            tuple("doc:2#viewer@user:*"),
            tuple("doc:1#editor@group:a#member"),
            expired,
            conditional,
        ];
        let found = judge(tuples.into_iter(), &rules, now, 1, &AtomicBool::new(false));
        let shown: Vec<_> = found
            .iter()
            .map(|((relation, subject), found)| {
                format!("{relation} {subject} {} {}", found.count, found.sample.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "doc#editor group#member 1 doc:1#editor@group:a#member",
                "doc#viewer user with office 1 doc:9#viewer@user:a",
                "doc#viewer user:* 2 doc:1#viewer@user:*",
            ]
        );
        assert!(judge([tuple("x:1#y@z:1")].into_iter(), &rules, now, 1, &AtomicBool::new(true)).is_empty());
    }
}
