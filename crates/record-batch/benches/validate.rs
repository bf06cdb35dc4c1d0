//! How fast a produced batch is checked and stamped. Prints GB/s of one core; compares nothing.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use base_types::{LeaderEpoch, Offset, Timestamp};
use bytes::Bytes;
use record_batch::{BatchBuilder, BatchLimits, CompressedRecords, Compression, ProducedBatch, StampedBatch, batches};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn main() {
    let limits = BatchLimits { max_message_bytes: usize::MAX, ..BatchLimits::default() };
    let checking = BatchLimits { compressed_records: CompressedRecords::Check, ..limits.clone() };
    for (size_name, size) in [("1 MiB", 1 << 20), ("64 KiB", 64 << 10)] {
        for (value_name, value_len) in [("1 KiB", 1024), ("100 B", 100)] {
            let plain = batch(Compression::None, size, value_len);
            let count = ProducedBatch::check(plain.clone(), &limits).expect("a good batch").header().record_count;
            println!("{size_name} batch of {count} records of {value_name}, uncompressed");
            measure("  check (header, CRC, records)", plain.len(), || ProducedBatch::check(plain.clone(), &limits));
            let lz4 = batch(Compression::Lz4, size, value_len);
            println!("  the same as lz4, {} bytes", lz4.len());
            measure("  check, block closed", lz4.len(), || ProducedBatch::check(lz4.clone(), &limits));
            measure("  check, block opened", lz4.len(), || ProducedBatch::check(lz4.clone(), &checking));
        }
        let closed = opaque(size);
        println!("{size_name} of incompressible zstd: what a produce costs");
        measure("  check (header and CRC only)", closed.len(), || ProducedBatch::check(closed.clone(), &limits));
        let produced = ProducedBatch::check(closed.clone(), &limits).expect("a good batch");
        let place = (Offset(1_000_000), LeaderEpoch(7));
        each("  stamp", || StampedBatch::stamp(&produced, place.0, place.1));
        each("  stamp with LogAppendTime", || {
            StampedBatch::stamp_with_log_append_time(&produced, place.0, place.1, NOW)
        });
        measure("  read back from storage", closed.len(), || StampedBatch::from_stored(closed.clone()));
    }
    let small = batch(Compression::None, 300, 100);
    let log = small.repeat(10_000);
    let walked = per_run(|| batches(black_box(&log)).map(|b| b.map_or(0, |(h, _)| h.record_count)).sum::<i32>());
    println!("walking headers of {} byte batches: {:.1} ns each", small.len(), walked.as_nanos() as f64 / 10_000.0);
}

fn batch(compression: Compression, size: usize, value_len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    let mut value = vec![0; value_len];
    while builder.size() + value_len + 24 < size {
        for (i, byte) in value.iter_mut().enumerate() {
            *byte = b'a' + ((builder.size() * 31 + i * i) % 23) as u8;
        }
        builder.push(Some(b"some key"), Some(&value), &[], NOW);
    }
    builder.build().expect("a batch")
}

/// A batch whose block cannot be made smaller.
fn opaque(size: usize) -> Bytes {
    let mut random = base_types::Random::new(1);
    let value: Vec<u8> = (0..size).map(|_| random.next_u64() as u8).collect();
    BatchBuilder::new(Compression::Zstd).record(None, Some(&value), &[], NOW).build().expect("a batch")
}

fn measure<T>(what: &str, bytes: usize, run: impl Fn() -> T) {
    let time = per_run(run);
    println!(
        "{what:34} {:7.2} GB/s  {:9.2} µs",
        bytes as f64 / time.as_nanos() as f64,
        time.as_nanos() as f64 / 1000.0
    );
}

fn each<T>(what: &str, run: impl Fn() -> T) {
    println!("{what:34}               {:9.2} µs", per_run(run).as_nanos() as f64 / 1000.0);
}

/// The best of many rounds, each shorter than a scheduler's slice: other work on the machine only ever adds time.
fn per_run<T>(run: impl Fn() -> T) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..300 {
        let start = Instant::now();
        let mut runs = 0_u32;
        while start.elapsed() < Duration::from_micros(800) {
            black_box(run());
            runs += 1;
        }
        best = best.min(start.elapsed() / runs);
    }
    best
}
