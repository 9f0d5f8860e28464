//! An answer on its way through: unchanged, but for an end in words when the way is cut.

use futures::stream::unfold;
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

type Frame = http_body::Frame<tonic::codegen::Bytes>;

/// Ends with what `over` says as soon as it says it, and with `broken`, if there is such a word, when whoever answers is gone in
/// the middle.
pub(in crate::api) fn relay(
    body: Body,
    over: impl Future<Output = Status> + Send + 'static,
    broken: Option<Status>,
) -> Body {
    // A refusal has no body at all, and must have none here either.
    if body.is_end_stream() {
        return body;
    }
    let open = Some((body, Box::pin(over), broken));
    let frames = unfold(open, async |open| {
        let (mut body, mut over, broken) = open?;
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame?,
            status = &mut over => return Some((ending(&status), None)),
        };
        match frame {
            Ok(frame) => Some((Ok(frame), Some((body, over, broken)))),
            Err(error) => Some((broken.map_or(Err(error), |broken| ending(&broken)), None)),
        }
    });
    Body::new(StreamBody::new(frames))
}

fn ending(status: &Status) -> Result<Frame, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}
