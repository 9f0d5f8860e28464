//! The coordinator's process: flags, configuration, then [`shardlift_coordinator::run`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use shardlift_coordinator::Reread;
use shardlift_coordinator::config::{self, Config};
use shardlift_coordinator::store::StoreError;
use shardlift_domain::{ErrorCode, Failure};
use shardlift_runtime::shutdown::Shutdown;
use shardlift_runtime::telemetry::{self, Settings};
use shardlift_runtime::tls;

/// Plans, gates and watches migrations; workers beside the shards do the work.
///
/// Every setting of the file can be overridden by the environment: `SHARDLIFT__STORE__PATH` is `store.path`.
#[derive(Debug, Parser)]
#[command(name = "shardlift-coordinator", version)]
struct Flags {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where clients and workers connect, instead of what the file says.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the REST API is served, instead of what the file says.
    #[arg(long, value_name = "ADDR")]
    rest_listen: Option<String>,
}

impl Flags {
    fn instead(&self) -> config::Flags {
        config::Flags { listen: self.listen.clone(), rest_listen: self.rest_listen.clone() }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    tls::install_provider();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let config = Config::load(&flags.config, &flags.instead()).map_err(Failure::from);
    let (name, settings) = match &config {
        Ok(config) => (config.name.as_str(), config.telemetry.clone()),
        Err(_) => ("", Settings::default()),
    };
    let telemetry = telemetry::start("shardlift-coordinator", name, &settings);
    let ended = match config {
        Ok(config) => start(&flags, config).await.map_err(as_failure),
        Err(failure) => Err(failure),
    };
    telemetry.end().await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            if failure.code == ErrorCode::ConfigInvalid { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

async fn start(flags: &Flags, config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let (file, instead) = (flags.config.clone(), flags.instead());
    let reread: Reread = Arc::new(move || Config::load(&file, &instead));
    shardlift_coordinator::run(config, reread, shutdown.token()).await
}

fn as_failure(error: anyhow::Error) -> Failure {
    let plain = |error: anyhow::Error| {
        Failure::new(ErrorCode::Internal, format!("{error:#}"), "see the log; report what it leaves open")
    };
    match error.downcast::<StoreError>() {
        Ok(error) => error.into(),
        Err(error) => error.downcast().unwrap_or_else(plain),
    }
}

#[allow(clippy::print_stderr, reason = "the last words must not depend on a log filter")]
fn tell(failure: &Failure) {
    eprintln!("shardlift-coordinator: {failure}\nnext: {}", failure.next);
}
