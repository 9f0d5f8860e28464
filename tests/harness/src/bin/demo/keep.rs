//! `--keep`: how to reach everything, and how to kill and start again each process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use shardlift_harness::installation::{Coordinator, Member};
use shardlift_harness::process::Process;
use shardlift_harness::programs;
use tokio::time::sleep;

use crate::Cast;
use crate::platform::Shard;

const PAUSE: Duration = Duration::from_millis(100);

/// Prints the commands that kill each process and start it again. Worth knowing while the library is being applied.
pub(crate) fn tell_processes(cast: &Cast<'_>) -> Result<()> {
    println!("\nKill what you like meanwhile, from another terminal, and start it again:\n");
    let workers = cast.installation.workers();
    for process in programs_of(cast, &workers) {
        tell_process(process.name(), process)?;
    }
    for shard in &cast.platform.shards {
        tell_process(&shard.id, shard.process())?;
    }
    Ok(())
}

/// Coordinators and what they stand on, and workers.
fn programs_of<'a>(cast: &'a Cast<'_>, workers: &'a [Arc<Member>]) -> impl Iterator<Item = &'a Process> {
    let coordinators = cast.installation.coordinators().iter().map(Coordinator::member);
    let members = coordinators.chain(workers.iter().map(Arc::as_ref)).map(Member::process);
    members.chain(cast.control.processes())
}

fn tell_process(name: &str, process: &Process) -> Result<()> {
    println!("  {name:<18} kill -9 {:<8} {}", process.pid_by_name(), process.write_start_script()?.display());
    Ok(())
}

/// Prints how to reach everything.
pub(crate) fn tell_access(cast: &Cast<'_>) -> Result<()> {
    let Cast { platform, installation, .. } = cast;
    println!("\nEverything keeps running until Ctrl-C.\n");
    for shard in &platform.shards {
        println!("  {:<12} {}", shard.id, shard.dsn());
    }
    println!();
    for coordinator in installation.coordinators() {
        println!("  metrics      {}", coordinator.metrics_url());
        if let Some(address) = coordinator.rest_address() {
            println!("  REST API     http://{address}/api/docs");
        }
    }
    println!("  logs         {}", installation.directory().display());
    println!("\n  export SHARDLIFT_COORDINATOR={}", installation.urls().join(","));
    println!("  {} list", programs::product("shardlift")?.display());
    tell_processes(cast)
}

/// Collects the ends of killed processes, for ever: PostgreSQL does not start again while its former process is a zombie.
pub(crate) async fn collect_the_dead(cast: &Cast<'_>) -> Infallible {
    loop {
        let workers = cast.installation.workers();
        let servers = cast.platform.shards.iter().map(Shard::process);
        for process in programs_of(cast, &workers).chain(servers) {
            process.is_running();
        }
        sleep(PAUSE).await;
    }
}
