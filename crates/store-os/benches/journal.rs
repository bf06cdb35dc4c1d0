//! What durability costs: the journal beside the raw disk, in the same run.
//!
//! `cargo bench -p store-os --bench journal [-- <directory>]`. Every figure is printed with what it is compared to; the goals are
//! those of `docs/performance.md`. A slow or busy machine changes the absolute figures, and hardly the ratios.

#![allow(clippy::disallowed_methods, reason = "a bench asks the clock")]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use base_types::{Incarnation, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use record_batch::{BatchBuilder, Compression, StampedBatch};
use segment_log::{Checkpoint, Durability, FlushBudget, LogOptions, LogStore, LogWrite, ReplicaOptions};
use store_api::{BLOCK_BYTES, FileUse, KvStore, MemKv, Vfs};
use store_os::{DirectIo, OsVfs, RocksKv};

fn tp(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(index) }
}

/// A batch template whose base offset is set per write, as a leader does.
struct Template {
    bytes: bytes::Bytes,
    records: i64,
}

impl Template {
    fn new(batch_bytes: usize) -> Template {
        let record = 1024_usize.min(batch_bytes.saturating_sub(100).max(1));
        let records = (batch_bytes / (record + 12)).max(1) as i64;
        let mut builder = BatchBuilder::new(Compression::None).leader_epoch(LeaderEpoch(1));
        let value: Vec<u8> = (0..record).map(|i| (i * 31) as u8).collect();
        for _ in 0..records {
            builder.push(None, Some(&value), &[], Timestamp(1));
        }
        Template { bytes: builder.build().expect("a batch"), records }
    }

    fn at(&self, base: Offset) -> StampedBatch {
        let mut bytes = bytes::BytesMut::from(&self.bytes[..]);
        bytes[..8].copy_from_slice(&base.0.to_be_bytes());
        StampedBatch::from_stored(bytes.freeze()).expect("only the base offset changed")
    }
}

struct Bench {
    root: PathBuf,
}

impl Bench {
    fn store(&self, name: &str, direct: DirectIo, partitions: i32, adjust: impl FnOnce(&mut LogOptions)) -> LogStore {
        self.store_with(name, direct, partitions, Arc::new(MemKv::new()), adjust)
    }

    fn store_with(
        &self,
        name: &str,
        direct: DirectIo,
        partitions: i32,
        kv: Arc<dyn KvStore>,
        adjust: impl FnOnce(&mut LogOptions),
    ) -> LogStore {
        let root = self.root.join(name);
        let vfs = Arc::new(OsVfs::open(&root, direct).expect("a data directory"));
        let mut options = LogOptions::new(Incarnation([1; 16]));
        adjust(&mut options);
        let (store, _) = LogStore::open(vfs, kv, options).expect("a log");
        let all: Vec<_> = (0..partitions).map(|i| (tp(i), ReplicaOptions::default())).collect();
        store.create_replicas(&all).expect("replicas");
        store
    }
}

/// User and system time of this thread, on which all of the work is done.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Minor page faults of this thread so far: what memory that is not used again costs, whatever else the machine does.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(") ").next().unwrap_or_default();
    behind_name.split(' ').nth(7).and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn percentile(samples: &mut [Duration], of: usize) -> Duration {
    samples.sort();
    samples[(samples.len() * of / 100).min(samples.len() - 1)]
}

/// One block written and synced, in a file that was written full before.
fn raw_sync(bench: &Bench, bytes: usize, rounds: usize) -> Vec<Duration> {
    let vfs = OsVfs::open(&bench.root.join("raw"), DirectIo::Never).expect("a directory");
    let file = vfs.create("raw", FileUse::Buffered).expect("a file");
    let block = vec![7_u8; bytes];
    let size = 64 << 20;
    for position in (0..size).step_by(1 << 20) {
        file.write_at(position, &[&vec![0; 1 << 20]]).expect("a write");
    }
    file.sync_data().expect("a sync");
    let mut position = 0;
    (0..rounds)
        .map(|_| {
            let started = Instant::now();
            file.write_at(position, &[&block]).expect("a write");
            file.sync_data().expect("a sync");
            position = (position + bytes as u64) % (size - bytes as u64) / 4096 * 4096;
            started.elapsed()
        })
        .collect()
}

