//! The serving side: one listener, as many of the services as the process offers.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base_types::BrokerId;
use http::{HeaderValue, Method, Request, Response, header};
use peer_api::controller::{FromController, RaftMessage, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{FromStorage, ToStorage};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};

use crate::duplex::Duplex;
use crate::framing::{self, Label, Side, Stop};
use crate::health::Health;
use crate::limits;
use crate::services::Service;
use crate::services::controller::Controller;
use crate::services::raft::Raft;
use crate::services::replication::Replication;
use crate::services::storage::Storage;
use crate::status::{Code, Ended};

/// Whose stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `None` only when the system could not tell.
    pub address: Option<SocketAddr>,
}

/// Offers services on a listener. A handler takes each stream as it is opened and returns at once: it hands it to whoever
/// serves it, or drops it, which ends it.
pub struct Server {
    storage: Option<Handler<Storage>>,
    replication: Option<Handler<Replication>>,
    controller: Option<Handler<Controller>>,
    raft: Option<Handler<Raft>>,
    health: Option<Health>,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
}

type Streams<S> = Duplex<<S as Service>::FromServer, <S as Service>::FromClient>;
type Handler<S> = Arc<dyn Fn(<S as Service>::Hello, Streams<S>, Peer) + Send + Sync>;

/// The listener cannot be served any more.
#[derive(Debug)]
pub struct ServeError {
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Server {
    pub fn builder() -> Server {
        Server {
            storage: None,
            replication: None,
            controller: None,
            raft: None,
            health: None,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
        }
    }

    /// Streams from gateways.
    #[must_use]
    pub fn storage(self, on_stream: impl Fn(Duplex<FromStorage, ToStorage>, Peer) + Send + Sync + 'static) -> Server {
        Server { storage: Some(Arc::new(move |(), stream, peer| on_stream(stream, peer))), ..self }
    }

    /// Streams from followers' nodes.
    #[must_use]
    pub fn replication(
        self,
        on_stream: impl Fn(Hello, Duplex<FromLeader, FromFollower>) + Send + Sync + 'static,
    ) -> Server {
        Server { replication: Some(Arc::new(move |hello, stream, _| on_stream(hello, stream))), ..self }
    }

    /// Sessions of storage nodes, gateways and tools.
    #[must_use]
    pub fn controller(
        self,
        on_stream: impl Fn(Duplex<FromController, ToController>, Peer) + Send + Sync + 'static,
    ) -> Server {
        Server { controller: Some(Arc::new(move |(), stream, peer| on_stream(stream, peer))), ..self }
    }

    /// Streams from other controllers.
    #[must_use]
    pub fn raft(
        self,
        on_stream: impl Fn(BrokerId, Duplex<RaftMessage, RaftMessage>) + Send + Sync + 'static,
    ) -> Server {
        Server { raft: Some(Arc::new(move |from, stream, _| on_stream(from, stream))), ..self }
    }

    #[must_use]
    pub fn health(self, health: Health) -> Server {
        Server { health: Some(health), ..self }
    }

    /// How long a silent peer is waited for: asked after `interval`, given up `timeout` later.
    #[must_use]
    pub fn keepalive(self, interval: Duration, timeout: Duration) -> Server {
        Server { keepalive_interval: interval, keepalive_timeout: timeout, ..self }
    }

    /// Serves until `shutdown` resolves: then nothing more is accepted, open streams end after what was already handed to
    /// them for sending, and this returns once their connections are closed.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let stop = Stop::when(shutdown);
        let mut routes = Routes::builder();
        add::<Storage>(&mut routes, self.storage, &stop);
        add::<Replication>(&mut routes, self.replication, &stop);
        add::<Controller>(&mut routes, self.controller, &stop);
        add::<Raft>(&mut routes, self.raft, &stop);
        if let Some(health) = &self.health {
            routes.add_service(health.service());
        }
        let incoming = TcpIncoming::from(listener)
            .with_nodelay(Some(true))
            .with_keepalive(Some(self.keepalive_interval.max(Duration::from_secs(1))));
        let serving = tonic::transport::Server::builder()
            .http2_adaptive_window(Some(false))
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_frame_size(limits::FRAME_BYTES_MAX)
            .max_concurrent_streams(limits::CONNECTION_STREAMS_MAX)
            .http2_keepalive_interval(Some(self.keepalive_interval))
            .http2_keepalive_timeout(Some(self.keepalive_timeout))
            // Both count until an answer begins: a stream's at once, a unary call's when it is done.
            .concurrency_limit_per_connection(limits::CONNECTION_STREAMS_MAX as usize)
            .timeout(limits::UNARY_TIMEOUT)
            .trace_fn(|request| tracing::debug_span!("rpc", path = request.uri().path()))
            .add_routes(routes.routes())
            .serve_with_incoming_shutdown(incoming, stop.stopped());
        Box::pin(serving).await.map_err(|error| ServeError { source: error.into() })
    }
}

fn add<S: Service>(routes: &mut tonic::service::RoutesBuilder, handler: Option<Handler<S>>, stop: &Stop) {
    if let Some(handler) = handler {
        routes.add_service(Acceptor::<S> { handler, stop: stop.clone(), service: PhantomData });
    }
}

/// Makes a stream of each call of one service.
struct Acceptor<S: Service> {
    handler: Handler<S>,
    stop: Stop,
    service: PhantomData<fn() -> S>,
}

impl<S: Service> Acceptor<S> {
    fn accept(&self, request: Request<Body>) -> Result<Response<Body>, Ended> {
        let (parts, body) = request.into_parts();
        if parts.uri.path() != S::PATH || parts.method != Method::POST {
            return Err(Ended::new(Code::NotServed, format!("no such call: {}", parts.uri.path())));
        }
        let hello = S::read(&parts.headers).map_err(|error| Ended::new(Code::Malformed, error.to_string()))?;
        let peer = Peer { address: parts.extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr) };
        let name = peer.address.map_or_else(|| "unknown".into(), |address| address.to_string());
        tracing::debug!(service = S::NAME, peer = name, "stream opened");

        let (queue_tx, queue_rx) = mpsc::channel(limits::STREAM_MESSAGES_MAX);
        let label = Label { service: S::NAME, peer: name.into() };
        let (outgoing, incoming) = framing::halves(queue_rx, label, Side::Server, self.stop.clone());
        (self.handler)(hello, Duplex::over(queue_tx, Box::new(incoming(body))), peer);

        let mut response = Response::new(Body::new(outgoing));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }
}

impl<S: Service> tower::Service<Request<Body>> for Acceptor<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.accept(request).unwrap_or_else(|refused| refused.to_status().into_http())))
    }
}

impl<S: Service> NamedService for Acceptor<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service> Clone for Acceptor<S> {
    fn clone(&self) -> Acceptor<S> {
        Acceptor { handler: Arc::clone(&self.handler), stop: self.stop.clone(), service: PhantomData }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("storage", &self.storage.is_some())
            .field("replication", &self.replication.is_some())
            .field("controller", &self.controller.is_some())
            .field("raft", &self.raft.is_some())
            .field("health", &self.health.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the internal listener cannot be served")
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}
