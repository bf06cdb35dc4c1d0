//! What one hop costs: CPU seconds per gigabyte, both sides together, over loopback, beside raw TCP in the same run.
//!
//! `cargo bench -p rpc --bench hop [-- --only "1 MiB" --mib 512]`. Two threads, each with a runtime of its own, as two services would be. Every shape runs in
//! rounds, taken in turn so that a noisy moment hits all of them; the median round is shown. On a busy machine run it with
//! `MIMALLOC_PURGE_DELAY=1000`: freed pages go back to the kernel after 10 ms by default, and coming back they fault in again.
#![allow(clippy::disallowed_methods, reason = "a bench reads clocks")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base_types::{BrokerId, LeaderEpoch, Timestamp};
use bytes::Bytes;
use peer_api::controller::RaftMessage;
use peer_api::storage::{
    Acks, AppendPartition, AppendRequest, AppendResponse, FromStorage, Request, RequestId, Response, ToStorage,
};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch};
use rpc::{Duplex, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const BULK_MIB: usize = 2048;

#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

fn main() {
    // `cargo test --benches` runs it, too: then a short round proves that it works.
    let arguments: Vec<String> = std::env::args().collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let option = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let mib = option("--mib").and_then(|text| text.parse().ok()).unwrap_or(BULK_MIB);
    let (rounds, bulk) = if is_bench { (ROUNDS, mib << 20) } else { (1, 8 << 20) };
    let address = serve();
    println!("{:<44} {:>10} {:>10} {:>12}", "shape", "CPU-s/GB", "GB/s", "µs CPU/msg");
    for (name, size) in [("1 MiB", 1 << 20), ("256 KiB", 256 << 10), ("64 KiB", 64 << 10), ("1 KiB", 1 << 10)] {
        if option("--only").is_some_and(|only| only != name) {
            continue;
        }
        let bytes = if size == 1 << 10 { bulk / 16 } else { bulk };
        let count = bytes / size;
        let append = append(size);
        let payload = Bytes::from(vec![7_u8; size]);
        let mut costs: [Vec<Cost>; 3] = Default::default();
        for _ in 0..rounds {
            costs[0].push(tcp(&payload, count));
            costs[1].push(raft(&address, &payload, count));
            costs[2].push(appends(&address, &append, count));
        }
        let shapes = ["raw TCP, write and read", "stream, payload only", "append: batches, checked, answered"];
        for (shape, costs) in shapes.iter().zip(&mut costs) {
            costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
            let Cost { cpu, wall } = costs[costs.len() / 2];
            let gigabytes = (count * size) as f64 / 1e9;
            println!(
                "{:<44} {:>10.3} {:>10.2} {:>12.2}",
                format!("{name:>8}  {shape}"),
                cpu / gigabytes,
                gigabytes / wall,
                cpu / count as f64 * 1e6
            );
        }
    }
    round_trips(&address, if is_bench { 20_000 } else { 100 });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A server in a thread of its own: takes raft messages and sends the last of a run back, answers every append.
fn serve() -> String {
    let (address_tx, address_rx) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            address_tx.send(listener.local_addr().expect("an address").to_string()).expect("main waits");
            let server = Server::builder()
                .raft(|_, mut stream: Duplex<RaftMessage, RaftMessage>| {
                    tokio::spawn(async move {
                        while let Some(message) = stream.rx.recv().await {
                            // The last of a run says so by its target.
                            if message.to == BrokerId(1) {
                                stream.tx.send(message).await.expect("the client waits");
                            }
                        }
                    });
                })
                .storage(|mut stream: Duplex<FromStorage, ToStorage>, _| {
                    tokio::spawn(async move {
                        while let Some(message) = stream.rx.recv().await {
                            let Request::Append(append) = message.request else { continue };
                            let partitions = append
                                .partitions
                                .into_iter()
                                .map(|asked| {
                                    asked.batch.expect("nothing is damaged here");
                                    (asked.partition, Err(peer_api::storage::AppendError::NoSpace))
                                })
                                .collect();
                            let response = Response::Append(AppendResponse { partitions });
                            if stream.tx.send(FromStorage { id: message.id, response }).await.is_err() {
                                break;
                            }
                        }
                    });
                });
            server.serve(listener, std::future::pending()).await.expect("serves");
        });
    });
    address_rx.recv().expect("the server starts")
}

