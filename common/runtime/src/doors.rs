//! The HTTP door of a program for operators: `/healthz`, `/readyz`, `/metrics`. It shows; it changes nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Registry;

/// Says whether the program can do its work, or why not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The media type of what Prometheus calls the OpenMetrics text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A door that is bound but does not serve yet.
pub struct Doors {
    listener: TcpListener,
    shown: Arc<Shown>,
}

struct Shown {
    registry: Registry,
    ready: Ready,
}

impl Doors {
    /// Binds `address` (port 0: any free one). The registry is complete: metrics are registered before.
    pub async fn bind(address: SocketAddr, registry: Registry, ready: Ready) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, shown: Arc::new(Shown { registry, ready }) })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `cancel` is cancelled and the open requests are answered.
    pub async fn serve(self, cancel: CancellationToken) -> io::Result<()> {
        let routes = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(readiness))
            .route("/metrics", get(metrics))
            .with_state(self.shown);
        axum::serve(self.listener, routes).with_graceful_shutdown(cancel.cancelled_owned()).await
    }
}

async fn readiness(State(shown): State<Arc<Shown>>) -> Response {
    match (shown.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Counter;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer
    }

    #[tokio::test]
    async fn the_doors_show_health_readiness_and_metrics_and_close_in_order() {
        let batches: Counter = Counter::default();
        let mut registry = Registry::default();
        registry.register("shardlift_batches", "Batches committed", batches.clone());
        batches.inc_by(3);
        let is_ready = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_ready);
        let ready: Ready =
            Arc::new(
                move || {
                    if seen.load(Ordering::SeqCst) { Ok(()) } else { Err("no leader yet".to_owned()) }
                },
            );
        let doors = Doors::bind(([127, 0, 0, 1], 0).into(), registry, ready).await.expect("binds");
        let address = doors.local_addr().expect("bound");
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(doors.serve(cancel.clone()));

        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no leader yet"), "{answer}");
        is_ready.store(true, Ordering::SeqCst);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = ask(address, "/metrics").await;
        assert!(answer.contains("shardlift_batches_total 3"), "{answer}");

        cancel.cancel();
        serving.await.expect("no panic").expect("ends well");
    }
}
