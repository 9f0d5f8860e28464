//! The demo: real shards, a live application, the example library applied to all of it, and an independent check.
//! It knows Shardlift by its command line only.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to its user")]

mod apply;
mod keep;
mod phase;
mod platform;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use shardlift_harness::dataset::DatasetSize;
use shardlift_harness::installation::Installation;
use shardlift_harness::wait::until_told_to_end;

use apply::{Library, apply_library};
use phase::phase;
use platform::Platform;
use summary::Summary;

/// Migrates a chat platform on 2 PostgreSQL and 2 MongoDB shards while its application keeps writing.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo")]
struct Arguments {
    /// Rows over all PostgreSQL shards, and as many documents over all MongoDB shards
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    rows: u64,
    /// Leave everything running at the end, and tell how to reach, kill and restart each process
    #[arg(long)]
    keep: bool,
    /// The directory whose folders schema and data are applied
    #[arg(long, value_name = "DIR", default_value = "migrations", hide = true)]
    library: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Dropping the future ends every process and removes every file, however the demo ends.
    let outcome = tokio::select! {
        outcome = Box::pin(demo(&arguments)) => outcome,
        () = until_told_to_end() => {
            println!("\nending everything");
            return ExitCode::from(130);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let library = Library::copy(&arguments.library)?;
    let size = DatasetSize { postgres_rows: arguments.rows, mongodb_documents: arguments.rows };

    let platform =
        phase("starting 2 PostgreSQL servers and 2 MongoDB replica sets", Platform::start()).await?;
    let loading = format!("loading {0} rows and {0} documents", arguments.rows);
    phase(&loading, platform.load(&size)).await?;
    let installation =
        phase("starting a coordinator and one worker for each shard", platform.install()).await?;
    if arguments.keep {
        keep::tell_processes(&platform, &installation)?;
    }
    let work = async {
        let outcome = migrate(&library, &platform, &installation, arguments.keep).await;
        println!("Total {:.1} s.", started.elapsed().as_secs_f64());
        if !arguments.keep {
            return outcome;
        }
        keep::tell_access(&platform, &installation)?;
        if let Err(error) = outcome {
            eprintln!("\nThe demo failed: {error:#}");
        }
        std::future::pending().await
    };
    tokio::select! {
        outcome = Box::pin(work) => outcome,
        never = keep::collect_the_dead(&platform, &installation) => match never {},
    }
}

/// The job itself, while the application keeps writing.
async fn migrate(
    library: &Library,
    platform: &Platform,
    installation: &Installation,
    keep: bool,
) -> Result<()> {
    let writers = platform.start_writers();
    println!("\nThe application is writing to all shards from here on.");
    apply_library(library, installation, keep)
        .await
        .with_context(|| format!("the library was not applied\n{}", installation.log_tails(10)))?;
    let (problems, reports) = phase("checking every row by other means", platform.check(writers)).await?;
    let summary = Summary::read(installation).await?;
    println!("\n{summary}\n\n{}", reports.join("\n"));
    verdict(&problems, &summary)
}

fn verdict(problems: &[String], summary: &Summary) -> Result<()> {
    ensure!(problems.is_empty(), "rows are wrong:\n  {}", problems.join("\n  "));
    ensure!(summary.all_verified(), "not every shard is verified");
    println!("\nEvery row was changed exactly once, and no write of the application is missing.");
    Ok(())
}
