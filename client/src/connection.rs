//! One connection at a time, to whichever coordinator answers; and the search for one that does.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_proto::bearer::Bearer;
use shardlift_proto::status::leader_of;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use shardlift_proto::v1::migration_service_client::MigrationServiceClient;
use shardlift_runtime::retry::{Delays, Policy};
use shardlift_runtime::route::Route;
use shardlift_runtime::tls::{Dial, TlsError};
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::refusal::{Refusal, unreachable};
use crate::{Address, Coordinators};

/// While a machine is gone, the next one of the list may answer.
const CONNECT: Duration = Duration::from_secs(3);
/// A peer that is silent for longer than both together is gone, even if no packet says so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(5);
/// A view of 10,000 shards is about 3 MB.
const LARGEST_MESSAGE: usize = 64 << 20;
/// A change of the leader is usually over sooner: nobody needs to hear of it.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// A person is waiting, so the pauses stay short; jitter keeps many clients of a new leader apart.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A coordinator, asked with the caller's token.
type Door = InterceptedService<Channel, Bearer>;

/// The services of one coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) migrations: MigrationServiceClient<Door>,
    pub(crate) cluster: ClusterServiceClient<Door>,
}

/// Hears that a question waits.
type Told = Arc<dyn Fn(&Failure) + Send + Sync>;

/// The connection of a client. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Mutex<Shared>>,
    patience: Duration,
    tls: Arc<Dial>,
    told: Option<Told>,
    bearer: Bearer,
}

struct Shared {
    route: Route<Address>,
    open: Option<(Address, Services)>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(coordinators: Coordinators, patience: Duration) -> Self {
        let shared = Shared { route: coordinators.into_route(), open: None };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            patience,
            tls: Arc::default(),
            told: None,
            bearer: Bearer::default(),
        }
    }

    pub(crate) fn over(&mut self, tls: Dial) {
        self.tls = Arc::new(tls);
    }

    pub(crate) fn on_wait(&mut self, told: impl Fn(&Failure) + Send + Sync + 'static) {
        self.told = Some(Arc::new(told));
    }

    pub(crate) fn with_token(&mut self, bearer: Bearer) {
        self.bearer = bearer;
    }

    /// Asks until somebody answers or the patience is over.
    pub(crate) async fn answered<T, F, Fut>(&self, ask: F) -> Result<T, Vec<Failure>>
    where
        F: Fn(Services) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.answered_by(ask).await.map(|(_, answer)| answer)
    }

    /// The same, and who answered: for streams, which may be refused later.
    pub(crate) async fn answered_by<T, F, Fut>(&self, ask: F) -> Result<(Address, T), Vec<Failure>>
    where
        F: Fn(Services) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let (losses, seen) = watch::channel(None);
        tokio::select! {
            answer = self.persist(ask, losses) => answer,
            never = self.tell(seen) => match never {},
        }
    }

    async fn persist<T, F, Fut>(
        &self,
        ask: F,
        losses: watch::Sender<Option<Failure>>,
    ) -> Result<(Address, T), Vec<Failure>>
    where
        F: Fn(Services) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let policy = Policy { total: Some(self.patience), ..again() };
        let mut delays = Delays::new(&policy);
        let mut untried = self.with(|shared| shared.route.listed());
        loop {
            let failure = match self.once(&ask).await {
                Ok(answered) => return Ok(answered),
                Err(Refusal::Told(failures)) => return Err(failures),
                Err(Refusal::Lost(failure)) => failure,
            };
            losses.send_replace(Some(failure.clone()));
            untried = untried.saturating_sub(1);
            if untried == 0 {
                let Some(pause) = delays.next() else { return Err(vec![failure]) };
                sleep(pause).await;
            }
        }
    }

    /// Says once that it takes longer.
    async fn tell(&self, mut seen: watch::Receiver<Option<Failure>>) -> Infallible {
        if seen.wait_for(Option::is_some).await.is_ok() {
            sleep(QUIET).await;
            let failure = seen.borrow().clone();
            if let (Some(told), Some(failure)) = (&self.told, failure) {
                told(&failure);
            }
        }
        std::future::pending().await
    }

    /// One try, and who answered it.
    pub(crate) async fn once<T, F, Fut>(&self, ask: F) -> Result<(Address, T), Refusal>
    where
        F: FnOnce(Services) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let (address, services) = self.services().await?;
        match ask(services).await {
            Ok(answer) => Ok((address, answer.into_inner())),
            Err(status) => Err(self.refused(&address, &status)),
        }
    }

    /// Judges the refusal of this coordinator; if another one may answer, that one is asked next.
    pub(crate) fn refused(&self, address: &Address, status: &Status) -> Refusal {
        let refusal = Refusal::of(status, address);
        if matches!(refusal, Refusal::Lost(_)) {
            let leader = leader_of(status).and_then(|leader| address.neighbour(&leader.address));
            self.lose(address, leader);
        }
        refusal
    }

    /// Several may notice the same loss: only the first one moves on.
    fn lose(&self, address: &Address, leader: Option<Address>) {
        self.with(|shared| {
            shared.open.take_if(|(open, _)| open == address);
            if shared.route.current() == address {
                shared.route.failed(leader);
            }
        });
    }

    async fn services(&self) -> Result<(Address, Services), Refusal> {
        let (open, address) = self.with(|shared| (shared.open.clone(), shared.route.current().clone()));
        if let Some(open) = open {
            return Ok(open);
        }
        if !self.bearer.may_go_to(&address.uri()) {
            return Err(overheard(&address));
        }
        let endpoint = self.tls.secure(Endpoint::from(address.uri())).map_err(unusable)?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| {
                self.lose(&address, None);
                Refusal::Lost(unreachable(&address, &error.to_string(), error.source()))
            })?;
        let services = Services {
            migrations: MigrationServiceClient::with_interceptor(channel.clone(), self.bearer.clone())
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE),
            cluster: ClusterServiceClient::with_interceptor(channel, self.bearer.clone())
                .max_decoding_message_size(LARGEST_MESSAGE),
        };
        self.with(|shared| shared.open = Some((address.clone(), services.clone())));
        Ok((address, services))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> T {
        look(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Our own files: asking again does not help.
fn unusable(error: TlsError) -> Refusal {
    let next =
        "check --ca, --client-certificate and --client-key: each names a file in PEM form that you may read";
    Refusal::Told(vec![Failure::new(ErrorCode::ConfigInvalid, error.to_string(), next)])
}

/// It would be everybody's: neither this nor another coordinator is asked.
fn overheard(address: &Address) -> Refusal {
    let message =
        format!("your token is not sent to {address}: without TLS whoever listens to the network has it");
    let next = "dial it over TLS: https:// before the address, and --ca FILE if your own authority has signed its \
                certificate; or give no token (--token-file, SHARDLIFT_TOKEN) if it asks for none";
    Refusal::Told(vec![Failure::new(ErrorCode::ConfigInvalid, message, next)])
}

/// Pauses between tries, for ever.
pub(crate) fn again() -> Policy {
    Policy { first: FIRST_PAUSE, longest: LONGEST_PAUSE, total: None }
}
