//! A moment, passed in as a parameter: nothing inside Relata's core reads a clock.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Microseconds since 1970-01-01T00:00:00Z, the resolution PostgreSQL keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// Why a text is not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: write it as RFC 3339, for example `2027-01-31T12:00:00Z`")]
pub struct TimestampError(String);

impl Timestamp {
    /// The earliest moment.
    pub const MIN: Self = Self(i64::MIN);

    /// A moment from microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment `duration` later, or the last one there is.
    #[must_use]
    pub fn saturating_add(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> std::time::Duration {
        let micros = self.0.saturating_sub(earlier.0);
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with microseconds, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(SignedDuration::from_micros(self.0)) {
            Ok(moment) => write!(f, "{moment}Z"),
            Err(_) => write!(f, "{}µs", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        moment(text).map(Self).ok_or_else(|| TimestampError(text.to_owned()))
    }
}

/// Reads a date and time with its offset from UTC. The calendar's own arithmetic reaches the end
/// of the year 9999 in every offset, which the library's moments do not.
fn moment(text: &str) -> Option<i64> {
    let pieces = Pieces::parse(text).ok()?;
    let (time, offset) = (pieces.time()?, pieces.to_numeric_offset()?);
    let local = pieces.date().to_datetime(time).duration_since(EPOCH);
    let moment = local.checked_sub(SignedDuration::from_secs(i64::from(offset.seconds())))?;
    i64::try_from(moment.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let moment: Timestamp = "2027-01-31T12:00:00.25Z".parse().expect("a time");
        assert_eq!(moment.to_string(), "2027-01-31T12:00:00.25Z");
        let shifted: Timestamp = "2027-01-31T14:30:00.25+02:30".parse().expect("a time");
        assert_eq!(shifted, moment);
        for no_moment in ["tomorrow", "", "2027-01-31", "2027-01-31T12:00:00", "2027-13-01T00:00:00Z"] {
            assert!(no_moment.parse::<Timestamp>().is_err(), "{no_moment}");
        }
    }

    #[test]
    fn the_whole_calendar_of_the_wire_can_be_read_and_shown() {
        for text in ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z"] {
            assert_eq!(text.parse::<Timestamp>().expect("a time").to_string(), text);
        }
        let beyond: Timestamp = "9999-12-31T23:59:59-12:00".parse().expect("a time");
        assert!(beyond > "9999-12-31T23:59:59Z".parse().expect("a time"));
        assert!(beyond.to_string().ends_with("µs"), "{beyond}");
    }
}
