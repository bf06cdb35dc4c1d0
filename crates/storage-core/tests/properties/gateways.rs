//! Gateways that ask for anything at any time, and remember what they were promised.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, Random, Timestamp, TopicId, TopicPartition};
use bytes::Bytes;
use peer_api::groups::{
    Caller, CommitPartition, FetchGroup, GroupRequest, GroupResponse, OffsetCommit, OffsetFetch, OffsetTopic,
    ToCoordinator,
};
use peer_api::storage::{
    Acks, AppendPartition, AppendRequest, Damaged, EpochEndPartition, FetchPartition, FetchRequest, Isolation,
    ListOffsetsPartition, OffsetSpec, Request, RequestId, Response, ToStorage,
};
use record_batch::{BatchBuilder, BatchHeader, BatchLimits, Compression, ProducedBatch};
use storage_core::GatewayStream;

/// What was asked and is not answered yet.
#[derive(Clone, Debug)]
pub enum Asked {
    Append {
        acks: Acks,
        partitions: Vec<(TopicPartition, LeaderEpoch, u32)>,
    },
    Fetch {
        partitions: Vec<TopicPartition>,
        bytes_max: usize,
    },
    Commit {
        group: usize,
        offset: i64,
    },
    /// `at_least` was acknowledged before it was asked.
    FetchOffset {
        group: usize,
        at_least: i64,
    },
    Other,
}

/// What a group that commits one offset after the other was promised.
#[derive(Debug, Default)]
struct Group {
    asked: i64,
    acknowledged: i64,
    /// One at a time, so that the log has them in order.
    is_committing: bool,
    refused: BTreeSet<i64>,
}

/// Where appends landed, by request and by place in it.
type ByAsking = BTreeMap<(RequestId, usize), Offset>;

#[derive(Default)]
pub struct Gateways {
    pub open: BTreeMap<(GatewayStream, RequestId), Asked>,
    last_request: u64,
    last_value: u64,
    /// How many batches are so large that derived state is kept within a run.
    large_per_mille: u64,
    /// Which partition each batch was made for.
    pub made_for: BTreeMap<u32, TopicPartition>,
    /// Where each successful append of a stream landed under one leader, by the order of asking (W1).
    landed: BTreeMap<(GatewayStream, TopicPartition, LeaderEpoch), ByAsking>,
    /// Acknowledged with acks=all.
    pub committed: BTreeMap<(TopicPartition, Offset), u32>,
    /// What readers have seen where.
    pub seen: BTreeMap<(TopicPartition, Offset), u32>,
    /// Refused for good.
    pub never: BTreeSet<u32>,
    pub groups_topic: TopicId,
    groups: [Group; 2],
}

impl Gateways {
    pub fn new(large_per_mille: u64) -> Gateways {
        Gateways { large_per_mille, ..Gateways::default() }
    }

    /// Whatever was asked on this stream is never answered.
    pub fn lost(&mut self, stream: GatewayStream) {
        for ((of, _), asked) in &self.open {
            if let (true, Asked::Commit { group, .. }) = (*of == stream, asked) {
                self.groups[*group].is_committing = false;
            }
        }
        self.open.retain(|(of, _), _| *of != stream);
    }

    pub fn ask(
        &mut self,
        stream: GatewayStream,
        partitions: &[(TopicPartition, LeaderEpoch)],
        random: &mut Random,
    ) -> ToStorage {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let (request, asked) = match random.below(20) {
            0..9 => self.append(partitions, random),
            9..15 => fetch(partitions, random),
            15 => {
                let fetches =
                    self.open.iter().filter(|((of, _), asked)| *of == stream && matches!(asked, Asked::Fetch { .. }));
                let fetch = fetches.map(|((_, id), _)| *id).next().unwrap_or_default();
                return ToStorage { id, request: Request::CancelFetch(fetch) };
            }
            16 | 17 => list(partitions, random),
            18 => {
                let ask = |&(partition, epoch): &(TopicPartition, LeaderEpoch)| EpochEndPartition {
                    partition,
                    current_leader_epoch: LeaderEpoch::UNKNOWN,
                    leader_epoch: epoch,
                };
                (Request::EpochEnds(partitions.iter().map(ask).collect()), Asked::Other)
            }
            _ if random.chance(500) => (Request::DescribeLogDirs, Asked::Other),
            _ => (Request::DescribeProducers(partitions.iter().map(|(id, _)| *id).collect()), Asked::Other),
        };
        self.open.insert((stream, id), asked);
        ToStorage { id, request }
    }

