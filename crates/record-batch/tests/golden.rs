//! Batches that other clients wrote and Kafka's own verdicts on good and bad ones. How the fixtures are made stands at the
//! head of their generators.

use std::fmt::Write;

use base_types::{LeaderEpoch, Offset, Timestamp};
use bytes::Bytes;
use record_batch::{
    BatchBuilder, BatchError, BatchLimits, CompressedRecords, Compression, EndTxnMarker, HEADER_LEN, ProducedBatch,
    Producer, StampedBatch, TimestampLimits, TimestampType,
};

/// The fixed time of the Java generator.
const NOW: i64 = 1_700_000_000_000;

/// A paragraph of a fixture file: lines of a key and the rest.
struct Block {
    lines: Vec<(String, String)>,
}

impl Block {
    fn all(file: &str) -> Vec<Block> {
        let body = file.split_once("\n\n").map_or("", |(_head, body)| body);
        body.split("\n\n")
            .map(|paragraph| {
                let line = |line: &str| {
                    let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
                    (key.to_owned(), rest.to_owned())
                };
                Block { lines: paragraph.lines().map(line).collect() }
            })
            .collect()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(k, _)| k == key).map(|(_, rest)| rest.as_str())
    }

    fn bytes(&self, key: &str) -> Bytes {
        from_hex(self.get(key).expect(key))
    }

    fn name(&self) -> &str {
        &self.lines[0].1
    }
}

