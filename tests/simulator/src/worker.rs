//! One simulated worker: hello, welcome, then tasks down and reports up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use shardlift_domain::capability::Capabilities;
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::migration::Phase;
use shardlift_proto::convert::{task_from_wire, token_from_wire};
use shardlift_proto::v1;
use shardlift_proto::v1::fleet_service_client::FleetServiceClient;
use shardlift_proto::v1::from_worker::Message;
use shardlift_proto::v1::to_worker;
use tokio::sync::mpsc;
use tokio::time::{interval_at, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::fleet::Shared;
use crate::work::{Work, facts};

/// Messages that may wait to be sent.
const QUEUE: usize = 256;
/// How often a worker reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A welcomed worker.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    out: mpsc::Sender<v1::FromWorker>,
    orders: Streaming<v1::ToWorker>,
    running: Vec<Work>,
    /// When a slot was last free and nobody had given it work.
    free: Instant,
    /// The last task of a shard in a phase, and when it was reported.
    reported: HashMap<ShardId, (MigrationKey, Phase, Instant)>,
}

/// Connects one worker and waits for its welcome.
pub(crate) async fn join(shared: Arc<Shared>, name: String, shards: &[String]) -> Result<Worker> {
    let endpoint = Endpoint::from_shared(shared.settings.coordinator.clone())?;
    let channel = endpoint.tcp_nodelay(true).connect().await?;
    let (out, queue) = mpsc::channel(QUEUE);
    out.send(shared.wrap(hello(&shared, name, shards))).await?;
    let mut orders = FleetServiceClient::new(channel).session(ReceiverStream::new(queue)).await?.into_inner();
    let first = orders.message().await?.and_then(|first| first.message);
    let Some(to_worker::Message::Welcome(_)) = first else { bail!("no welcome but {first:?}") };
    let free = Instant::now();
    Ok(Worker { shared, out, orders, running: Vec::new(), free, reported: HashMap::new() })
}

fn hello(shared: &Shared, worker: String, shards: &[String]) -> Message {
    let shard = |shard: &String| v1::ShardHello {
        shard: shard.clone(),
        cluster: shared.settings.cluster.clone(),
        engine: v1::Engine::Postgres.into(),
        fence: None,
        server_version: Some("15.18".to_owned()),
        problem: None,
        alarm: None,
    };
    Message::Hello(v1::Hello {
        worker,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: shardlift_proto::PROTOCOL,
        slots: shared.settings.slots,
        shards: shards.iter().map(shard).collect(),
        knows: Capabilities::of_this_release([]).words().map(str::to_owned).collect(),
        oldest_protocol: shardlift_proto::OLDEST_PROTOCOL,
        draining: false,
    })
}

impl Worker {
    /// Works until the coordinator ends the stream, or is gone.
    pub(crate) async fn serve(mut self) -> Result<()> {
        // Workers do not report all at the same moment.
        let first = Instant::now() + REPORT_EVERY.mul_f64(rand::rng().random_range(0.0..1.0));
        let mut reports = interval_at(first.into(), REPORT_EVERY);
        loop {
            let next = self.running.iter().map(|work| work.ends).min();
            let due = next.unwrap_or_else(|| Instant::now() + REPORT_EVERY);
            tokio::select! {
                order = self.orders.message() => match order? {
                    Some(order) => self.obey(order.message).await?,
                    None => return Ok(()),
                },
                _ = reports.tick() => self.report().await?,
                () = sleep_until(due.into()), if next.is_some() => self.finish().await?,
            }
        }
    }

    async fn obey(&mut self, order: Option<to_worker::Message>) -> Result<()> {
        match order {
            Some(to_worker::Message::Assign(assign)) => self.begin(assign),
            Some(to_worker::Message::Withdraw(withdraw)) => self.withdraw(withdraw).await,
            Some(to_worker::Message::Facts(query)) => {
                let answer = facts(query, &self.shared.settings);
                self.say(answer).await
            }
            Some(to_worker::Message::Adjust(adjust)) if adjust.share => self.keep(adjust).await,
            Some(
                to_worker::Message::Heartbeat(_)
                | to_worker::Message::Adjust(_)
                | to_worker::Message::Drain(_),
            ) => Ok(()),
            Some(
                to_worker::Message::Welcome(_)
                | to_worker::Message::Placement(_)
                | to_worker::Message::Quarantine(_)
                | to_worker::Message::Conflicts(_)
                | to_worker::Message::Prepared(_)
                | to_worker::Message::Mismatches(_)
                | to_worker::Message::Purge(_)
                | to_worker::Message::Backup(_)
                | to_worker::Message::Rehearsal(_)
                | to_worker::Message::Repair(_)
                | to_worker::Message::Unique(_),
            )
            | None => {
                bail!("a message that a worker does not know")
            }
        }
    }

    fn begin(&mut self, assign: v1::Assign) -> Result<()> {
        let (task, token) = (task_from_wire(assign.task)?, token_from_wire(assign.token)?);
        let phase = task.step.phase();
        let shard = self.reported.get(&task.shard);
        let shard = shard.filter(|(migration, of, _)| *migration == task.migration && *of == phase);
        self.shared.hand_outs.arrived(&task, shard.map(|(_, _, at)| *at), self.free);
        self.running.push(Work::begin(task, token, &self.shared.settings));
        Ok(())
    }

    /// Asked to share a range, it says that too little is left.
    async fn keep(&self, adjust: v1::Adjust) -> Result<()> {
        let shared = v1::TaskShared { task: adjust.task, token: adjust.token, pass: 1, rest: None };
        self.say(Message::Shared(shared)).await
    }

    async fn withdraw(&mut self, withdraw: v1::Withdraw) -> Result<()> {
        let (task, token) = (task_from_wire(withdraw.task.clone())?, token_from_wire(withdraw.token)?);
        let before = self.running.len();
        self.running.retain(|work| work.task != task || work.token != token);
        if self.running.len() == before {
            return Ok(());
        }
        self.free = Instant::now();
        self.say(Message::Released(v1::TaskReleased { task: withdraw.task, token: withdraw.token })).await
    }

    /// A receipt of every running range, or else a sign of life.
    async fn report(&mut self) -> Result<()> {
        let settings = &self.shared.settings;
        let receipts: Vec<_> = self.running.iter().filter_map(|work| work.progress(settings)).collect();
        if receipts.is_empty() {
            return self.say(Message::Heartbeat(v1::Heartbeat {})).await;
        }
        for receipt in receipts {
            self.say(receipt).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let now = Instant::now();
        let (done, running) =
            std::mem::take(&mut self.running).into_iter().partition(|work| work.ends <= now);
        self.running = running;
        for work in done as Vec<Work> {
            let message = work.finished(&self.shared.settings);
            self.shared.hand_outs.finished(&work.task);
            self.free = Instant::now();
            let phase = work.task.step.phase();
            self.reported.insert(work.task.shard, (work.task.migration, phase, self.free));
            self.say(message).await?;
        }
        Ok(())
    }

    async fn say(&self, message: Message) -> Result<()> {
        self.out.send(self.shared.wrap(message)).await.ok().context("the coordinator has gone")
    }
}
