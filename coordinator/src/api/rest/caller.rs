//! Who asks over HTTP: found out before the handler runs, and named again to the gRPC doors, here or at the leader.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shardlift_domain::principal::Principal;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http;

use super::door::{self, Guard, REQUEST_ID};
use super::problem::Problem;
use super::{Rest, Shared};
use crate::api::access::{Admitted, Door, Stay, verbs};

/// Who asks, and with what they have shown it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) stay: Stay,
    credentials: Option<HeaderValue>,
    request: Option<HeaderValue>,
}

/// Around every route: whoever may not ask for it is refused before anything else of the request is read.
pub(super) async fn admitted(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let (method, path) = (door::method(&request), request.uri().path());
    let (name, verb) = verbs::route(method.as_str(), path).unzip();
    let name = name.map_or_else(|| format!("{method} {path}"), ToOwned::to_owned);
    let counted = guard.asks_who(&request);
    let admitted = guard.access().admit(Door::Rest, &name, verb, request.headers()).await;
    if counted {
        let by = match &admitted {
            Ok(admitted) => admitted.as_ref().map(|admitted| &admitted.principal),
            Err(refused) => refused.by.as_ref(),
        };
        if let Err(problem) = guard.count(&request, by) {
            return problem.into_response();
        }
    }
    match admitted {
        Ok(admitted) => {
            if let Some(Admitted { principal, stay }) = admitted {
                let credentials = request.headers().get(header::AUTHORIZATION).cloned();
                let id = request.headers().get(REQUEST_ID).cloned();
                request.extensions_mut().insert(Caller { principal, stay, credentials, request: id });
            }
            next.run(request).await
        }
        Err(refused) => Problem::from(refused.failure).into_response(),
    }
}

impl FromRequestParts<Shared> for Rest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Infallible> {
        Ok(Self { shared: shared.clone(), caller: parts.extensions.get::<Caller>().cloned() })
    }
}

/// A gRPC door, asked in somebody's name: the door of this process knows whom it was told, the leader's asks again for the
/// credentials.
#[derive(Clone)]
pub(super) struct As<S> {
    door: S,
    caller: Option<Caller>,
}

impl<S> As<S> {
    pub(super) fn new(door: S, caller: Option<Caller>) -> Self {
        Self { door, caller }
    }
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for As<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.door.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> S::Future {
        if let Some(Caller { principal, credentials, request: id, .. }) = &self.caller {
            request.extensions_mut().insert(principal.clone());
            if let Some(credentials) = credentials {
                request.headers_mut().insert(header::AUTHORIZATION, credentials.clone());
            }
            if let Some(id) = id {
                request.headers_mut().insert(REQUEST_ID, id.clone());
            }
        }
        self.door.call(request)
    }
}
