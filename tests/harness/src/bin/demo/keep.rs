//! `--keep`: how to reach everything, and how to kill and start again each process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use shardlift_harness::installation::{Installation, Member};
use shardlift_harness::process::Process;
use shardlift_harness::programs;
use tokio::time::sleep;

use crate::platform::{Platform, Shard};

const PAUSE: Duration = Duration::from_millis(100);

/// Prints the commands that kill each process and start it again. Worth knowing while the library is being applied.
pub(crate) fn tell_processes(platform: &Platform, installation: &Installation) -> Result<()> {
    println!("\nKill what you like meanwhile, from another terminal, and start it again:\n");
    let workers = installation.workers();
    let members = std::iter::once(installation.coordinator()).chain(workers.iter().map(Arc::as_ref));
    for process in members.map(Member::process) {
        tell_process(process.name(), process)?;
    }
    for shard in &platform.shards {
        tell_process(&shard.id, shard.process())?;
    }
    Ok(())
}

fn tell_process(name: &str, process: &Process) -> Result<()> {
    println!("  {name:<18} kill -9 {:<8} {}", process.pid_by_name(), process.write_start_script()?.display());
    Ok(())
}

/// Prints how to reach everything.
pub(crate) fn tell_access(platform: &Platform, installation: &Installation) -> Result<()> {
    println!("\nEverything keeps running until Ctrl-C.\n");
    for shard in &platform.shards {
        println!("  {:<12} {}", shard.id, shard.dsn());
    }
    println!("\n  metrics      {}", installation.metrics_url());
    println!("  logs         {}", installation.directory().display());
    println!("\n  export SHARDLIFT_COORDINATOR={}", installation.url());
    println!("  {} list", programs::product("shardlift")?.display());
    tell_processes(platform, installation)
}

/// Collects the ends of killed processes, for ever: PostgreSQL does not start again while its former process is a zombie.
pub(crate) async fn collect_the_dead(platform: &Platform, installation: &Installation) -> Infallible {
    loop {
        let workers = installation.workers();
        let members = std::iter::once(installation.coordinator()).chain(workers.iter().map(Arc::as_ref));
        let servers = platform.shards.iter().map(Shard::process);
        for process in members.map(Member::process).chain(servers) {
            process.is_running();
        }
        sleep(PAUSE).await;
    }
}
