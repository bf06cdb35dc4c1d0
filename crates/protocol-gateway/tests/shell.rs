//! The shell over real sockets, with a controller and a storage node that live in the test.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests act")]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, Timestamp, TopicId,
    TopicPartition,
};
use bytes::{Bytes, BytesMut};
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::{
    ApiVersionsRequest, MetadataRequest, ProduceRequest, Request as WireRequest, Uuid, decode_response, encode_request,
};
use peer_api::controller::{self, ActiveController, FromController, ToController};
use peer_api::metadata::{Broker, BrokerState, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::{AppendResponse, Appended, FromStorage, Request, Response, ToStorage};
use protocol_gateway::{Links, Opening, Options, Patience, Status, serve};
use record_batch::{BatchBuilder, Compression};
use rpc::Duplex;
use service_kit::trace::Sampler;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

const TOPIC: TopicId = TopicId([7; 16]);

/// Channels within the process; storage streams end after so many answers.
struct Local {
    answers_per_stream: usize,
    appended: Arc<Mutex<Vec<Bytes>>>,
    /// How many streams to the storage node there were.
    opened: watch::Sender<usize>,
}

impl Local {
    fn new(answers_per_stream: usize, appended: Arc<Mutex<Vec<Bytes>>>) -> Local {
        Local { answers_per_stream, appended, opened: watch::Sender::default() }
    }
}

impl Links for Local {
    fn storage(&mut self, _: BrokerId, address: &str) -> Opening<ToStorage, FromStorage> {
        assert_eq!(address, "node1:1");
        self.opened.send_modify(|opened| *opened += 1);
        let (ours, theirs) = Duplex::pair(16);
        tokio::spawn(storage(theirs, self.answers_per_stream, self.appended.clone()));
        Box::pin(std::future::ready(Some(ours)))
    }

    fn controller(&mut self, _: Option<ActiveController>) -> Opening<ToController, FromController> {
        let (ours, theirs) = Duplex::pair(16);
        tokio::spawn(controller(theirs));
        Box::pin(std::future::ready(Some(ours)))
    }
}

async fn controller(mut gateway: Duplex<FromController, ToController>) {
    while let Some(message) = gateway.rx.recv().await {
        let answers = match message {
            ToController::Hello { .. } => {
                let state = PartitionState {
                    replicas: vec![BrokerId(1)],
                    isr: vec![BrokerId(1)],
                    leader: Some(BrokerId(1)),
                    leader_epoch: LeaderEpoch(1),
                    partition_epoch: PartitionEpoch(1),
                    ..Default::default()
                };
                let partition = TopicPartition { topic: TOPIC, partition: PartitionIndex(0) };
                let records = vec![
                    Record::ClusterNamed { cluster_id: "local".into() },
                    Record::BrokerRegistered(Broker {
                        id: BrokerId(1),
                        epoch: BrokerEpoch(1),
                        incarnation: Incarnation::ZERO,
                        rack: None,
                        peer_address: "node1:1".into(),
                        host: "machine".into(),
                        state: BrokerState::Active,
                    }),
                    Record::TopicCreated { id: TOPIC, name: "t".into() },
                    Record::PartitionChanged { partition, state },
                ];
                vec![
                    FromController::Welcome { controller: BrokerId(1), term: 1 },
                    FromController::Update(Update::Snapshot { at: MetadataOffset(5), records }),
                ]
            }
            ToController::Call { id, request: controller::Request::RegisterGateway(_) } => {
                vec![FromController::Answer { id, result: Ok(controller::Response::GatewayRegistered) }]
            }
            ToController::Call { .. } => Vec::new(),
        };
        for answer in answers {
            gateway.tx.send(answer).await.unwrap();
        }
    }
}

async fn storage(mut gateway: Duplex<FromStorage, ToStorage>, answers: usize, appended: Arc<Mutex<Vec<Bytes>>>) {
    for _ in 0..answers {
        let Some(ToStorage { id, request: Request::Append(append) }) = gateway.rx.recv().await else { return };
        let mut partitions = Vec::new();
        for asked in append.partitions {
            let mut log = appended.lock().unwrap();
            log.push(asked.batch.unwrap().bytes().clone());
            let base_offset = Offset(log.len() as i64 - 1);
            let log_append_time = Timestamp::NONE;
            partitions.push((asked.partition, Ok(Appended { base_offset, log_append_time, log_start: Offset(0) })));
        }
        let response = Response::Append(AppendResponse { partitions });
        if gateway.tx.send(FromStorage { id, response }).await.is_err() {
            return;
        }
    }
    // The next request is taken and never answered.
    gateway.rx.recv().await;
}

struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Client {
    async fn send<R: WireRequest>(&mut self, version: i16, request: &R) {
        let frame = encode_request(1, None, version, request).unwrap().concat();
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn answer<R: WireRequest>(&mut self, version: i16) -> R::Response {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                let length = i32::from_be_bytes(*prefix) as usize;
                if self.buffer.len() >= length + 4 {
                    let frame = self.buffer.split_to(length + 4).freeze().slice(4..);
                    return decode_response::<R>(frame, version).unwrap().1;
                }
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "closed");
        }
    }
}

