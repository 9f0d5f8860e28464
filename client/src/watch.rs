//! Following one migration until it rests, through restarts of coordinators and changes of the leader.

use std::time::Duration;

use futures::stream::{self, Stream};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::MigrationId;
use shardlift_proto::v1;
use shardlift_runtime::retry::Delays;
use tokio::time::Instant;
use tonic::Streaming;

use crate::Address;
use crate::connection::{Connection, QUIET, Services, again};
use crate::model::MigrationView;
use crate::refusal::Refusal;

/// What a watcher learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// The migration as it is now.
    Now(Box<MigrationView>),
    /// For two seconds nobody has answered, or nobody led; it is tried again until somebody does. Told once for each time.
    Lost(Failure),
}

/// A migration being followed. It ends after the first view that rests, or after a refusal.
pub struct Watch {
    connection: Connection,
    id: MigrationId,
    stream: Option<(Address, Streaming<v1::WatchResponse>)>,
    delays: Delays,
    pause: Option<Duration>,
    lost: Option<Instant>,
    told: bool,
    over: bool,
}

impl Watch {
    pub(crate) fn new(connection: Connection, id: MigrationId) -> Self {
        let delays = Delays::new(&again());
        Self { connection, id, stream: None, delays, pause: None, lost: None, told: false, over: false }
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
                    self.lost = None;
                    self.told = false;
                    self.over = view.rests();
                    return Some(Ok(Watched::Now(Box::new(view))));
                }
                // Closed without a word although the migration goes on: a coordinator that shuts down in order.
                Ok(None) => self.again(),
                Err(Refusal::Lost(failure)) => {
                    self.again();
                    let since = *self.lost.get_or_insert_with(Instant::now);
                    if since.elapsed() >= QUIET && !std::mem::replace(&mut self.told, true) {
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
        self.pause = self.delays.next();
    }

    async fn receive(&mut self) -> Result<Option<MigrationView>, Refusal> {
        let (address, stream) = match &mut self.stream {
            Some(open) => open,
            empty => {
                // No deadline: it would end the stream too. Keep-alive notices a peer that is gone.
                let asked = v1::WatchRequest { id: self.id.to_string() };
                let ask = |mut to: Services| async move { to.migrations.watch(asked).await };
                empty.insert(self.connection.once(ask).await?)
            }
        };
        match stream.message().await {
            Ok(Some(message)) => Ok(Some(MigrationView::from_wire(message.migration)?)),
            Ok(None) => Ok(None),
            Err(status) => Err(self.connection.refused(address, &status)),
        }
    }
}
