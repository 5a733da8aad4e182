//! Durations as people write them.

use std::time::Duration;

/// Reads `90m`, `8h`, `30d`, `1h30m`. Days count 24 hours: thirty days do not depend on a clock
/// that changes in spring. `None`: not a duration above zero.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let hours = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u32>().ok())
        .map(|days| format!("{}h", u64::from(days) * 24));
    let duration: jiff::SignedDuration = hours.as_deref().unwrap_or(text).parse().ok()?;
    duration.is_positive().then(|| duration.unsigned_abs())
}

/// Reads a duration for a flag.
pub fn flag(text: &str) -> Result<Duration, String> {
    parse(text).ok_or_else(|| "not a duration; write it like 30s, 90m, 8h or 30d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let hours = |hours| Some(Duration::from_hours(hours));
        assert_eq!(parse("90m"), Some(Duration::from_mins(90)));
        assert_eq!(parse("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!((parse("8h"), parse("30d")), (hours(8), hours(720)));
        for text in ["", "0s", "-1h", "8", "eight hours", "1.5d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