/// Durable writes past the page cache and nothing else: what a commit of that size cannot beat.
fn raw_direct(bench: &Bench, bytes: usize, gigabytes: f64) {
    let vfs = OsVfs::open(&bench.root.join("direct"), DirectIo::Auto).expect("a directory");
    let memory = vec![7_u8; bytes + BLOCK_BYTES];
    let start = memory.as_ptr().align_offset(BLOCK_BYTES);
    for (what, recycled) in [("in a file written before", true), ("at the end of a growing file", false)] {
        let file = vfs.create("direct", FileUse::Journal).expect("a file");
        let count = (gigabytes * 1e9 / bytes as f64) as u64;
        let ring = (64 << 20) / bytes as u64;
        for i in 0..if recycled { ring } else { 0 } {
            file.write_durable(i * bytes as u64, &[&memory[start..start + bytes]]).expect("a write");
        }
        let (started, before) = (Instant::now(), cpu());
        for i in 0..count {
            let position = if recycled { i % ring } else { i } * bytes as u64;
            file.write_durable(position, &[&memory[start..start + bytes]]).expect("a write");
        }
        let (elapsed, used) = (started.elapsed(), cpu().saturating_sub(before));
        let total = count as f64 * bytes as f64 / 1e9;
        println!(
            "raw durable writes of {bytes} B {what}: {:.2} GB/s, {:.3} CPU-s/GB",
            total / elapsed.as_secs_f64(),
            used.as_secs_f64() / total
        );
    }
}

/// Each of the partitions written and synced by itself, as without a journal.
fn per_file(bench: &Bench, files: usize, bytes: usize, rounds: usize) -> Vec<Duration> {
    let vfs = OsVfs::open(&bench.root.join("files"), DirectIo::Never).expect("a directory");
    let open: Vec<_> = (0..files).map(|i| vfs.create(&format!("f{i}"), FileUse::Buffered).expect("a file")).collect();
    let block = vec![7_u8; bytes];
    (0..rounds)
        .map(|round| {
            let started = Instant::now();
            for file in &open {
                file.write_at((round * bytes) as u64, &[&block]).expect("a write");
            }
            for file in &open {
                file.sync_data().expect("a sync");
            }
            started.elapsed()
        })
        .collect()
}

fn dirty_partitions(bench: &Bench, direct: DirectIo, batch_bytes: usize, rounds: usize) {
    let partitions = 64;
    let store = bench.store(&format!("dirty-{direct:?}-{batch_bytes}"), direct, partitions, |_| {});
    // The first commits pay for the making of files; what is measured is what comes after.
    while store.prepare_journal().expect("a spare") {}
    let template = Template::new(batch_bytes);
    let mut samples = Vec::with_capacity(rounds);
    let mut raw = Vec::with_capacity(rounds);
    let mut block = 0;
    // In turns with the raw disk, so that both meet the same weather.
    for group in 0..rounds / 50 {
        for i in 0..50 {
            let base = Offset((group * 50 + i) as i64 * template.records);
            let batch = template.at(base);
            let writes: Vec<LogWrite> = (0..partitions)
                .map(|index| LogWrite { tp: tp(index), batch: batch.clone(), durability: Durability::Fsync })
                .collect();
            let started = Instant::now();
            let report = store.commit(&writes).expect("a commit");
            samples.push(started.elapsed());
            block = report.journal_bytes as usize;
            if i % 10 == 0 && store.is_flush_due() {
                store.flush(FlushBudget::DUE).expect("a flush");
            }
        }
        raw.extend(raw_sync(bench, block, 50));
    }
    let (p50, p99) = (percentile(&mut samples, 50), percentile(&mut samples, 99));
    let raw = percentile(&mut raw, 50);
    println!(
        "64 dirty partitions x {batch_bytes} B, {direct:?}: p50 {p50:?} p99 {p99:?}; raw pwrite+fdatasync of the {block} B \
         block {raw:?}; ratio {:.2} (goal <= 1.5), goal <= 700 us",
        p50.as_secs_f64() / raw.as_secs_f64()
    );
}

