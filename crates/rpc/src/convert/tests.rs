//! Every kind of message, made at random: it comes back as it was, and its bytes are those of a plain protobuf encoder.

use std::fmt::Debug;

use bytes::{BufMut, Bytes, BytesMut};
use peer_api::controller::{FromController, RaftMessage, ToController};
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{FromStorage, ToStorage};
use proptest::prelude::*;
use prost::Message;

use super::arbitrary::{Arbitrary, Source};
use crate::chunks::Chunks;
use crate::limits;
use crate::proto;
use crate::wire::{self, Malformed, Pieces, Sink, Wire};

/// Everything in one buffer.
#[derive(Default)]
struct Flat(BytesMut);

impl Sink for Flat {
    fn buffer(&mut self, len: usize) -> &mut BytesMut {
        self.0.reserve(len);
        &mut self.0
    }

    fn piece(&mut self, piece: Bytes) {
        self.0.extend_from_slice(&piece);
    }
}

/// What the messages are to the oracle: the generated types, payload included.
trait Plain: Message + Default {
    fn payload(&mut self) -> Option<&mut Bytes>;
}

macro_rules! plain {
    ($($with:ty),*; $($without:ty),*) => {
        $(impl Plain for $with { fn payload(&mut self) -> Option<&mut Bytes> { Some(&mut self.payload) } })*
        $(impl Plain for $without { fn payload(&mut self) -> Option<&mut Bytes> { None } })*
    };
}

plain!(
    proto::storage::v1::ToStorage,
    proto::storage::v1::FromStorage,
    proto::replication::v1::FromLeader,
    proto::controller::v1::FromController,
    proto::raft::v1::RaftMessage;
    proto::replication::v1::FromFollower,
    proto::controller::v1::ToController
);

fn encoded<T: Wire>(message: T, trace: Option<&str>) -> Bytes {
    let mut flat = Flat::default();
    wire::encode(message, trace.map(Into::into), &mut Pieces::default(), &mut flat).unwrap();
    flat.0.freeze()
}

/// As received in frames that end anywhere.
fn cut(bytes: &Bytes, seed: u64) -> Chunks {
    let mut random = base_types::Random::new(seed);
    let mut chunks = Chunks::default();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let most = if random.chance(700) { rest.len() } else { rest.len().min(9) };
        chunks.push(rest.split_to(random.between(1, most as u64) as usize));
    }
    chunks
}

fn frame(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    message.encode(&mut framed).unwrap();
    framed.freeze()
}

fn same_after<T: Wire>(message: &Bytes, seed: u64) -> (T, String) {
    let mut chunks = cut(message, seed);
    let decoded = wire::decode::<T>(&mut chunks).unwrap().unwrap();
    assert_eq!(chunks.len(), 0);
    decoded
}

fn round_trips<T>(seed: u64, same: impl Fn(&T, &T))
where
    T: Arbitrary + Wire + Debug,
    T::Header: Plain,
{
    for kind in 0..T::KINDS {
        let make = || T::arbitrary(kind, &mut Source::new(seed));
        let trace = seed.is_multiple_of(2).then_some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

        let ours = encoded(make(), trace);
        let (decoded, decoded_trace) = same_after::<T>(&ours, seed);
        same(&decoded, &make());
        assert_eq!(decoded_trace, trace.unwrap_or_default());

        // A plain encoder makes the same bytes, and a plain decoder takes ours.
        let plain = T::Header::decode(ours.slice(5..)).unwrap();
        assert_eq!(frame(&plain), ours);

        // Protobuf allows any order of fields: the payload first, and an empty one before the real one.
        let mut header = T::Header::decode(ours.slice(5..)).unwrap();
        if let Some(payload) = header.payload() {
            let payload = std::mem::take(payload);
            let mut fields = BytesMut::new();
            prost::encoding::bytes::encode(15, &Bytes::new(), &mut fields);
            if !payload.is_empty() {
                prost::encoding::bytes::encode(15, &payload, &mut fields);
            }
            let header = header.encode_to_vec();
            let mut other = BytesMut::new();
            other.put_u8(0);
            other.put_u32((fields.len() + header.len()) as u32);
            other.put(fields);
            other.put(&header[..]);
            same(&same_after::<T>(&other.freeze(), seed).0, &make());
        }

        // Cut short it is not there yet; several in a row come one by one.
        let mut chunks = cut(&ours.slice(..ours.len() - 1), seed);
        assert!(wire::decode::<T>(&mut chunks).unwrap().is_none());
        chunks.push(ours.slice(ours.len() - 1..));
        chunks.push(ours.clone());
        same(&wire::decode::<T>(&mut chunks).unwrap().unwrap().0, &make());
        same(&wire::decode::<T>(&mut chunks).unwrap().unwrap().0, &make());
    }
}

