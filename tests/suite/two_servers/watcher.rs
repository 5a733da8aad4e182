//! Follows a Watch stream from the beginning to the end of the run, and sees that it shows every
//! revision once and in order.

use std::time::Duration;

use relata::proto;
use relata::proto::tuple_change::Operation;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::client::{Client, revision};
use crate::grpc::text;

/// An idle stream gets a checkpoint every 10 s.
const SILENCE: Duration = Duration::from_secs(40);

/// Which server a reader of the log is on.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    Stay(usize),
    /// From server to server, with nothing but the last zookie.
    Wander {
        every: Duration,
    },
}

/// One revision as it was shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub zookie: String,
    pub note: String,
    pub schema_id: String,
    pub committed_at: (i64, i32),
    /// Whether the tuple is there afterwards, and the tuple.
    pub changes: Vec<(bool, String)>,
}

/// What one reader of the log saw.
pub struct Log {
    /// The entry at index n is revision n + 1.
    pub entries: Vec<Entry>,
    pub messages: usize,
    /// Streams that were opened for it.
    pub begun: usize,
}

/// Follows the log until it has the revision that `until` comes to name.
pub async fn follow(
    client: Client,
    route: Route,
    from: String,
    mut until: watch::Receiver<Option<u64>>,
) -> Log {
    let mut node = match route {
        Route::Stay(node) => node,
        Route::Wander { .. } => 0,
    };
    let mut following =
        Following { log: Log { entries: Vec::new(), messages: 0, begun: 0 }, after: from, part: Vec::new() };
    loop {
        let moves_on = match route {
            Route::Stay(_) => None,
            Route::Wander { every } => Some(Instant::now() + every),
        };
        match following.stream(&client, node, moves_on, &mut until).await {
            Ok(Ended::All) => return following.log,
            Ok(Ended::Elsewhere) => node = client.other(node),
            Err(status) if status.code() == Code::Unavailable => client.pause().await,
            Err(status) => {
                panic!("a stream ended after revision {}: {status:?}", following.log.entries.len())
            }
        }
    }
}

enum Ended {
    All,
    Elsewhere,
}

struct Following {
    log: Log,
    /// The zookie of the last revision shown.
    after: String,
    /// Changes of a revision whose last message has not come.
    part: Vec<(bool, String)>,
}

impl Following {
    async fn stream(
        &mut self,
        client: &Client,
        node: usize,
        moves_on: Option<Instant>,
        until: &mut watch::Receiver<Option<u64>>,
    ) -> Result<Ended, Status> {
        let request = proto::WatchRequest {
            after: self.after.clone(),
            include_schema_changes: true,
            ..Default::default()
        };
        let mut stream = client.tuples(node).watch(request).await?.into_inner();
        self.log.begun += 1;
        // Half a revision is worth nothing on another stream.
        self.part.clear();
        loop {
            let end = *until.borrow_and_update();
            if end.is_some_and(|end| self.log.entries.len() as u64 >= end) {
                return Ok(Ended::All);
            }
            let leaves = async {
                match moves_on {
                    Some(moment) => tokio::time::sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = next(&mut stream) => self.take(message?),
                () = leaves => return Ok(Ended::Elsewhere),
                _ = until.changed() => {}
            }
        }
    }

    fn take(&mut self, message: proto::WatchResponse) {
        self.log.messages += 1;
        let shown = self.log.entries.len() as u64;
        if message.checkpoint {
            assert!(message.changes.is_empty() && message.schema_id.is_empty(), "{message:?}");
            assert_eq!(message.zookie, self.after, "a checkpoint after revision {shown} names another");
            return;
        }
        self.part.extend(message.changes.iter().map(|change| {
            let tuple = change.tuple.as_ref().map(text).expect("a change of a tuple");
            (change.operation() == Operation::Written, tuple)
        }));
        if message.zookie.is_empty() {
            return;
        }
        assert_eq!(revision(&message.zookie), shown + 1, "after revision {shown} came {message:?}");
        let committed_at = message.committed_at.map(|at| (at.seconds, at.nanos)).expect("a moment");
        let before = self.log.entries.last().map(|entry| entry.committed_at);
        assert!(before < Some(committed_at), "time stood still at revision {}", shown + 1);
        self.after.clone_from(&message.zookie);
        self.log.entries.push(Entry {
            zookie: message.zookie,
            note: message.note,
            schema_id: message.schema_id,
            committed_at,
            changes: std::mem::take(&mut self.part),
        });
    }
}

async fn next(stream: &mut Streaming<proto::WatchResponse>) -> Result<proto::WatchResponse, Status> {
    let message = tokio::time::timeout(SILENCE, stream.message()).await.expect("a checkpoint in time")?;
    message.ok_or_else(|| Status::data_loss("the stream ended without saying why"))
}
