//! A plain tonic-prost client and server, generated from the same proto files, as the oracle of our own framing.
#![allow(clippy::disallowed_methods, reason = "a test of sockets")]

use std::pin::Pin;
use std::time::Duration;

use base_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use bytes::Bytes;
use peer_api::storage::{
    Acks, AppendError, AppendPartition, AppendRequest, FetchResponse, Fetched, FromStorage, Request, RequestId,
    Response, ToStorage,
};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch};
use rpc::{Duplex, Health, Server};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request as Call, Response as Answer, Status, Streaming};

#[allow(clippy::all, dead_code, reason = "generated")]
mod proto {
    pub mod base {
        pub mod v1 {
            tonic::include_proto!("thalweg.base.v1");
        }
    }
    pub mod groups {
        pub mod v1 {
            tonic::include_proto!("thalweg.groups.v1");
        }
    }
    pub mod storage {
        pub mod v1 {
            tonic::include_proto!("thalweg.storage.v1");
        }
    }
}

use proto::storage::v1 as plain;

/// Around the sizes at which pieces stop being copied, frames end and windows fill.
const SIZES: [usize; 8] = [1, 1000, 16 * 1024 - 62, 16 * 1024, 40_000, 1024 * 1024, 1024 * 1024 + 12, 20 * 1024 * 1024];

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition: PartitionIndex(index) }
}

fn batch(size: usize) -> ProducedBatch {
    let value: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
    let bytes = BatchBuilder::new(Compression::None)
        .record(None, Some(&value), &[], Timestamp(1_700_000_000_000))
        .build()
        .unwrap();
    ProducedBatch::check(bytes, &BatchLimits { max_message_bytes: usize::MAX, ..BatchLimits::default() }).unwrap()
}

fn append(id: u64, sizes: &[usize]) -> ToStorage {
    let partitions = sizes.iter().enumerate().map(|(i, &size)| AppendPartition {
        partition: partition(i as i32),
        leader_epoch: LeaderEpoch(4),
        batch: Ok(batch(size)),
    });
    let append = AppendRequest { acks: Acks::All, timeout_ms: 100, partitions: partitions.collect() };
    ToStorage { id: RequestId(id), request: Request::Append(append) }
}

fn fetched(id: u64, sizes: &[usize]) -> FromStorage {
    let records: Vec<Bytes> = sizes.iter().map(|&size| batch(size).bytes().clone()).collect();
    let fetched = Fetched { high_watermark: Offset(12), records, ..Fetched::default() };
    let partitions = vec![(partition(0), Ok(fetched))];
    FromStorage { id: RequestId(id), response: Response::Fetch(FetchResponse { partitions }) }
}

/// The plain server: answers an append by a fetch of what was appended, all as protobuf sees it.
struct PlainServer;

#[tonic::async_trait]
impl plain::storage_service_server::StorageService for PlainServer {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<plain::FromStorage, Status>> + Send>>;

    async fn exchange(&self, call: Call<Streaming<plain::ToStorage>>) -> Result<Answer<Self::ExchangeStream>, Status> {
        let answers = call.into_inner().map(|message| {
            let message = message?;
            let Some(plain::to_storage::Request::Append(append)) = message.request else {
                return Err(Status::invalid_argument("an append was expected"));
            };
            let lengths = append.partitions.iter().map(|partition| partition.length).collect();
            let fetched = plain::Fetched { high_watermark: 12, lengths, ..Default::default() };
            let result = plain::FetchResult {
                partition: append.partitions[0].partition,
                result: Some(plain::fetch_result::Result::Fetched(fetched)),
            };
            Ok(plain::FromStorage {
                id: message.id,
                response: Some(plain::from_storage::Response::Fetch(plain::FetchResponse { partitions: vec![result] })),
                traceparent: message.traceparent,
                payload: message.payload,
            })
        });
        Ok(Answer::new(Box::pin(answers)))
    }
}

#[tokio::test]
async fn our_client_and_a_plain_server_understand_each_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = plain::storage_service_server::StorageServiceServer::new(PlainServer)
        .max_decoding_message_size(rpc::limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(rpc::limits::MESSAGE_BYTES_MAX);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));

    let Duplex { tx, mut rx } = rpc::storage::connect(&address).await.unwrap();
    for (id, size) in (0..).zip(SIZES) {
        tx.send_traced(append(id, &[size, 100]), Some("trace".into())).await.unwrap();
        let (answer, trace) = rx.recv_traced().await.unwrap();
        assert_eq!((answer.id, trace.as_deref()), (RequestId(id), Some("trace")));
        let Response::Fetch(fetch) = answer.response else { panic!("another answer") };
        let (_, Ok(fetched)) = &fetch.partitions[0] else { panic!("an error") };
        assert!(fetched.records == [batch(size).bytes().clone(), batch(100).bytes().clone()], "size {size}");
    }
    drop(tx);
    assert!(rx.recv().await.is_none());
    assert_eq!(rx.ended().unwrap().code, rpc::Code::Ok);
}

