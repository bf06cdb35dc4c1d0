//! Opening a stream to another process. Each stream has a connection of its own, so that heartbeats never wait behind data.

use std::fmt;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Version, header};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::{Service as _, ServiceExt};

use crate::duplex::Duplex;
use crate::framing::{self, Label, Side, Stop};
use crate::limits;
use crate::services::Service;
use crate::status::{Code, Ended};

/// How patient a stream is.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub connect_timeout: Duration,
    /// After this much silence the other side is asked for a sign of life,
    pub keepalive_interval: Duration,
    /// and after this much more the connection counts as lost.
    pub keepalive_timeout: Duration,
    /// Messages that may wait before `send` waits too.
    pub messages_max: usize,
}

/// There is no stream. Definite: nothing was sent.
#[derive(Debug)]
pub enum ConnectError {
    /// Not `host:port`.
    Address {
        address: String,
    },
    /// Nobody answers there.
    Unreachable {
        address: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    TimedOut {
        address: String,
        after: Duration,
    },
    /// Somebody answers and will not have the stream.
    Refused {
        address: String,
        ended: Ended,
    },
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            connect_timeout: limits::CONNECT_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            messages_max: limits::STREAM_MESSAGES_MAX,
        }
    }
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            ConnectError::Address { .. } => false,
            ConnectError::Unreachable { .. } | ConnectError::TimedOut { .. } => true,
            ConnectError::Refused { ended, .. } => ended.code.is_retriable(),
        }
    }
}

pub(crate) async fn open<S: Service>(
    address: &str,
    hello: S::Hello,
    options: &ConnectOptions,
) -> Result<Duplex<S::FromClient, S::FromServer>, ConnectError> {
    let endpoint = endpoint(address, options)?;
    let opening = async {
        let mut channel = endpoint.connect().await.map_err(|error| unreachable(address, error))?;
        let label = Label { service: S::NAME, peer: address.into() };
        let (queue_tx, queue_rx) = mpsc::channel(options.messages_max);
        let (outgoing, incoming) =
            framing::halves::<S::FromClient, S::FromServer, Body>(queue_rx, label, Side::Client, Stop::default());
        let mut request = Request::new(Body::new(outgoing));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = http::Uri::from_static(S::PATH);
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        S::write(&hello, headers);

        let ready = channel.ready().await.map_err(|error| unreachable(address, error))?;
        let response = ready.call(request).await.map_err(|error| unreachable(address, error))?;
        let status = Status::from_header_map(response.headers());
        if let Some(status) = status.filter(|status| status.code() != tonic::Code::Ok) {
            return Err(ConnectError::Refused { address: address.to_owned(), ended: Ended::from_status(&status) });
        }
        if response.status() != http::StatusCode::OK {
            let ended = Ended::new(Code::Internal, format!("HTTP status {}", response.status()));
            return Err(ConnectError::Refused { address: address.to_owned(), ended });
        }
        Ok(Duplex::over(queue_tx, Box::new(incoming(response.into_body()))))
    };
    // Boxed: it is large, lives for a moment, and would make every caller's future as large.
    tokio::time::timeout(options.connect_timeout, Box::pin(opening))
        .await
        .unwrap_or_else(|_| Err(ConnectError::TimedOut { address: address.to_owned(), after: options.connect_timeout }))
}

fn endpoint(address: &str, options: &ConnectOptions) -> Result<Endpoint, ConnectError> {
    let bad = || ConnectError::Address { address: address.to_owned() };
    let uri: http::Uri = format!("http://{address}").parse().map_err(|_| bad())?;
    if uri.port_u16().is_none() || uri.path() != "/" || address.contains('@') {
        return Err(bad());
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(options.keepalive_interval.max(Duration::from_secs(1))))
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(false)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_BYTES_MAX))
}

fn unreachable(address: &str, error: tonic::transport::Error) -> ConnectError {
    ConnectError::Unreachable { address: address.to_owned(), source: error.into() }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Address { address } => write!(f, "{address:?} is no address: host:port was expected"),
            ConnectError::Unreachable { address, .. } => write!(f, "{address} cannot be reached"),
            ConnectError::TimedOut { address, after } => {
                write!(f, "{address} did not answer within {} ms", after.as_millis())
            }
            ConnectError::Refused { address, ended } => write!(f, "{address} refuses the stream: {ended}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Unreachable { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