fn produce(value: &[u8]) -> ProduceRequest {
    let records = BatchBuilder::new(Compression::None).record(None, Some(value), &[], Timestamp(1)).build().unwrap();
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(records) }];
    let topic_data = vec![TopicProduceData { name: "t".into(), topic_id: Uuid::ZERO, partition_data }];
    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, transactional_id: None }
}

/// Runs a gateway over `local` while `body` talks to it, then stops it.
fn with_gateway<F: Future<Output = ()>>(
    local: Local,
    body: impl FnOnce(std::net::SocketAddr, watch::Receiver<Status>) -> F,
) {
    with_patience(Patience::default(), local, body);
}

fn with_patience<F: Future<Output = ()>>(
    patience: Patience,
    local: Local,
    body: impl FnOnce(std::net::SocketAddr, watch::Receiver<Status>) -> F,
) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, told) = watch::channel(Status::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let options = Options {
            core: gateway_core::Config::default(),
            drain: Duration::from_secs(2),
            patience,
            frame_size_max: gateway_core::FRAME_SIZE_MAX,
            sampler: Sampler::default(),
        };
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            serve(options, listener, local, None, status, stopped).await;
        });
        tokio::time::timeout(Duration::from_secs(20), body(address, told)).await.expect("in time");
        drop(stop);
        tokio::time::timeout(Duration::from_secs(5), serving).await.expect("stops in time").unwrap();
    });
}

async fn connect(address: std::net::SocketAddr) -> Client {
    Client { stream: TcpStream::connect(address).await.unwrap(), buffer: BytesMut::new() }
}

#[test]
fn requests_in_one_segment_and_in_single_bytes_are_answered_in_order() {
    let appended = Arc::<Mutex<Vec<Bytes>>>::default();
    with_gateway(Local::new(usize::MAX, appended.clone()), |address, mut told| async move {
        told.wait_for(|status| status.ready && status.controller).await.unwrap();
        let mut client = connect(address).await;
        client.send(0, &ApiVersionsRequest::default()).await;
        assert!(client.answer::<ApiVersionsRequest>(0).await.api_keys.len() > 15);
        let mut bytes = Vec::new();
        for i in 0..50u8 {
            bytes.extend(encode_request(i32::from(i), None, 9, &produce(&[i])).unwrap().concat());
        }
        client.stream.write_all(&bytes).await.unwrap();
        for i in 0..50 {
            let answer = client.answer::<ProduceRequest>(9).await;
            assert_eq!(answer.responses[0].partition_responses[0].base_offset, i);
        }
        for byte in encode_request(9, None, 12, &MetadataRequest::default()).unwrap().concat() {
            client.stream.write_all(&[byte]).await.unwrap();
            client.stream.flush().await.unwrap();
        }
        assert_eq!(client.answer::<MetadataRequest>(12).await.topics.len(), 0);
    });
    assert_eq!(appended.lock().unwrap().len(), 50);
}

/// Whoever comes from a gateway that stopped does not wait for streams.
#[test]
fn streams_to_storage_nodes_are_there_before_clients_are() {
    let local = Local::new(usize::MAX, Arc::default());
    let mut streams = local.opened.subscribe();
    with_gateway(local, |address, _| async move {
        streams.wait_for(|opened| *opened == 1).await.unwrap();
        let mut client = connect(address).await;
        client.send(9, &produce(b"value")).await;
        assert_eq!(client.answer::<ProduceRequest>(9).await.responses[0].partition_responses[0].error_code, 0);
        assert_eq!(*streams.borrow(), 1);
    });
}

