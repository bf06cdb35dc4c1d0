//! Streams over real connections: how they begin, how they end, and how soon the other side knows.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test of sockets and processes")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use bytes::Bytes;
use peer_api::controller::{FromController, RaftMessage, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use rpc::{Code, ConnectError, ConnectOptions, Duplex, Server, TrySendError};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

type RaftStream = Duplex<RaftMessage, RaftMessage>;

const SOON: Duration = Duration::from_secs(5);

fn message(number: usize, size: usize) -> RaftMessage {
    let bytes = Bytes::from([&number.to_be_bytes()[..], &vec![0x5a; size]].concat());
    RaftMessage { from: BrokerId(1), to: BrokerId(2), bytes }
}

fn number(message: &RaftMessage) -> usize {
    usize::from_be_bytes(*message.bytes.first_chunk().unwrap())
}

/// More streams than any test opens.
const STREAMS_MAX: usize = 16;

/// A raft server whose streams are handed to the test.
async fn server() -> (String, mpsc::Receiver<(BrokerId, RaftStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (streams_tx, streams_rx) = mpsc::channel(STREAMS_MAX);
    let server = Server::builder().raft(move |from, stream| drop(streams_tx.try_send((from, stream))));
    tokio::spawn(server.serve(listener, std::future::pending()));
    (address, streams_rx)
}

async fn pair() -> (RaftStream, RaftStream) {
    let (address, mut streams) = server().await;
    let client = rpc::raft::connect(&address, BrokerId(7)).await.unwrap();
    let (from, server) = streams.recv().await.unwrap();
    assert_eq!(from, BrokerId(7));
    (client, server)
}

#[tokio::test]
async fn messages_of_any_size_arrive_in_order_both_ways() {
    let (client, server) = pair().await;
    let sizes = |number: usize| [0, 100, 20_000, 300, 1 << 20, 40_000][number % 6];
    /// Gives the stream back: when it is dropped, what the other end has not read yet may be lost.
    async fn exchange(mut stream: RaftStream, sizes: impl Fn(usize) -> usize) -> RaftStream {
        let tx = stream.tx.clone();
        let sending = async {
            for i in 0..500 {
                tx.send(message(i, sizes(i))).await.unwrap();
            }
        };
        let receiving = async {
            for i in 0..500 {
                let received = stream.rx.recv().await.unwrap();
                assert_eq!((number(&received), received.bytes.len()), (i, 8 + sizes(i)));
            }
        };
        tokio::join!(sending, receiving);
        stream
    }
    timeout(SOON * 4, async { tokio::join!(exchange(client, sizes), exchange(server, sizes)) }).await.unwrap();
}

#[tokio::test]
async fn a_burst_is_there_in_one_turn() {
    let (client, mut server) = pair().await;
    for i in 0..200 {
        client.tx.try_send(message(i, 50)).unwrap();
    }
    let first = server.rx.recv().await.unwrap();
    let mut received = vec![number(&first)];
    while let Ok(message) = server.rx.try_recv() {
        received.push(number(&message));
    }
    // Coalesced into frames of 32 KiB: 200 small messages are in the first.
    assert!(received.len() >= 100, "{}", received.len());
    while received.len() < 200 {
        received.push(number(&server.rx.recv().await.unwrap()));
    }
    assert!(received.iter().copied().eq(0..200));
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stops_the_sender_and_not_the_memory() {
    let (client, mut server) = pair().await;
    let mut sent = 0;
    while timeout(Duration::from_millis(300), client.tx.send(message(sent, 1 << 20))).await.is_ok() {
        sent += 1;
    }
    // The window, what the kernel holds, and what waits in the sender: not more.
    assert!(sent < rpc::limits::STREAM_MESSAGES_MAX + 64, "{sent} MiB sent and none read");
    assert!(matches!(client.tx.try_send(message(sent, 0)), Err(TrySendError::Full(_))));
    // What was refused is gone, the rest arrives.
    for i in 0..sent {
        assert_eq!(number(&timeout(SOON, server.rx.recv()).await.unwrap().unwrap()), i);
    }
}

#[tokio::test]
async fn the_server_sees_a_client_go() {
    let (client, mut server) = pair().await;
    drop(client);
    assert!(timeout(SOON, server.rx.recv()).await.unwrap().is_none());
    timeout(SOON, server.tx.closed()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_waits_for_the_end_has_its_last_words_heard() {
    let (client, mut server) = pair().await;
    let Duplex { tx, mut rx } = client;
    tx.send(message(1, 10)).await.unwrap();
    drop(tx);
    assert_eq!(number(&server.rx.recv().await.unwrap()), 1);
    assert!(timeout(SOON, server.rx.recv()).await.unwrap().is_none());
    server.tx.send(message(2, 10)).await.unwrap();
    drop(server);
    assert_eq!(number(&rx.recv().await.unwrap()), 2);
    assert!(timeout(SOON, rx.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_client_sees_a_server_drop_the_stream() {
    let (mut client, server) = pair().await;
    server.tx.send(message(1, 100_000)).await.unwrap();
    drop(server);
    assert_eq!(number(&client.rx.recv().await.unwrap()), 1);
    assert!(timeout(SOON, client.rx.recv()).await.unwrap().is_none());
    assert_eq!(client.rx.ended().unwrap().code, Code::Ok);
    timeout(SOON, client.tx.closed()).await.unwrap();
}

#[tokio::test]
async fn one_connection_per_stream_and_none_left_behind() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (address, mut streams) = server().await;
    let before = open();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push((rpc::raft::connect(&address, BrokerId(1)).await.unwrap(), streams.recv().await.unwrap()));
    }
    assert!(open() >= before + 20);
    drop(held);
    let deadline = Instant::now() + SOON;
    while open() > before {
        assert!(Instant::now() < deadline, "{} connections are still open", open() - before);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn shutdown_flushes_ends_the_streams_and_returns() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop_tx, stop_rx) = tokio::sync::oneshot::channel::<()>();
    let (streams_tx, mut streams) = mpsc::channel(STREAMS_MAX);
    let server = Server::builder().raft(move |_, stream| drop(streams_tx.try_send(stream)));
    let serving = tokio::spawn(server.serve(listener, async move { drop(stop_rx.await) }));
    let mut client = rpc::raft::connect(&address, BrokerId(1)).await.unwrap();
    let mut held = streams.recv().await.unwrap();
    held.tx.send(message(5, 1 << 20)).await.unwrap();
    stop_tx.send(()).unwrap();
    assert_eq!(number(&timeout(SOON, client.rx.recv()).await.unwrap().unwrap()), 5);
    assert!(timeout(SOON, client.rx.recv()).await.unwrap().is_none());
    assert_eq!(client.rx.ended().unwrap().code, Code::Unavailable);
    assert!(timeout(SOON, held.rx.recv()).await.unwrap().is_none());
    drop(client);
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
    let refused = rpc::raft::connect(&address, BrokerId(1)).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }) && refused.is_retriable(), "{refused}");
}

#[tokio::test]
async fn connecting_fails_soon_and_says_why() {
    let (address, _streams) = server().await;
    // Offers raft and nothing else.
    let refused = rpc::storage::connect(&address).await.unwrap_err();
    let ConnectError::Refused { ended, .. } = &refused else { panic!("{refused}") };
    assert_eq!(ended.code, Code::NotServed);
    assert!(!refused.is_retriable());

    for bad in ["", "nowhere", "host:x", "a b:1", "host:1/path", "u@host:1", "host:99999"] {
        let error = rpc::storage::connect(bad).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address { .. }), "{bad}: {error}");
    }

    // Accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let options = ConnectOptions { connect_timeout: Duration::from_millis(200), ..ConnectOptions::default() };
    let started = Instant::now();
    let error = rpc::storage::connect_with(&address, &options).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_hello_that_is_none_is_refused() {
    let (address, _streams) = server().await;
    let answer = {
        use tonic::codegen::http::Request;
        use tower::{Service, ServiceExt};
        let mut channel =
            tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let request = Request::post("/thalweg.raft.v1.RaftService/Exchange")
            .header("content-type", "application/grpc")
            .header("thalweg-controller", "seven")
            .body(tonic::body::Body::empty())
            .unwrap();
        channel.ready().await.unwrap().call(request).await.unwrap()
    };
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("thalweg-controller"), "{}", status.message());
}

#[tokio::test]
async fn the_other_services_carry_their_hello_and_messages() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said: Arc<Mutex<Option<Hello>>> = Arc::default();
    let heard = Arc::clone(&said);
    let server = Server::builder()
        .replication(move |hello, mut stream: Duplex<FromLeader, FromFollower>| {
            *heard.lock().unwrap() = Some(hello);
            tokio::spawn(async move {
                let follow = stream.rx.recv().await.unwrap();
                let FromFollower::Follow { partition, leader_epoch, .. } = follow else { panic!("{follow:?}") };
                let answer = FromLeader::StartOver { partition, leader_epoch, log_start: Offset(3) };
                stream.tx.send(answer).await.unwrap();
            });
        })
        .controller(|mut stream: Duplex<FromController, ToController>, _| {
            tokio::spawn(async move {
                stream.rx.recv().await.unwrap();
                stream.tx.send(FromController::NotActive { active: None }).await.unwrap();
            });
        });
    tokio::spawn(server.serve(listener, std::future::pending()));

    let hello = Hello { follower: BrokerId(-4), broker_epoch: BrokerEpoch(1 << 40) };
    let mut stream = rpc::replication::connect(&address, hello).await.unwrap();
    let follow = FromFollower::Follow {
        partition: Default::default(),
        leader_epoch: LeaderEpoch(9),
        log_start: Offset(0),
        log_end: Offset(0),
        last_epoch: LeaderEpoch::UNKNOWN,
    };
    stream.tx.send(follow).await.unwrap();
    let expected =
        FromLeader::StartOver { partition: Default::default(), leader_epoch: LeaderEpoch(9), log_start: Offset(3) };
    assert_eq!(stream.rx.recv().await, Some(expected));
    assert_eq!(*said.lock().unwrap(), Some(hello));

    let mut session = rpc::controller::connect(&address).await.unwrap();
    let role = peer_api::controller::Role::Tool;
    session.tx.send(ToController::Hello { role, follow_from: None }).await.unwrap();
    assert_eq!(session.rx.recv().await, Some(FromController::NotActive { active: None }));
    assert_eq!(session.rx.recv().await, None);
}

