//! A small blocking Kafka client: enough for an operator's tool, and no more.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use base_types::ErrorCode;
use bytes::Bytes;
use kafka_wire::k03_metadata::{MetadataRequestTopic, MetadataResponseTopic};
use kafka_wire::{
    FindCoordinatorRequest, KafkaString, MetadataRequest, MetadataResponse, Request, decode_response, encode_request,
};

use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Frames of answers may be as large as a fetch allows, and a little more.
const FRAME_BYTES_MAX: usize = 128 << 20;
const METADATA_VERSION: i16 = 12;
/// How long a group's coordinator is looked for.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Connections to a cluster: one to whoever answered first, and one to each broker that leads something we need.
pub struct Client {
    bootstrap: Connection,
    brokers: BTreeMap<i32, Connection>,
}

struct Connection {
    address: String,
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects to the first of the comma-separated addresses that answers.
    pub fn connect(bootstrap: &str) -> Result<Client, Failure> {
        let mut last = Failure::Usage("no bootstrap address was given".to_owned());
        for address in bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            match Connection::open(address) {
                Ok(bootstrap) => return Ok(Client { bootstrap, brokers: BTreeMap::new() }),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Asks any broker.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Failure> {
        self.bootstrap.call(version, request)
    }

    /// Asks the broker `id`, whose address the metadata told.
    pub fn call_broker<R: Request>(
        &mut self,
        metadata: &MetadataResponse,
        id: i32,
        version: i16,
        request: &R,
    ) -> Result<R::Response, Failure> {
        let connection = self.broker(metadata, id)?;
        let answer = connection.call(version, request);
        if answer.is_err() {
            self.brokers.remove(&id);
        }
        answer
    }

    /// Asks the coordinator of `group`; again while there is none yet, it moves, or it loads. `code` finds the answer's error.
    pub fn call_coordinator<R: Request>(
        &mut self,
        group: &str,
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Failure> {
        let started = Instant::now();
        let transient = |code: i16| {
            let code = ErrorCode::from_code(code);
            let waits =
                [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator];
            code.is_some_and(|code| waits.contains(&code)) && started.elapsed() < COORDINATOR_TIMEOUT
        };
        loop {
            let find = FindCoordinatorRequest {
                coordinator_keys: vec![KafkaString::from(group)],
                ..FindCoordinatorRequest::default()
            };
            let found = self.call(4, &find)?.coordinators.into_iter().next();
            let found = found.ok_or_else(|| Failure::Failed(format!("no word of a coordinator for group {group}")))?;
            if transient(found.error_code) {
                std::thread::sleep(RETRY_PAUSE);
                continue;
            }
            let what = format!("finding the coordinator of group {group}");
            Failure::check(&what, found.error_code, found.error_message.as_deref())?;
            let address = format!("{}:{}", found.host.as_str(), found.port);
            let answer = match self.brokers.entry(found.node_id) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(none) => none.insert(Connection::open(&address)?),
            }
            .call(version, request);
            match answer {
                Ok(response) if transient(code(&response)) => std::thread::sleep(RETRY_PAUSE),
                Ok(response) => return Ok(response),
                Err(failure) => {
                    self.brokers.remove(&found.node_id);
                    return Err(failure);
                }
            }
        }
    }

    /// Sends to the broker `id` without waiting for an answer, for `acks=0`.
    pub fn send_broker<R: Request>(
        &mut self,
        metadata: &MetadataResponse,
        id: i32,
        version: i16,
        request: &R,
    ) -> Result<(), Failure> {
        self.broker(metadata, id)?.send(version, request).map(drop)
    }

    /// The connection to this broker, made when there is none.
    fn broker(&mut self, metadata: &MetadataResponse, id: i32) -> Result<&mut Connection, Failure> {
        match self.brokers.entry(id) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(none) => {
                let broker = metadata.brokers.iter().find(|broker| broker.node_id == id);
                let unknown = || Failure::Failed(format!("broker {id} is not in the cluster's metadata"));
                let broker = broker.ok_or_else(unknown)?;
                Ok(none.insert(Connection::open(&format!("{}:{}", broker.host.as_str(), broker.port))?))
            }
        }
    }

    pub fn metadata(&mut self, topics: Option<&[&str]>, create: bool) -> Result<MetadataResponse, Failure> {
        let named = |name: &&str| MetadataRequestTopic {
            name: Some(KafkaString::from((*name).to_owned())),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        self.call(METADATA_VERSION, &request)
    }

    /// The metadata of one topic that must exist.
    pub fn topic(&mut self, name: &str) -> Result<(MetadataResponse, MetadataResponseTopic), Failure> {
        let metadata = self.metadata(Some(&[name]), false)?;
        let missing = || Failure::Failed(format!("the cluster said nothing of topic {name}"));
        let topic = metadata.topics.first().cloned().ok_or_else(missing)?;
        Failure::check(&format!("topic {name}"), topic.error_code, None)?;
        Ok((metadata, topic))
    }
}

impl Connection {
    fn open(address: &str) -> Result<Connection, Failure> {
        let unreachable = |source| Failure::Unreachable { address: address.to_owned(), source };
        let mut last = std::io::Error::other("the name has no address");
        for resolved in address.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(unreachable)?;
                    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(unreachable)?;
                    return Ok(Connection { address: address.to_owned(), stream, correlation_id: 0 });
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, Failure> {
        self.correlation_id += 1;
        let client_id = Some(KafkaString::from_static("thalweg"));
        for piece in encode_request(self.correlation_id, client_id, version, request)? {
            self.stream.write_all(&piece).map_err(|source| self.broken(source))?;
        }
        Ok(self.correlation_id)
    }

    fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Failure> {
        let sent = self.send(version, request)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|source| self.broken(source))?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(Failure::Failed(format!("{} announced an answer of {length} bytes", self.address)));
        }
        // Memory grows with what arrives, not with what was announced.
        let mut frame = Vec::new();
        let mut limited = (&mut self.stream).take(length as u64);
        limited.read_to_end(&mut frame).map_err(|source| self.broken(source))?;
        let (received, response) = decode_response::<R>(Bytes::from(frame), version)?;
        if received != sent {
            return Err(Failure::Failed(format!("{} answered request {received} instead of {sent}", self.address)));
        }
        Ok(response)
    }

    fn broken(&self, source: std::io::Error) -> Failure {
        Failure::Unreachable { address: self.address.clone(), source }
    }
}
