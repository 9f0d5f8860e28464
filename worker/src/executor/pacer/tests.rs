//! Simulations: a shard that costs something per batch and per row, with noise, steps and outliers.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use shardlift_domain::spec::Batch;

use super::Pacer;

const TARGET: f64 = 0.1;

/// A shard in the simulation; times in seconds.
struct Shard {
    per_batch: f64,
    per_row: f64,
    noise: f64,
    seed: u64,
}

impl Shard {
    fn steady(per_batch: f64, per_row: f64) -> Self {
        Self { per_batch, per_row, noise: 0.0, seed: 1 }
    }

    fn takes(&mut self, rows: u32) -> f64 {
        // Numerical Recipes' linear congruence: any fixed sequence does.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chance = (self.seed >> 11) as f64 / (1_u64 << 53) as f64;
        let factor = 1.0 + self.noise * (2.0 * chance - 1.0);
        (self.per_batch + self.per_row * f64::from(rows)) * factor
    }

    /// The size that takes the target.
    fn ideal(&self) -> f64 {
        (TARGET - self.per_batch) / self.per_row
    }
}

fn pacer() -> Pacer {
    Pacer::new(&Batch::default())
}

/// Runs so many batches; answers size and duration of each.
fn run(pacer: &mut Pacer, shard: &mut Shard, batches: usize) -> Vec<(u32, f64)> {
    let one = |_| {
        let rows = pacer.next_size();
        let took = shard.takes(rows);
        pacer.record(rows, Duration::from_secs_f64(took));
        (rows, took)
    };
    (0..batches).map(one).collect()
}

fn mean(durations: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = durations.len() as f64;
    durations.sum::<f64>() / count
}

#[test]
fn it_reaches_the_steady_size_in_seconds_and_stays() {
    for (per_batch, per_row) in
        [(0.0, 0.000_01), (0.005, 0.000_02), (0.03, 0.000_1), (0.002, 0.001), (0.05, 0.000_004)]
    {
        let mut shard = Shard::steady(per_batch, per_row);
        let steps = run(&mut pacer(), &mut shard, 60);
        let ideal = shard.ideal();
        let reached = steps.iter().position(|(rows, _)| f64::from(*rows) >= 0.9 * ideal).expect("reached");
        let time: f64 = steps[..reached].iter().map(|(_, took)| took).sum();
        assert!(time < 3.0, "{time} s to 90 % of {ideal} rows");
        for (rows, took) in &steps[30..] {
            assert!((took - TARGET).abs() < 0.2 * TARGET, "{took} s for {rows} rows");
        }
        let last: Vec<u32> = steps[50..].iter().map(|(rows, _)| *rows).collect();
        assert!(last.iter().all(|rows| *rows == last[0]), "oscillates: {last:?}");
    }
}

#[test]
fn noise_moves_neither_the_mean_nor_the_size_by_a_fifth() {
    for seed in 1..50 {
        let mut shard = Shard { noise: 0.2, seed, ..Shard::steady(0.005, 0.000_02) };
        let steps = run(&mut pacer(), &mut shard, 400);
        let mean = mean(steps[20..].iter().map(|(_, took)| *took));
        assert!((mean - TARGET).abs() < 0.1 * TARGET, "seed {seed}: mean {mean} s");
        for (rows, _) in &steps[20..] {
            let off = f64::from(*rows) / shard.ideal();
            assert!((0.8..1.25).contains(&off), "seed {seed}: {rows} rows, ideal {}", shard.ideal());
        }
    }
}

