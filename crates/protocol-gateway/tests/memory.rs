//! W7 as the kernel sees it: what clients send costs no more than the budget and one frame.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests act")]

use std::net::SocketAddr;
use std::time::Duration;

use base_types::BrokerId;
use gateway_core::Config;
use kafka_wire::{ApiVersionsRequest, encode_request};
use peer_api::controller::{ActiveController, FromController, ToController};
use peer_api::storage::{FromStorage, ToStorage};
use protocol_gateway::{Links, Opening, Options, Patience, Status, serve};
use service_kit::trace::Sampler;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// The most memory that was in use since [`forget_peak`].
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

fn forget_peak() {
    // See proc(5).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

const MEMORY_MAX: usize = 16 << 20;
const FRAME: usize = 8 << 20;
const CLIENTS: usize = 40;

/// Nobody else is there: the gateway answers ApiVersions by itself.
struct Alone;

impl Links for Alone {
    fn storage(&mut self, _: BrokerId, _: &str) -> Opening<ToStorage, FromStorage> {
        Box::pin(std::future::ready(None))
    }

    fn controller(&mut self, _: Option<ActiveController>) -> Opening<ToController, FromController> {
        Box::pin(std::future::pending())
    }
}

async fn gateway(patience: Patience) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let core = Config { memory_max: MEMORY_MAX, ..Config::default() };
    let options = Options {
        core,
        drain: Duration::from_secs(2),
        patience,
        frame_size_max: gateway_core::FRAME_SIZE_MAX,
        sampler: Sampler::default(),
    };
    let (status, _) = watch::channel(Status::default());
    tokio::spawn(serve(options, listener, Alone, None, status, async move { drop(stopped.await) }));
    (address, stop)
}

/// A request of this size: version 0 has no body, and what follows it is not read.
fn request(size: usize) -> &'static [u8] {
    let mut frame = encode_request(1, None, 0, &ApiVersionsRequest::default()).unwrap().concat();
    frame.resize(size, 0);
    let length = (size - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.leak()
}

async fn answered(client: &mut TcpStream) {
    let length = client.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    client.read_exact(&mut answer).await.unwrap();
}

/// One test, for the kernel counts for the whole process.
#[tokio::test]
async fn unfinished_frames_stay_within_the_budget_and_are_all_finished() {
    let frame = request(FRAME);
    let (address, stop) = gateway(Patience::default()).await;
    forget_peak();
    let before = peak();
    // All send at once, so that all the budget goes to parts of frames, and no reader could go on if each waited for the others.
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(frame).await.unwrap();
            answered(&mut client).await;
        });
    }
    let all = async { while clients.join_next().await.transpose().unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("no reader waits for ever");
    let cost = peak() - before;
    println!("{CLIENTS} frames of {FRAME} bytes cost {cost} bytes at most");
    // Each connection has what it need not ask for. What a buffer was copied from, and what the allocator keeps, is half as much again.
    let bound = (MEMORY_MAX + FRAME + CLIENTS * (64 << 10)) / 2 * 3;
    assert!(cost <= bound, "{cost} bytes, with {bound} allowed");
    drop(stop);

    one_that_stops_in_its_frame_does_not_hold_up_the_others().await;
}

async fn one_that_stops_in_its_frame_does_not_hold_up_the_others() {
    let (large, small) = (request(2 * FRAME), request(100));
    let (address, _stop) = gateway(Patience { stalled: Duration::from_millis(200), ..Patience::default() }).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&large[..large.len() - 1]).await.unwrap();
    let mut other = TcpStream::connect(address).await.unwrap();
    other.write_all(small).await.unwrap();
    answered(&mut other).await;
    let ended = async { assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0) };
    let next = async {
        other.write_all(large).await.unwrap();
        answered(&mut other).await;
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(ended, next) }).await.expect("in time");
}
