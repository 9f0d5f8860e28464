//! How fast a range goes: rows per second of the time that passes, pauses included. What a throttle or a slow shard makes of it
//! is what a person wants to know; how fast a single batch is, the pacer knows.

use std::time::Duration;

use tokio::time::Instant;

/// The newest figure's part in what is told.
const NEWEST: f64 = 0.4;
/// Less time than this says nothing.
const LEAST: Duration = Duration::from_millis(1);

/// The speed of one walk.
#[derive(Debug)]
pub(super) struct Speed {
    since: Instant,
    rows: u64,
    smoothed: Option<f64>,
}

impl Speed {
    /// A walk that begins now.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), rows: 0, smoothed: None }
    }

    /// A batch has walked over so many rows.
    pub(super) fn walked(&mut self, rows: u32) {
        self.rows += u64::from(rows);
    }

    /// Rows per second since the last look, smoothed over a few looks; `most`: more cannot be, so that a first batch, which has not
    /// waited yet, does not look like a flood.
    pub(super) fn look(&mut self, most: f64) -> f64 {
        let passed = self.since.elapsed().max(LEAST).as_secs_f64();
        let newest = (self.rows as f64 / passed).min(most);
        let smoothed = self.smoothed.map_or(newest, |before| before + NEWEST * (newest - before));
        *self = Self { since: Instant::now(), rows: 0, smoothed: Some(smoothed) };
        smoothed
    }

    /// What the last look said; 0 before the first one.
    pub(super) fn last(&self) -> f64 {
        self.smoothed.unwrap_or_default()
    }
}