    /// A commit, or what was committed last.
    pub fn ask_coordinator(&mut self, stream: GatewayStream, random: &mut Random) -> ToStorage {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let group = random.below(2) as usize;
        let state = &mut self.groups[group];
        let (group_id, name) = (format!("group {group}"), "committed by many".to_owned());
        let (request, asked) = if !state.is_committing && random.chance(600) {
            state.asked += 1;
            state.is_committing = true;
            let committed = CommitPartition {
                partition: PartitionIndex(0),
                offset: Offset(state.asked),
                leader_epoch: LeaderEpoch::UNKNOWN,
                metadata: None,
            };
            let commit = OffsetCommit {
                group_id,
                generation_or_epoch: -1,
                topics: vec![OffsetTopic { name, partitions: vec![committed], id: TopicId::ZERO }],
                ..OffsetCommit::default()
            };
            (GroupRequest::OffsetCommit(commit), Asked::Commit { group, offset: state.asked })
        } else {
            let topic = OffsetTopic { name, partitions: vec![PartitionIndex(0)], ..OffsetTopic::default() };
            let fetch = FetchGroup { group_id, member_epoch: -1, topics: Some(vec![topic]), ..FetchGroup::default() };
            let request = OffsetFetch { groups: vec![fetch], require_stable: false };
            (GroupRequest::OffsetFetch(request), Asked::FetchOffset { group, at_least: state.acknowledged })
        };
        self.open.insert((stream, id), asked);
        let asked = ToCoordinator { partition: PartitionIndex(0), caller: Caller::default(), request };
        ToStorage { id, request: Request::Coordinate(Box::new(asked)) }
    }

    /// What the last coordinator knows of a group. `None` is said of a group that never committed.
    pub fn offset_fetched(&self, group: usize, at_least: i64, response: &GroupResponse) {
        let GroupResponse::OffsetFetch(fetched) = response else { panic!("not what was asked: {response:?}") };
        let offset = fetched[0].result.as_ref().unwrap()[0].partitions[0].offset.0;
        let group = &self.groups[group];
        assert!(offset.max(0) >= at_least, "G3, G4: {offset}, and {at_least} was acknowledged: {group:?}");
        assert!(offset <= group.asked, "{offset} was never committed: {group:?}");
        assert!(!group.refused.contains(&offset), "R17: {offset} was refused: {group:?}");
    }

    pub fn made_by_coordinators(&self, partition: TopicPartition, crc: u32) -> bool {
        partition.topic == self.groups_topic && !self.made_for.contains_key(&crc)
    }

    fn append(&mut self, partitions: &[(TopicPartition, LeaderEpoch)], random: &mut Random) -> (Request, Asked) {
        let acks = if random.chance(700) { Acks::All } else { Acks::Leader };
        let mut made = Vec::new();
        let mut appends = Vec::new();
        for &(partition, leader_epoch) in partitions {
            let batch = self.batch(random);
            let crc = batch.header().crc;
            self.made_for.insert(crc, partition);
            made.push((partition, leader_epoch, crc));
            let batch = if random.chance(20) { Err(Damaged) } else { Ok(batch) };
            appends.push(AppendPartition { partition, leader_epoch, batch });
        }
        let timeout_ms = random.between(0, 800) as u32;
        (
            Request::Append(AppendRequest { acks, timeout_ms, partitions: appends }),
            Asked::Append { acks, partitions: made },
        )
    }

    fn batch(&mut self, random: &mut Random) -> ProducedBatch {
        loop {
            self.last_value += 1;
            let mut builder = BatchBuilder::new(Compression::None);
            for _ in 0..random.between(1, 3) {
                let large = random.chance(self.large_per_mille);
                let padding = if large { 900_000 } else { random.below(100) as usize };
                let value = [&self.last_value.to_be_bytes()[..], &vec![0; padding]].concat();
                builder.push(None, Some(&value), &[], Timestamp(1));
                if large {
                    break;
                }
            }
            let batch = ProducedBatch::check(builder.build().unwrap(), &BatchLimits::default()).unwrap();
            if !self.made_for.contains_key(&batch.header().crc) {
                return batch;
            }
        }
    }

