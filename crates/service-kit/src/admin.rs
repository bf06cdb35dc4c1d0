//! The plain HTTP listener for machines and people: `/metrics` and `/health/{startup,live,ready}`.
//!
//! It has no business with client traffic, and is not to be reachable from where clients are.

use std::future::Future;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::{Health, Report};
use crate::metrics::Metrics;

/// Serves until `shutdown` resolves. Open connections are then dropped: a scrape may be asked for again.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    tokio::select! {
        served = axum::serve(listener, router(metrics, health)) => served,
        () = shutdown => Ok(()),
    }
}

/// The routes, for a service that has more to offer on the same listener.
pub fn router(metrics: Metrics, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route(
            "/health/startup",
            get(|State((_, health)): State<(Metrics, Health)>| async move {
                answer(health.is_started(), "started", "starting", Vec::new())
            }),
        )
        // That this answers at all is the answer: it must never depend on a peer.
        .route("/health/live", get(|| async { answer(true, "alive", "", Vec::new()) }))
        .route(
            "/health/ready",
            get(|State((_, health)): State<(Metrics, Health)>| async move {
                answer(health.is_ready(), "ready", "not ready", health.reports())
            }),
        )
        .with_state((metrics, health))
}

async fn scrape(State((metrics, _)): State<(Metrics, Health)>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

fn answer(ok: bool, yes: &str, no: &str, checks: Vec<Report>) -> Response {
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "status": if ok { yes } else { no }, "checks": checks });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: std::net::SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[tokio::test]
    async fn health_and_metrics_are_answered_until_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, shutdown) = (Health::new(), crate::Shutdown::new());
        let serving = tokio::spawn(serve(listener, Metrics::new("test", "0"), health.clone(), shutdown.requested()));

        assert_eq!(ask(address, "/health/live").await.0, 200);
        assert_eq!(ask(address, "/health/startup").await.0, 503);
        let check = health.check("metadata");
        let (status, body) = ask(address, "/health/ready").await;
        assert_eq!(status, 503);
        assert!(body.contains(r#""name":"metadata","ok":false"#) || body.contains(r#""metadata""#), "{body}");
        health.set_started();
        check.pass();
        assert_eq!(ask(address, "/health/startup").await.0, 200);
        let (status, body) = ask(address, "/health/ready").await;
        assert_eq!((status, body.contains("\"ready\"")), (200, true));
        assert!(ask(address, "/metrics").await.1.contains("process_open_fds"));
        assert_eq!(ask(address, "/nothing").await.0, 404);

        shutdown.request();
        tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
