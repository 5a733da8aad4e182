//! Sizes, times and counts as people read them.

use std::time::Duration;

use crate::datastore::survey::Samples;

/// Bytes, such as `1.5 GiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut rest = 0;
    while scaled >= 1_024 && unit + 1 < UNITS.len() {
        rest = scaled % 1_024;
        scaled /= 1_024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    match (unit, rest * 10 / 1_024) {
        (0, _) | (_, 0) => format!("{scaled} {name}"),
        (_, tenth) if scaled < 100 => format!("{scaled}.{tenth} {name}"),
        _ => format!("{scaled} {name}"),
    }
}

/// A duration with about three digits, such as `0.214 ms` or `2.5 s`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 120.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.3} ms", seconds * 1e3)
    }
}

/// Measurements in a line.
#[must_use]
pub fn samples(samples: &Samples) -> String {
    let (median, max) = (time(samples.median()), time(samples.max()));
    format!("{median} (median of {}), {max} at most", samples.count())
}

/// A number with its noun, such as `1 store` or `12,345 tuples`.
pub(super) fn count(number: u64, noun: &str) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (200 << 20, "200 MiB"),
            (5_637_144_576, "5.2 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (micros, text) in [
            (214, "0.214 ms"),
            (1_240, "1.2 ms"),
            (34_000, "34 ms"),
            (2_500_000, "2.5 s"),
            (600_000_000, "10 min"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        assert_eq!(count(1, "store"), "1 store");
        assert_eq!(count(1_234_567, "tuple"), "1,234,567 tuples");
        assert_eq!(count(0, "tuple"), "0 tuples");
    }
}
