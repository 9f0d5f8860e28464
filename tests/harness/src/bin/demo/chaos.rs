//! `--chaos`: while the library is applied, one process after another is killed with SIGKILL and started again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::RngExt as _;
use shardlift_harness::installation::Installation;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::control::Control;

/// Between one process that is back and the next that dies.
const CALM: std::ops::Range<u64> = 500..2500;
/// Between a death and the new start.
const DEAD: std::ops::Range<u64> = 100..1500;

/// Which processes were killed, and how often.
#[derive(Debug, Default)]
pub(crate) struct Casualties(BTreeMap<String, u32>);

impl fmt::Display for Casualties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u32 = self.0.values().sum();
        let each: Vec<String> = self.0.iter().map(|(name, times)| format!("{name} {times}")).collect();
        write!(f, "kill -9: {total} times ({})", each.join(", "))
    }
}

/// Kills and restarts until it is told to stop; whatever it killed last runs again then.
pub(crate) async fn wreak(
    installation: &Installation,
    control: &Control,
    mut over: watch::Receiver<bool>,
) -> Result<Casualties> {
    let mut casualties = Casualties::default();
    loop {
        let calm = Duration::from_millis(rand::rng().random_range(CALM));
        if timeout(calm, over.wait_for(|over| *over)).await.is_ok() {
            return Ok(casualties);
        }
        let name = kill_one(installation, control).await?;
        *casualties.0.entry(name).or_default() += 1;
    }
}

/// Picks any coordinator, worker or etcd member, kills it, and starts it again after a while.
async fn kill_one(installation: &Installation, control: &Control) -> Result<String> {
    let workers = installation.workers();
    let coordinators = installation.coordinators();
    let members = control.etcd().map_or(0, |etcd| etcd.endpoints().len());
    let picked = rand::rng().random_range(0..coordinators.len() + workers.len() + members);
    let dead = Duration::from_millis(rand::rng().random_range(DEAD));
    let member = match picked.checked_sub(coordinators.len()) {
        None => coordinators[picked].member(),
        Some(index) if index < workers.len() => &workers[index],
        Some(index) => {
            let etcd = control.etcd().context("an etcd member was picked without an etcd")?;
            let number = index - workers.len();
            etcd.member(number).kill9();
            sleep(dead).await;
            etcd.restart_member(number).await?;
            return Ok(etcd.member(number).name().to_owned());
        }
    };
    member.kill9();
    sleep(dead).await;
    member.restart().await?;
    Ok(member.process().name().to_owned())
}