    /// One answer came. What only the world can judge is left to it.
    pub fn answered(&mut self, stream: GatewayStream, id: RequestId, response: &Response) -> Asked {
        let asked = self.open.remove(&(stream, id)).expect("answered twice, or to nobody");
        match (&asked, response) {
            (Asked::Append { partitions, .. }, Response::Append(response)) => {
                assert_eq!(partitions.len(), response.partitions.len());
                let results = response.partitions.iter().enumerate();
                for ((partition, epoch, crc), (place, (answered, result))) in partitions.iter().zip(results) {
                    assert_eq!(partition, answered, "in the order asked");
                    match result {
                        Ok(appended) => {
                            self.landed((stream, *partition, *epoch), (id, place), appended.base_offset);
                        }
                        Err(error) if error.is_definite() => {
                            self.never.insert(*crc);
                        }
                        Err(_) => {}
                    }
                }
            }
            (Asked::Fetch { partitions, bytes_max }, Response::Fetch(response)) => {
                let answered: Vec<TopicPartition> = response.partitions.iter().map(|(id, _)| *id).collect();
                assert_eq!(partitions, &answered, "in the order asked");
                let records = response.partitions.iter().filter_map(|(_, result)| result.as_ref().ok());
                let sizes: Vec<usize> = records.flat_map(|fetched| fetched.records.iter().map(Bytes::len)).collect();
                assert!(sizes.len() <= 1 || sizes.iter().sum::<usize>() <= *bytes_max, "{sizes:?} of {bytes_max}");
            }
            (Asked::Commit { group, offset }, Response::Coordinate(result)) => {
                let group = &mut self.groups[*group];
                group.is_committing = false;
                match result.as_ref() {
                    Ok(GroupResponse::OffsetCommit(Ok(topics))) => {
                        assert_eq!(topics[0].partitions[0].error, ErrorCode::None);
                        group.acknowledged = *offset;
                    }
                    Ok(other) => panic!("a commit by nobody in particular is always taken: {other:?}"),
                    Err(error) if error.is_definite() => {
                        group.refused.insert(*offset);
                    }
                    Err(_) => {}
                }
            }
            (Asked::FetchOffset { .. }, Response::Coordinate(_)) => {}
            (
                Asked::Other,
                Response::ListOffsets(_)
                | Response::EpochEnds(_)
                | Response::DescribeProducers(_)
                | Response::DescribeLogDirs(_)
                | Response::Trim(_),
            ) => {}
            (asked, response) => panic!("{asked:?} answered with {response:?}"),
        }
        asked
    }

    /// Readers agree for ever on what stands where (R1, R10), and it is of this very partition (R18).
    pub fn saw(&mut self, partition: TopicPartition, header: &BatchHeader) {
        let known = *self.seen.entry((partition, header.base_offset)).or_insert(header.crc);
        assert_eq!(known, header.crc, "{partition} at {} changed", header.base_offset);
        if !self.made_by_coordinators(partition, header.crc) {
            assert_eq!(self.made_for.get(&header.crc), Some(&partition), "data of another partition");
        }
    }

    fn landed(&mut self, under: (GatewayStream, TopicPartition, LeaderEpoch), asked: (RequestId, usize), at: Offset) {
        let landed = self.landed.entry(under).or_default();
        if let Some((_, earlier)) = landed.range(..asked).next_back() {
            assert!(*earlier < at, "W1: {under:?} at {at} after {earlier}");
        }
        if let Some((_, later)) = landed.range(asked..).next() {
            assert!(*later > at, "W1: {under:?} at {at} before {later}");
        }
        landed.insert(asked, at);
    }
}

fn fetch(partitions: &[(TopicPartition, LeaderEpoch)], random: &mut Random) -> (Request, Asked) {
    let mut ask = |&(partition, epoch): &(TopicPartition, LeaderEpoch)| FetchPartition {
        partition,
        leader_epoch: if random.chance(300) { epoch } else { LeaderEpoch::UNKNOWN },
        fetch_offset: Offset(random.below(40) as i64),
        last_fetched_epoch: if random.chance(200) { epoch } else { LeaderEpoch::UNKNOWN },
        bytes_max: [100, 1 << 20][random.below(2) as usize],
    };
    let asks: Vec<FetchPartition> = partitions.iter().map(&mut ask).collect();
    let request = FetchRequest {
        wait_ms_max: random.below(400) as u32,
        bytes_min: [0, 1, 1, 300, 100_000][random.below(5) as usize],
        bytes_max: [10, 500, 1 << 20][random.below(3) as usize],
        isolation: Isolation::ReadUncommitted,
        partitions: asks,
    };
    let bytes_max = request.bytes_max as usize;
    (Request::Fetch(request), Asked::Fetch { partitions: partitions.iter().map(|(id, _)| *id).collect(), bytes_max })
}

fn list(partitions: &[(TopicPartition, LeaderEpoch)], random: &mut Random) -> (Request, Asked) {
    let mut ask = |&(partition, leader_epoch): &(TopicPartition, LeaderEpoch)| ListOffsetsPartition {
        partition,
        leader_epoch,
        isolation: Isolation::ReadUncommitted,
        at: [OffsetSpec::Latest, OffsetSpec::Earliest, OffsetSpec::MaxTimestamp, OffsetSpec::At(Timestamp(1))]
            [random.below(4) as usize],
    };
    (Request::ListOffsets(partitions.iter().map(&mut ask).collect()), Asked::Other)
}
