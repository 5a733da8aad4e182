//! Follows the log through Watch: stays on one server or wanders, resumes from its last zookie, and
//! goes back to the fork when it is told that the history parted.

use std::time::Duration;

use rand::Rng as _;
use relata::proto;
use relata::proto::tuple_change::Operation;
use relata::proto::tuple_service_client::TupleServiceClient;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::client::{Client, Known, Way, said};
use crate::grpc::reason;
use crate::history::fact::Fact;
use crate::history::journal::History;
use crate::history::lineage::digest;
use crate::history::operation::{End, Shown, Span, Stream};
use crate::history::point::Point;

/// How long a stream may take to begin.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far to watch: `None` for as long as the run goes on, then its last revision, or nearly: a
/// write that was given up may still come to be.
pub type Until = watch::Receiver<Option<Point>>;

pub struct Watcher {
    client: Client,
    /// Whether it goes from server to server.
    wanders: bool,
    /// The zookie to go on from; `None`: from now on.
    after: Option<Known>,
    until: Until,
}

/// Why a stream is no longer read.
enum Ended {
    /// The last revision of the run was shown.
    All,
    Elsewhere,
    Forked(Known),
    Broken,
}

impl Watcher {
    pub fn new(client: Client, wanders: bool, until: Until) -> Self {
        Self { client, wanders, after: None, until }
    }

    /// Watches until the last revision of the run has been shown; returns what it was shown.
    pub async fn watch(mut self) -> History {
        loop {
            match self.stream().await {
                Some(Ended::All) => return self.client.history,
                Some(Ended::Elsewhere) => self.client.move_on(),
                Some(Ended::Forked(fork)) => self.after = Some(fork),
                Some(Ended::Broken) | None => {
                    if self.wanders {
                        self.client.move_on();
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// One stream from its beginning to its end. `None`: it did not begin.
    async fn stream(&mut self) -> Option<Ended> {
        let way = self.client.way(self.client.home)?;
        let begun = self.client.clock.now();
        let request = proto::WatchRequest {
            after: self.after.as_ref().map(|known| known.zookie.clone()).unwrap_or_default(),
            include_schema_changes: true,
            ..Default::default()
        };
        let opening = async {
            let mut stream =
                TupleServiceClient::new(way.0.clone()).watch(Request::new(request)).await?.into_inner();
            let first = stream.message().await?;
            Ok((stream, first.ok_or_else(|| Status::unknown("a stream without a message"))?))
        };
        let opened = tokio::time::timeout(PATIENCE, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no beginning")));
        let (stream, first) = match opened {
            Ok(opened) => opened,
            Err(status) => {
                self.refused(&way, begun, &status);
                return None;
            }
        };
        let start = known(&first.zookie).filter(|_| first.checkpoint);
        let Some(start) = start else {
            self.client.history.defects.push(format!("a stream begins with {first:?}"));
            return None;
        };
        let after = self.after.as_ref().map(|known| known.point);
        let mut shown = Vec::new();
        let last = start.point;
        self.after = Some(start);
        let ended = self.follow(stream, last, &mut shown).await;
        let end = match &ended {
            Ended::Forked(fork) => End::Forked(fork.point),
            Ended::All | Ended::Elsewhere | Ended::Broken => End::Left,
        };
        let span = Span { begun, ended: self.client.clock.now() };
        self.client.history.streams.push(Stream { client: 0, span, start: last, after, shown, end });
        Some(ended)
    }

    fn refused(&mut self, way: &Way, begun: crate::history::operation::Moment, status: &Status) {
        let span = Span { begun, ended: self.client.clock.now() };
        if self.client.is_lost(status)
            && let Some(after) = self.after.take()
        {
            self.client.lost(way, span, &after);
        }
    }

    async fn follow(
        &mut self,
        mut stream: Streaming<proto::WatchResponse>,
        mut last: Point,
        shown: &mut Vec<Shown>,
    ) -> Ended {
        let stay = Duration::from_millis(self.client.random.random_range(500..6_000));
        let leaves = Instant::now() + stay;
        let mut part: Vec<(Fact, bool)> = Vec::new();
        loop {
            let until = *self.until.borrow_and_update();
            if until.is_some_and(|until| last.revision >= until.revision) {
                return Ended::All;
            }
            let message = tokio::select! {
                message = stream.message() => message,
                () = tokio::time::sleep_until(leaves), if self.wanders => return Ended::Elsewhere,
                _ = self.until.changed() => continue,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ended::Broken,
                Err(status) => return self.ended(&status),
            };
            match take(&message, &mut part) {
                Ok(Some((zookie, seen))) => {
                    last = zookie.point;
                    self.after = Some(zookie);
                    shown.push(seen);
                }
                Ok(None) => {}
                Err(defect) => {
                    self.client.history.defects.push(defect);
                    return Ended::Broken;
                }
            }
        }
    }

    fn ended(&mut self, status: &Status) -> Ended {
        if status.code() != Code::DataLoss {
            self.client.is_lost(status);
            return Ended::Broken;
        }
        let details = status.get_error_details();
        let fork = details.error_info().and_then(|info| known(info.metadata.get("zookie")?));
        match fork {
            Some(fork) if reason(status) == "HISTORY_DIVERGED" => Ended::Forked(fork),
            _ => {
                self.client.history.defects.push(format!("a stream: {}", said(status)));
                Ended::Broken
            }
        }
    }
}

/// What a message shows, once it is the last of its revision.
fn take(
    message: &proto::WatchResponse,
    part: &mut Vec<(Fact, bool)>,
) -> Result<Option<(Known, Shown)>, String> {
    for change in &message.changes {
        let fact = change.tuple.as_ref();
        let fact = fact.and_then(|tuple| Fact::of(&tuple.object, &tuple.relation, &tuple.subject));
        let fact = fact.ok_or_else(|| format!("{change:?} was shown"))?;
        part.push((fact, change.operation() == Operation::Written));
    }
    if message.zookie.is_empty() {
        return Ok(None);
    }
    let zookie = known(&message.zookie).ok_or_else(|| format!("{message:?} was shown"))?;
    if message.checkpoint {
        let point = zookie.point;
        return Ok(Some((zookie, Shown::Checkpoint(point))));
    }
    let at = message.committed_at.ok_or_else(|| format!("{message:?} has no moment"))?;
    let committed_at = at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000;
    let digest = digest(&message.note, committed_at, &message.schema_id, part);
    part.clear();
    let shown = Shown::Revision(zookie.point, digest);
    Ok(Some((zookie, shown)))
}

fn known(zookie: &str) -> Option<Known> {
    Some(Known { zookie: zookie.to_owned(), point: Point::of_zookie(zookie)? })
}
