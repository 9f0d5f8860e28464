//! The worker's one stream to the coordinator: hello, welcome, then tasks down and reports up.
//!
//! When the stream breaks, running batches finish, leases end, and the worker dials again: the leader that it was told
//! of, else the coordinators of its list in turn. Nothing of a task outlives its session but its open batch and what the
//! shard's checkpoint says: the next leader hands the task out anew, under its own epoch.

mod checks;
mod health;
mod pauses;
mod questions;
mod shards;
mod spans;
mod stragglers;
mod tasks;
mod wire;

use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::fence::Fence;
use shardlift_proto::bearer::Bearer;
use shardlift_proto::status::{failures_of, leader_of};
use shardlift_proto::v1::fleet_service_client::FleetServiceClient;
use shardlift_proto::v1::{self, to_worker};
use shardlift_runtime::tls;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use pauses::Pauses;
pub use shards::Shards;
use stragglers::Stragglers;
use tasks::Tasks;

use crate::config::Config;
use crate::lease::Pulse;
use crate::transformer::factory;

/// How long dialling may take: while a machine is gone, the next one of the list may know who leads.
const DIAL_WITHIN: Duration = Duration::from_secs(2);
/// How long the first answer may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Messages that may wait to be sent.
const QUEUE: usize = 1024;
/// How often the shards are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Serves coordinators, one after another, until the token is cancelled.
pub async fn run(config: &Config, shards: Shards, shutdown: CancellationToken) {
    let mut pauses = Pauses::new();
    let mut route = config.coordinators.clone();
    let stragglers = Stragglers::default();
    while !shutdown.is_cancelled() {
        let address = route.current().clone();
        let opened = open(config, &address, &shards, &stragglers).await;
        shards.metrics().dialled(opened.is_ok());
        let ended = match opened {
            Ok(session) => {
                pauses.reset();
                tracing::info!(coordinator = %address, epoch = %session.pulse.leader().epoch, "connected");
                let leader = session.serve(&address, &shutdown).await;
                shards.metrics().hung_up();
                tracing::info!(coordinator = %address, "the session is over");
                leader
            }
            Err(Refused { failure, leader: Some(leader) }) => {
                tracing::info!(coordinator = %address, %leader, "{}; going to the leader", failure.message);
                Some(leader)
            }
            Err(Refused { failure, leader: None }) => {
                tracing::warn!(coordinator = %address, code = %failure.code, "{} ({})", failure.message, failure.next);
                None
            }
        };
        let wait = pauses.next(ended.is_some());
        route.failed(ended);
        tokio::select! {
            () = sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Why there is no session, and who is said to lead instead.
struct Refused {
    failure: Failure,
    leader: Option<String>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, leader: None }
    }
}

impl Refused {
    /// Refused by who was asked at this address.
    fn by(address: &str, status: &Status) -> Self {
        let mut failure = failures_of(status).swap_remove(0);
        // A connection that was hung up says why only at the bottom, such as a certificate that was not accepted.
        if let Some(source) = std::error::Error::source(status) {
            failure.message = format!("{}: {}", failure.message, tls::reasons(source));
        }
        Self { failure, leader: leader_named(address, status) }
    }
}

/// Where the leader is, as the coordinator at this address says it; it is dialled the same way.
fn leader_named(address: &str, status: &Status) -> Option<String> {
    let scheme = address.split_once("://").map_or("http", |(scheme, _)| scheme);
    leader_of(status).map(|leader| format!("{scheme}://{}", leader.address))
}

struct Session<'a> {
    shards: &'a Shards,
    pulse: std::sync::Arc<Pulse>,
    orders: Streaming<v1::ToWorker>,
    out: mpsc::Sender<v1::FromWorker>,
    tasks: Tasks,
    hello: Greeting,
}

/// Who the worker says it is.
struct Greeting {
    worker: String,
    slots: u32,
}

impl Greeting {
    fn message(&self, shards: Vec<v1::ShardHello>, draining: bool) -> v1::from_worker::Message {
        v1::from_worker::Message::Hello(v1::Hello {
            worker: self.worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: shardlift_proto::PROTOCOL,
            slots: self.slots,
            shards,
            knows: factory::capabilities().words().map(str::to_owned).collect(),
            oldest_protocol: shardlift_proto::OLDEST_PROTOCOL,
            draining,
        })
    }
}