#[test]
fn a_large_batch_travels_whole() {
    let appended = Arc::<Mutex<Vec<Bytes>>>::default();
    let value = vec![5u8; 8 << 20];
    let sent = value.clone();
    with_gateway(Local::new(usize::MAX, appended.clone()), |address, _| async move {
        let mut client = connect(address).await;
        client.send(9, &produce(&sent)).await;
        assert_eq!(client.answer::<ProduceRequest>(9).await.responses[0].partition_responses[0].error_code, 0);
    });
    let log = appended.lock().unwrap();
    assert!(log[0].len() > value.len() && log[0].windows(64).any(|window| window == &value[..64]));
}

#[test]
fn a_stream_that_breaks_is_reported_as_unknown_and_opened_again() {
    let appended = Arc::<Mutex<Vec<Bytes>>>::default();
    with_gateway(Local::new(2, appended), |address, _| async move {
        let mut client = connect(address).await;
        let mut codes = Vec::new();
        for i in 0..6u8 {
            client.send(9, &produce(&[i])).await;
            codes.push(client.answer::<ProduceRequest>(9).await.responses[0].partition_responses[0].error_code);
        }
        assert_eq!(codes, [0, 0, 7, 0, 0, 7]);
    });
}

#[test]
fn nonsense_closes_its_connection_and_no_other() {
    with_gateway(Local::new(usize::MAX, Arc::default()), |address, _| async move {
        let mut good = connect(address).await;
        let nonsense: [&[u8]; 4] =
            [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &[0, 0, 0, 8, 0, 99, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 1, 0]];
        for bytes in nonsense {
            let mut bad = connect(address).await;
            bad.stream.write_all(bytes).await.unwrap();
            assert_eq!(bad.stream.read_buf(&mut bad.buffer).await.unwrap_or(0), 0, "{bytes:?}");
        }
        good.send(0, &ApiVersionsRequest::default()).await;
        good.answer::<ApiVersionsRequest>(0).await;
    });
}

#[test]
fn a_reader_that_does_not_read_gets_everything_in_the_end() {
    with_gateway(Local::new(usize::MAX, Arc::default()), |address, _| async move {
        let mut client = connect(address).await;
        let request = encode_request(
            1,
            None,
            3,
            &ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() },
        );
        let request = request.unwrap().concat();
        let (mut from, mut to) = client.stream.split();
        const COUNT: usize = 20_000;
        let sending = async {
            for _ in 0..COUNT {
                to.write_all(&request).await.unwrap();
            }
        };
        let receiving = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mut left = COUNT;
            while left > 0 {
                let length = from.read_i32().await.unwrap() as usize;
                let mut frame = vec![0; length];
                from.read_exact(&mut frame).await.unwrap();
                left -= 1;
            }
        };
        tokio::join!(sending, receiving);
    });
}

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn connections_without_a_whole_request_are_closed_and_busy_ones_are_not() {
    let local = Local::new(usize::MAX, Arc::default());
    with_patience(Patience { idle: SHORT, ..Patience::default() }, local, |address, _| async move {
        let mut silent = connect(address).await;
        let mut half = connect(address).await;
        let frame = encode_request(1, None, 0, &ApiVersionsRequest::default()).unwrap().concat();
        half.stream.write_all(&frame[..frame.len() - 1]).await.unwrap();
        let mut busy = connect(address).await;
        let ends = async {
            assert_eq!(silent.stream.read_buf(&mut silent.buffer).await.unwrap_or(0), 0);
            assert_eq!(half.stream.read_buf(&mut half.buffer).await.unwrap_or(0), 0);
        };
        let mut ends = std::pin::pin!(ends);
        let mut ended = false;
        while !ended {
            busy.send(0, &ApiVersionsRequest::default()).await;
            tokio::select! {
                biased;
                () = &mut ends => ended = true,
                _ = busy.answer::<ApiVersionsRequest>(0) => {}
            }
        }
    });
}

#[test]
fn a_client_that_takes_nothing_of_its_answers_is_closed() {
    let local = Local::new(usize::MAX, Arc::default());
    // Long enough for all buffers to be full, so that nothing wakes whoever waits for the socket but its end.
    let stalled = Duration::from_secs(2);
    with_patience(Patience { stalled, ..Patience::default() }, local, |address, _| async move {
        let mut client = connect(address).await;
        let frame = encode_request(1, None, 0, &ApiVersionsRequest::default()).unwrap().concat();
        // Sooner or later all buffers are full; only the end of the connection ends this.
        while client.stream.write_all(&frame).await.is_ok() {}
    });
}
