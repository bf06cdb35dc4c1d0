//! Records as bytes: the same in the controller's log, in its snapshots and in the delta stream.
//!
//! ```text
//!  records := version u8 (1 to 3), count, record*
//!  record  := kind u8, size of the body, body
//!  numbers := LEB128; signed ones zigzag-coded first.   texts and lists := count, elements.   optional := 0 | 1, value
//! ```
//!
//! What is once written is read for ever: the numbers of kinds and states are never given to another meaning, and
//! `fixtures/records-v1.hex` to `-v3.hex` pin the bytes. A reader refuses what it does not know, bytes left over included: two
//! nodes that skipped different things would fold different images (C5). A new kind or field therefore comes with a higher
//! version; what the oldest version can say is written in it, so that nodes of an older release read on until there is news.
//!
//! Version 2: a partition's state ends with the replicas that a move adds and removes.
//! Version 3: and then with the leader epoch of the last unclean election, if there was one.
//!
//! Bytes may come from outside: nothing is allocated in proportion to a count that the bytes left do not justify.

use std::fmt;

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
    TopicPartition,
};

use super::{Broker, BrokerState, ConfigResource, Gateway, PartitionState, Record};

/// Without moves of replicas.
const VERSION_1: u8 = 1;
/// Without unclean elections.
const VERSION_2: u8 = 2;
const VERSION_3: u8 = 3;

const CLUSTER_NAMED: u8 = 1;
const BROKER_REGISTERED: u8 = 2;
const BROKER_STATE_CHANGED: u8 = 3;
const BROKER_UNREGISTERED: u8 = 4;
const GATEWAY_REGISTERED: u8 = 5;
const GATEWAY_REMOVED: u8 = 6;
const TOPIC_CREATED: u8 = 7;
const TOPIC_REMOVED: u8 = 8;
const PARTITION_CHANGED: u8 = 9;
const CONFIG_CHANGED: u8 = 10;
const PRODUCER_IDS_ALLOCATED: u8 = 11;
const FEATURE_CHANGED: u8 = 12;
const CONTROLLER_CHANGED: u8 = 13;
const DIRECTORY_CONFIRMED: u8 = 14;

/// The bytes are no records this version can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub what: &'static str,
    /// How many bytes were left when it was noticed.
    pub left: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metadata records: {} ({} bytes before the end)", self.what, self.left)
    }
}

impl std::error::Error for DecodeError {}

pub fn encode_records(records: &[Record]) -> Vec<u8> {
    let version = records.iter().map(oldest_version).max().unwrap_or(VERSION_1);
    let mut out = vec![version];
    put_count(&mut out, records.len());
    let mut body = Vec::new();
    for record in records {
        body.clear();
        let kind = put_record(&mut body, record, version);
        out.push(kind);
        put_count(&mut out, body.len());
        out.extend_from_slice(&body);
    }
    out
}

/// The oldest version that can say it.
fn oldest_version(record: &Record) -> u8 {
    match record {
        Record::PartitionChanged { state, .. } if state.unclean_since.is_some() => VERSION_3,
        Record::PartitionChanged { state, .. } if state.is_moving() => VERSION_2,
        _ => VERSION_1,
    }
}

pub fn decode_records(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let mut reader = Reader { bytes };
    let version = reader.u8()?;
    if !(VERSION_1..=VERSION_3).contains(&version) {
        return Err(reader.error("unknown version"));
    }
    // A record takes two bytes at least.
    let count = reader.count(2)?;
    let mut records = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let kind = reader.u8()?;
        let mut body = reader.sub()?;
        records.push(body.record(kind, version)?);
        body.finish()?;
    }
    reader.finish()?;
    Ok(records)
}

