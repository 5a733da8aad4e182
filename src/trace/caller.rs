//! Where a caller is in a trace (W3C Trace Context, Level 1).

use std::fmt;

/// A trace: everything that comes of one question somebody asked somewhere. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span within its trace. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
}

/// Where a caller is, and whether it records its own part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The caller's span.
    pub place: Place,
    /// Whether it records, and wants others to.
    pub sampled: bool,
}

impl TraceId {
    /// A new trace.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }

    /// As the wire has it.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl SpanId {
    /// A new span.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1).to_be_bytes())
    }

    /// As the wire has it.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl Caller {
    /// Reads a `traceparent`. One that is not well-formed counts as absent, as the standard has it
    /// (§3.2.2); a later version is read as far as this one goes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const WHOLE: usize = "00-00000000000000000000000000000000-0000000000000000-00".len();
        let (known, rest) = text.split_at_checked(WHOLE)?;
        let mut parts = known.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = hex(parts.next()?, 16)?;
        let flags = hex(parts.next()?, 2)?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let span = u64::try_from(span).ok()?;
        if !fits || parts.next().is_some() || trace == 0 || span == 0 {
            return None;
        }
        let place = Place { trace: TraceId(trace.to_be_bytes()), span: SpanId(span.to_be_bytes()) };
        Some(Self { place, sampled: flags & 1 == 1 })
    }
}

/// A number of so many lower-case digits, at most 32.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let add = |number: u128, byte: u8| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    };
    if text.len() == digits { text.bytes().try_fold(0, add) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the standard (§3.2.2.5), and what it says is not well-formed.
    #[test]
    fn the_header_is_read_as_the_standard_has_it() {
        let read =
            Caller::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").expect("a caller");
        assert!(read.sampled);
        assert_eq!(read.place.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read.place.span.bytes(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        let sampled = |text: &str| Caller::parse(text).map(|caller| caller.sampled);
        assert_eq!(sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), Some(false));
        assert_eq!(sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe"), Some(false));
        assert_eq!(sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"), Some(true));
        assert_eq!(sampled("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"), Some(true));
        for broken in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902\u{e9}-01",
            "00-4bf92f3577b34da6-3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Caller::parse(broken), None, "{broken}");
        }
    }
}
