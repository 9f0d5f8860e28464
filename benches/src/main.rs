//! `shardlift-bench`: speed as ratios of two things measured in one run, alternating, on durable servers; what one coordinator
//! costs; how soon work goes on after a fault.
//!
//! `cargo xtask bench` builds the programs for release and runs this; `cargo xtask bench S1 S5` runs those goals alone.

#![allow(clippy::print_stdout, reason = "a program for people prints")]

mod figure;
mod memory;
mod mongodb;
mod postgres;
mod recovery;
mod run;
mod scale;
mod start;
mod usage;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use figure::Figure;

/// Measures the goals and prints each figure beside its goal.
#[derive(Parser)]
#[command(name = "shardlift-bench")]
struct Flags {
    /// Goals to measure, such as S1 S5; none: all of them.
    goals: Vec<String>,
    /// Rows or documents of the large tables.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Runs of each pair; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Simulated workers of S12a; its goals speak of 1,000.
    #[arg(long, default_value_t = scale::GOAL)]
    workers: usize,
    /// Where the results are written.
    #[arg(long, default_value = "benches/results/latest.json")]
    results: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let flags = Flags::parse();
    let wanted =
        |goal: &str| flags.goals.is_empty() || flags.goals.iter().any(|name| name.eq_ignore_ascii_case(goal));
    let mut figures: Vec<Figure> = Vec::new();
    if wanted("S1") {
        figures.extend(postgres::s1(flags.rows, flags.runs).await?);
    }
    if wanted("S3") {
        figures.push(postgres::s3(flags.runs).await?);
    }
    if wanted("S5") {
        figures.extend(mongodb::s5(flags.rows, flags.runs).await?);
    }
    if wanted("S7") {
        figures.extend(postgres::s7(flags.rows, flags.runs).await?);
        figures.extend(mongodb::s7(flags.rows, flags.runs).await?);
    }
    if wanted("S12a") {
        figures.extend(scale::s12a(flags.workers).await?);
    }
    if wanted("S13") {
        figures.extend(memory::s13(flags.runs.min(3)).await?);
    }
    if wanted("S14") {
        figures.extend(start::s14(flags.runs).await?);
    }
    let named = !flags.goals.is_empty();
    if wanted("S15") && (named || shardlift_harness::programs::rabbitmq_dir().is_ok()) {
        figures.push(postgres::s15(flags.rows, flags.runs).await?);
    }
    if wanted("R1") {
        figures.extend(recovery::r1(flags.runs.min(3)).await?);
    }
    if wanted("R2") {
        figures.extend(recovery::r2(flags.runs.min(3)).await?);
    }
    if wanted("R3") {
        figures.extend(recovery::r3(flags.runs.min(3)).await?);
    }
    if figures.is_empty() && wanted("S12a") {
        return Ok(());
    }
    anyhow::ensure!(
        !figures.is_empty(),
        "no such goal; there are S1, S3, S5, S7, S12a, S13, S14, S15, R1, R2 and R3"
    );
    figure::print(&figures);
    figure::write(&flags.results, &figures)
}
