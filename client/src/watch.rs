//! Following one migration until it rests, through restarts of the coordinator.

use std::time::Duration;

use futures::stream::{self, Stream};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::MigrationId;
use shardlift_proto::v1;
use shardlift_runtime::retry::{Delays, Policy};
use tonic::Streaming;

use crate::Client;
use crate::model::MigrationView;
use crate::refusal::Refusal;

/// A person is waiting, so the pauses stay short; jitter keeps many watchers of a restarted coordinator apart.
const AGAIN: Policy =
    Policy { first: Duration::from_millis(100), longest: Duration::from_secs(2), total: None };

/// What a watcher learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// The migration as it is now.
    Now(Box<MigrationView>),
    /// The coordinator is not there; it is tried again until it is. Told once for each time it goes away.
    Lost(Failure),
}

/// A migration being followed. It ends after the first view that rests, or after a refusal.
pub struct Watch {
    client: Client,
    id: MigrationId,
    stream: Option<Streaming<v1::WatchResponse>>,
    delays: Delays,
    pause: Option<Duration>,
    lost: bool,
    over: bool,
}

impl Watch {
    pub(crate) fn new(client: Client, id: MigrationId) -> Self {
        Self { client, id, stream: None, delays: Delays::new(&AGAIN), pause: None, lost: false, over: false }
    }

    /// The next news; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Watched, Vec<Failure>>> {
        while !self.over {
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            match self.receive().await {
                Ok(Some(view)) => {
                    self.delays.reset();
                    self.lost = false;
                    self.over = view.rests();
                    return Some(Ok(Watched::Now(Box::new(view))));
                }
                // Closed without a word although the migration goes on: a coordinator that shuts down in order.
                Ok(None) => self.again(),
                Err(Refusal::Lost(failure)) => {
                    self.again();
                    if !std::mem::replace(&mut self.lost, true) {
                        return Some(Ok(Watched::Lost(failure)));
                    }
                }
                Err(Refusal::Told(failures)) => {
                    self.over = true;
                    return Some(Err(failures));
                }
            }
        }
        None
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Watched, Vec<Failure>>> + Send {
        stream::unfold(self, async |mut watch| watch.next().await.map(|news| (news, watch)))
    }

    fn again(&mut self) {
        self.stream = None;
        self.pause = Some(self.delays.next().unwrap_or(AGAIN.longest));
    }

    async fn receive(&mut self) -> Result<Option<MigrationView>, Refusal> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => empty.insert(self.client.open_watch(&self.id).await?),
        };
        match stream.message().await {
            Ok(Some(message)) => Ok(Some(MigrationView::from_wire(message.migration)?)),
            Ok(None) => Ok(None),
            Err(status) => Err(self.client.refusal(&status)),
        }
    }
}
