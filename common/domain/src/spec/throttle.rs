//! Limits that protect the application: how fast rows are changed, and at what time of day.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest rate that can be asked for.
pub const MAX_RATE: u32 = 100_000_000;

/// A daily time of day in UTC during which batches may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Window {
    /// Minutes after midnight UTC, 0 to 1439.
    pub from_minute: u16,
    /// Minutes after midnight UTC, 0 to 1439; before `from_minute` it means the next day.
    pub to_minute: u16,
}

/// Why a text is no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWindow {
    /// It is of another form.
    #[error("it must be a daily window such as \"22:00-06:00 UTC\"")]
    Form,
    /// It ends when it begins.
    #[error("it is empty: it ends when it begins")]
    Empty,
}

impl Window {
    /// A window between two minutes of the day; `to_minute` may be 1440, the end of the day.
    pub fn new(from_minute: u16, to_minute: u16) -> Result<Self, NoWindow> {
        if from_minute >= 1440 || to_minute > 1440 {
            return Err(NoWindow::Form);
        }
        let to_minute = to_minute % 1440;
        if from_minute == to_minute { Err(NoWindow::Empty) } else { Ok(Self { from_minute, to_minute }) }
    }
}

impl FromStr for Window {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let minutes = |text: &str| {
            let (from, to) = text.strip_suffix(" UTC")?.split_once('-')?;
            Some((minute_of_day(from.trim())?, minute_of_day(to.trim())?))
        };
        let (from, to) = minutes(text).ok_or(NoWindow::Form)?;
        Self::new(from, to)
    }
}

/// `HH:MM`, up to 24:00.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let part = |part: &str| -> Option<u16> {
        let digits = part.len() == 2 && part.chars().all(|digit| digit.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let (hours, minutes) = (part(hours)?, part(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= 1440).then_some(total)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from_minute, self.to_minute);
        write!(f, "{:02}:{:02}-{:02}:{:02} UTC", from / 60, from % 60, to / 60, to % 60)
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl TryFrom<String> for Window {
    type Error = NoWindow;

    fn try_from(text: String) -> Result<Self, NoWindow> {
        text.parse()
    }
}

/// Limits that protect the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Throttle {
    /// Most rows per second on one shard, over all its ranges.
    pub rows_per_second: Option<u32>,
    /// When batches may run.
    pub window: Option<Window>,
}

/// The share of a shard-wide limit that belongs to one of several ranges running at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketedShare {
    /// Rows per second for this range.
    pub rows_per_second: u32,
}

impl Throttle {
    /// Divides the shard's limit over the ranges that run at once (at least 1 row/s each).
    pub fn share(&self, running: u32) -> Option<BucketedShare> {
        self.rows_per_second.map(|rate| BucketedShare { rows_per_second: (rate / running.max(1)).max(1) })
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows_per_second {
            Some(rate) => write!(f, "at most {rate} rows/s on each shard")?,
            None => f.write_str("no limit of rows/s")?,
        }
        match self.window {
            Some(window) => write!(f, ", {window}"),
            None => f.write_str(", at any time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_daily_and_in_utc() {
        let window = |from_minute, to_minute| Ok(Window { from_minute, to_minute });
        for (text, expected, shown) in [
            ("22:00-06:00 UTC", window(1320, 360), "22:00-06:00 UTC"),
            ("00:30 - 01:00 UTC", window(30, 60), "00:30-01:00 UTC"),
            ("18:00-24:00 UTC", window(1080, 0), "18:00-00:00 UTC"),
        ] {
            assert_eq!(text.parse::<Window>(), expected);
            assert_eq!(expected.map(|window| window.to_string()).as_deref(), Ok(shown));
        }
        for bad in [
            "22:00-06:00",
            "22-06 UTC",
            "24:00-01:00 UTC",
            "22:60-06:00 UTC",
            "2:00-06:00 UTC",
            "22:00-06:00 CET",
        ] {
            assert_eq!(bad.parse::<Window>(), Err(NoWindow::Form), "{bad}");
        }
        assert_eq!("01:00-01:00 UTC".parse::<Window>(), Err(NoWindow::Empty));
        assert_eq!("00:00-24:00 UTC".parse::<Window>(), Err(NoWindow::Empty));
    }

    #[test]
    fn a_throttle_is_stored_as_people_write_it() {
        let throttle = Throttle { rows_per_second: Some(50), window: "22:00-06:00 UTC".parse().ok() };
        let stored = serde_json::to_value(throttle).expect("serialises");
        assert_eq!(stored, serde_json::json!({ "rows_per_second": 50, "window": "22:00-06:00 UTC" }));
        assert_eq!(serde_json::from_value::<Throttle>(stored).expect("parses"), throttle);
        assert!(
            serde_json::from_value::<Throttle>(serde_json::json!({ "window": "01:00-01:00 UTC" })).is_err()
        );
        assert_eq!(throttle.to_string(), "at most 50 rows/s on each shard, 22:00-06:00 UTC");
        assert_eq!(Throttle::default().to_string(), "no limit of rows/s, at any time");
    }
}
