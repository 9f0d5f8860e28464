//! A relay between workers and their coordinator that passes their messages on one by one, and not always as they came:
//! some twice, some late, some to the wrong worker, some not at all. Fates are dealt from a shuffled deck for each kind of
//! message, so that every fate comes up among any [`DECK`] messages in a row; the order follows from a seed.
//!
//! Hello and welcome always pass: without them there is no session. A message whose loss the protocol leaves to the end
//! of its stream (a task, an outcome) is lost together with the stream, as by a link that breaks; heartbeats and receipts
//! are lost alone.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use shardlift_proto::v1::fleet_service_client::FleetServiceClient;
use shardlift_proto::v1::fleet_service_server::{FleetService, FleetServiceServer};
use shardlift_proto::v1::{FromWorker, ToWorker, from_worker, to_worker};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Messages that may wait in one direction of one session.
const QUEUE: usize = 4096;
/// The longest that a message is held back: long enough for a whole range to end meanwhile.
const LATEST: u64 = 400;

/// Cards in a deck.
const DECK: usize = 16;

/// What happens to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Passed,
    /// Two at once.
    Twice,
    /// Now, and once more when later ones have overtaken the copy.
    Echoed,
    /// Later ones overtake it.
    Late,
    /// A copy goes to another worker as well.
    Astray,
    Lost,
}

/// A relay; dropping it ends all sessions.
pub(crate) struct Relay {
    url: String,
    mischief: Arc<Mischief>,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Serves workers on behalf of this coordinator, faithfully until [`Relay::misbehave`].
    pub(crate) async fn start(coordinator: String, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mischief = Arc::new(Mischief { dice: Mutex::new(seed), ..Mischief::default() });
        let door = FleetServiceServer::new(Door { coordinator, mischief: Arc::clone(&mischief) });
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(door);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { url, mischief, serving }
    }

    /// What workers dial.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on messages have other fates than to pass.
    pub(crate) fn misbehave(&self) {
        self.mischief.active.store(true, Ordering::SeqCst);
    }

    /// From now on they pass again.
    pub(crate) fn behave(&self) {
        self.mischief.active.store(false, Ordering::SeqCst);
    }

    /// How often this happened to messages of this kind.
    pub(crate) fn count(&self, kind: &str, fate: Fate) -> u64 {
        self.tally().get(&(kind.to_owned(), fate)).copied().unwrap_or_default()
    }

    /// Everything that happened, by kind of message.
    pub(crate) fn tally(&self) -> BTreeMap<(String, Fate), u64> {
        self.mischief.tally.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Down = mpsc::Sender<Result<ToWorker, Status>>;

#[derive(Default)]
struct Mischief {
    active: AtomicBool,
    dice: Mutex<u64>,
    /// What is left of the deck of each kind of message.
    decks: Mutex<BTreeMap<&'static str, Vec<Fate>>>,
    tally: Mutex<BTreeMap<(String, Fate), u64>>,
    /// The ways to all workers, for what goes astray.
    workers: Mutex<Vec<Down>>,
}

impl Mischief {
    /// A number below `bound`; the generator is SplitMix64.
    fn below(&self, bound: u64) -> u64 {
        let mut state = self.dice.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn fate_of(&self, message: &impl Message) -> Fate {
        let kind = message.kind();
        if !self.active.load(Ordering::SeqCst) || ["hello", "welcome"].contains(&kind) {
            return Fate::Passed;
        }
        let fate = self.deal(kind, message.goes_alone());
        *self.tally.lock().unwrap().entry((kind.to_owned(), fate)).or_default() += 1;
        fate
    }

    /// The next card; when the deck is used up a new one is shuffled (Fisher and Yates).
    fn deal(&self, kind: &'static str, goes_alone: bool) -> Fate {
        let mut decks = self.decks.lock().unwrap();
        let deck = decks.entry(kind).or_default();
        if deck.is_empty() {
            *deck = fresh_deck(kind, goes_alone);
            for last in (1..DECK).rev() {
                let chosen = usize::try_from(self.below(last as u64 + 1)).unwrap();
                deck.swap(last, chosen);
            }
        }
        deck.pop().unwrap()
    }

    fn some_time(&self) -> Duration {
        Duration::from_millis(1 + self.below(LATEST))
    }

    /// To somebody else than the one it is for.
    async fn send_astray(&self, order: ToWorker, to: &Down) {
        let other = {
            let mut workers = self.workers.lock().unwrap();
            workers.retain(|worker| !worker.is_closed());
            workers.iter().find(|worker| !worker.same_channel(to)).cloned()
        };
        if let Some(other) = other {
            // That worker may be gone by now.
            let _ = other.send(Ok(order)).await;
        }
    }
}

/// How often each fate comes up among [`DECK`] messages. A loss that ends the session is rarer.
fn fresh_deck(kind: &str, goes_alone: bool) -> Vec<Fate> {
    let astray = if kind == "assign" { 2 } else { 0 };
    let lost = if goes_alone { 2 } else { 1 };
    let cards =
        [(Fate::Twice, 3), (Fate::Echoed, 3), (Fate::Late, 2), (Fate::Astray, astray), (Fate::Lost, lost)];
    let mut deck: Vec<Fate> = cards.into_iter().flat_map(|(fate, count)| vec![fate; count]).collect();
    deck.resize(DECK, Fate::Passed);
    deck
}

/// A message of either direction.
trait Message: Clone + Send + 'static {
    fn kind(&self) -> &'static str;

    /// Whether its loss does not end the session.
    fn goes_alone(&self) -> bool {
        ["heartbeat", "progress"].contains(&self.kind())
    }

    /// Itself, if it is for a worker.
    fn order(&self) -> Option<ToWorker> {
        None
    }
}

impl Message for FromWorker {
    fn kind(&self) -> &'static str {
        use from_worker::Message as M;
        match &self.message {
            Some(M::Hello(_)) => "hello",
            Some(M::Heartbeat(_)) => "heartbeat",
            Some(M::Progress(_)) => "progress",
            Some(M::Finished(_)) => "finished",
            _ => "other report",
        }
    }
}

impl Message for ToWorker {
    fn kind(&self) -> &'static str {
        use to_worker::Message as M;
        match &self.message {
            Some(M::Welcome(_)) => "welcome",
            Some(M::Heartbeat(_)) => "heartbeat",
            Some(M::Assign(_)) => "assign",
            _ => "other order",
        }
    }

