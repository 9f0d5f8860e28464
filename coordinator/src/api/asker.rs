//! Who asks at a gRPC door, and in which request: what the history tells of it.

use tonic::{Request, Status};

use super::access::caller;
use crate::orchestrator::Asker;

/// Names a request, in HTTP and in gRPC.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// Longest name that is taken from outside.
const MAX_ID: usize = 128;

/// Whether a text from outside may name a request.
pub(super) fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whom the door has found out, with the caller's own name for the request if it is one.
pub(super) fn asker<T>(request: &Request<T>) -> Result<Asker, Status> {
    let id = request.metadata().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| is_id(id));
    Ok(Asker { name: caller(request)?.name().to_owned(), request: id.map(str::to_owned), heard: None })
}