fn put_record(out: &mut Vec<u8>, record: &Record, version: u8) -> u8 {
    match record {
        Record::ClusterNamed { cluster_id } => {
            put_text(out, cluster_id);
            CLUSTER_NAMED
        }
        Record::BrokerRegistered(broker) => {
            put_i64(out, broker.id.0.into());
            put_i64(out, broker.epoch.0);
            out.extend_from_slice(&broker.incarnation.0);
            put_optional_text(out, broker.rack.as_deref());
            put_text(out, &broker.peer_address);
            put_text(out, &broker.host);
            out.push(state_number(broker.state));
            BROKER_REGISTERED
        }
        Record::BrokerStateChanged { broker, broker_epoch, state } => {
            put_i64(out, broker.0.into());
            put_i64(out, broker_epoch.0);
            out.push(state_number(*state));
            BROKER_STATE_CHANGED
        }
        Record::BrokerUnregistered { broker } => {
            put_i64(out, broker.0.into());
            BROKER_UNREGISTERED
        }
        Record::GatewayRegistered(gateway) => {
            put_i64(out, gateway.id.0.into());
            out.extend_from_slice(&gateway.incarnation.0);
            put_text(out, &gateway.advertised_host);
            put_u64(out, gateway.advertised_port.into());
            put_optional_text(out, gateway.rack.as_deref());
            put_text(out, &gateway.host);
            GATEWAY_REGISTERED
        }
        Record::GatewayRemoved { gateway } => {
            put_i64(out, gateway.0.into());
            GATEWAY_REMOVED
        }
        Record::TopicCreated { id, name } => {
            out.extend_from_slice(&id.0);
            put_text(out, name);
            TOPIC_CREATED
        }
        Record::TopicRemoved { id } => {
            out.extend_from_slice(&id.0);
            TOPIC_REMOVED
        }
        Record::PartitionChanged { partition, state } => {
            out.extend_from_slice(&partition.topic.0);
            put_i64(out, partition.partition.0.into());
            let lists = [&state.replicas, &state.isr, &state.elr, &state.last_known_elr];
            lists.into_iter().for_each(|list| put_brokers(out, list));
            put_optional_i32(out, state.leader.map(|leader| leader.0));
            put_i64(out, state.leader_epoch.0.into());
            put_i64(out, state.partition_epoch.0.into());
            if version >= VERSION_2 {
                put_brokers(out, &state.adding);
                put_brokers(out, &state.removing);
            }
            if version >= VERSION_3 {
                put_optional_i32(out, state.unclean_since.map(|epoch| epoch.0));
            }
            PARTITION_CHANGED
        }
        Record::ConfigChanged { resource, name, value } => {
            match resource {
                ConfigResource::Cluster => out.push(0),
                ConfigResource::Broker(id) => {
                    out.push(1);
                    put_i64(out, id.0.into());
                }
                ConfigResource::Topic(topic) => {
                    out.push(2);
                    put_text(out, topic);
                }
            }
            put_text(out, name);
            put_optional_text(out, value.as_deref());
            CONFIG_CHANGED
        }
        Record::ProducerIdsAllocated { next } => {
            put_i64(out, next.0);
            PRODUCER_IDS_ALLOCATED
        }
        Record::FeatureChanged { name, level } => {
            put_text(out, name);
            put_i64(out, (*level).into());
            FEATURE_CHANGED
        }
        Record::ControllerChanged { controller, term } => {
            put_i64(out, controller.0.into());
            put_u64(out, *term);
            CONTROLLER_CHANGED
        }
        Record::DirectoryConfirmed { broker, broker_epoch } => {
            put_i64(out, broker.0.into());
            put_i64(out, broker_epoch.0);
            DIRECTORY_CONFIRMED
        }
    }
}

fn state_number(state: BrokerState) -> u8 {
    match state {
        BrokerState::Fenced => 0,
        BrokerState::Active => 1,
        BrokerState::ShuttingDown => 2,
    }
}

fn put_u64(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    put_u64(out, ((number << 1) ^ (number >> 63)) as u64);
}