#[test]
fn a_shard_that_becomes_five_times_slower_gets_its_size_within_three_batches() {
    let mut pacer = pacer();
    run(&mut pacer, &mut Shard::steady(0.002, 0.000_02), 40);
    let mut slow = Shard::steady(0.01, 0.000_1);
    let steps = run(&mut pacer, &mut slow, 30);
    assert!(steps[1].1 < 3.0 * TARGET, "after one batch: {} s", steps[1].1);
    for (rows, took) in &steps[3..] {
        assert!((took - TARGET).abs() < 0.25 * TARGET, "{took} s for {rows} rows");
    }
    // And back.
    let steps = run(&mut pacer, &mut Shard::steady(0.002, 0.000_02), 30);
    for (rows, took) in &steps[8..] {
        assert!((took - TARGET).abs() < 0.2 * TARGET, "{took} s for {rows} rows");
    }
}

#[test]
fn one_outlier_is_forgotten_at_once() {
    let mut pacer = pacer();
    let mut shard = Shard::steady(0.005, 0.000_02);
    run(&mut pacer, &mut shard, 40);
    let usual = pacer.next_size();
    pacer.record(usual, Duration::from_secs_f64(20.0 * TARGET));
    assert!(pacer.next_size() <= usual / 2, "a batch that took 2 s must have an effect");
    let steps = run(&mut pacer, &mut shard, 4);
    assert!(f64::from(steps[3].0) > 0.9 * f64::from(usual), "{steps:?}, usual {usual}");
}

#[test]
fn a_cold_start_does_not_hold_it_back() {
    let mut pacer = pacer();
    for cold in [5.0, 2.0] {
        pacer.record(pacer.next_size(), Duration::from_secs_f64(cold));
    }
    let mut shard = Shard::steady(0.005, 0.000_02);
    let steps = run(&mut pacer, &mut shard, 30);
    let reached =
        steps.iter().position(|(rows, _)| f64::from(*rows) >= 0.9 * shard.ideal()).expect("reached");
    assert!(reached <= 15, "{reached} batches");
}

#[test]
fn the_bounds_of_the_spec_hold() {
    let batch = Batch { min: 100, max: 1_000, ..Batch::default() };
    let mut fast = Pacer::new(&batch);
    run(&mut fast, &mut Shard::steady(0.0, 0.000_000_1), 20);
    assert_eq!(fast.next_size(), 1_000);
    let mut slow = Pacer::new(&batch);
    run(&mut slow, &mut Shard::steady(0.5, 0.01), 20);
    assert_eq!(slow.next_size(), 100);
    assert_eq!(Pacer::new(&Batch { min: 5_000, max: 9_000, ..batch }).next_size(), 5_000);
    assert_eq!(Pacer::new(&Batch { min: 1, max: 20, ..batch }).next_size(), 20);
    fast.limit(7);
    assert_eq!(fast.next_size(), 7);
}

#[test]
fn short_windows_teach_nothing() {
    let mut pacer = pacer();
    run(&mut pacer, &mut Shard::steady(0.005, 0.000_02), 40);
    let before = pacer.next_size();
    for rows in [0, 1, before / 2 - 1] {
        pacer.record(rows, Duration::from_secs(3));
        assert_eq!(pacer.next_size(), before);
    }
}

#[test]
fn a_size_that_the_shard_refuses_is_asked_for_ever_more_rarely() {
    let mut pacer = pacer();
    let mut shard = Shard::steady(0.001, 0.000_005);
    let (mut refused, mut early) = (0, 0);
    for batch in 0..1_000 {
        let rows = pacer.next_size();
        if rows > 3_000 {
            pacer.shrink();
            refused += 1;
            early += u32::from(batch < 100);
        } else {
            pacer.record(rows, Duration::from_secs_f64(shard.takes(rows)));
        }
    }
    assert!(refused <= 8 && early <= 4, "{refused} refused, {early} of them early");
    assert!(pacer.next_size() >= 1_000, "{}", pacer.next_size());
}

#[test]
fn contention_at_the_least_size_goes_below_it_and_recovers() {
    let mut pacer = pacer();
    for _ in 0..20 {
        pacer.shrink();
    }
    assert_eq!(pacer.next_size(), 1);
    run(&mut pacer, &mut Shard::steady(0.001, 0.000_1), 8_000);
    assert!(pacer.next_size() >= 50, "{}", pacer.next_size());
}

