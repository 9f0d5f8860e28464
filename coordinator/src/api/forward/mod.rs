//! What reaches a coordinator that does not lead is passed on to the leader, and answered with the leader's answer,
//! unchanged: headers, messages and typed details go through as bytes, so that a follower needs no release of its own
//! to pass a new call on.
//!
//! Everything is passed on, reads too: what a follower could answer from the store would be old. A request is passed
//! on once; the header [`FORWARDED`] says that it was. Every call may be repeated, so a leader that is gone before it
//! has answered only means another try, as long as the caller's deadline and [`PATIENCE`] allow.

mod deadline;
mod kept;
mod link;
mod relay;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_proto::status::{failures_of, refuse, refuse_not_leader};
use shardlift_proto::v1;
use shardlift_runtime::retry::{Delays, Policy};
use shardlift_runtime::tls::Dial;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderName, HeaderValue, Request, Response};
use tonic::server::NamedService;

use crate::election::Peer;
use crate::orchestrator::{Standing, not_leader};
use deadline::Deadline;
use kept::Kept;
use link::Link;
pub(super) use relay::relay;

/// Says that a request comes from another coordinator. It is answered by a leader, or refused; never passed on again.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("shardlift-forwarded");

/// How long a request waits for a leader at most: an election is usually shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pauses between tries to reach the same leader.
const PAUSES: Policy =
    Policy { first: Duration::from_millis(50), longest: Duration::from_millis(500), total: None };

/// Passes requests on. Clones share the connection to the leader.
#[derive(Clone)]
pub(super) struct Forward {
    standing: Standing,
    link: Link,
    closing: CancellationToken,
    patience: Duration,
}

impl Forward {
    /// `dial`: how the leader is reached over TLS, if so. `closing`: this coordinator ends; what waits is refused, what is
    /// open ends.
    pub(super) fn new(standing: Standing, dial: Option<Dial>, closing: CancellationToken) -> Self {
        Self { standing, link: Link::new(dial), closing, patience: PATIENCE }
    }

    /// A service that answers while this coordinator leads, and passes on otherwise.
    pub(super) fn around<S>(&self, inner: S) -> Forwarding<S> {
        Forwarding { inner, forward: self.clone() }
    }

    async fn pass_on<S: Door>(&self, mut inner: S, request: Request<Body>) -> Response<Body> {
        if request.headers().contains_key(FORWARDED) {
            return refusal(&self.standing).into_http();
        }
        let deadline = Deadline::of(request.headers());
        let until = deadline.patience(self.patience);
        let kept = match Kept::read(request).await {
            Ok(kept) => kept,
            Err(status) => return status.into_http(),
        };
        let mut standing = self.standing.clone();
        let mut delays = Delays::new(&PAUSES);
        let mut trouble = nobody_leads();
        loop {
            if standing.leads() {
                let Ok(answer) = inner.call(kept.request(&deadline)).await;
                return answer;
            }
            let leader = standing.leader();
            if let Some(leader) = &leader {
                // A leader that has the request may take its time: the caller's deadline and the connection's beat end it.
                match self.ask(leader, &kept, &deadline).await {
                    Ok(answer) => return answer,
                    Err(failure) => trouble = failure,
                }
            }
            let pause = delays.next().unwrap_or(PAUSES.longest);
            tokio::select! {
                () = standing.changed() => {}
                () = sleep(pause), if leader.is_some() => {}
                () = sleep_until(until) => return refuse(vec![trouble]).into_http(),
                () = self.closing.cancelled() => return refusal(&standing).into_http(),
            }
            if Instant::now() >= until {
                return refuse(vec![trouble]).into_http();
            }
        }
    }

    /// One try to have it answered by this leader.
    async fn ask(&self, leader: &Peer, kept: &Kept, deadline: &Deadline) -> Result<Response<Body>, Failure> {
        let mut channel = self.link.to(leader).await.map_err(|error| unreachable(leader, &error))?;
        let mut request = kept.request(deadline);
        request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
        let called = async {
            poll_fn(|context| channel.poll_ready(context)).await?;
            channel.call(request).await
        };
        let answer = tokio::select! {
            answer = called => answer.map_err(|error| {
                self.link.forget(leader);
                unreachable(leader, &error)
            })?,
            () = self.standing.moved_from(&leader.address) => return Err(nobody_leads()),
        };
        match Status::from_header_map(answer.headers()).map(|status| failures_of(&status).swap_remove(0)) {
            // It has not taken over yet, or leads no more: nothing was done.
            Some(failure) if failure.code == ErrorCode::CoordinatorNotLeader => Err(nobody_leads()),
            _ => Ok(self.relayed(leader, answer)),
        }
    }

    fn relayed(&self, leader: &Peer, answer: Response<Body>) -> Response<Body> {
        let (standing, closing, address) =
            (self.standing.clone(), self.closing.clone(), leader.address.clone());
        let over = async move {
            tokio::select! {
                () = standing.moved_from(&address) => {}
                () = closing.cancelled() => {}
            }
            refusal(&standing)
        };
        let broken = refuse(vec![unreachable(leader, "the connection broke")]);
        answer.map(|body| relay(body, over, Some(broken)))
    }
}

/// A gRPC service, as generated.
pub(super) trait Door:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Door for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// A service of this coordinator while it leads, of the leader otherwise.
#[derive(Clone)]
pub(super) struct Forwarding<S> {
    inner: S,
    forward: Forward,
}

impl<S: NamedService> NamedService for Forwarding<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Door> Service<Request<Body>> for Forwarding<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.forward.standing.leads() {
            return Box::pin(self.inner.call(request));
        }
        let (forward, inner) = (self.forward.clone(), self.inner.clone());
        Box::pin(async move { Ok(forward.pass_on(inner, request).await) })
    }
}

/// The refusal of a coordinator that does not lead, with who does as a typed detail.
pub(super) fn refusal(standing: &Standing) -> Status {
    let leader = standing.leader().map(|Peer { name, address }| v1::Peer { name, address });
    refuse_not_leader(not_leader(), leader)
}

fn nobody_leads() -> Failure {
    Failure::new(
        ErrorCode::CoordinatorNotReady,
        "no coordinator leads now",
        "ask again in a moment; if it lasts, look whether the coordinators reach each other and the election",
    )
}

fn unreachable(leader: &Peer, why: impl std::fmt::Display) -> Failure {
    let Peer { name, address } = leader;
    Failure::new(
        ErrorCode::CoordinatorNotReady,
        format!("the leader {name} at {address} cannot be reached from here: {why}"),
        "ask again in a moment; if it lasts, look whether that coordinator runs, and the network to it",
    )
}
