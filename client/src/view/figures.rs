//! Figures for people: grouped digits, binary bytes, rounded durations.

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `31.4 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut size = number as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `12s`, `3m 12s`, `2h 05m`, `3d 04h`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `12,345`: a speed in rows per second, without its unit.
pub(crate) fn rate(per_second: f64) -> String {
    count(per_second.round().max(0.0) as u64)
}

/// `61 %`: rounded down, so that 100 % means all of it.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{} %", (fraction.clamp(0.0, 1.0) * 100.0).floor() as u64)
}

/// `1 shard`, `2 shards`.
pub(crate) fn counted(number: usize, word: &str) -> String {
    format!("{} {word}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(0), bytes(1023), bytes(1024)], ["0 B", "1023 B", "1.0 KiB"]);
        assert_eq!([bytes(1024 * 1024 - 1), bytes(u64::MAX)], ["1.0 MiB", "16.0 EiB"]);
        assert_eq!([span(59), span(61), span(7500), span(273_600)], ["59s", "1m 01s", "2h 05m", "3d 04h"]);
        assert_eq!([percent(0.999), percent(1.0), percent(7.0)], ["99 %", "100 %", "100 %"]);
        assert_eq!([counted(1, "shard"), counted(2, "shard")], ["1 shard", "2 shards"]);
        assert_eq!(rate(f64::INFINITY), count(u64::MAX));
    }
}