/// Walks rows of which some cannot be changed, as the executor does; answers the rows that it found and the batches
/// that this took. A row that was found is set aside.
fn walk(pacer: &mut Pacer, total: u32, bad: &[u32]) -> (Vec<u32>, u32) {
    let (mut at, mut found, mut batches) = (0, Vec::new(), 0);
    while at < total {
        let asked = pacer.next_size();
        let end = total.min(at + asked);
        batches += 1;
        match bad.iter().find(|row| (at..end).contains(*row) && !found.contains(*row)) {
            None => {
                pacer.record(end - at, Duration::from_millis(50));
                at = end;
            }
            Some(row) if asked == 1 => found.push(*row),
            Some(_) => pacer.narrow(),
        }
    }
    (found, batches)
}

#[test]
fn a_bad_row_is_found_by_halving() {
    for bad in [0, 1, 250, 498, 499] {
        let mut pacer = pacer();
        let (found, batches) = walk(&mut pacer, 500, &[bad]);
        assert_eq!(found, [bad]);
        assert!(batches <= 35, "{batches} batches for row {bad}");
    }
}

#[test]
fn after_the_suspect_window_the_size_is_the_usual_one() {
    let mut pacer = pacer();
    let usual = pacer.next_size();
    pacer.narrow();
    assert!(pacer.is_narrow());
    assert_eq!(pacer.next_size(), usual / 2);
    pacer.record(usual / 2, Duration::from_millis(50));
    assert!(pacer.is_narrow(), "half of the window is still ahead");
    pacer.record(0, Duration::from_millis(1));
    assert!(!pacer.is_narrow(), "the range is at its end");
    assert_eq!(pacer.next_size(), usual);
}

#[derive(Debug, Clone)]
enum Event {
    Record(u32, u64),
    Shrink,
    Narrow,
    Limit(u32),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<u32>(), any::<u64>()).prop_map(|(rows, ns)| Event::Record(rows, ns)),
        4 => (1..1_000_u32, 0..1_000_000_000_u64).prop_map(|(rows, ns)| Event::Record(rows, ns)),
        2 => Just(Event::Shrink),
        2 => Just(Event::Narrow),
        1 => any::<u32>().prop_map(Event::Limit),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_asks_for_something_within_bounds(
        min in 0_u32..2_000,
        max in 0_u32..2_000,
        events in prop::collection::vec(any_event(), 0..200),
    ) {
        let mut pacer = Pacer::new(&Batch { min, max, ..Batch::default() });
        let top = max.max(min).max(1);
        for event in events {
            let before = pacer.next_size();
            let narrow = pacer.is_narrow();
            match event {
                Event::Record(rows, ns) => {
                    pacer.record(rows.min(before), Duration::from_nanos(ns));
                    let after = pacer.next_size();
                    prop_assert!(narrow || after <= before.saturating_mul(2).max(min), "{} -> {}", before, after);
                }
                Event::Shrink => pacer.shrink(),
                Event::Narrow => {
                    pacer.narrow();
                    prop_assert_eq!(pacer.next_size(), (before / 2).max(1));
                }
                Event::Limit(rows) => pacer.limit(rows),
            }
            prop_assert!((1..=top).contains(&pacer.next_size()));
        }
    }

    #[test]
    fn every_bad_row_is_found_and_no_row_is_skipped(
        total in 1_u32..3_000,
        bad in prop::collection::btree_set(0_u32..3_000, 0..5),
    ) {
        let bad: Vec<u32> = bad.into_iter().filter(|row| *row < total).collect();
        let mut pacer = Pacer::new(&Batch::default());
        let (found, batches) = walk(&mut pacer, total, &bad);
        prop_assert_eq!(found.len(), bad.len());
        let bound = 40 + 40 * bad.len() as u32 + total / 250;
        prop_assert!(batches <= bound, "{} batches, {} bad rows of {}", batches, bad.len(), total);
    }
}