fn equal<T: PartialEq + Debug>(a: &T, b: &T) {
    assert_eq!(a, b);
}

/// For messages whose batches have no equality of their own.
fn looks_equal<T: Debug>(a: &T, b: &T) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn to_storage(seed: u64) {
        round_trips::<ToStorage>(seed, looks_equal);
    }

    #[test]
    fn from_storage(seed: u64) {
        round_trips::<FromStorage>(seed, looks_equal);
    }

    #[test]
    fn from_follower(seed: u64) {
        round_trips::<FromFollower>(seed, equal);
    }

    #[test]
    fn from_leader(seed: u64) {
        round_trips::<FromLeader>(seed, equal);
    }

    #[test]
    fn to_controller(seed: u64) {
        round_trips::<ToController>(seed, equal);
    }

    #[test]
    fn from_controller(seed: u64) {
        round_trips::<FromController>(seed, equal);
    }

    #[test]
    fn raft(seed: u64) {
        round_trips::<RaftMessage>(seed, equal);
    }

    /// Damaged bytes are a message, malformed, or not all there; never a panic.
    #[test]
    fn mutated_bytes_never_panic(seed: u64) {
        fn mutate<T: Arbitrary + Wire>(seed: u64) {
            let mut random = base_types::Random::new(seed);
            let kind = random.below(T::KINDS);
            let mut bytes = encoded(T::arbitrary(kind, &mut Source::new(seed)), None).to_vec();
            for _ in 0..random.between(1, 4) {
                let at = match random.below(2) {
                    0 => random.below(bytes.len().min(80) as u64),
                    _ => random.below(bytes.len() as u64),
                } as usize;
                match random.below(4) {
                    0 => bytes[at] = random.next_u64() as u8,
                    1 => bytes[at] = bytes[at].wrapping_add(1),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random.next_u64() as u8),
                }
            }
            let mut chunks = cut(&bytes.into(), seed);
            while let Ok(Some(_)) = wire::decode::<T>(&mut chunks) {}
        }
        mutate::<ToStorage>(seed);
        mutate::<FromStorage>(seed);
        mutate::<FromFollower>(seed);
        mutate::<FromLeader>(seed);
        mutate::<ToController>(seed);
        mutate::<FromController>(seed);
        mutate::<RaftMessage>(seed);
    }
}

#[test]
fn a_batch_damaged_on_the_way_spoils_its_partition_alone() {
    use peer_api::storage::{Acks, AppendPartition, AppendRequest, Damaged, Request, RequestId};
    let mut random = Source::new(7);
    let mut partition = || AppendPartition {
        partition: Default::default(),
        leader_epoch: base_types::LeaderEpoch(3),
        batch: Ok(random.produced()),
    };
    let append =
        AppendRequest { acks: Acks::All, timeout_ms: 5, partitions: vec![partition(), partition(), partition()] };
    let middle = append.partitions[1].batch.as_ref().unwrap().bytes().len();
    let last = append.partitions[2].batch.as_ref().unwrap().bytes().len();
    let mut bytes = encoded(ToStorage { id: RequestId(1), request: Request::Append(append) }, None).to_vec();
    let at = bytes.len() - last - middle / 2;
    bytes[at] ^= 0x40;
    let (message, _) = same_after::<ToStorage>(&bytes.into(), 1);
    let Request::Append(append) = message.request else { panic!("another request: {message:?}") };
    let results: Vec<_> = append.partitions.into_iter().map(|partition| partition.batch.map(|_| ())).collect();
    assert_eq!(results, [Ok(()), Err(Damaged), Ok(())]);
}

