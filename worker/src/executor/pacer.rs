//! How many rows the next batch asks for.
//!
//! Pure: it is told what batches took and answers a size; it waits for nothing and knows no database. The aim is the
//! spec's time target per batch. Three things move the size:
//!
//! - [`Pacer::record`]: the cost per row, smoothed, against the target. Growth is at most ×2 per batch; a batch that
//!   took more than twice the target halves the size at once, whatever the average says.
//! - [`Pacer::shrink`]: the shard rolled the batch back (contention, timeout). Half the size, and a ceiling there that
//!   rises only after a run of clean batches, so that the size that failed is not asked for again and again.
//! - [`Pacer::narrow`]: a row of the window cannot be changed. The window is bisected until it is that row alone.

use std::time::Duration;

use shardlift_domain::spec::Batch;

/// Where a range begins before anything is known.
const START: u32 = 500;
/// Weight of the newest cost in the average.
const NEWEST: f64 = 0.5;
/// A middle sample this many times off the average is a step and not noise: the average jumps to it.
const STEP: f64 = 1.5;
/// Changes of the size below this fraction are noise.
const DEAD_BAND: f64 = 0.05;
/// Clean batches before a ceiling rises for the first time; doubled by each further [`Pacer::shrink`].
const PATIENCE: u32 = 8;
/// Most clean batches that a ceiling waits for.
const MAX_PATIENCE: u32 = 256;

/// The size of one range's batches.
#[derive(Debug, Clone)]
pub struct Pacer {
    target: f64,
    min: u32,
    max: u32,
    /// Of a usual batch, between min and max.
    size: u32,
    cost: Cost,
    ceiling: Option<Ceiling>,
    suspect: Option<Suspect>,
    limit: u32,
}

/// Seconds per row.
#[derive(Debug, Clone, Default)]
struct Cost {
    /// The newest last; a single outlier among three is not believed.
    samples: [Option<f64>; 3],
    average: Option<f64>,
}

/// A size that the shard could not take was above this.
#[derive(Debug, Clone)]
struct Ceiling {
    rows: u32,
    clean: u32,
    patience: u32,
}

/// A window that holds a row which cannot be changed.
#[derive(Debug, Clone)]
struct Suspect {
    /// Rows of the first window that failed, still ahead.
    outer: u32,
    /// Rows of the newest window that failed, still ahead: the bad row is among them.
    inner: u32,
    size: u32,
}

impl Pacer {
    /// A pacer for one range.
    pub fn new(batch: &Batch) -> Self {
        let min = batch.min.max(1);
        let max = batch.max.max(min);
        Self {
            target: batch.target.as_secs_f64().max(0.001),
            min,
            max,
            size: START.clamp(min, max),
            cost: Cost::default(),
            ceiling: None,
            suspect: None,
            limit: u32::MAX,
        }
    }

    /// Never ask for more than this, not even for the spec's `min`: what the throttle lets through at once.
    pub fn limit(&mut self, rows: u32) {
        self.limit = rows.max(1);
    }

    /// How many rows to ask for next, at least 1. Below the spec's `min` only while searching for a row, below a
    /// ceiling, or by [`Pacer::limit`].
    pub fn next_size(&self) -> u32 {
        let usual = self.usual();
        self.suspect.as_ref().map_or(usual, |suspect| suspect.size.min(usual))
    }

    /// Whether a failing row is being searched for.
    #[cfg(test)]
    fn is_narrow(&self) -> bool {
        self.suspect.is_some()
    }

    /// A batch of [`Pacer::next_size`] was committed: `window_rows` rows of the window, `took` from its begin to the
    /// commit's answer, without waiting for the throttle.
    pub fn record(&mut self, window_rows: u32, took: Duration) {
        let asked = self.next_size();
        if let Some(suspect) = &mut self.suspect {
            if suspect.pass(window_rows) {
                self.suspect = None;
            }
            return;
        }
        // The last window of a range, or a gap: the fixed cost of a batch would pass for a slow shard.
        if window_rows < asked.div_ceil(2) {
            return;
        }
        let took = took.as_secs_f64();
        self.cost.learn(took / f64::from(window_rows));
        self.size = self.after_batch(asked, took);
        self.raise_ceiling();
    }

    /// The shard rolled the batch back: contended or too slow. At the spec's `min` it goes on below it, since a batch
    /// that never succeeds is worse than a small one.
    pub fn shrink(&mut self) {
        let rows = (self.next_size() / 2).max(1);
        let patience = match &self.ceiling {
            Some(earlier) => (earlier.patience * 2).min(MAX_PATIENCE),
            None => PATIENCE,
        };
        self.ceiling = Some(Ceiling { rows, clean: 0, patience });
        self.size = self.size.min(rows).max(self.min);
    }

    /// A row of the window that was asked for cannot be changed; nothing was changed. When the size was 1 already,
    /// the row is found, and this does nothing more.
    pub fn narrow(&mut self) {
        let asked = self.next_size();
        let outer = self.suspect.as_ref().map_or(asked, |suspect| suspect.outer.max(asked));
        self.suspect = Some(Suspect { outer, inner: asked, size: (asked / 2).max(1) });
    }

    fn usual(&self) -> u32 {
        let ceiling = self.ceiling.as_ref().map_or(u32::MAX, |ceiling| ceiling.rows);
        self.size.min(ceiling).min(self.limit).max(1)
    }

    /// Growth counts from what was asked for: beyond it nothing has been tried, whatever held it down.
    fn after_batch(&self, asked: u32, took: f64) -> u32 {
        let size = f64::from(asked);
        let wanted = self.cost.average.map_or(size, |cost| self.target / cost);
        let next = if took > 2.0 * self.target {
            wanted.min(size / 2.0)
        } else if (wanted - size).abs() < DEAD_BAND * size {
            size
        } else {
            wanted.min(size * 2.0)
        };
        // In range by the clamp; the fraction is meant to be cut.
        next.clamp(f64::from(self.min), f64::from(self.max)) as u32
    }

    fn raise_ceiling(&mut self) {
        let Some(ceiling) = &mut self.ceiling else { return };
        ceiling.clean += 1;
        if ceiling.clean >= ceiling.patience {
            ceiling.clean = 0;
            ceiling.rows = ceiling.rows.saturating_add((ceiling.rows / 4).max(1));
            if ceiling.rows >= self.max {
                self.ceiling = None;
            }
        }
    }
}

impl Cost {
    fn learn(&mut self, sample: f64) {
        self.samples.rotate_left(1);
        self.samples[2] = Some(sample);
        let mut known: Vec<f64> = self.samples.iter().flatten().copied().collect();
        known.sort_by(f64::total_cmp);
        // Of two, the lower: a slow first batch is more often a cold cache than a slow shard.
        let middle = known[(known.len() - 1) / 2];
        self.average = Some(match self.average {
            Some(average) if middle < STEP * average && average < STEP * middle => {
                average + NEWEST * (middle - average)
            }
            _ => middle,
        });
    }
}

impl Suspect {
    /// `rows` were changed after all; answers whether the whole window is behind.
    fn pass(&mut self, rows: u32) -> bool {
        self.outer = self.outer.saturating_sub(rows);
        self.inner = self.inner.saturating_sub(rows);
        if rows == 0 || self.outer == 0 {
            return true;
        }
        self.size = match self.inner {
            // The bad row went by (changed or set aside): look at the rest of the first window with larger steps.
            0 => self.size.saturating_mul(2).min(self.outer),
            // What is left of a window that failed would fail again as a whole.
            left => (left / 2).max(1),
        };
        false
    }
}

#[cfg(test)]
mod tests;