fn throughput(bench: &Bench, batch_bytes: usize, partitions: i32, per_commit: i32, gigabytes: f64) {
    let store = bench.store(&format!("throughput-{batch_bytes}-{per_commit}"), DirectIo::Auto, partitions, |_| {});
    let template = Template::new(batch_bytes);
    let size = template.bytes.len();
    let commits = (gigabytes * 1e9 / (size as f64 * f64::from(per_commit))) as i64;
    let (mut busy, mut spent, mut faulted) = (Duration::ZERO, Duration::ZERO, 0);
    let mut next = vec![0_i64; partitions as usize];
    let mut commit = |i: i64| {
        let writes: Vec<LogWrite> = (0..per_commit)
            .map(|j| {
                let index = ((i * i64::from(per_commit) + i64::from(j)) % i64::from(partitions)) as i32;
                let base = Offset(next[index as usize]);
                next[index as usize] += template.records;
                LogWrite { tp: tp(index), batch: template.at(base), durability: Durability::Fsync }
            })
            .collect();
        let faults_before = faults();
        let (started, cpu_before) = (Instant::now(), cpu());
        store.commit(&writes).expect("a commit");
        if store.is_flush_due() {
            store.flush(FlushBudget::DUE).expect("a flush");
        }
        (started.elapsed(), cpu().saturating_sub(cpu_before), faults() - faults_before)
    };
    // Memory and files are touched first: this is not about the first use of a page.
    let warm = (commits / 5).max(1);
    for i in 0..warm {
        commit(i);
    }
    for i in warm..warm + commits {
        let (elapsed, used, faults) = commit(i);
        busy += elapsed;
        spent += used;
        faulted += faults;
    }
    let total = commits as f64 * f64::from(per_commit) * size as f64 / 1e9;
    let stats = store.stats();
    println!(
        "{per_commit} batches of {size} B per commit: {:.2} GB/s durable, {:.3} CPU-s/GB (commit and flush, one thread); \
         bypassed {:.0} %, {:.0} page faults/GB",
        total / busy.as_secs_f64(),
        spent.as_secs_f64() / total,
        100.0 * stats.bypassed_bytes as f64 / ((commits + warm) as f64 * f64::from(per_commit) * size as f64),
        faulted as f64 / total
    );
}

fn recovery(bench: &Bench, gigabytes: f64) {
    let name = "recovery";
    let derived = || Arc::new(RocksKv::open(&bench.root.join("derived")).expect("derived state").kv);
    let template = Template::new(256 << 10);
    let small = Template::new(4 << 10);
    {
        let store = bench.store_with(name, DirectIo::Auto, 8, derived(), |_| {});
        let mut next = [0_i64; 8];
        let rounds = (gigabytes * 1e9 / (8.0 * template.bytes.len() as f64)) as i64;
        for round in 0..rounds {
            for template in [&template, &small] {
                let writes: Vec<LogWrite> = (0..8)
                    .map(|i| {
                        let base = Offset(next[i as usize]);
                        next[i as usize] += template.records;
                        LogWrite { tp: tp(i), batch: template.at(base), durability: Durability::Fsync }
                    })
                    .collect();
                store.commit(&writes).expect("a commit");
            }
            if round % 16 == 0 && store.is_flush_due() {
                store.flush(FlushBudget::DUE).expect("a flush");
            }
            if round % 128 == 0 {
                // As the core does now and then.
                for i in 0..8 {
                    let as_of = Offset(next[i as usize]);
                    let checkpoint = Checkpoint { as_of, high_watermark: as_of, producer_state: bytes::Bytes::new() };
                    store.checkpoint(tp(i), &checkpoint).expect("a checkpoint");
                }
            }
        }
        // Dropped without a word, as by kill -9.
    }
    let vfs = Arc::new(OsVfs::open(&bench.root.join(name), DirectIo::Auto).expect("the directory"));
    let kv = derived();
    let started = Instant::now();
    let (store, report) = LogStore::open(vfs, kv, LogOptions::new(Incarnation([2; 16]))).expect("a log");
    let opened = started.elapsed();
    for tp in store.replicas() {
        store.open_replica(tp).expect("a replica");
    }
    println!(
        "open after kill with {gigabytes:.1} GB: {opened:?} (replayed {:.1} MB in {} blocks), all replicas {:?}; goal << 1 s",
        report.replayed_bytes as f64 / 1e6,
        report.replayed_blocks,
        started.elapsed()
    );
}

fn main() {
    let root = std::env::args()
        .nth(1)
        .filter(|arg| !arg.starts_with("--"))
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-journal"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&root);
    let bench = Bench { root };
    let probe = OsVfs::open(&bench.root.join("probe"), DirectIo::Auto).expect("a directory");
    println!("in {}, direct I/O: {}", bench.root.display(), probe.uses_direct_io());
    assert_eq!(BLOCK_BYTES, 4096);
    for direct in [DirectIo::Auto, DirectIo::Never] {
        for batch_bytes in [300, 1024] {
            dirty_partitions(&bench, direct, batch_bytes, 1000);
        }
    }
    let mut files = per_file(&bench, 64, 1024, 20);
    println!("64 files x 1 KiB written and synced each: p50 {:?}", percentile(&mut files, 50));
    raw_direct(&bench, 256 << 10, 0.5);
    raw_direct(&bench, 1 << 20, 0.5);
    throughput(&bench, 64 << 10, 16, 8, 0.5);
    throughput(&bench, 256 << 10, 4, 1, 0.7);
    throughput(&bench, 256 << 10, 4, 4, 0.7);
    throughput(&bench, 1 << 20, 4, 1, 0.7);
    recovery(&bench, 2.1);
    let _ = std::fs::remove_dir_all(&bench.root);
}
