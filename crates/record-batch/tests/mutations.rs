//! Every decoder of the crate on bytes that were a batch before something happened to them. Nothing may panic, whatever is
//! not refused must make sense, and no record may be larger than what it was read from.

use base_types::Random;
use bytes::Bytes;
use record_batch::{
    BatchBuilder, BatchLimits, CompressedRecords, Compression, EndTxnMarker, HEADER_LEN, ProducedBatch, Producer,
    Record, StampedBatch, batches,
};

use base_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const CASES: u64 = 100_000;
const DECOMPRESSED_MAX: usize = 64 * 1024;

#[test]
fn no_decoder_panics_on_mutated_batches() {
    let mut accepted = 0;
    let mut read = 0;
    run(CASES, |bytes| {
        let (was_accepted, records) = decode_all(bytes);
        accepted += u64::from(was_accepted);
        read += records;
    });
    // Mutations that hit nothing but the CRC's field prove nothing: many must reach the records.
    assert!(accepted > CASES / 50, "{accepted} batches passed");
    assert!(read > CASES / 10, "{read} records were read");
}

/// The harness must be able to fail: a decoder that trusts a length does so under the same mutations.
#[test]
#[should_panic(expected = "out of range")]
fn a_careless_decoder_is_caught() {
    run(CASES, |bytes| {
        if bytes.len() > HEADER_LEN {
            let length = usize::from(bytes[HEADER_LEN] / 2);
            std::hint::black_box(&bytes[HEADER_LEN + 1..][..length]);
        }
    });
}

fn decode_all(bytes: &Bytes) -> (bool, u64) {
    for item in batches(bytes) {
        let Ok((header, range)) = item else { continue };
        assert_eq!(header.size(), range.len());
        assert!(header.last_offset() >= header.base_offset && header.next_offset() > header.last_offset());
    }
    let limits = BatchLimits { decompressed_bytes_max: DECOMPRESSED_MAX, ..BatchLimits::default() };
    let strict = BatchLimits { compressed_records: CompressedRecords::Check, keys_required: true, ..limits.clone() };
    for limits in [&limits, &strict] {
        match ProducedBatch::check(bytes.clone(), limits) {
            Ok(batch) => {
                let stamped = StampedBatch::stamp(&batch, Offset(i64::MAX - 1), LeaderEpoch(1));
                assert!(
                    StampedBatch::from_stored(stamped.to_bytes()).is_ok() || stamped.header().last_offset_delta > 0
                );
                let stamped =
                    StampedBatch::stamp_with_log_append_time(&batch, Offset(7), LeaderEpoch(1), Timestamp(-77));
                assert!(StampedBatch::from_stored(stamped.to_bytes()).is_ok());
            }
            Err(error) => {
                assert!(error.code().code() > 0);
                assert!(!error.to_string().is_empty());
            }
        }
    }
    let Ok(batch) = StampedBatch::from_stored(bytes.clone()) else { return (false, 0) };
    let Ok(records) = batch.records(DECOMPRESSED_MAX) else { return (true, 0) };
    let mut count = 0;
    for record in records {
        let Ok(record) = record else { return (true, count) };
        assert!(size(&record) <= DECOMPRESSED_MAX.max(bytes.len()));
        EndTxnMarker::parse(&record);
        count += 1;
    }
    assert_eq!(count, batch.header().record_count as u64);
    (true, count)
}

fn size(record: &Record) -> usize {
    let field = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + field(&header.value)).sum();
    field(&record.key) + field(&record.value) + headers
}

fn run(cases: u64, mut decode: impl FnMut(&Bytes)) {
    let seeds = seeds();
    for seed in 0..cases {
        let mut random = Random::new(seed);
        let mut bytes = seeds[random.below(seeds.len() as u64) as usize].clone();
        for _ in 0..random.between(1, 4) {
            mutate(&mut random, &mut bytes);
        }
        if random.chance(800) {
            repair(&mut random, &mut bytes);
        }
        decode(&bytes.into());
    }
}

/// Numbers at which decoders break.
const NUMBERS: [i64; 14] =
    [0, 1, -1, 2, 13, 48, 49, 127, 128, 0x7fff, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.push(random.next_u64() as u8);
        return;
    }
    // The records are where most decoding is; a batch that is nearly all header would hardly be hit there.
    let from = if random.chance(700) { HEADER_LEN.min(bytes.len() - 1) } else { 0 };
    let place = random.between(from as u64, bytes.len() as u64 - 1) as usize;
    match random.below(8) {
        0 | 1 => bytes[place] ^= 1 << random.below(8),
        2 => bytes[place] = random.next_u64() as u8,
        3 => bytes[place] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff][random.below(7) as usize],
        4 => bytes.truncate(place),
        5 => bytes.insert(place, random.next_u64() as u8),
        6 => {
            let number = NUMBERS[random.below(NUMBERS.len() as u64) as usize].to_be_bytes();
            let width = [2, 4, 8][random.below(3) as usize];
            let end = (place + width).min(bytes.len());
            bytes[place..end].copy_from_slice(&number[8 - width..][..end - place]);
        }
        _ => {
            let end = (place + random.below(40) as usize).min(bytes.len());
            let copied = bytes[place..end].to_vec();
            bytes.splice(place..place, copied);
        }
    }
}

/// Makes length, magic and CRC right again, so that what is behind them is reached; sometimes the offsets too.
fn repair(random: &mut Random, bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    if random.chance(500) {
        bytes[0..8].fill(0);
        let count = i32::from_be_bytes([bytes[57], bytes[58], bytes[59], bytes[60]]);
        bytes[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
    }
    let crc = crc_fast::crc32_iscsi(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn seeds() -> Vec<Vec<u8>> {
    let producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(1), base_sequence: Sequence(i32::MAX) };
    let mut seeds = Vec::new();
    for compression in Compression::ALL {
        let now = Timestamp(1_700_000_000_000);
        let small = BatchBuilder::new(compression)
            .record(Some(b"key"), Some(b"value"), &[("a", Some(b"1")), ("a", None)], now)
            .record(Some(b""), None, &[], Timestamp(5))
            .record(Some(b"another key"), Some(&[b'x'; 300]), &[], now);
        seeds.push(small.clone().build().unwrap().to_vec());
        seeds.push(small.producer(producer).transactional().build().unwrap().to_vec());
        let long = BatchBuilder::new(compression).record(Some(b"k"), Some(&[b'y'; 3000]), &[], now);
        seeds.push(long.build().unwrap().to_vec());
    }
    let marker = EndTxnMarker { commit: true, coordinator_epoch: 3 };
    let marker = marker.batch(ProducerId(7), ProducerEpoch(1), Timestamp(9), Offset(100), LeaderEpoch(2));
    seeds.push(marker.to_bytes().to_vec());
    seeds
}