fn measure<T>(work: impl FnOnce() -> T) -> (Cost, T) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let result = work();
    (Cost { cpu: cpu_seconds() - cpu, wall: wall.elapsed().as_secs_f64() }, result)
}

/// Of all threads, as the kernel accounts it.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    let nanoseconds = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<u64>() as f64 / 1e9
}

fn tcp(payload: &Bytes, count: usize) -> Cost {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let total = payload.len() * count;
    let (cost_tx, cost_rx) = std::sync::mpsc::sync_channel(1);
    // Both threads live until both costs are read: a thread's time is gone with it.
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut buffer = vec![0; 1 << 20];
        let mut left = total;
        while left > 0 {
            left -= stream.read(&mut buffer).expect("data");
        }
        stream.write_all(&[1]).expect("an answer");
        cost_rx.recv().expect("main measures");
    });
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let (cost, ()) = measure(|| {
        for _ in 0..count {
            stream.write_all(payload).expect("room");
        }
        stream.read_exact(&mut [0]).expect("an answer");
    });
    cost_tx.send(()).expect("the reader waits");
    reader.join().expect("the reader ends");
    cost
}

fn raft(address: &str, payload: &Bytes, count: usize) -> Cost {
    let runtime = runtime();
    runtime.block_on(async {
        let mut stream = rpc::raft::connect(address, BrokerId(1)).await.expect("a stream");
        let message = |to| RaftMessage { from: BrokerId(0), to: BrokerId(to), bytes: payload.clone() };
        stream.tx.send(message(1)).await.expect("open");
        stream.rx.recv().await.expect("warm");
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        for i in 1..=count {
            stream.tx.send(message(i32::from(i == count))).await.expect("open");
        }
        stream.rx.recv().await.expect("an answer");
        Cost { cpu: cpu_seconds() - cpu, wall: wall.elapsed().as_secs_f64() }
    })
}

fn append(size: usize) -> ProducedBatch {
    let value = vec![7_u8; 1000.min(size - 100)];
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(None, Some(&value), &[], Timestamp(1));
    while builder.size() + value.len() + 20 <= size {
        builder.push(None, Some(&value), &[], Timestamp(1));
    }
    let bytes = builder.build().expect("a batch");
    ProducedBatch::check(bytes, &BatchLimits { max_message_bytes: usize::MAX, ..BatchLimits::default() })
        .expect("whole")
}

fn appends(address: &str, batch: &ProducedBatch, count: usize) -> Cost {
    runtime().block_on(async {
        let mut stream = rpc::storage::connect(address).await.expect("a stream");
        let tx = stream.tx.clone();
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let sending = async {
            for id in 0..count as u64 {
                let partition = AppendPartition {
                    partition: Default::default(),
                    leader_epoch: LeaderEpoch(1),
                    batch: Ok(batch.clone()),
                };
                let append = AppendRequest { acks: Acks::All, timeout_ms: 1000, partitions: vec![partition] };
                tx.send(ToStorage { id: RequestId(id), request: Request::Append(append) }).await.expect("open");
            }
        };
        let receiving = async {
            for _ in 0..count {
                stream.rx.recv().await.expect("an answer");
            }
        };
        tokio::join!(sending, receiving);
        Cost { cpu: cpu_seconds() - cpu, wall: wall.elapsed().as_secs_f64() }
    })
}

fn round_trips(address: &str, count: usize) {
    runtime().block_on(async {
        let mut stream = rpc::raft::connect(address, BrokerId(1)).await.expect("a stream");
        let message = RaftMessage { from: BrokerId(0), to: BrokerId(1), bytes: vec![7; 1024].into() };
        let mut times = Vec::with_capacity(count);
        let cpu = cpu_seconds();
        for _ in 0..count {
            let start = Instant::now();
            stream.tx.send(message.clone()).await.expect("open");
            stream.rx.recv().await.expect("an answer");
            times.push(start.elapsed());
        }
        let cpu = (cpu_seconds() - cpu) / count as f64 * 1e6;
        times.sort();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        let show = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "round trip of 1 KiB, one at a time: median {:.0} µs, p99 {:.0} µs, {cpu:.0} µs CPU",
            show(at(0.5)),
            show(at(0.99))
        );
    });
}
