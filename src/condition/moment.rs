//! Moments and durations: their text forms, arithmetic and parts.
//!
//! Both count nanoseconds exactly within CEL's ranges (cel-spec, langdef.md, timestamps and
//! durations). `9999-12-31T23:59:59Z`, which people write for "never", is within.

use std::fmt;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use super::tree::Part;

/// Ten thousand years, the longest duration either way.
const MAX_DURATION: SignedDuration = SignedDuration::from_secs(315_576_000_000);
/// 0001-01-01T00:00:00Z since the epoch.
const FIRST: SignedDuration = SignedDuration::from_secs(-62_135_596_800);
/// 9999-12-31T23:59:59.999999999Z since the epoch.
const LAST: SignedDuration = SignedDuration::new(253_402_300_799, 999_999_999);
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A length of time, negative if backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Duration(SignedDuration);

impl Duration {
    fn within(length: SignedDuration) -> Option<Self> {
        (length.unsigned_abs() <= MAX_DURATION.unsigned_abs()).then_some(Self(length))
    }

    /// Reads Go's form: signed numbers with units, as in `1h30m`, `-1.5s`, `300ms`, or `0`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if unsigned == "0" {
            return Some(Self(SignedDuration::ZERO));
        }
        let mut nanos: i128 = 0;
        let mut rest = unsigned;
        loop {
            let (part, after) = quantity(rest)?;
            nanos = nanos.checked_add(part)?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let nanos = if text.starts_with('-') { -nanos } else { nanos };
        Self::within(SignedDuration::try_from_nanos_i128(nanos)?)
    }

    pub(super) fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::within)
    }

    pub(super) fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::within)
    }

    /// The whole duration in a unit, towards zero; parts of the calendar have no meaning for it.
    pub(super) fn part(self, part: Part) -> Option<i64> {
        match part {
            Part::Hours => Some(self.0.as_hours()),
            Part::Minutes => Some(self.0.as_mins()),
            Part::Seconds => Some(self.0.as_secs()),
            Part::Milliseconds => i64::try_from(self.0.as_millis()).ok(),
            Part::FullYear
            | Part::Month
            | Part::Date
            | Part::DayOfMonth
            | Part::DayOfWeek
            | Part::DayOfYear => None,
        }
    }
}

/// The nanoseconds of a number and its unit, and what follows.
fn quantity(text: &str) -> Option<(i128, &str)> {
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at_checked(number_len)?;
    let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(unit_len)?;
    let nanos: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 20 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // The twentieth digit after the point is below a nanosecond in every unit.
    let fraction = fraction.get(..19).unwrap_or(fraction);
    let below = if fraction.is_empty() {
        0
    } else {
        let digits = u32::try_from(fraction.len()).ok()?;
        fraction.parse::<i128>().ok()?.checked_mul(nanos)? / 10_i128.checked_pow(digits)?
    };
    Some((whole.checked_mul(nanos)?.checked_add(below)?, rest))
}

impl fmt::Display for Duration {
    /// Seconds with as many decimals as needed, as in `5400s` or `-0.25s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0.is_negative() { "-" } else { "" };
        let length = self.0.unsigned_abs();
        if length.subsec_nanos() == 0 {
            return write!(f, "{sign}{}s", length.as_secs());
        }
        let decimals = format!("{:09}", length.subsec_nanos());
        write!(f, "{sign}{}.{}s", length.as_secs(), decimals.trim_end_matches('0'))
    }
}

/// A moment, kept as the time since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(SignedDuration);

impl Moment {
    fn within(since_epoch: SignedDuration) -> Option<Self> {
        (FIRST <= since_epoch && since_epoch <= LAST).then_some(Self(since_epoch))
    }

    pub(super) fn from_seconds(seconds: i64) -> Option<Self> {
        Self::within(SignedDuration::from_secs(seconds))
    }

    /// Whole seconds since 1970, rounded down.
    pub(super) fn as_seconds(self) -> i64 {
        self.0.as_secs() - i64::from(self.0.subsec_nanos() < 0)
    }