fn put_optional_i32(out: &mut Vec<u8>, number: Option<i32>) {
    match number {
        None => out.push(0),
        Some(number) => {
            out.push(1);
            put_i64(out, number.into());
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_u64(out, count as u64);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_brokers(out: &mut Vec<u8>, ids: &[BrokerId]) {
    put_count(out, ids.len());
    ids.iter().for_each(|id| put_i64(out, id.0.into()));
}

fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            out.push(1);
            put_text(out, text);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn record(&mut self, kind: u8, version: u8) -> Result<Record, DecodeError> {
        Ok(match kind {
            CLUSTER_NAMED => Record::ClusterNamed { cluster_id: self.text()? },
            BROKER_REGISTERED => Record::BrokerRegistered(Broker {
                id: self.broker()?,
                epoch: BrokerEpoch(self.i64()?),
                incarnation: Incarnation(self.uuid()?),
                rack: self.optional_text()?,
                peer_address: self.text()?,
                host: self.text()?,
                state: self.state()?,
            }),
            BROKER_STATE_CHANGED => Record::BrokerStateChanged {
                broker: self.broker()?,
                broker_epoch: BrokerEpoch(self.i64()?),
                state: self.state()?,
            },
            BROKER_UNREGISTERED => Record::BrokerUnregistered { broker: self.broker()? },
            GATEWAY_REGISTERED => Record::GatewayRegistered(Gateway {
                id: self.broker()?,
                incarnation: Incarnation(self.uuid()?),
                advertised_host: self.text()?,
                advertised_port: u16::try_from(self.u64()?).map_err(|_| self.error("a port above 65535"))?,
                rack: self.optional_text()?,
                host: self.text()?,
            }),
            GATEWAY_REMOVED => Record::GatewayRemoved { gateway: self.broker()? },
            TOPIC_CREATED => Record::TopicCreated { id: TopicId(self.uuid()?), name: self.text()? },
            TOPIC_REMOVED => Record::TopicRemoved { id: TopicId(self.uuid()?) },
            PARTITION_CHANGED => Record::PartitionChanged {
                partition: TopicPartition { topic: TopicId(self.uuid()?), partition: self.partition_index()? },
                state: PartitionState {
                    replicas: self.brokers()?,
                    isr: self.brokers()?,
                    elr: self.brokers()?,
                    last_known_elr: self.brokers()?,
                    leader: self.optional_i32()?.map(BrokerId),
                    leader_epoch: LeaderEpoch(self.i32()?),
                    partition_epoch: PartitionEpoch(self.i32()?),
                    adding: if version >= VERSION_2 { self.brokers()? } else { Vec::new() },
                    removing: if version >= VERSION_2 { self.brokers()? } else { Vec::new() },
                    unclean_since: if version >= VERSION_3 { self.optional_i32()?.map(LeaderEpoch) } else { None },
                },
            },
            CONFIG_CHANGED => Record::ConfigChanged {
                resource: match self.u8()? {
                    0 => ConfigResource::Cluster,
                    1 => ConfigResource::Broker(self.broker()?),
                    2 => ConfigResource::Topic(self.text()?),
                    _ => return Err(self.error("an unknown kind of config resource")),
                },
                name: self.text()?,
                value: self.optional_text()?,
            },
            PRODUCER_IDS_ALLOCATED => Record::ProducerIdsAllocated { next: ProducerId(self.i64()?) },
            FEATURE_CHANGED => Record::FeatureChanged {
                name: self.text()?,
                level: i16::try_from(self.i64()?).map_err(|_| self.error("a feature level out of range"))?,
            },
            CONTROLLER_CHANGED => Record::ControllerChanged { controller: self.broker()?, term: self.u64()? },
            DIRECTORY_CONFIRMED => {
                Record::DirectoryConfirmed { broker: self.broker()?, broker_epoch: BrokerEpoch(self.i64()?) }
            }
            _ => return Err(self.error("an unknown kind of record")),
        })
    }

    fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { what, left: self.bytes.len() }
    }

    fn finish(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.error("bytes left over")) }
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.split_at_checked(size) {
            Some((head, tail)) => {
                self.bytes = tail;
                Ok(head)
            }
            None => Err(self.error("cut short")),
        }
    }

    fn sub(&mut self) -> Result<Reader<'a>, DecodeError> {
        let size = self.count(1)?;
        Ok(Reader { bytes: self.take(size)? })
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.error("a number too large"))
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        let number = self.u64()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.i64()?).map_err(|_| self.error("a number out of range"))
    }

    fn optional_i32(&mut self) -> Result<Option<i32>, DecodeError> {
        if self.flag()? { self.i32().map(Some) } else { Ok(None) }
    }

    fn broker(&mut self) -> Result<BrokerId, DecodeError> {
        self.i32().map(BrokerId)
    }

    fn partition_index(&mut self) -> Result<PartitionIndex, DecodeError> {
        match self.i32()? {
            index if index >= 0 => Ok(PartitionIndex(index)),
            _ => Err(self.error("a negative partition")),
        }
    }

    /// A count of things that take `size_min` bytes each.
    fn count(&mut self, size_min: usize) -> Result<usize, DecodeError> {
        match usize::try_from(self.u64()?) {
            Ok(count) if count <= self.bytes.len() / size_min => Ok(count),
            _ => Err(self.error("a count beyond the bytes left")),
        }
    }

    fn brokers(&mut self) -> Result<Vec<BrokerId>, DecodeError> {
        let count = self.count(1)?;
        (0..count).map(|_| self.broker()).collect()
    }

    fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag neither 0 nor 1")),
        }
    }

    fn state(&mut self) -> Result<BrokerState, DecodeError> {
        match self.u8()? {
            0 => Ok(BrokerState::Fenced),
            1 => Ok(BrokerState::Active),
            2 => Ok(BrokerState::ShuttingDown),
            _ => Err(self.error("an unknown broker state")),
        }
    }

    fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(self.take(16)?);
        Ok(uuid)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let size = self.count(1)?;
        let bytes = self.take(size)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.error("text that is not UTF-8"))
    }

    fn optional_text(&mut self) -> Result<Option<String>, DecodeError> {
        if self.flag()? { self.text().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use base_types::Random;

    use super::*;

    /// One of every kind, with the values at the edges.
    fn samples() -> Vec<Record> {
        let topic = TopicId([7; 16]);
        let mut broker = Broker {
            id: BrokerId(1),
            epoch: BrokerEpoch(300),
            incarnation: Incarnation([9; 16]),
            rack: Some("a".to_owned()),
            peer_address: "storage-1:9190".to_owned(),
            host: "storage-1".to_owned(),
            state: BrokerState::Fenced,
        };
        let registered = Record::BrokerRegistered(broker.clone());
        broker = Broker { id: BrokerId(i32::MAX), rack: None, state: BrokerState::ShuttingDown, ..broker };
        let state = PartitionState {
            replicas: vec![BrokerId(1), BrokerId(2), BrokerId(3)],
            isr: vec![BrokerId(2)],
            elr: vec![BrokerId(3)],
            last_known_elr: vec![BrokerId(1)],
            leader: Some(BrokerId(2)),
            leader_epoch: LeaderEpoch(5),
            partition_epoch: PartitionEpoch(130),
            ..PartitionState::default()
        };
        let config = |resource, value: Option<&str>| Record::ConfigChanged {
            resource,
            name: "retention.ms".to_owned(),
            value: value.map(str::to_owned),
        };
        vec![
            Record::ClusterNamed { cluster_id: "thalweg".to_owned() },
            registered,
            Record::BrokerRegistered(broker),
            Record::BrokerStateChanged {
                broker: BrokerId(1),
                broker_epoch: BrokerEpoch(300),
                state: BrokerState::Active,
            },
            Record::BrokerUnregistered { broker: BrokerId(1) },
            Record::GatewayRegistered(Gateway {
                id: BrokerId(101),
                incarnation: Incarnation([3; 16]),
                advertised_host: "gw".to_owned(),
                advertised_port: u16::MAX,
                rack: None,
                host: "h".to_owned(),
            }),
            Record::GatewayRemoved { gateway: BrokerId(101) },
            Record::TopicCreated { id: topic, name: "orders".to_owned() },
            Record::TopicRemoved { id: topic },
            Record::PartitionChanged { partition: TopicPartition { topic, partition: PartitionIndex(4) }, state },
            Record::PartitionChanged {
                partition: TopicPartition { topic, partition: PartitionIndex(0) },
                state: PartitionState { leader_epoch: LeaderEpoch::UNKNOWN, ..PartitionState::default() },
            },
            config(ConfigResource::Cluster, Some("1")),
            config(ConfigResource::Broker(BrokerId(2)), None),
            config(ConfigResource::Topic("orders".to_owned()), Some("")),
            Record::ProducerIdsAllocated { next: ProducerId(i64::MAX) },
            Record::FeatureChanged { name: "transaction.version".to_owned(), level: -1 },
            Record::ControllerChanged { controller: BrokerId(3), term: u64::MAX },
            Record::DirectoryConfirmed { broker: BrokerId(1), broker_epoch: BrokerEpoch(300) },
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// What version 1 cannot say.
    fn samples_of_version_2() -> Vec<Record> {
        let partition = |index| TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(index) };
        let state = PartitionState {
            replicas: [4, 2, 1].map(BrokerId).to_vec(),
            isr: [1, 2].map(BrokerId).to_vec(),
            leader: Some(BrokerId(1)),
            adding: vec![BrokerId(4)],
            removing: vec![BrokerId(1)],
            ..PartitionState::default()
        };
        vec![
            Record::PartitionChanged { partition: partition(3), state },
            Record::PartitionChanged { partition: partition(4), state: PartitionState::default() },
        ]
    }

    /// What version 2 cannot say.
    fn samples_of_version_3() -> Vec<Record> {
        let partition = |index| TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(index) };
        let state = PartitionState {
            replicas: [4, 2].map(BrokerId).to_vec(),
            isr: vec![BrokerId(2)],
            leader: Some(BrokerId(2)),
            leader_epoch: LeaderEpoch(70),
            adding: vec![BrokerId(4)],
            unclean_since: Some(LeaderEpoch(65)),
            ..PartitionState::default()
        };
        vec![
            Record::PartitionChanged { partition: partition(5), state },
            Record::PartitionChanged { partition: partition(6), state: PartitionState::default() },
        ]
    }

    const GOLDEN: &str = include_str!("../../fixtures/records-v1.hex");
    const GOLDEN_2: &str = include_str!("../../fixtures/records-v2.hex");
    const GOLDEN_3: &str = include_str!("../../fixtures/records-v3.hex");

    /// A file is written once per version and never again: a change comes with another version and another file.
    #[test]
    fn golden_bytes_of_version_1_are_written_and_read() {
        let encoded = encode_records(&samples());
        assert_eq!(hex(&encoded), hex(&unhex(GOLDEN)));
        assert_eq!(decode_records(&unhex(GOLDEN)), Ok(samples()));
    }

    #[test]
    fn golden_bytes_of_version_2_are_written_and_read() {
        assert_eq!(hex(&encode_records(&samples_of_version_2())), hex(&unhex(GOLDEN_2)));
        assert_eq!(decode_records(&unhex(GOLDEN_2)), Ok(samples_of_version_2()));
    }

    #[test]
    fn golden_bytes_of_version_3_are_written_and_read() {
        assert_eq!(hex(&encode_records(&samples_of_version_3())), hex(&unhex(GOLDEN_3)));
        assert_eq!(decode_records(&unhex(GOLDEN_3)), Ok(samples_of_version_3()));
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        let encoded = encode_records(&samples());
        for size in 0..encoded.len() {
            assert!(decode_records(&encoded[..size]).is_err(), "cut at {size}");
        }
        let mut longer = encoded.clone();
        longer.push(0);
        assert_eq!(decode_records(&longer), Err(DecodeError { what: "bytes left over", left: 1 }));
        let mut newer = encoded;
        newer[0] = VERSION_3 + 1;
        assert!(decode_records(&newer).is_err());
    }

    /// Whatever is decoded encodes to bytes that decode to the same; nothing panics, nothing grows without bytes to show for it.
    #[test]
    fn mutated_bytes_never_panic() {
        let seed = encode_records(&[samples(), samples_of_version_2(), samples_of_version_3()].concat());
        let mut random = Random::new(20_261_121);
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut bytes = seed.clone();
            for _ in 0..random.between(1, 4) {
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(3) {
                    0 => bytes[at] = random.next_u64() as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.next_u64() as u8),
                }
            }
            if let Ok(records) = decode_records(&bytes) {
                accepted += 1;
                assert_eq!(decode_records(&encode_records(&records)), Ok(records));
            }
        }
        assert!(accepted > 1000, "{accepted}");
    }

    #[test]
    fn a_huge_count_is_refused_before_anything_is_allocated() {
        let mut bytes = vec![VERSION_1];
        put_u64(&mut bytes, u64::MAX);
        assert_eq!(decode_records(&bytes).unwrap_err().what, "a count beyond the bytes left");
        bytes.truncate(1);
        bytes.extend([0x80; 11]);
        assert!(decode_records(&bytes).is_err());
    }
}