/// Connects, says hello and waits for the welcome.
async fn open<'a>(
    config: &Config,
    address: &str,
    shards: &'a Shards,
    stragglers: &Stragglers,
) -> Result<Session<'a>, Refused> {
    let hello = Greeting { worker: config.name.to_string(), slots: config.slots };
    let bearer = shown(config, address)?;
    let channel = connect(config, address).await?;
    let (out, queue) = mpsc::channel(QUEUE);
    let greeting = wire::wrap(hello.message(shards.look().await, shards.draining()));
    out.try_send(greeting).map_err(|_| unreachable("its own queue is full".to_owned()))?;
    let mut client =
        FleetServiceClient::with_interceptor(channel, bearer).max_decoding_message_size(16 * 1024 * 1024);
    let answer = timeout(CONNECT_WITHIN, async {
        let mut orders = client.session(ReceiverStream::new(queue)).await?.into_inner();
        let first = orders.message().await?;
        Ok::<_, tonic::Status>((orders, first.and_then(|first| first.message)))
    });
    let (orders, first) = answer
        .await
        .map_err(|_| unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs())))?
        .map_err(|status| Refused::by(address, &status))?;
    let Some(to_worker::Message::Welcome(v1::Welcome {
        fence: Some(fence),
        lease_ttl_ms,
        cluster_uuids,
        ..
    })) = first
    else {
        return Err(unreachable("it did not say welcome".to_owned()).into());
    };
    let pulse = Pulse::begin(Fence::from(fence), Duration::from_millis(lease_ttl_ms));
    shards.begin_session(cluster_uuids.into_iter().collect());
    let tasks = Tasks::new(std::sync::Arc::clone(&pulse), out.clone(), stragglers.clone());
    Ok(Session { shards, pulse, orders, out, tasks, hello })
}

/// The token as it is now, if it may go to this address.
fn shown(config: &Config, address: &str) -> Result<Bearer, Failure> {
    let invalid = |message: String, next: &str| Failure::new(ErrorCode::ConfigInvalid, message, next);
    let bearer = config.token.bearer().map_err(|why| {
        invalid(format!("the token: {why}"), "mend `token_file`; the worker tries again by itself")
    })?;
    let may_go = address.parse().is_ok_and(|uri| bearer.may_go_to(&uri));
    may_go.then_some(bearer).ok_or_else(|| {
        let message =
            format!("the token is not sent to {address}: without TLS whoever listens to the network has it");
        invalid(message, "add [tls] to the worker's file")
    })
}

async fn connect(config: &Config, address: &str) -> Result<Channel, Failure> {
    let endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| unreachable(error.to_string()))?;
    let endpoint = config.tls.secure(endpoint).map_err(|error| unreachable(error.to_string()))?;
    endpoint
        .connect_timeout(DIAL_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect()
        .await
        .map_err(|error| unreachable(tls::reasons(&error)))
}

fn unreachable(why: String) -> Failure {
    Failure::new(
        ErrorCode::CoordinatorUnreachable,
        format!("the coordinator cannot be reached: {why}"),
        "check `coordinators` and that one of them runs; the worker tries again by itself",
    )
}

impl Session<'_> {
    /// Serves until the stream ends, the coordinator falls silent, or the worker is to stop. Answers who leads now, if
    /// that was the last word.
    async fn serve(mut self, address: &str, shutdown: &CancellationToken) -> Option<String> {
        let mut leader = None;
        let mut beats = interval(self.pulse.ttl() / 5);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let goes_on = tokio::select! {
                order = self.orders.message() => match order {
                    Ok(Some(order)) => self.obey(order),
                    Ok(None) => false,
                    Err(status) => {
                        if status.code() == Code::Unauthenticated {
                            tracing::warn!(coordinator = %address, "{}", status.message());
                        }
                        tracing::debug!(code = ?status.code(), "the stream broke");
                        leader = leader_named(address, &status);
                        false
                    }
                },
                _ = beats.tick() => self.pulse.alive() && self.beat(),
                _ = looks.tick() => self.look(),
                () = shutdown.cancelled() => false,
            };
            if !goes_on {
                break;
            }
        }
        if shutdown.is_cancelled() {
            // So that nothing is given meanwhile to a worker that would not begin it.
            let _ = self.out.try_send(wire::wrap(v1::from_worker::Message::Leaving(v1::Leaving {})));
        }
        self.pulse.close();
        self.tasks.end(shutdown.is_cancelled()).await;
        leader
    }

    fn obey(&mut self, order: v1::ToWorker) -> bool {
        self.pulse.beat();
        match order.message {
            Some(to_worker::Message::Assign(assign)) => return self.tasks.begin(assign, self.shards),
            Some(to_worker::Message::Withdraw(withdraw)) => self.tasks.withdraw(withdraw),
            Some(to_worker::Message::Adjust(adjust)) => self.tasks.adjust(adjust),
            Some(to_worker::Message::Drain(drain)) => self.shards.drain(drain.draining),
            Some(to_worker::Message::Heartbeat(_)) => {}
            Some(to_worker::Message::Welcome(_)) | None => {
                tracing::warn!("the coordinator said something that this release does not know");
            }
            Some(question) => self.tasks.answer(question, self.shards),
        }
        true
    }

    /// Says that the worker lives. Never waits: a coordinator that does not read is not heard either, and the pulse
    /// tells when that has lasted too long.
    fn beat(&self) -> bool {
        let beat = wire::wrap(v1::from_worker::Message::Heartbeat(v1::Heartbeat {}));
        !matches!(self.out.try_send(beat), Err(TrySendError::Closed(_)))
    }

    /// Tells the coordinator when the state of a shard has changed, as soon as it reads.
    fn look(&self) -> bool {
        match self.out.try_reserve() {
            Ok(place) => {
                if let Some(shards) = self.shards.news() {
                    place.send(wire::wrap(self.hello.message(shards, self.shards.draining())));
                }
                true
            }
            Err(TrySendError::Full(())) => true,
            Err(TrySendError::Closed(())) => false,
        }
    }
}

#[cfg(test)]
mod tests;
