//! Answers that come piece by piece: as slow as their reader, and over when the reader goes.

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use shardlift_domain::failure::Failure;
use shardlift_proto::status::refuse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What comes piece by piece.
pub(super) type Pieces<T> = BoxStream<'static, Result<T, Status>>;

/// What the work tells, then why it ended, if not well.
pub(super) fn pieces<T: Send + 'static, W: Send + 'static>(
    queue: mpsc::Receiver<T>,
    wire: impl Fn(T) -> W + Send + 'static,
    work: impl Future<Output = Result<(), Failure>> + Send + 'static,
) -> Pieces<W> {
    let (end, ended) = mpsc::channel(1);
    tokio::spawn(work.then(async move |done| {
        if let Err(failure) = done {
            // Whoever asked may have gone.
            let _ = end.send(Err(refuse(vec![failure]))).await;
        }
    }));
    ReceiverStream::new(queue).map(move |piece| Ok(wire(piece))).chain(ReceiverStream::new(ended)).boxed()
}
