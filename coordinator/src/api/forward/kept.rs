//! A request that can be sent more than once.

use http_body_util::{BodyExt, Full, Limited};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::principal::Principal;
use shardlift_proto::status::refuse;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Method, Request, Uri};

use super::deadline::{Deadline, TIMEOUT};
use crate::api::MAX_MESSAGE;

/// What comes before a message on the wire: a flag and the length.
const FRAME: usize = 5;

/// All of a request, read once.
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// Who asks, as this door found out: it may yet be this coordinator that answers.
    caller: Option<Principal>,
    body: Bytes,
}

impl Kept {
    /// Reads it to its end: each call has one message, of a bounded size.
    pub(super) async fn read(request: Request<Body>) -> Result<Self, Status> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_MESSAGE + FRAME).collect().await.map_err(|error| {
            let message = format!("the request could not be read: {error}");
            let next = format!("send it again; it may have {MAX_MESSAGE} bytes at most");
            refuse(vec![Failure::new(ErrorCode::RequestInvalid, message, next)])
        })?;
        let caller = head.extensions.get().cloned();
        Ok(Self { method: head.method, uri: head.uri, headers: head.headers, caller, body: body.to_bytes() })
    }

    /// The same again, with what is left of the caller's time.
    pub(super) fn request(&self, deadline: &Deadline) -> Request<Body> {
        let mut request = Request::new(Body::new(Full::new(self.body.clone())));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(caller) = &self.caller {
            request.extensions_mut().insert(caller.clone());
        }
        if let Some(left) = deadline.left() {
            request.headers_mut().insert(TIMEOUT, left);
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_is_kept_with_what_is_asked_for() {
        let mut asked = Request::new(Body::empty());
        asked.extensions_mut().insert(Principal::anybody());
        let deadline = Deadline::of(asked.headers());
        let kept = Kept::read(asked).await.expect("is read");
        let again = kept.request(&deadline);
        assert_eq!(again.extensions().get::<Principal>(), Some(&Principal::anybody()));
    }
}
