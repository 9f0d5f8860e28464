//! The demo: real shards, a live application, the example library applied to all of it, and an independent check.
//! It knows Shardlift by its command line only.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program talks to its user")]

mod apply;
mod atomic;
mod chaos;
mod control;
mod keep;
mod phase;
mod platform;
mod rollback;
mod stage;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use shardlift_harness::dataset::DatasetSize;
use shardlift_harness::installation::Installation;
use shardlift_harness::wait::until_told_to_end;
use tokio::sync::watch;

use apply::{Library, apply_library};
use control::{Control, ElectionKind, Shape, StoreKind};
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
    /// So many coordinators; more than one agree through etcd
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    coordinators: u8,
    /// Where the coordinators keep their memory [default: sqlite; postgres for several coordinators]
    #[arg(long, value_enum)]
    store: Option<StoreKind>,
    /// How the coordinators agree [default: standalone; etcd, with three members, for several coordinators]
    #[arg(long, value_enum)]
    election: Option<ElectionKind>,
    /// Kill coordinators, workers and etcd members at random while the library is applied (kill -9), and start them again
    #[arg(long)]
    chaos: bool,
    /// Leave everything running at the end, and tell how to reach, kill and restart each process
    #[arg(long)]
    keep: bool,
    /// Play one story instead
    #[arg(long, value_enum, conflicts_with_all = ["rows", "coordinators", "store", "election", "chaos", "keep"])]
    story: Option<Story>,
    /// The directory whose folders schema and data are applied
    #[arg(long, value_name = "DIR", default_value = "migrations", hide = true)]
    library: PathBuf,
}

/// What can be shown by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// A bad transform ends with its canary, is taken back, and comes again as its next version
    Rollback,
    /// A coordinator is killed when half of the shards have committed an atomic schema change
    Atomic,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Dropping the future ends every process and removes every file, however the demo ends.
    let outcome = tokio::select! {
        outcome = Box::pin(play(&arguments)) => outcome,
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

async fn play(arguments: &Arguments) -> Result<()> {
    match arguments.story {
        None => demo(arguments).await,
        Some(Story::Rollback) => rollback::story().await,
        Some(Story::Atomic) => atomic::story().await,
    }
}

async fn demo(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let library = Library::copy(&arguments.library)?;
    let size = DatasetSize { postgres_rows: arguments.rows, mongodb_documents: arguments.rows };

    let shape = Shape::new(arguments.coordinators, arguments.store, arguments.election)?;
    let platform =
        phase("starting 2 PostgreSQL servers and 2 MongoDB replica sets", Platform::start()).await?;
    let loading = format!("loading {0} rows and {0} documents", arguments.rows);
    phase(&loading, platform.load(&size)).await?;
    let control = match shape.servers() {
        None => Control::start(shape).await?,
        Some(servers) => phase(&format!("starting {servers}"), Control::start(shape)).await?,
    };
    let who = match shape.coordinators {
        1 => "a coordinator".to_owned(),
        several => format!("{several} coordinators"),
    };
    let starting = format!("starting {who} and one worker for each shard");
    let installation = phase(&starting, platform.install(&control, shape)).await?;
    let cast = Cast { platform: &platform, control: &control, installation: &installation };
    if arguments.keep {
        keep::tell_processes(&cast)?;
    }
    let work = async {
        let outcome = migrate(&library, &cast, arguments).await;
        println!("Total {:.1} s.", started.elapsed().as_secs_f64());
        if !arguments.keep {
            return outcome;
        }
        keep::tell_access(&cast)?;
        if let Err(error) = outcome {
            eprintln!("\nThe demo failed: {error:#}");
        }
        std::future::pending().await
    };
    tokio::select! {
        outcome = Box::pin(work) => outcome,
        never = keep::collect_the_dead(&cast) => match never {},
    }
}

/// Everything that runs.
struct Cast<'a> {
    platform: &'a Platform,
    control: &'a Control,
    installation: &'a Installation,
}

/// The job itself, while the application keeps writing.
async fn migrate(library: &Library, cast: &Cast<'_>, arguments: &Arguments) -> Result<()> {
    let Cast { platform, installation, .. } = cast;
    let writers = platform.start_writers();
    println!("\nThe application is writing to all shards from here on.");
    apply(library, cast, arguments)
        .await
        .with_context(|| format!("the library was not applied\n{}", installation.log_tails(10)))?;
    let (problems, reports) = phase("checking every row by other means", platform.check(writers)).await?;
    let summary = Summary::read(installation).await?;
    println!("\n{summary}\n\n{}", reports.join("\n"));
    verdict(&problems, &summary)
}

/// Applies the library, among deaths if they were asked for.
async fn apply(library: &Library, cast: &Cast<'_>, arguments: &Arguments) -> Result<()> {
    let applying = apply_library(library, cast.installation, arguments.keep);
    if !arguments.chaos {
        return applying.await;
    }
    println!("Processes die at random from here on.");
    let (end, over) = watch::channel(false);
    let work = async {
        let applied = applying.await;
        end.send_replace(true);
        applied
    };
    let (applied, casualties) = tokio::join!(work, chaos::wreak(cast.installation, cast.control, over));
    println!("{}", casualties?);
    applied
}

fn verdict(problems: &[String], summary: &Summary) -> Result<()> {
    ensure!(problems.is_empty(), "rows are wrong:\n  {}", problems.join("\n  "));
    ensure!(summary.all_verified(), "not every shard is verified");
    println!("\nEvery row was changed exactly once, and no write of the application is missing.");
    Ok(())
}