#[tokio::test]
async fn a_plain_client_and_our_server_understand_each_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().storage(|mut stream: Duplex<FromStorage, ToStorage>, _| {
        tokio::spawn(async move {
            while let Some((message, trace)) = stream.rx.recv_traced().await {
                let Request::Append(append) = message.request else { panic!("another request") };
                let sizes: Vec<_> =
                    append.partitions.iter().map(|asked| asked.batch.as_ref().unwrap().bytes().len()).collect();
                assert_eq!(trace.as_deref(), Some("trace"));
                stream.tx.send_traced(fetched(message.id.0, &[sizes[0] / 2, 10]), trace).await.unwrap();
            }
        });
    });
    tokio::spawn(server.serve(listener, std::future::pending()));

    let mut client = plain::storage_service_client::StorageServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap()
        .max_decoding_message_size(rpc::limits::MESSAGE_BYTES_MAX);
    let requests = SIZES.map(|size| {
        let payload = batch(size).bytes().clone();
        let asked = plain::AppendPartition {
            partition: Some(proto::base::v1::TopicPartition { topic_high: 1, topic_low: 2, partition: 3 }),
            leader_epoch: 4,
            length: payload.len() as u32,
        };
        let append = plain::AppendRequest { acks: 2, timeout_ms: 5, partitions: vec![asked] };
        plain::ToStorage {
            id: size as u64,
            request: Some(plain::to_storage::Request::Append(append)),
            traceparent: "trace".to_owned(),
            payload,
        }
    });
    let mut answers = client.exchange(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for size in SIZES {
        let answer = answers.next().await.unwrap().unwrap();
        let expected = [&batch(batch(size).bytes().len() / 2).bytes()[..], &batch(10).bytes()[..]].concat();
        assert_eq!((answer.id, answer.traceparent.as_str()), (size as u64, "trace"));
        assert!(answer.payload[..] == expected[..], "size {size}");
    }
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_plain_client_learns_why_its_stream_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().storage(|Duplex { tx, mut rx }: Duplex<FromStorage, ToStorage>, _| {
        tokio::spawn(async move {
            assert!(rx.recv().await.is_none());
            assert_eq!(rx.ended().unwrap().code, rpc::Code::Malformed);
            // Held open until then: the malformed message alone ends the stream.
            tx.closed().await;
        });
    });
    tokio::spawn(server.serve(listener, std::future::pending()));
    let mut client =
        plain::storage_service_client::StorageServiceClient::connect(format!("http://{address}")).await.unwrap();
    // Without a request; and the client never ends its side.
    let requests = tokio_stream::once(plain::ToStorage::default()).chain(tokio_stream::pending());
    let mut answers = client.exchange(requests).await.unwrap().into_inner();
    let status = tokio::time::timeout(Duration::from_secs(5), answers.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, "request is missing"));
}

#[tokio::test]
async fn health_is_the_standard_service() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Health::new();
    tokio::spawn(Server::builder().health(health.clone()).serve(listener, std::future::pending()));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    health.set_serving(false).await;
    for (serving, expected) in [(true, ServingStatus::Serving), (false, ServingStatus::NotServing)] {
        health.set_serving(serving).await;
        for service in ["", "thalweg.storage.v1.StorageService"] {
            let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
            assert_eq!(answer.into_inner().status(), expected);
        }
    }
}

#[tokio::test]
async fn errors_of_an_append_reach_our_client_from_our_server() {
    use peer_api::storage::AppendResponse;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().storage(|mut stream: Duplex<FromStorage, ToStorage>, peer| {
        assert!(peer.address.is_some());
        tokio::spawn(async move {
            let message = stream.rx.recv().await.unwrap();
            let partitions = vec![(partition(1), Err(AppendError::InvalidRecord("no key".into())))];
            let response = Response::Append(AppendResponse { partitions });
            stream.tx.send(FromStorage { id: message.id, response }).await.unwrap();
        });
    });
    tokio::spawn(server.serve(listener, std::future::pending()));
    let mut stream = rpc::storage::connect(&address).await.unwrap();
    stream.tx.send(append(3, &[5])).await.unwrap();
    let answer = stream.rx.recv().await.unwrap();
    let Response::Append(append) = answer.response else { panic!("another answer") };
    assert_eq!(append.partitions, [(partition(1), Err(AppendError::InvalidRecord("no key".into())))]);
    // What was handed over is delivered before the end.
    assert!(stream.rx.recv().await.is_none());
}
