//! How long a call may take: what the client asked for, else a setting.

use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::admission;
use super::status::Error;

/// The transport watches the client's deadline too, and would end the call with a bare
/// `CANCELLED`. Ours comes this much earlier, so that the client reads what happened.
const HEAD_START: Duration = Duration::from_millis(3);

/// The longest that a call may take which has an end, whatever the client asked for: what it holds
/// is not held for longer because a caller says so.
const LONGEST: Duration = Duration::from_mins(5);

/// When a call must have been answered; `None` for streams without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline of a call that has its turn now: its `grpc-timeout` header, but five minutes at
    /// most, else `default`. Its time has run since it arrived. Streams without an end have none, and
    /// may ask for any.
    #[must_use]
    pub fn of(headers: &HeaderMap, default: Option<Duration>) -> Self {
        let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
        let allowed = match asked {
            Some(asked) => {
                let asked = asked.saturating_sub(HEAD_START.min(asked / 4));
                Some(if default.is_some() { asked.min(LONGEST) } else { asked })
            }
            None => default,
        };
        let now = Instant::now();
        let arrived = now.checked_sub(admission::waited()).unwrap_or(now);
        Self(allowed.and_then(|allowed| arrived.checked_add(allowed)))
    }

    /// A deadline that far from now.
    #[must_use]
    pub fn within(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    /// The moment, where one is needed: a year ahead stands for none.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0.unwrap_or_else(|| Instant::now() + Duration::from_hours(365 * 24))
    }

    /// How long there is until it.
    #[must_use]
    pub fn left(self) -> Duration {
        self.instant().saturating_duration_since(Instant::now())
    }

    /// A moment shortly before it: what waits until then can still say what it waited for.
    #[must_use]
    pub fn early(self) -> Instant {
        const MARGIN: Duration = Duration::from_millis(100);
        let remaining = self.instant().saturating_duration_since(Instant::now());
        self.instant() - MARGIN.min(remaining / 10)
    }

    /// When a stream that goes on step by step begins no further one, so that it ends by saying
    /// where it stands and not with an error: two seconds before the deadline, or a quarter of
    /// what is left of it now.
    #[must_use]
    pub fn last_call(self) -> Instant {
        const MARGIN: Duration = Duration::from_secs(2);
        let remaining = self.instant().saturating_duration_since(Instant::now());
        self.instant() - MARGIN.min(remaining / 4)
    }

    /// The earlier of this deadline and one that far from now.
    #[must_use]
    pub fn at_most(self, duration: Duration) -> Self {
        let other = Self::within(duration);
        match (self.0, other.0) {
            (Some(this), Some(that)) => Self(Some(this.min(that))),
            (this, that) => Self(this.or(that)),
        }
    }

    /// Waits for `work` until the deadline, then drops it.
    pub async fn bound<T>(self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match self.0 {
            None => work.await,
            Some(instant) => timeout_at(instant, work).await.unwrap_or(Err(Error::DeadlineExceeded)),
        }
    }
}

/// The `TimeoutValue TimeoutUnit` of the gRPC protocol: at most eight digits and a unit. What
/// is malformed counts as absent, as other servers have it.
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(value * 3_600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_the_protocol_has_it() {
        assert_eq!(parse("2H"), Some(Duration::from_hours(2)));
        assert_eq!(parse("3M"), Some(Duration::from_mins(3)));
        assert_eq!(parse("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        for malformed in ["", "S", "-1S", "+1S", "1", "1x", "123456789S", "1é", "１S"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }

    #[tokio::test]
    async fn nobody_holds_a_call_for_hours() {
        let usual = Some(Duration::from_secs(10));
        let mut headers = HeaderMap::new();
        for (asked, default, longest) in
            [("99999999H", usual, 300), ("6M", usual, 300), ("4M", usual, 240), ("1H", None, 3_600)]
        {
            headers.insert("grpc-timeout", asked.parse().expect("a header"));
            let left = Deadline::of(&headers, default).left();
            let longest = Duration::from_secs(longest);
            assert!(left <= longest && left > longest.mul_f64(0.9), "{asked}: {left:?}");
        }
    }

    #[tokio::test]
    async fn the_last_call_leaves_time_to_say_where_one_stands() {
        for (seconds, margin) in [(1, 250), (4, 1_000), (30, 2_000)] {
            let deadline = Deadline::within(Duration::from_secs(seconds));
            let left = deadline.instant() - deadline.last_call();
            // A moment has passed since the deadline was set.
            let expected = Duration::from_millis(margin);
            assert!(left <= expected && left >= expected.mul_f64(0.8), "{left:?} of {seconds} s");
        }
    }

    #[tokio::test]
    async fn what_outlasts_its_deadline_is_an_error() {
        let mut headers = HeaderMap::new();
        let default = Deadline::of(&headers, Some(Duration::from_secs(10)));
        headers.insert("grpc-timeout", "50m".parse().expect("a header"));
        let asked = Deadline::of(&headers, Some(Duration::from_secs(10)));
        let late = asked.bound(std::future::pending::<Result<(), Error>>());
        assert!(matches!(late.await, Err(Error::DeadlineExceeded)));
        assert!(default.instant() > asked.instant() + Duration::from_secs(5));
        assert!(
            asked.bound(async { Ok(7) }).await.is_ok_and(|seven| seven == 7),
            "ready work is not dropped"
        );
    }
}