    /// Reads RFC 3339: `2027-01-31T12:00:00.25+02:00`. Digits below a nanosecond are cut.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let [year, month, day] = fields(date, '-', [4, 2, 2])?;
        let (time, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
        let [hour, minute, second] = fields(time, ':', [2, 2, 2])?;
        let (nanos, rest) = match rest.strip_prefix('.') {
            None => (0, rest),
            Some(fraction) => {
                let len = fraction.find(|c: char| !c.is_ascii_digit())?;
                let (digits, rest) = fraction.split_at_checked(len).filter(|_| len > 0)?;
                let kept = digits.get(..9).unwrap_or(digits);
                (format!("{kept:0<9}").parse().ok()?, rest)
            }
        };
        let offset = match rest {
            "Z" | "z" => SignedDuration::ZERO,
            _ => {
                let (sign, hours_and_minutes) = rest.split_at_checked(1)?;
                let [hours, minutes] = fields(hours_and_minutes, ':', [2, 2])?;
                let length = SignedDuration::from_mins(i64::from(hours * 60 + minutes));
                match sign {
                    _ if hours > 23 || minutes > 59 => return None,
                    "+" => length,
                    "-" => -length,
                    _ => return None,
                }
            }
        };
        let small = |value: i32| i8::try_from(value).ok();
        let date = Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()?;
        let time = jiff::civil::Time::new(small(hour)?, small(minute)?, small(second)?, nanos).ok()?;
        Self::within(date.to_datetime(time).duration_since(EPOCH).checked_sub(offset)?)
    }

    pub(super) fn checked_add(self, length: Duration) -> Option<Self> {
        self.0.checked_add(length.0).and_then(Self::within)
    }

    pub(super) fn checked_sub(self, length: Duration) -> Option<Self> {
        self.0.checked_sub(length.0).and_then(Self::within)
    }

    /// The time from `earlier` to this.
    pub(super) fn since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).and_then(Duration::within)
    }

    /// A part of the local time at an offset from UTC.
    pub(super) fn part(self, part: Part, offset: Offset) -> Option<i64> {
        let local = EPOCH
            .checked_add(self.0.checked_add(SignedDuration::from_secs(i64::from(offset.seconds())))?)
            .ok()?;
        Some(match part {
            Part::FullYear => i64::from(local.year()),
            Part::Month => i64::from(local.month()) - 1,
            Part::Date => i64::from(local.day()),
            Part::DayOfMonth => i64::from(local.day()) - 1,
            Part::DayOfWeek => i64::from(local.weekday().to_sunday_zero_offset()),
            Part::DayOfYear => i64::from(local.day_of_year()) - 1,
            Part::Hours => i64::from(local.hour()),
            Part::Minutes => i64::from(local.minute()),
            Part::Seconds => i64::from(local.second()),
            Part::Milliseconds => i64::from(local.millisecond()),
        })
    }
}

/// Numbers of fixed width between separators.
fn fields<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i32; N]> {
    let mut parts = text.split(separator);
    let mut values = [0; N];
    for (value, width) in values.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *value = part.parse().ok()?;
    }
    parts.next().is_none().then_some(values)
}

impl fmt::Display for Moment {
    /// RFC 3339 in UTC with as many decimals as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match EPOCH.checked_add(self.0) {
            Ok(utc) => write!(f, "{utc}Z"),
            Err(_) => write!(f, "{}s since 1970", self.0.as_secs()),
        }
    }
}

