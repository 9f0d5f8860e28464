//! `shardlift-worker`: parse, build, run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use shardlift_runtime::shutdown::Shutdown;
use shardlift_runtime::telemetry::{self, Settings};
use shardlift_runtime::tls;
use shardlift_worker::config::Config;

/// Does the work of migrations beside the shards that its configuration names.
///
/// It connects to a coordinator and waits for work; it needs no open port. SIGTERM lets running batches finish.
#[derive(Parser)]
#[command(name = "shardlift-worker", version)]
struct Flags {
    /// Configuration file (TOML). Every key can also be given as an environment variable, such as SHARDLIFT__SLOTS=8.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    tls::install_provider();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let config = Config::load(&flags.config);
    let (name, settings) = match &config {
        Ok(config) => (config.name.as_str(), config.telemetry.clone()),
        Err(_) => ("", Settings::default()),
    };
    let telemetry = telemetry::start("shardlift-worker", name, &settings);
    let ended = match config {
        Ok(config) => start(config).await,
        Err(problems) => Err(problems.into()),
    };
    let exit = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    telemetry.end().await;
    exit
}

async fn start(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    shardlift_worker::run(config, shutdown.token()).await?;
    Ok(())
}
