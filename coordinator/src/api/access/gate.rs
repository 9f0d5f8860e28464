//! What stands before the gRPC doors: each call is admitted by the table, and goes on with who makes it.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use shardlift_proto::status::refuse;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tower::Layer;

use super::{Access, Admitted, Door, verbs};
use crate::api::forward::relay;

/// Puts a [`Gate`] before services.
#[derive(Debug, Clone)]
pub(in crate::api) struct GateLayer(Access);

impl GateLayer {
    pub(in crate::api) fn new(access: Access) -> Self {
        Self(access)
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, access: self.0.clone() }
    }
}

/// Services behind the table.
#[derive(Debug, Clone)]
pub(in crate::api) struct Gate<S> {
    inner: S,
    access: Access,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send> + Clone + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready goes with the call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let access = self.access.clone();
        Box::pin(async move {
            let name = request.uri().path().trim_start_matches('/').to_owned();
            match access.admit(Door::Grpc, &name, verbs::verb(&name), request.headers()).await {
                Ok(None) => inner.call(request).await,
                Ok(Some(Admitted { principal, stay })) => {
                    request.extensions_mut().insert(principal);
                    request.extensions_mut().insert(stay.clone());
                    let answer = inner.call(request).await?;
                    let over = async move { refuse(vec![stay.over().await]) };
                    Ok(answer.map(|body| relay(body, over, None)))
                }
                Err(refused) => Ok(refuse(vec![refused.failure]).into_http()),
            }
        })
    }
}
