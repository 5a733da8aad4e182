//! Bytes are counted as they come, and until they are taken.
//!
//! The transport asks for the next part of an answer when the reader has room for it, so a part
//! has been taken when the next one is asked for. A stream holds one part at a time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Bytes, HttpBody};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::ledger::Held;
use crate::server::status::Error;

/// A request whose bytes are counted until its call is over.
pub(super) struct Counted {
    pub(super) body: Body,
    pub(super) bytes: Arc<Held>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.bytes.more(data.len())
        {
            return Poll::Ready(Some(Err(error.into_status())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer whose bytes are counted until they are taken.
#[derive(Debug)]
pub(super) struct Answer {
    /// `None` once it has been ended before its time.
    body: Option<Body>,
    /// Why, until the reader has been told.
    ended: Option<Error>,
    /// The part that was given last, and when: `None` while the reader waits for one.
    given: Option<(usize, Instant)>,
    bytes: Arc<Held>,
    /// The call's own place among the calls under way.
    place: Option<Held>,
}

impl Answer {
    pub(super) fn new(body: Body, bytes: Arc<Held>, place: Held) -> Self {
        // A reader may leave even the first part unasked for.
        let given = Some((0, Instant::now()));
        Self { body: Some(body), ended: None, given, bytes, place: Some(place) }
    }

    /// When the reader was given what it has not taken yet; `None`: nothing, or it is over.
    pub(super) fn untaken_since(&self) -> Option<Instant> {
        self.body.as_ref().and(self.given).map(|(_, since)| since)
    }

    /// Ends it before its time. What made the answer, and its place, are for the caller to drop; the
    /// part that was given goes on being counted, since the transport goes on holding it.
    pub(super) fn end(&mut self, error: Error) -> (Option<Body>, Option<Held>) {
        self.ended = Some(error);
        (self.body.take(), self.place.take())
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some((taken, _)) = self.given.take() {
            self.bytes.less(taken);
        }
        let Some(body) = &mut self.body else {
            let ended = self.ended.take().map(|error| Ok(Frame::trailers(trailers(error))));
            return Poll::Ready(ended);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if let Err(error) = self.bytes.more(data.len()) {
                drop(self.end(error));
                return self.next(context);
            }
            self.given = Some((data.len(), Instant::now()));
        }
        Poll::Ready(frame)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some((taken, _)) = self.given.take() {
            self.bytes.less(taken);
        }
    }
}

fn trailers(error: Error) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It fails only for a message that is no header value, and ours are encoded.
    let _ = error.into_status().add_header(&mut trailers);
    trailers
}

/// An answer on its way, which may be ended from elsewhere.
pub(super) struct Shared(pub(super) Arc<Mutex<Answer>>);

/// A lock poisoned by a panic still guards an answer that can be dropped.
pub(super) fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        lock(&self.0).next(context)
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.0);
        answer.body.as_ref().map_or(answer.ended.is_none(), HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

/// An answer to somebody unknown, which holds a place until it is over.
pub(super) struct Placed {
    pub(super) body: Body,
    pub(super) _place: Held,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer on its way that nobody but its reader ends.
pub(super) struct Own(pub(super) Answer);

impl HttpBody for Own {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.next(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.body.as_ref().map_or(self.0.ended.is_none(), HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
