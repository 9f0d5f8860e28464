//! S13: the worker's memory does not grow with the table.

use anyhow::Result;

use crate::figure::{Figure, Goal};
use crate::postgres::{Bench, ONE};
use crate::usage::peak_mib;

const SMALL: u64 = 100_000;
const LARGE: u64 = 2_000_000;

/// S13: the worker's peak at 2 M rows against its peak at 100 k rows, each in a fresh installation; and the peak in MiB.
pub(crate) async fn s13(runs: usize) -> Result<Vec<Figure>> {
    let (mut ratios, mut peaks) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let small = peak_after(SMALL).await?;
        let large = peak_after(LARGE).await?;
        println!("S13 run {run}: {small:.1} MiB at 100 k, {large:.1} MiB at 2 M");
        ratios.push(large / small);
        peaks.push(large);
    }
    let figure = |name, goal, runs, against| Figure { name, goal, runs, against, rows: LARGE };
    Ok(vec![
        figure("S13", Goal::AtMost(1.10), ratios, "worker's peak memory at 100 k rows"),
        figure("S13b", Goal::AtMost(128.0), peaks, "MiB: 64 + twice the byte budget of 32"),
    ])
}

async fn peak_after(rows: u64) -> Result<f64> {
    let mut bench = Bench::start().await?;
    bench.seed(rows).await?;
    bench.migrated(ONE).await?;
    peak_mib(bench.installation.worker(0).process().pid())
}
