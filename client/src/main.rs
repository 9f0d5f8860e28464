//! The `shardlift` command line. It parses, asks a coordinator through the library, and shows the answer; it decides
//! nothing about migrations. Reading order: [`cli`] is the grammar, [`verbs`] has one file per verb, [`view`] is what
//! they show, [`reach`] says whom to ask, [`course`] and [`follow`] watch many migrations at once, [`exit`] is what scripts see.

mod cli;
mod console;
mod contexts;
mod course;
mod exit;
mod follow;
mod reach;
mod specs;
mod verbs;
mod view;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;

use cli::Arguments;
use console::{Console, Ended};
use exit::Exit;
use shardlift_domain::Failure;
use shardlift_runtime::telemetry::{self, Settings};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    shardlift_runtime::tls::install_provider();
    let console = arguments.console();
    let exit = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            runtime.block_on(Box::pin(traced(arguments, console))).unwrap_or_else(|end| told(&console, end))
        }
        Err(error) => {
            console.note(&format!("cannot start: {error}\n"));
            Exit::Internal
        }
    };
    exit.into()
}

/// Runs the verb, and delivers its spans where an endpoint is set.
async fn traced(arguments: Arguments, console: Console) -> Result<Exit, Ended> {
    let settings = Settings::from_environment().map_err(Failure::from)?;
    let telemetry = telemetry::start_quiet("shardlift", &settings);
    let end = arguments.run(console).await;
    if let Some(telemetry) = telemetry {
        telemetry.end().await;
    }
    end
}

fn told(console: &Console, ended: Ended) -> Exit {
    match ended {
        Ended::Refused { failures, files } => {
            console.complain(&failures, &files);
            Exit::of_refusal(&failures)
        }
        // The reader has seen enough: `shardlift list | head`.
        Ended::Stream(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Interrupted,
        Ended::Stream(error) => {
            console.note(&format!("{}\n", Ended::Stream(error)));
            Exit::Internal
        }
    }
}
