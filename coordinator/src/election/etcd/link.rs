//! The way to etcd: one member at a time, the next one when it fails. No call is without a bound.
//!
//! The driver balances over several endpoints but fails at random while one of them is dead, so each connection is to
//! one member, and the rotation is ours.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use shardlift_runtime::retry::{Policy, retry};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::EtcdError;
use super::options::EtcdOptions;

/// The first pause before another member is asked.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A connection to whichever member answers.
pub(super) struct Link {
    endpoints: Vec<String>,
    options: ConnectOptions,
    patience: Duration,
    state: Mutex<State>,
    closed: CancellationToken,
}

struct State {
    /// Which endpoint is asked now.
    at: usize,
    /// Grows with each change of the connection.
    number: u64,
    open: Option<Client>,
}

impl Link {
    /// Connects to nobody yet.
    pub(super) fn new(options: &EtcdOptions) -> Self {
        // Coordinators that start together need not all begin with the first member.
        let first = usize::try_from(shardlift_runtime::random::positive()).unwrap_or_default();
        Self {
            endpoints: options.endpoints.clone(),
            options: options.connect(),
            patience: options.patience(),
            state: Mutex::new(State { at: first % options.endpoints.len().max(1), number: 0, open: None }),
            closed: CancellationToken::new(),
        }
    }

    /// Asks until a member answers, or `within` is over. Each member has the same, shorter time.
    pub(super) async fn call<T, F, Fut>(&self, within: Duration, op: F) -> Result<T, EtcdError>
    where
        F: Fn(Client) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let policy = Policy { first: FIRST_PAUSE, longest: LONGEST_PAUSE, total: Some(within) };
        retry(&policy, &self.closed, || self.once(&op)).await
    }

    /// Names the present connection: whoever holds a stream of an older one had better open it anew.
    pub(super) fn number(&self) -> u64 {
        self.state().number
    }

    async fn once<T, F, Fut>(&self, op: &F) -> Result<T, EtcdError>
    where
        F: Fn(Client) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let (at, number, open) = {
            let state = self.state();
            (state.at, state.number, state.open.clone())
        };
        let endpoint = &self.endpoints[at];
        let ask = async {
            let client = match open {
                Some(client) => client,
                None => self.keep(number, Client::connect([endpoint], Some(self.options.clone())).await?),
            };
            op(client).await
        };
        let error = match timeout(self.patience, ask).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => EtcdError::refused(endpoint, error),
            Err(_) => EtcdError::Silent { endpoint: endpoint.clone(), within: self.patience },
        };
        if error.try_another() {
            self.leave(number, at);
        }
        Err(error)
    }

    fn keep(&self, number: u64, client: Client) -> Client {
        let mut state = self.state();
        if state.number == number {
            state.open = Some(client.clone());
        }
        client
    }

    /// Goes on to the next member, unless another caller has done so already.
    fn leave(&self, number: u64, at: usize) {
        let mut state = self.state();
        if state.number == number {
            *state = State { at: (at + 1) % self.endpoints.len(), number: number + 1, open: None };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
