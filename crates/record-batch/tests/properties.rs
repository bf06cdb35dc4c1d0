//! Properties against a deliberately dumb twin: an encoder written from the layout in the crate's head, one byte after the
//! other, with a CRC that goes bit by bit.

use base_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use record_batch::{
    BatchBuilder, BatchError, BatchLimits, CompressedRecords, Compression, HEADER_LEN, LOG_OVERHEAD, ProducedBatch,
    Producer, StampedBatch, TimestampLimits, batches,
};

type Field = Option<Vec<u8>>;

#[derive(Clone, Debug)]
struct TwinRecord {
    timestamp: i64,
    key: Field,
    value: Field,
    headers: Vec<(String, Field)>,
}

#[derive(Clone, Debug)]
struct Twin {
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
    records: Vec<TwinRecord>,
}

impl Twin {
    fn builder(&self, compression: Compression) -> BatchBuilder {
        let mut builder = BatchBuilder::new(compression);
        if let Some((id, epoch, sequence)) = self.producer {
            let producer =
                Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence) };
            builder = builder.producer(producer);
            if self.transactional {
                builder = builder.transactional();
            }
        }
        for record in &self.records {
            let headers: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            builder.push(record.key.as_deref(), record.value.as_deref(), &headers, Timestamp(record.timestamp));
        }
        builder
    }

    fn build(&self, compression: Compression) -> Bytes {
        self.builder(compression).build().unwrap()
    }

    fn encode(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            let mut body = vec![0];
            varint(&mut body, i128::from(record.timestamp) - i128::from(self.records[0].timestamp));
            varint(&mut body, index as i128);
            nullable(&mut body, record.key.as_deref());
            nullable(&mut body, record.value.as_deref());
            varint(&mut body, record.headers.len() as i128);
            for (key, value) in &record.headers {
                nullable(&mut body, Some(key.as_bytes()));
                nullable(&mut body, value.as_deref());
            }
            varint(&mut records, body.len() as i128);
            records.extend(body);
        }
        let (id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        let transactional = self.transactional && self.producer.is_some();
        let mut covered = Vec::new();
        covered.extend(if transactional { [0, 16] } else { [0, 0] });
        covered.extend((self.records.len() as i32 - 1).to_be_bytes());
        covered.extend(self.records[0].timestamp.to_be_bytes());
        covered.extend(self.max_timestamp().to_be_bytes());
        covered.extend(id.to_be_bytes());
        covered.extend(epoch.to_be_bytes());
        covered.extend(sequence.to_be_bytes());
        covered.extend((self.records.len() as i32).to_be_bytes());
        covered.extend(records);
        let mut batch = Vec::new();
        batch.extend(0_i64.to_be_bytes());
        batch.extend((covered.len() as i32 + 9).to_be_bytes());
        batch.extend((-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend(crc_bit_by_bit(&covered).to_be_bytes());
        batch.extend(covered);
        batch
    }

    fn max_timestamp(&self) -> i64 {
        self.records.iter().map(|record| record.timestamp).max().unwrap_or(-1).max(-1)
    }
}

fn varint(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = if value < 0 { (-value * 2 - 1) as u128 } else { (value * 2) as u128 };
    loop {
        let low = (zigzag % 128) as u8;
        zigzag /= 128;
        if zigzag == 0 {
            out.push(low);
            return;
        }
        out.push(low + 128);
    }
}

fn nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    varint(out, field.map_or(-1, |field| field.len() as i128));
    out.extend(field.unwrap_or_default());
}

fn crc_bit_by_bit(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc % 2 == 1 { (crc / 2) ^ 0x82f6_3b78 } else { crc / 2 };
        }
    }
    !crc
}

fn field() -> impl Strategy<Value = Field> {
    option::of(prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(0..3_u8, 0..5000)])
}

fn twin_record() -> impl Strategy<Value = TwinRecord> {
    let timestamp = prop_oneof![4 => 1_700_000_000_000..1_700_000_100_000_i64, 1 => -1..5_i64];
    let headers = vec(("[a-cä]{0,2}", field()), 0..4);
    (timestamp, field(), field(), headers).prop_map(|(timestamp, key, value, headers)| TwinRecord {
        timestamp,
        key,
        value,
        headers,
    })
}