    fn order(&self) -> Option<ToWorker> {
        Some(self.clone())
    }
}

struct Door {
    coordinator: String,
    mischief: Arc<Mischief>,
}

#[tonic::async_trait]
impl FleetService for Door {
    type SessionStream = BoxStream<'static, Result<ToWorker, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut reports = request.into_inner();
        let client = FleetServiceClient::connect(self.coordinator.clone()).await;
        let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
        let (up, queue) = mpsc::channel(QUEUE);
        // The coordinator answers nothing before it was greeted.
        if let Some(hello) = reports.message().await? {
            let _ = up.send(Ok(hello)).await;
        }
        let queue = ReceiverStream::new(queue).filter_map(|report: Result<_, Status>| ready(report.ok()));
        let orders = client.session(queue).await?.into_inner();
        let (down, queue) = mpsc::channel(QUEUE);
        self.mischief.workers.lock().unwrap().push(down.clone());
        let mischief = Arc::clone(&self.mischief);
        tokio::spawn(async move {
            // Whichever ends first ends both: nothing of a session outlives its stream.
            tokio::select! {
                () = carry(reports, &up, &mischief, None) => {}
                () = carry(orders, &down, &mischief, Some(&down)) => {}
            }
            mischief.workers.lock().unwrap().retain(|worker| !worker.same_channel(&down));
        });
        Ok(Response::new(ReceiverStream::new(queue).boxed()))
    }
}

/// One direction of one session.
async fn carry<M: Message>(
    mut from: Streaming<M>,
    to: &mpsc::Sender<Result<M, Status>>,
    mischief: &Mischief,
    down: Option<&Down>,
) {
    let mut waiting = JoinSet::new();
    loop {
        let message = match from.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(status) => {
                // Says who leads now, or that the link is gone.
                let _ = to.send(Err(status)).await;
                return;
            }
        };
        while waiting.try_join_next().is_some() {}
        let fate = mischief.fate_of(&message);
        let later = |waiting: &mut JoinSet<()>, message: M| {
            let (to, pause) = (to.clone(), mischief.some_time());
            waiting.spawn(async move {
                sleep(pause).await;
                let _ = to.send(Ok(message)).await;
            });
        };
        match fate {
            Fate::Lost if message.goes_alone() => continue,
            Fate::Lost => return,
            Fate::Late => {
                later(&mut waiting, message);
                continue;
            }
            Fate::Echoed => later(&mut waiting, message.clone()),
            Fate::Twice => drop(to.send(Ok(message.clone())).await),
            Fate::Astray => {
                if let (Some(order), Some(down)) = (message.order(), down) {
                    mischief.send_astray(order, down).await;
                }
            }
            Fate::Passed => {}
        }
        if to.send(Ok(message)).await.is_err() {
            return;
        }
    }
}