#[test]
fn a_pushed_batch_damaged_on_the_way_is_malformed() {
    let message = (0..).map(|seed| FromLeader::arbitrary(0, &mut Source::new(seed)));
    let message = message.into_iter().find(|m| matches!(m, FromLeader::Push { batches, .. } if !batches.is_empty()));
    let mut bytes = encoded(message.unwrap(), None).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let error = wire::decode::<FromLeader>(&mut cut(&bytes.into(), 1)).unwrap_err();
    assert!(matches!(error, Malformed::Batch(record_batch::BatchError::Crc { .. })), "{error}");
}

#[test]
fn a_payload_in_one_frame_is_not_copied() {
    let records = Bytes::from(vec![5; 100_000]);
    let message = RaftMessage { from: Default::default(), to: Default::default(), bytes: records };
    let bytes = encoded(message, None);
    let mut chunks = Chunks::default();
    chunks.push(bytes.clone());
    let (decoded, _) = wire::decode::<RaftMessage>(&mut chunks).unwrap().unwrap();
    assert!(bytes.as_ptr_range().contains(&decoded.bytes.as_ptr()));
    assert_eq!(decoded.bytes.len(), 100_000);
}

#[test]
fn claims_beyond_the_limits_are_refused_before_anything_is_kept() {
    let refused = |bytes: &[u8]| {
        let mut chunks = Chunks::default();
        chunks.push(Bytes::copy_from_slice(bytes));
        wire::decode::<ToStorage>(&mut chunks).unwrap_err()
    };
    let claim = (limits::MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes();
    assert!(matches!(refused(&[&[0][..], &claim].concat()), Malformed::TooLarge { .. }));
    assert!(matches!(refused(&[1, 0, 0, 0, 0]), Malformed::Compressed));
    assert!(matches!(refused(&[0, 0, 0, 0, 0]), Malformed::Missing("request")));
    // A payload field longer than the message.
    assert!(matches!(refused(&[0, 0, 0, 0, 2, 0x7a, 9]), Malformed::Payload { claimed: 9, .. }));
    // A header that claims more payload than there is, and one that leaves some.
    let message = |lengths: Vec<u32>| proto::replication::v1::FromLeader {
        partition: super::to_partition(Default::default()),
        message: Some(proto::replication::v1::from_leader::Message::Push(proto::replication::v1::Push {
            lengths,
            ..Default::default()
        })),
        payload: vec![0; 10].into(),
        ..Default::default()
    };
    for lengths in [vec![11], vec![u32::MAX, u32::MAX], vec![]] {
        let mut chunks = Chunks::default();
        chunks.push(frame(&message(lengths)));
        assert!(matches!(wire::decode::<FromLeader>(&mut chunks), Err(Malformed::Payload { .. })));
    }
}

#[test]
fn unknown_fields_of_a_later_version_are_skipped() {
    let message = FromFollower::arbitrary(1, &mut Source::new(3));
    let mut bytes = encoded(message.clone(), None).to_vec();
    prost::encoding::string::encode(99, &"later".to_owned(), &mut bytes);
    let size = (bytes.len() - 5) as u32;
    bytes[1..5].copy_from_slice(&size.to_be_bytes());
    assert_eq!(same_after::<FromFollower>(&bytes.into(), 1).0, message);
}