const ROLE: &str = "RPC_TEST_SERVE";

/// Not a test by itself: the server of the process below.
#[tokio::test]
async fn served_elsewhere() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let (address, mut streams) = server().await;
    println!("\nserving {address}");
    let mut held = Vec::new();
    while let Some(stream) = streams.recv().await {
        held.push(stream);
    }
}

fn elsewhere() -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "served_elsewhere", "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| line.unwrap().strip_prefix("serving ").map(str::to_owned)).unwrap();
    (child, address)
}

#[tokio::test]
async fn a_killed_peer_is_noticed_at_once() {
    let (mut child, address) = elsewhere();
    let mut stream = rpc::raft::connect(&address, BrokerId(1)).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(timeout(Duration::from_millis(500), stream.rx.recv()).await.unwrap().is_none());
    timeout(Duration::from_millis(500), stream.tx.closed()).await.unwrap();
}

#[tokio::test]
async fn a_stopped_peer_is_noticed_within_the_keepalive() {
    let (mut child, address) = elsewhere();
    let options = ConnectOptions {
        keepalive_interval: Duration::from_millis(300),
        keepalive_timeout: Duration::from_millis(300),
        ..ConnectOptions::default()
    };
    let mut stream = rpc::raft::connect_with(&address, BrokerId(1), &options).await.unwrap();
    // Alive and silent is alive.
    assert!(timeout(Duration::from_secs(1), stream.rx.recv()).await.is_err());
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    let stopped = Instant::now();
    assert!(timeout(SOON, stream.rx.recv()).await.unwrap().is_none());
    let noticed = stopped.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(noticed < Duration::from_secs(2), "noticed after {noticed:?}");
    timeout(SOON, stream.tx.closed()).await.unwrap();
    assert_eq!(stream.rx.ended().unwrap().code, Code::Unavailable);
}
