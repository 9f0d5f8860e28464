//! A MongoDB replica set of three members, of which one may be lost at a time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bson::doc;
use futures::future::try_join_all;

use super::mongod::{Mongod, MongodOptions, REPLICA_SET};
use crate::wait::wait_for_ok;

const ELECTED: Duration = Duration::from_secs(60);
/// How long a primary that steps down waits for a secondary that has everything, and stays away from the next election.
const AWAY: i32 = 20;

/// Three servers that elect their primary. Dropping it kills them and removes their data.
#[derive(Debug)]
pub struct ReplicaSet {
    members: Vec<Mongod>,
}

impl ReplicaSet {
    /// Starts three members with the smallest caches, and waits until one takes writes and the others follow.
    pub async fn start() -> Result<Self> {
        let member =
            async |number| Mongod::start_alone(&format!("mongod-{number}"), MongodOptions::default()).await;
        let members = try_join_all([1, 2, 3].map(member)).await?;
        members[0].initiate(&members).await?;
        let set = Self { members };
        set.wait_complete().await?;
        Ok(set)
    }

    /// The connection string of a database, which names all members.
    pub fn dsn(&self, database: &str) -> String {
        let hosts: Vec<String> = self.members.iter().map(Mongod::address).collect();
        format!("mongodb://{}/{database}?replicaSet={REPLICA_SET}", hosts.join(","))
    }

    /// The number of the member that takes writes at this moment.
    pub async fn primary(&self) -> Result<usize> {
        for (number, member) in self.members.iter().enumerate() {
            if !member.process().is_running() {
                continue;
            }
            let hello = member.admin(doc! { "hello": 1 }).await;
            if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or_default()) {
                return Ok(number);
            }
        }
        anyhow::bail!("no member is the primary")
    }

    /// The primary steps down in good order; gives the number of the other member that follows it.
    pub async fn step_down(&self) -> Result<usize> {
        let former = self.primary().await?;
        self.members[former].admin(doc! { "replSetStepDown": AWAY }).await?;
        self.wait_other(former).await
    }

    /// SIGKILL to the primary; gives its number and that of the member that follows it.
    pub async fn kill9_primary(&self) -> Result<(usize, usize)> {
        let former = self.primary().await?;
        self.members[former].kill9();
        Ok((former, self.wait_other(former).await?))
    }

    /// A secondary goes on fetching the log and applies nothing of it any more. Gives its number.
    pub async fn hold_back_a_secondary(&self) -> Result<usize> {
        let number = (self.primary().await? + 1) % self.members.len();
        self.apply(number, false).await?;
        Ok(number)
    }

    /// Ends [`ReplicaSet::hold_back_a_secondary`].
    pub async fn let_go(&self, number: usize) -> Result<()> {
        self.apply(number, true).await
    }

    async fn apply(&self, number: usize, apply: bool) -> Result<()> {
        let mode = if apply { "off" } else { "alwaysOn" };
        let point = doc! { "configureFailPoint": "rsSyncApplyStop", "mode": mode };
        self.members[number].admin(point).await.map(drop)
    }

    /// Starts a member again, and waits until all three are there.
    pub async fn restart(&self, number: usize) -> Result<()> {
        self.members[number].restart_as_member().await?;
        self.wait_complete().await
    }

    async fn wait_other(&self, former: usize) -> Result<usize> {
        wait_for_ok("another member to become the primary", ELECTED, async || {
            let now = self.primary().await?;
            ensure!(now != former, "it is member {now} still");
            Ok(now)
        })
        .await
    }

    async fn wait_complete(&self) -> Result<()> {
        wait_for_ok("a primary and two secondaries", ELECTED, async || {
            let status = self.members[self.primary().await?].admin(doc! { "replSetGetStatus": 1 }).await?;
            let members = status.get_array("members").context("members")?;
            let states = members.iter().filter_map(|member| member.as_document()?.get_i32("state").ok());
            let mut states: Vec<i32> = states.collect();
            states.sort_unstable();
            ensure!(states == [1, 2, 2], "their states are {states:?}");
            Ok(())
        })
        .await
    }
}
