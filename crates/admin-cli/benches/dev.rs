//! `thalweg dev` measured from outside, through the Kafka protocol: how soon it acknowledges, what it costs to make bytes
//! durable, what it needs when idle, how soon it is back after `kill -9`. Prints figures; judges nothing.
//!
//! ```text
//! cargo bench --package admin-cli --bench dev [-- GIB]
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks, files and processes")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base_types::Timestamp;
use bytes::Bytes;
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::k19_create_topics::CreatableTopic;
use kafka_wire::{CreateTopicsRequest, KafkaString, ProduceRequest, Request, decode_response, encode_request};
use record_batch::{BatchBuilder, Compression};

const ADDRESS: &str = "127.0.0.1:19692";
const TOPIC: &str = "bench";
const PARTITIONS: i32 = 4;
const IN_FLIGHT: usize = 16;
const PRODUCE_VERSION: i16 = 9;
/// Of ours and raw TCP in turns: what raw TCP costs depends on which cores its two ends happen to have.
const ROUNDS: u32 = 7;

struct Server {
    child: Child,
}

impl Server {
    fn start(data: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        command.arg("dev").arg("--data-dir").arg(data).args(["--listen", ADDRESS]).stdout(Stdio::null());
        Server { child: command.spawn().expect("thalweg starts") }
    }

    fn cpu(&self) -> Duration {
        cpu(&format!("/proc/{}/stat", self.child.id()))
    }

    fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// What a process or thread has used, see proc(5).
fn cpu(stat: &str) -> Duration {
    let stat = std::fs::read_to_string(stat).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU-s/GB of both ends of a connection on which so many bytes are sent and nothing is done with them.
fn raw_tcp(bytes_total: usize, piece: usize) -> f64 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let sending = std::thread::spawn(move || {
        let (mut stream, piece) = (TcpStream::connect(address).expect("connects"), vec![b'x'; piece]);
        (0..bytes_total / piece.len()).for_each(|_| stream.write_all(&piece).expect("writes"));
        cpu("/proc/thread-self/stat")
    });
    let receiving = std::thread::spawn(move || {
        let (mut stream, mut piece) = (listener.accept().expect("accepts").0, vec![0; piece]);
        while stream.read(&mut piece).expect("reads") > 0 {}
        cpu("/proc/thread-self/stat")
    });
    let spent = sending.join().expect("ends") + receiving.join().expect("ends");
    spent.as_secs_f64() / (bytes_total as f64 / 1e9)
}

/// Sorts them, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Client {
    stream: TcpStream,
    correlation: i32,
}

impl Client {
    fn connect() -> Client {
        loop {
            if let Ok(stream) = TcpStream::connect(ADDRESS) {
                stream.set_nodelay(true).expect("a socket");
                return Client { stream, correlation: 0 };
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) -> usize {
        self.correlation += 1;
        let pieces = encode_request(self.correlation, None, version, request).expect("encodes");
        pieces.iter().for_each(|piece| self.stream.write_all(piece).expect("writes"));
        pieces.iter().map(Bytes::len).sum()
    }

    fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("reads");
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("reads");
        decode_response::<R>(Bytes::from(frame), version).expect("decodes").1
    }

    fn create(&mut self) {
        let topic = CreatableTopic {
            name: KafkaString::from_static(TOPIC),
            num_partitions: PARTITIONS,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        loop {
            self.send(7, &CreateTopicsRequest { topics: vec![topic.clone()], ..CreateTopicsRequest::default() });
            let code = self.receive::<CreateTopicsRequest>(7).topics.first().map_or(-1, |topic| topic.error_code);
            if code == 0 || code == 36 {
                return;
            }
        }
    }

    /// Sends until one is acknowledged.
    fn first_ack(&mut self) {
        loop {
            self.send(PRODUCE_VERSION, &produce(0, batch(100)));
            let answer = self.receive::<ProduceRequest>(PRODUCE_VERSION);
            if answer.responses[0].partition_responses[0].error_code == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn throughput(&mut self, bytes_total: usize, batch_bytes: usize) -> (usize, Vec<Duration>) {
        let records = batch(batch_bytes);
        let (mut sent, mut waiting, mut latencies) = (0, VecDeque::new(), Vec::new());
        let mut turn = 0;
        while sent < bytes_total || !waiting.is_empty() {
            if sent < bytes_total && waiting.len() < IN_FLIGHT {
                turn += 1;
                sent += self.send(PRODUCE_VERSION, &produce(turn % PARTITIONS, records.clone()));
                waiting.push_back(Instant::now());
                continue;
            }
            let answer = self.receive::<ProduceRequest>(PRODUCE_VERSION);
            assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
            latencies.extend(waiting.pop_front().map(|at: Instant| at.elapsed()));
        }
        (sent, latencies)
    }
}

fn batch(bytes: usize) -> Bytes {
    let value = vec![b'x'; 1024.min(bytes)];
    let mut builder = BatchBuilder::new(Compression::None);
    while builder.size() + value.len() < bytes || builder.is_empty() {
        builder.push(None, Some(&value), &[], now());
    }
    builder.build().expect("a batch")
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as i64)
}

fn produce(partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from_static(TOPIC),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..TopicProduceData::default()
        }],
    }
}

fn main() {
    let gib: f64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2.0);
    let data = std::env::temp_dir().join(format!("thalweg-bench-{}", std::process::id()));
    let started = Instant::now();
    let server = Server::start(&data);
    let mut client = Client::connect();
    client.create();
    client.first_ack();
    println!("exec to first acknowledged produce, clean directory: {} ms", started.elapsed().as_millis());
    println!("resident when idle: {:.1} MiB", server.rss_mib());

    for batch_bytes in [64 << 10, 256 << 10, 1000 << 10] {
        client.throughput(256 << 20, batch_bytes);
        let (mut ours, mut raw, mut rates, mut latencies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (cpu, at) = (server.cpu(), Instant::now());
            let wanted = gib / 3.0 / f64::from(ROUNDS) * f64::from(1 << 30);
            let (bytes, mut waited) = client.throughput(wanted as usize, batch_bytes);
            rates.push(bytes as f64 / 1e6 / at.elapsed().as_secs_f64());
            ours.push((server.cpu() - cpu).as_secs_f64() / (bytes as f64 / 1e9));
            latencies.append(&mut waited);
            raw.push(raw_tcp(512 << 20, batch_bytes));
        }
        latencies.sort();
        let (cpu, raw_cpu) = (median(&mut ours), median(&mut raw));
        println!(
            "durable produce, {} KiB batches, {IN_FLIGHT} in flight: {cpu:.2} CPU-s/GB ({:.2}-{:.2}), {:.2} x raw TCP's {raw_cpu:.2} ({:.2}-{:.2}), \
             {:.0} MB/s, p50 {:.1} ms, p99 {:.1} ms",
            batch_bytes >> 10,
            ours[0],
            ours[ours.len() - 1],
            cpu / raw_cpu,
            raw[0],
            raw[raw.len() - 1],
            median(&mut rates),
            latencies[latencies.len() / 2].as_secs_f64() * 1e3,
            latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e3,
        );
    }
    println!("resident after the load: {:.1} MiB", server.rss_mib());
    server.kill();

    let started = Instant::now();
    let server = Server::start(&data);
    Client::connect().first_ack();
    println!("exec to first acknowledged produce after kill -9 with {gib} GiB: {} ms", started.elapsed().as_millis());
    server.kill();
    std::fs::remove_dir_all(&data).expect("the data is ours");
}