fn twin() -> impl Strategy<Value = Twin> {
    let producer = option::of((0..i64::MAX, 0..i16::MAX, 0..i32::MAX));
    (producer, any::<bool>(), vec(twin_record(), 1..40)).prop_map(|(producer, transactional, records)| Twin {
        producer,
        transactional,
        records,
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn checking() -> BatchLimits {
    BatchLimits { compressed_records: CompressedRecords::Check, ..BatchLimits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_builder_writes_what_the_twin_writes(twin in twin()) {
        prop_assert_eq!(twin.build(Compression::None), twin.encode());
    }

    #[test]
    fn records_come_back_as_they_were_given(twin in twin(), compression in compression()) {
        let batch = ProducedBatch::check(twin.build(compression), &checking()).unwrap();
        prop_assert_eq!(batch.header().max_timestamp.0, twin.max_timestamp());
        let stamped = StampedBatch::stamp(&batch, Offset(5000), LeaderEpoch(3));
        let records: Vec<_> = stamped.records(1 << 24).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(records.len(), twin.records.len());
        for (index, (record, given)) in records.iter().zip(&twin.records).enumerate() {
            prop_assert_eq!(record.offset, Offset(5000 + index as i64));
            prop_assert_eq!(record.timestamp.0, given.timestamp);
            prop_assert_eq!(record.key.as_deref(), given.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), given.value.as_deref());
            let headers: Vec<_> = record.headers.iter().map(|h| (h.key.to_vec(), h.value.as_ref().map(|v| v.to_vec()))).collect();
            let given: Vec<_> = given.headers.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone())).collect();
            prop_assert_eq!(headers, given);
        }
    }

    #[test]
    fn a_stamp_changes_its_fields_and_nothing_else(twin in twin(), compression in compression(), base: u32, epoch: u16, now: u32) {
        let bytes = twin.build(compression);
        let batch = ProducedBatch::check(bytes.clone(), &BatchLimits::default()).unwrap();
        let (offset, epoch, now) = (Offset(base.into()), LeaderEpoch(epoch.into()), Timestamp(now.into()));

        let mut expected = bytes.to_vec();
        expected[0..8].copy_from_slice(&offset.0.to_be_bytes());
        expected[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        let stamped = StampedBatch::stamp(&batch, offset, epoch);
        prop_assert_eq!(stamped.to_bytes(), expected.clone());
        prop_assert_eq!(stamped.pieces().1.as_ptr(), bytes[HEADER_LEN..].as_ptr(), "the body was copied");

        expected[22] |= 8;
        expected[35..43].copy_from_slice(&now.0.to_be_bytes());
        let crc = crc_bit_by_bit(&expected[21..]);
        expected[17..21].copy_from_slice(&crc.to_be_bytes());
        let stamped = StampedBatch::stamp_with_log_append_time(&batch, offset, epoch, now);
        prop_assert_eq!(stamped.to_bytes(), expected);

        let read = StampedBatch::from_stored(stamped.to_bytes()).unwrap();
        prop_assert_eq!(read.header(), stamped.header());
        prop_assert_eq!(read.size(), stamped.size());
        let all_now = read.records(1 << 24).unwrap().all(|record| record.unwrap().timestamp == now);
        prop_assert!(all_now);
    }

    #[test]
    fn a_wrong_max_timestamp_is_put_right_where_the_records_are_read(twin in twin(), compression in compression(), wrong in -5..1_800_000_000_000_i64) {
        let mut bytes = twin.build(compression).to_vec();
        bytes[35..43].copy_from_slice(&wrong.to_be_bytes());
        let crc = crc_bit_by_bit(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = ProducedBatch::check(bytes.into(), &checking()).unwrap();
        let stamped = StampedBatch::stamp(&batch, Offset(1), LeaderEpoch(1));
        prop_assert_eq!(stamped.header().max_timestamp.0, twin.max_timestamp());
        let stored = StampedBatch::from_stored(stamped.to_bytes()).unwrap();
        prop_assert_eq!(stored.header(), stamped.header());
    }

    #[test]
    fn no_flipped_bit_under_the_crc_goes_unseen(twin in twin(), compression in compression(), place: prop::sample::Index, bit in 0..8) {
        let mut bytes = twin.build(compression).to_vec();
        let place = 16 + place.index(bytes.len() - 16);
        bytes[place] ^= 1_u8 << bit;
        prop_assert!(ProducedBatch::check(bytes.clone().into(), &BatchLimits::default()).is_err());
        prop_assert!(StampedBatch::from_stored(bytes.into()).is_err());
    }

    #[test]
    fn bounds_on_time_name_the_records_outside(twin in twin(), earliest in 1_699_999_990_000..1_700_000_110_000_i64, width in 0..50_000_i64) {
        let latest = earliest + width;
        let (earliest_time, latest_time) = (Timestamp(earliest), Timestamp(latest));
        let timestamps = TimestampLimits::CreateTime { earliest: earliest_time, latest: latest_time };
        let limits = BatchLimits { timestamps, ..BatchLimits::default() };
        let outside: Vec<i32> = (0..)
            .zip(&twin.records)
            .filter(|(_, record)| record.timestamp != -1 && !(earliest..=latest).contains(&record.timestamp))
            .map(|(index, _)| index)
            .collect();
        match ProducedBatch::check(twin.build(Compression::None), &limits) {
            Ok(_) => prop_assert!(outside.is_empty()),
            Err(BatchError::Timestamps { records }) => prop_assert_eq!(records, outside),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_walk_finds_every_whole_batch_and_stops_at_the_cut(twins in vec(twin(), 0..6), cut: prop::sample::Index) {
        let mut log = Vec::new();
        let mut ends = Vec::new();
        for (index, twin) in twins.iter().enumerate() {
            let batch = twin.builder(Compression::None).base_offset(Offset(index as i64 * 1000)).build().unwrap();
            log.extend(batch);
            ends.push(log.len());
        }
        let cut = cut.index(log.len() + 1);
        let mut walk = batches(&log[..cut]);
        let mut found = Vec::new();
        for item in walk.by_ref() {
            let (header, range) = item.unwrap();
            prop_assert_eq!(header.base_offset, Offset(found.len() as i64 * 1000));
            prop_assert_eq!(header.length as usize + LOG_OVERHEAD, range.len());
            prop_assert_eq!(range.start, found.last().copied().unwrap_or(0));
            found.push(range.end);
        }
        let whole: Vec<usize> = ends.into_iter().filter(|&end| end <= cut).collect();
        prop_assert_eq!(walk.position(), whole.last().copied().unwrap_or(0));
        prop_assert_eq!(walk.position() + walk.remaining(), cut);
        prop_assert_eq!(found, whole);
    }
}
