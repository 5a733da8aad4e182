//! A part of a call, from its beginning to its end.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::caller::{Place, SpanId};
use super::tracer::Tracer;

/// What a span is to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call that another process makes.
    Server,
    /// A part of the same process.
    Internal,
    /// A question to another process, the database.
    Client,
}

/// What an attribute says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A word of a fixed vocabulary.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// A span that has ended, on its way to a collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What was done, from a fixed vocabulary.
    pub name: Cow<'static, str>,
    /// What it is to the one before it.
    pub kind: Kind,
    /// The span.
    pub place: Place,
    /// The span it is a part of.
    pub parent: Option<SpanId>,
    /// When it began, since 1970.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Other spans that did the same work together.
    pub links: Vec<Place>,
    /// Whether it failed.
    pub failed: bool,
}

/// A span that has not ended; it ends when it is dropped.
pub struct Span(Box<Open>);

struct Open {
    parent: Parent,
    begun: Instant,
    /// Absent once it has ended.
    so_far: Option<Ended>,
}

/// A span as those see it that are parts of it. They may outlast it.
#[derive(Clone)]
pub struct Parent {
    tracer: Arc<Tracer>,
    place: Place,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a span of {}", self.place().trace)
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a span of {}", self.place.trace)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl Parent {
    /// Begins a part of it.
    #[must_use]
    pub fn child(&self, kind: Kind, name: &'static str) -> Span {
        let place = Place { trace: self.place.trace, span: SpanId::random() };
        Span::begin(Arc::clone(&self.tracer), kind, name, place, Some(self.place.span))
    }

    /// Which span it is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }
}

impl Span {
    pub(super) fn begin(
        tracer: Arc<Tracer>,
        kind: Kind,
        name: &'static str,
        place: Place,
        parent: Option<SpanId>,
    ) -> Self {
        let so_far = Ended {
            name: Cow::Borrowed(name),
            kind,
            place,
            parent,
            began: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            took: Duration::ZERO,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
        };
        let parent = Parent { tracer, place };
        Self(Box::new(Open { parent, begun: Instant::now(), so_far: Some(so_far) }))
    }

    /// Which span it is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.0.parent.place
    }

    /// For the parts of it.
    #[must_use]
    pub fn as_parent(&self) -> Parent {
        self.0.parent.clone()
    }

    /// Gives it a name that was not known when it began.
    pub fn rename(&mut self, name: String) {
        if let Some(so_far) = &mut self.0.so_far {
            so_far.name = Cow::Owned(name);
        }
    }

    /// Says something of it.
    pub fn say(&mut self, what: &'static str, value: impl Into<Value>) {
        if let Some(so_far) = &mut self.0.so_far {
            so_far.attributes.push((what, value.into()));
        }
    }

    /// Points to a span that did the same work together with it.
    pub fn link(&mut self, other: Place) {
        if let Some(so_far) = &mut self.0.so_far {
            so_far.links.push(other);
        }
    }

    /// Says that it failed.
    pub fn fail(&mut self) {
        if let Some(so_far) = &mut self.0.so_far {
            so_far.failed = true;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(so_far) = self.0.so_far.take() {
            self.0.parent.tracer.take(Ended { took: self.0.begun.elapsed(), ..so_far });
        }
    }
}