/// Reads the zone of `getHours(zone)`: `UTC`, or an offset such as `+02:00` or `-08:30`.
pub(super) fn parse_offset(text: &str) -> Option<Offset> {
    if matches!(text, "UTC" | "Z" | "") {
        return Some(Offset::UTC);
    }
    let negative = text.starts_with('-');
    let [hours, minutes] = fields(text.strip_prefix(['+', '-']).unwrap_or(text), ':', [2, 2])?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 60 + minutes) * 60;
    Offset::from_seconds(if negative { -seconds } else { seconds }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let seconds = |text: &str| Duration::parse(text).map(|length| length.to_string());
        let check = |text: &str, expected: &str| {
            assert_eq!(seconds(text).as_deref(), Some(expected), "{text}");
        };
        check("0", "0s");
        check("-0", "0s");
        check("1h30m", "5400s");
        check("-1.5h", "-5400s");
        check("+.5s", "0.5s");
        check("1.s", "1s");
        check("300ms", "0.3s");
        check("2us3ns", "0.000002003s");
        check("1µs1μs", "0.000002s");
        check("0.3333333333333333333333h", "1199.999999999s");
        check("1s1s", "2s");
        check("87600000h", "315360000000s");
        for bad in ["", "+", "1", "s", ".s", "1 h", "1d", "h1", "1h-1m", "1..5s", "1e3s", "90000000h"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(seconds("999999999999999999999s"), None);
    }

    #[test]
    fn moments_are_read_and_printed_exactly() {
        let utc = |text: &str| Moment::parse(text).map(|moment| moment.to_string());
        let check = |text: &str, expected: &str| {
            assert_eq!(utc(text).as_deref(), Some(expected), "{text}");
        };
        check("2023-10-11T10:00:00.000Z", "2023-10-11T10:00:00Z");
        check("2027-01-31T12:00:00.25+02:00", "2027-01-31T10:00:00.25Z");
        check("1969-12-31T16:00:00-08:00", "1970-01-01T00:00:00Z");
        check("9999-12-31T23:59:59.9999999999Z", "9999-12-31T23:59:59.999999999Z");
        check("0001-01-01T00:00:00z", "0001-01-01T00:00:00Z");
        check("2024-02-29t00:00:00Z", "2024-02-29T00:00:00Z");
        for bad in [
            "",
            "2023-10-11",
            "2023-10-11 10:00:00Z",
            "2023-10-11T10:00:00",
            "2023-10-11T10:00Z",
            "2023-02-29T00:00:00Z",
            "2023-10-11T24:00:00Z",
            "2023-10-11T10:00:60Z",
            "2023-10-11T10:00:00.Z",
            "2023-10-11T10:00:00+2:00",
            "2023-10-11T10:00:00+24:00",
            "2023-1a-11T10:00:00Z",
            "+023-10-11T10:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2023-10-11T10:00:00Zé",
            "éééééé",
        ] {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn arithmetic_stays_within_its_range() {
        let moment = |text: &str| Moment::parse(text).expect(text);
        let length = |text: &str| Duration::parse(text).expect(text);
        let new_year = moment("2024-01-01T00:00:00Z");
        assert_eq!(new_year.checked_add(length("24h")), Some(moment("2024-01-02T00:00:00Z")));
        assert_eq!(new_year.checked_sub(length("1ns")), Some(moment("2023-12-31T23:59:59.999999999Z")));
        assert_eq!(new_year.since(moment("2023-12-31T00:00:00Z")), Some(length("24h")));
        assert_eq!(moment("9999-12-31T23:59:59Z").checked_add(length("1s")), None);
        assert_eq!(moment("0001-01-01T00:00:00Z").checked_sub(length("1ns")), None);
        assert!(moment("9999-12-31T23:59:59Z").since(moment("0001-01-01T00:00:00Z")).is_some());
        let longest = length("87600000h");
        assert_eq!(longest.checked_add(longest), None);
        assert_eq!(moment("1969-12-31T23:59:59.5Z").as_seconds(), -1);
        assert_eq!(Moment::from_seconds(0), Some(moment("1970-01-01T00:00:00Z")));
        assert_eq!(Moment::from_seconds(i64::MAX), None);
    }

    #[test]
    fn parts_follow_the_zone() {
        let moment = Moment::parse("2023-12-31T23:30:15.125Z").expect("a moment");
        let part = |part, zone: &str| moment.part(part, parse_offset(zone).expect("an offset"));
        let utc = [
            (Part::FullYear, 2023),
            (Part::Month, 11),
            (Part::Date, 31),
            (Part::DayOfMonth, 30),
            (Part::DayOfWeek, 0),
            (Part::DayOfYear, 364),
            (Part::Hours, 23),
            (Part::Minutes, 30),
            (Part::Seconds, 15),
            (Part::Milliseconds, 125),
        ];
        for (which, expected) in utc {
            assert_eq!(part(which, "UTC"), Some(expected), "{which:?}");
        }
        assert_eq!(part(Part::FullYear, "+01:00"), Some(2024));
        assert_eq!(part(Part::DayOfWeek, "01:00"), Some(1));
        assert_eq!(part(Part::Hours, "-08:30"), Some(15));
        let last = Moment::parse("9999-12-31T23:30:00Z").expect("a moment");
        assert_eq!(last.part(Part::Hours, parse_offset("+02:00").expect("an offset")), None);
        for bad in ["Europe/Berlin", "+2", "+24:00", "+01:60", "01:00:00", "--01:00"] {
            assert_eq!(parse_offset(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_of_a_duration_are_totals() {
        let length = Duration::parse("-25h0.5s").expect("a duration");
        assert_eq!(length.part(Part::Hours), Some(-25));
        assert_eq!(length.part(Part::Minutes), Some(-1500));
        assert_eq!(length.part(Part::Seconds), Some(-90_000));
        assert_eq!(length.part(Part::Milliseconds), Some(-90_000_500));
        assert_eq!(length.part(Part::FullYear), None);
    }
}