fn from_hex(hex: &str) -> Bytes {
    let digits = hex.trim_matches('-').as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn to_hex(field: Option<&[u8]>) -> String {
    match field {
        None => "null".to_owned(),
        Some([]) => "-".to_owned(),
        Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn to_short_hex(field: Option<&[u8]>) -> String {
    match field {
        Some(bytes) if bytes.len() >= 100 => format!("{}:{}", bytes.len(), crc_fast::crc32_iscsi(bytes)),
        field => to_hex(field),
    }
}

/// The generator's description of a batch, in our words.
fn describe(batch: &StampedBatch) -> String {
    let header = batch.header();
    let mut out = String::new();
    let type_name = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    writeln!(out, "size {}", header.size()).unwrap();
    writeln!(out, "offsets {}..{} next {}", header.base_offset, header.last_offset(), header.next_offset()).unwrap();
    writeln!(out, "leader_epoch {}", header.leader_epoch).unwrap();
    writeln!(out, "crc {}", header.crc).unwrap();
    writeln!(out, "compression {}", header.attributes.compression().unwrap().name()).unwrap();
    writeln!(out, "timestamp_type {type_name}").unwrap();
    writeln!(
        out,
        "transactional {} control {} delete_horizon {}",
        header.attributes.is_transactional(),
        header.attributes.is_control(),
        header.attributes.has_delete_horizon()
    )
    .unwrap();
    writeln!(out, "max_timestamp {}", header.max_timestamp.0).unwrap();
    let (id, epoch) = (header.producer_id, header.producer_epoch);
    writeln!(out, "producer {id} {epoch} {}..{}", header.base_sequence, header.last_sequence()).unwrap();
    writeln!(out, "count {}", header.record_count).unwrap();
    for record in batch.records(1 << 20).unwrap() {
        let record = record.unwrap();
        let (key, value) = (to_hex(record.key.as_deref()), to_short_hex(record.value.as_deref()));
        writeln!(out, "record {} {} {key} {value}", record.offset, record.timestamp.0).unwrap();
        for header in &record.headers {
            writeln!(out, "header {} {}", to_hex(Some(&header.key)), to_hex(header.value.as_deref())).unwrap();
        }
        if let Some(marker) = EndTxnMarker::parse(&record).filter(|_| header.attributes.is_control()) {
            let kind = if marker.commit { "commit" } else { "abort" };
            writeln!(out, "marker {kind} {}", marker.coordinator_epoch).unwrap();
        }
    }
    out
}

#[test]
fn batches_that_kafka_wrote_read_as_kafka_reads_them() {
    let blocks = Block::all(include_str!("../fixtures/batches.txt"));
    assert!(blocks.len() > 35, "{} batches", blocks.len());
    for block in &blocks {
        let bytes = block.bytes("bytes");
        let batch =
            StampedBatch::from_stored(bytes.clone()).unwrap_or_else(|error| panic!("{}: {error}", block.name()));
        let expected: String = block.lines[2..].iter().map(|(key, rest)| format!("{key} {rest}\n")).collect();
        assert_eq!(describe(&batch), expected, "{}", block.name());
        assert_eq!(batch.header().to_bytes(), bytes[..HEADER_LEN]);
        assert_eq!(batch.to_bytes(), bytes);
    }
}

#[test]
fn records_read_from_kafkas_batches_build_the_same_batches_again() {
    let mut built = 0;
    for block in Block::all(include_str!("../fixtures/batches.txt")) {
        let bytes = block.bytes("bytes");
        let batch = StampedBatch::from_stored(bytes.clone()).unwrap();
        let header = *batch.header();
        let attributes = header.attributes;
        let is_plain = attributes.timestamp_type() == TimestampType::CreateTime && !attributes.is_control();
        if attributes.has_delete_horizon() || header.record_count == 0 || !is_plain {
            continue;
        }
        let producer =
            Producer { id: header.producer_id, epoch: header.producer_epoch, base_sequence: header.base_sequence };
        let mut builder = BatchBuilder::new(attributes.compression().unwrap()).producer(producer);
        if attributes.is_transactional() {
            builder = builder.transactional();
        }
        for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
            let headers: Vec<_> =
                record.headers.iter().map(|h| (std::str::from_utf8(&h.key).unwrap(), h.value.as_deref())).collect();
            builder.push(record.key.as_deref(), record.value.as_deref(), &headers, record.timestamp);
        }
        let again = builder.build().unwrap();
        if attributes.compression() == Ok(Compression::None) {
            assert_eq!(again, bytes, "{}", block.name());
        }
        let content = |bytes: Bytes| -> Vec<_> {
            StampedBatch::from_stored(bytes).unwrap().records(1 << 20).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(content(again), content(bytes), "{}", block.name());
        built += 1;
    }
    assert!(built >= 19, "{built} batches");
}

#[test]
fn markers_are_written_as_kafka_writes_them() {
    for block in Block::all(include_str!("../fixtures/batches.txt")) {
        let Some(marker) = block.get("marker") else { continue };
        let kafka = StampedBatch::from_stored(block.bytes("bytes")).unwrap();
        let header = kafka.header();
        let marker = EndTxnMarker { commit: marker == "commit 42", coordinator_epoch: 42 };
        let ours = marker.batch(
            header.producer_id,
            header.producer_epoch,
            header.max_timestamp,
            header.base_offset,
            header.leader_epoch,
        );
        assert_eq!(ours.to_bytes(), kafka.to_bytes(), "{}", block.name());
    }
}

/// Where we answer otherwise than Kafka, and why.
const DEVIATIONS: &[(&str, i16, &str)] = &[
    ("a-batch-and-half", 87, "Kafka drops the half batch and reports success"),
    ("a-batch-and-5-bytes", 87, "Kafka drops the bytes and reports success"),
    ("a-batch-and-20-zeros", 87, "corrupt is retriable, and this will never get better"),
    ("length-too-short-by-1", 87, "as above"),
    ("compression-5", 76, "Kafka has no code for it but unknown server error"),
    ("compression-6", 76, "as above"),
    ("compression-7", 76, "as above"),
    ("gzip-garbage", 87, "as above"),
    ("snappy-garbage", 87, "as above"),
    ("lz4-garbage", 87, "as above"),
    ("zstd-garbage", 87, "as above"),
    ("none-record-length-endless", 87, "as above"),
    ("gzip-record-offset-delta-5", 87, "as above"),
    ("gzip-record-offset-delta-negative", 87, "as above"),
    ("gzip-record-offsets-swapped", 87, "as above"),
    ("none-record-offset-delta-5", 87, "Kafka stores it; its offsets would overlap the next batch's"),
    ("none-record-offset-delta-negative", 87, "as above"),
    ("none-record-offsets-swapped", 87, "Kafka stores it; consumers rely on growing offsets"),
    ("idempotent-without-epoch", 87, "Kafka stores it; no fencing is possible without an epoch"),
    ("transactional-without-id", 87, "Kafka stores it; such a transaction could never end"),
];

fn limits(block: &Block, compressed_records: CompressedRecords) -> BatchLimits {
    let config = |key: &str| {
        block
            .lines
            .iter()
            .filter(|(k, _)| k == "config")
            .find_map(|(_, rest)| rest.strip_prefix(key)?.strip_prefix('='))
    };
    let millis = |key: &str, default: i64| config(key).map_or(default, |text| text.parse().unwrap());
    let earliest = Timestamp(NOW.saturating_sub(millis("message.timestamp.before.max.ms", i64::MAX)));
    let latest = Timestamp(NOW.saturating_add(millis("message.timestamp.after.max.ms", 3_600_000)));
    let default = BatchLimits::default();
    BatchLimits {
        max_message_bytes: config("max.message.bytes").map_or(default.max_message_bytes, |text| text.parse().unwrap()),
        zstd: block.get("version").unwrap().parse::<i16>().unwrap() >= 7,
        timestamps: match config("message.timestamp.type") {
            Some(_) => TimestampLimits::LogAppendTime,
            None => TimestampLimits::CreateTime { earliest, latest },
        },
        keys_required: config("cleanup.policy").is_some(),
        compressed_records,
        ..default
    }
}

fn stored(block: &Block, batch: &ProducedBatch) -> Bytes {
    let (base_offset, leader_epoch) = (Offset(100), LeaderEpoch(7));
    let stamped = if block.lines.iter().any(|(_, rest)| rest.ends_with("=LogAppendTime")) {
        StampedBatch::stamp_with_log_append_time(batch, base_offset, leader_epoch, Timestamp(NOW))
    } else {
        StampedBatch::stamp(batch, base_offset, leader_epoch)
    };
    let bytes = stamped.to_bytes();
    assert_eq!(StampedBatch::from_stored(bytes.clone()).unwrap().header(), stamped.header());
    bytes
}

#[test]
fn payloads_get_kafkas_verdict_and_are_stored_as_kafka_stores_them() {
    let blocks = Block::all(include_str!("../fixtures/verdicts.txt"));
    let mut deviations = DEVIATIONS.to_vec();
    for block in &blocks {
        let name = block.name();
        let (kafka, code_name) = block.get("code").unwrap().split_once(' ').unwrap();
        let result = ProducedBatch::check(block.bytes("bytes"), &limits(block, CompressedRecords::Check));
        let code = result.as_ref().map_or_else(|error| error.code().code(), |_| 0);
        let place = deviations.iter().position(|&(deviating, _, _)| deviating == name);
        let Some(place) = place else {
            assert_eq!(code.to_string(), kafka, "{name}: {result:?}, Kafka says {code_name}");
            match result {
                Ok(batch) => assert_eq!(stored(block, &batch), block.bytes("stored"), "{name}"),
                // Kafka lists all records; a list of none says the same.
                Err(BatchError::TimestampType) => {}
                Err(error) => {
                    let at_fault: Vec<String> = error.records_at_fault().iter().map(i32::to_string).collect();
                    assert_eq!(at_fault.join(" "), block.get("at_fault").unwrap_or_default(), "{name}");
                }
            }
            continue;
        };
        let (_, expected, why) = deviations.swap_remove(place);
        assert_eq!(code, expected, "{name}: {why}");
        assert_ne!(code.to_string(), kafka, "{name} is no deviation");
    }
    assert!(deviations.is_empty(), "deviations without a fixture: {deviations:?}");
}

/// What is lost by leaving compressed blocks closed: exactly these verdicts.
const UNSEEN_WHEN_TRUSTING: &[&str] = &["garbage", "one-record-missing", "one-record-too-many", "max-timestamp-late"];

#[test]
fn trusted_blocks_differ_from_checked_ones_only_where_the_header_lies() {
    for block in &Block::all(include_str!("../fixtures/verdicts.txt")) {
        let name = block.name();
        if name.starts_with("gzip-record") || UNSEEN_WHEN_TRUSTING.iter().any(|unseen| name.ends_with(unseen)) {
            continue;
        }
        let verdict = |compressed_records| {
            ProducedBatch::check(block.bytes("bytes"), &limits(block, compressed_records))
                .map(|batch| stored(block, &batch))
                .map_err(|error| error.code())
        };
        assert_eq!(verdict(CompressedRecords::Trust), verdict(CompressedRecords::Check), "{name}");
    }
}

/// What `tests-e2e/golden-clients/capture_batches.py` gave each client: offset aside, key, value, headers and time.
fn given_to_clients(name: &str) -> Vec<String> {
    let long = "0123456789".repeat(if name.contains("-none") { 100 } else { 10_000 });
    vec![
        format!("{NOW} {} {}", to_hex(Some(b"key")), to_hex(Some(b"value"))),
        format!("{} null {} again=31 again=32 other=00ff", NOW + 500, to_hex(Some(b"no key"))),
        format!("{} {} null", NOW - 3, to_hex(Some(b"tombstone"))),
        format!("{} - -", NOW + 70),
        format!("{} {} {}", NOW + 71, to_hex(Some(b"long")), to_hex(Some(long.as_bytes()))),
    ]
}

#[test]
fn batches_of_real_clients_are_accepted_and_read_as_they_were_meant() {
    let blocks = Block::all(include_str!("../fixtures/clients.txt"));
    let mut sent: Vec<(&str, Vec<String>)> = Vec::new();
    for block in &blocks {
        let limits = BatchLimits { compressed_records: CompressedRecords::Check, ..BatchLimits::default() };
        let batch = ProducedBatch::check(block.bytes("bytes"), &limits)
            .unwrap_or_else(|error| panic!("{}: {error}", block.name()));
        assert_eq!(batch.header().to_bytes(), batch.bytes()[..HEADER_LEN], "{} needs no repair", block.name());
        if sent.last().is_none_or(|(name, _)| *name != block.name()) {
            sent.push((block.name(), Vec::new()));
        }
        let (_, lines) = sent.last_mut().unwrap();
        for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
            let (key, value) = (to_hex(record.key.as_deref()), to_hex(record.value.as_deref()));
            let headers = record.headers.iter().map(|header| {
                format!(" {}={}", std::str::from_utf8(&header.key).unwrap(), to_hex(header.value.as_deref()))
            });
            lines.push(format!("{} {key} {value}{}", record.timestamp.0, headers.collect::<String>()));
        }
    }
    for (name, lines) in &sent {
        assert_eq!(*lines, given_to_clients(name), "{name}");
    }
    assert_eq!(sent.len(), 18);
}
