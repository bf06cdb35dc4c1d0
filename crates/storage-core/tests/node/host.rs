//! A node without a shell: events go in as they are, effects come out as short lines.

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, Incarnation, LeaderEpoch, Now, Offset, PartitionEpoch, PartitionIndex, Tick,
    Timestamp, TopicId, TopicPartition,
};
use bytes::Bytes;
use peer_api::controller::{Error, FromController, HeartbeatAnswer, Request, Response as Answered, ToController};
use peer_api::groups::GroupResponse;
use peer_api::metadata::{Broker, BrokerState, ConfigResource, MetadataOffset, PartitionState, Record, Update};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{
    Acks, AppendPartition, AppendRequest, FetchPartition, FetchRequest, Isolation, Request as Asked, RequestId,
    Response, ToStorage,
};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch, StampedBatch};
use storage_core::{
    ControllerStream, Effect, Effects, Event, GatewayStream, Identity, OnDisk, PeerStream, StorageNode, WriteFailure,
    WriteId,
};

/// The node under test.
pub const ME: BrokerId = BrokerId(1);
/// Time zero of every test.
const START_MS: u64 = 1_000;

pub struct Host {
    pub node: StorageNode,
    pub now_ms: u64,
    effects: Effects,
    /// Everything that was asked to be written, in order.
    pub batches: Vec<StampedBatch>,
    /// The metadata as the controller has it.
    pub at: u64,
}

/// A partition of topic number `topic`.
pub fn tp(topic: u8, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex(partition) }
}

pub fn gateway(number: u64) -> GatewayStream {
    GatewayStream(number)
}

pub fn produced(value_bytes: usize) -> ProducedBatch {
    let value = vec![7; value_bytes];
    let bytes = BatchBuilder::new(Compression::None).record(None, Some(&value), &[], Timestamp(1)).build().unwrap();
    ProducedBatch::check(bytes, &BatchLimits::default()).unwrap()
}

/// A batch of one record as the disk holds it.
pub fn stored(base_offset: i64, leader_epoch: i32) -> Bytes {
    StampedBatch::stamp(&produced(10), Offset(base_offset), LeaderEpoch(leader_epoch)).to_bytes()
}

pub fn broker(id: i32, epoch: i64, state: BrokerState) -> Record {
    Record::BrokerRegistered(Broker {
        id: BrokerId(id),
        epoch: BrokerEpoch(epoch),
        incarnation: Incarnation([id as u8; 16]),
        rack: None,
        peer_address: format!("node{id}:1"),
        host: format!("node{id}"),
        state,
    })
}

pub fn topic(number: u8) -> Record {
    Record::TopicCreated { id: TopicId([number; 16]), name: format!("t{number}") }
}

pub fn deleted(number: u8) -> Record {
    Record::TopicRemoved { id: TopicId([number; 16]) }
}

/// `leader` leads in `epoch`; everyone is in sync. The partition epoch is ten times the leader epoch.
pub fn partition(partition: TopicPartition, leader: i32, epoch: i32, replicas: &[i32]) -> Record {
    let replicas: Vec<BrokerId> = replicas.iter().map(|&id| BrokerId(id)).collect();
    Record::PartitionChanged {
        partition,
        state: PartitionState {
            isr: replicas.clone(),
            replicas,
            leader: Some(BrokerId(leader)),
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: PartitionEpoch(10 * epoch),
            ..PartitionState::default()
        },
    }
}

pub fn empty() -> OnDisk {
    OnDisk::default()
}

/// A log of `log_end` records of `epoch`, all below the high watermark that was kept.
pub fn log(log_end: i64, epoch: i32) -> OnDisk {
    OnDisk {
        log_end: Offset(log_end),
        high_watermark: Offset(log_end),
        leader_epochs: vec![(LeaderEpoch(epoch), Offset(0))],
        ..OnDisk::default()
    }
}

/// Of two replicas, led by us in epoch 3.
pub fn led_with(partition: TopicPartition, isr: &[i32], partition_epoch: i32) -> Record {
    of_two(partition, [1, 2], isr, partition_epoch)
}

/// The same, led by broker 2.
pub fn followed(partition: TopicPartition, isr: &[i32], partition_epoch: i32) -> Record {
    of_two(partition, [2, 1], isr, partition_epoch)
}

/// The first of the replicas leads.
fn of_two(partition: TopicPartition, replicas: [i32; 2], isr: &[i32], partition_epoch: i32) -> Record {
    let state = PartitionState {
        replicas: replicas.map(BrokerId).to_vec(),
        isr: isr.iter().map(|&id| BrokerId(id)).collect(),
        leader: Some(BrokerId(replicas[0])),
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(partition_epoch),
        ..PartitionState::default()
    };
    Record::PartitionChanged { partition, state }
}

pub fn setting(resource: ConfigResource, name: &str, value: &str) -> Record {
    Record::ConfigChanged { resource, name: name.to_owned(), value: Some(value.to_owned()) }
}

/// An append of one small batch to each partition, known to be led in `epoch`.
pub fn append(acks: Acks, epoch: i32, partitions: &[TopicPartition]) -> Asked {
    let append = |&partition: &TopicPartition| AppendPartition {
        partition,
        leader_epoch: LeaderEpoch(epoch),
        batch: Ok(produced(10)),
    };
    Asked::Append(AppendRequest { acks, timeout_ms: 1_000, partitions: partitions.iter().map(append).collect() })
}

pub fn fetch_from(partition: TopicPartition, offset: i64) -> FetchPartition {
    FetchPartition {
        partition,
        leader_epoch: LeaderEpoch::UNKNOWN,
        fetch_offset: Offset(offset),
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
        bytes_max: 1 << 20,
    }
}

/// Waits up to 500 ms for `bytes_min`.
pub fn fetch(bytes_min: u32, partitions: Vec<FetchPartition>) -> Asked {
    let isolation = Isolation::ReadUncommitted;
    Asked::Fetch(FetchRequest { wait_ms_max: 500, bytes_min, bytes_max: 1 << 20, isolation, partitions })
}

pub fn follower_connected(host: &mut Host, stream: u64, follower: i32, epoch: i64) -> Vec<String> {
    let hello = Hello { follower: BrokerId(follower), broker_epoch: BrokerEpoch(epoch) };
    host.step(Event::FollowerConnected { stream: PeerStream(stream), hello })
}

pub fn follow(host: &mut Host, stream: u64, partition: TopicPartition, log_end: i64) -> Vec<String> {
    let message = FromFollower::Follow {
        partition,
        leader_epoch: LeaderEpoch(3),
        log_start: Offset::ZERO,
        log_end: Offset(log_end),
        last_epoch: LeaderEpoch::UNKNOWN,
    };
    host.step(Event::FollowerSaid { stream: PeerStream(stream), message })
}

impl Host {
    pub fn new() -> Host {
        Host::started_with(&[])
    }

    pub fn started_with(statics: &[(&str, &str)]) -> Host {
        let me = Identity {
            broker: ME,
            incarnation: Incarnation([1; 16]),
            cluster_id: None,
            rack: None,
            peer_address: "node1:1".to_owned(),
            host: "node1".to_owned(),
            clean_since: None,
            intact_since: Some(BrokerEpoch(2)),
            statics: statics.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        Host { node: StorageNode::new(me), now_ms: START_MS, effects: Effects::default(), batches: Vec::new(), at: 0 }
    }

    /// Registered under epoch 5 on stream 1, with brokers 1, 2 and 3 known, and the first heartbeat answered.
    pub fn registered() -> Host {
        Host::registered_with(&[])
    }

    /// The same on a node that was started with these of Kafka's configs.
    pub fn registered_with(statics: &[(&str, &str)]) -> Host {
        let mut host = Host::started_with(statics);
        host.step(Event::ControllerConnected { stream: ControllerStream(1) });
        host.said(FromController::Welcome { controller: BrokerId(100), term: 1 });
        let brokers = [1, 2, 3].map(|id| broker(id, 5, BrokerState::Active)).to_vec();
        host.said(FromController::Update(Update::Snapshot { at: MetadataOffset(10), records: brokers }));
        host.at = 10;
        host.answered(1, Ok(Answered::BrokerRegistered { broker_epoch: BrokerEpoch(5) }));
        host.remembered(5, Ok(()));
        host.heartbeat_answered(2, false);
        host
    }

    /// Registered, and leading partition 0 of topic 1 alone, in epoch 3.
    pub fn leading() -> Host {
        let mut host = Host::registered();
        host.updated(vec![topic(1), partition(tp(1, 0), 1, 3, &[1])]);
        host.opened(tp(1, 0), empty());
        host
    }

    /// Does one step and checks what must hold after each.
    pub fn step(&mut self, event: Event) -> Vec<String> {
        let ticked = matches!(event, Event::Ticked);
        let now = Now { tick: Tick(self.now_ms), wall: Timestamp(1_000_000) };
        self.node.step(now, event, &mut self.effects);
        self.node.check_invariants();
        if ticked {
            assert!(self.node.next_deadline() > Some(now.tick) || self.node.next_deadline().is_none(), "a busy loop");
        }
        let effects: Vec<Effect> = self.effects.drain().collect();
        self.batches.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Write { batch, .. } => Some(batch.clone()),
            _ => None,
        }));
        effects.iter().map(show).collect()
    }

    /// Ticks at every deadline on the way.
    pub fn after_ms(&mut self, ms: u64) -> Vec<String> {
        let end = self.now_ms + ms;
        let mut shown = Vec::new();
        while let Some(Tick(due)) = self.node.next_deadline().filter(|due| due.0 <= end) {
            self.now_ms = self.now_ms.max(due);
            shown.extend(self.step(Event::Ticked));
        }
        self.now_ms = end;
        shown
    }

    pub fn asked(&mut self, stream: u64, id: u64, request: Asked) -> Vec<String> {
        self.step(Event::GatewayAsked { stream: gateway(stream), message: ToStorage { id: RequestId(id), request } })
    }

    pub fn said(&mut self, message: FromController) -> Vec<String> {
        self.step(Event::ControllerSaid { stream: ControllerStream(1), message })
    }

    pub fn answered(&mut self, id: u64, result: Result<Answered, Error>) -> Vec<String> {
        self.said(FromController::Answer { id: RequestId(id), result })
    }

    pub fn heartbeat_answered(&mut self, id: u64, may_shutdown: bool) -> Vec<String> {
        self.answered(id, Ok(Answered::Heartbeat(HeartbeatAnswer { may_shutdown, ..Default::default() })))
    }

    /// Broker 1 is told that its replica of `1-0` may go in this leader epoch.
    pub fn given_up(&mut self, call: u64, epoch: i32) -> Vec<String> {
        let given_up = vec![(tp(1, 0), LeaderEpoch(epoch))];
        self.answered(call, Ok(Answered::Heartbeat(HeartbeatAnswer { given_up, ..Default::default() })))
    }

    pub fn updated(&mut self, records: Vec<Record>) -> Vec<String> {
        let from = MetadataOffset(self.at);
        self.at += 1;
        self.said(FromController::Update(Update::Delta { from, to: MetadataOffset(self.at), records }))
    }

    pub fn opened(&mut self, partition: TopicPartition, on_disk: OnDisk) -> Vec<String> {
        self.step(Event::ReplicaOpened { partition, on_disk })
    }

    pub fn written(&mut self, partition: TopicPartition, write: u64) -> Vec<String> {
        self.step(Event::WriteCompleted { partition, write: WriteId(write), result: Ok(()) })
    }

    pub fn remembered(&mut self, broker_epoch: i64, result: Result<(), WriteFailure>) -> Vec<String> {
        self.step(Event::BrokerEpochRemembered { broker_epoch: BrokerEpoch(broker_epoch), result })
    }

    pub fn not_written(&mut self, partition: TopicPartition, write: u64, failure: WriteFailure) -> Vec<String> {
        self.step(Event::WriteCompleted { partition, write: WriteId(write), result: Err(failure) })
    }
}

/// `1-0` for partition 0 of topic 1.
fn name(partition: TopicPartition) -> String {
    format!("{}-{}", partition.topic.0[0], partition.partition)
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Answer { stream, message } => {
            format!("answer {} #{}: {}", stream.0, message.id.0, show_response(&message.response))
        }
        Effect::ToController { stream, message } => format!("controller {}: {}", stream.0, show_call(message)),
        Effect::ReconnectController { stream, active } => {
            let active = active.as_ref().map_or("anyone", |active| &active.address);
            format!("leave controller {} for {active}", stream.0)
        }
        Effect::ToFollower { stream, message } => format!("follower {}: {}", stream.0, show_push(message)),
        Effect::ToLeader { leader, message } => format!("leader {leader}: {}", show_follow(message)),
        Effect::CloseFollower { stream } => format!("close follower {}", stream.0),
        Effect::ConnectLeader { leader, address, broker_epoch } => {
            format!("connect to {leader} at {address} as of {broker_epoch}")
        }
        Effect::DisconnectLeader { leader } => format!("disconnect from {leader}"),
        Effect::OpenReplica { partition, .. } => format!("open {}", name(*partition)),
        Effect::DeleteReplica { partition } => format!("delete {}", name(*partition)),
        Effect::SetReplicaAside { partition, .. } => format!("set aside {}", name(*partition)),
        Effect::SettingsChanged { partition, settings } => {
            format!("settings of {}: max.message.bytes {}", name(*partition), settings.max_message_bytes)
        }
        Effect::Write { partition, write, batch } => {
            format!(
                "write {} {}: {} at {}",
                write.0,
                name(*partition),
                batch.header().record_count,
                batch.header().base_offset
            )
        }
        Effect::Truncate { partition, write, to } => format!("truncate {} {} to {to}", write.0, name(*partition)),
        Effect::StartOver { partition, write, at } => format!("start over {} {} at {at}", write.0, name(*partition)),
        Effect::Trim { partition, write, to } => format!("trim {} {} to {to}", write.0, name(*partition)),
        Effect::Checkpoint { partition, as_of, high_watermark, .. } => {
            format!("checkpoint {} as of {as_of}, high watermark {high_watermark}", name(*partition))
        }
        Effect::Read { partition, read, from, below, .. } => {
            format!("read {} {}: {from}..{below}", read.0, name(*partition))
        }
        Effect::FetchRead { fetch, parts, .. } => {
            let part =
                |part: &storage_core::FetchPart| format!(" {} {}..{}", name(part.partition), part.from, part.below);
            format!("fetch {}:{}", fetch.0, parts.iter().map(part).collect::<String>())
        }
        Effect::FindTimestamp { lookup, partition, below, .. } => {
            format!("find {} in {} below {below}", lookup.0, name(*partition))
        }
        Effect::DescribeLogDir { lookup } => format!("describe {}", lookup.0),
        Effect::RememberBrokerEpoch { broker_epoch, cluster_id: None } => format!("remember {broker_epoch}"),
        Effect::RememberBrokerEpoch { broker_epoch, cluster_id: Some(id) } => {
            format!("remember {broker_epoch} of {id}")
        }
        Effect::RefuseCluster(refusal) => format!("end: {}", refusal.message),
        Effect::HighWatermarkLowered { partition, from, to, last_epoch, unclean_since } => {
            format!("lost {} {to}..{from}: ends in {last_epoch}, unclean since {unclean_since}", name(*partition))
        }
        Effect::Stop => "stop".to_owned(),
    }
}

fn show_call(message: &ToController) -> String {
    match message {
        ToController::Hello { follow_from, .. } => format!("hello from {}", follow_from.unwrap()),
        ToController::Call { id, request: Request::RegisterBroker(register) } => {
            let epoch = |epoch: Option<BrokerEpoch>| epoch.map_or("-".to_owned(), |epoch| epoch.to_string());
            format!(
                "#{} register{}, clean {}, intact {}",
                id.0,
                register.cluster_id.as_ref().map(|id| format!(" of {id}")).unwrap_or_default(),
                epoch(register.clean_since),
                epoch(register.intact_since)
            )
        }
        ToController::Call { id, request: Request::BrokerHeartbeat(beat) } => {
            let wish = if beat.want_shutdown { ", wants to stop" } else { "" };
            let damaged: String =
                beat.damaged.iter().map(|(at, epoch)| format!(", damaged {} in {epoch}", name(*at))).collect();
            let not_open: String = beat.not_open.iter().map(|at| format!(", not open {}", name(*at))).collect();
            let more = if beat.more { ", and more" } else { "" };
            format!(
                "#{} heartbeat {} at {}{wish}{damaged}{not_open}{more}",
                id.0, beat.broker_epoch, beat.metadata_offset
            )
        }
        ToController::Call { id, request: Request::AlterPartition(alter) } => {
            let change = |change: &peer_api::controller::IsrChange| {
                let isr: Vec<i32> = change.isr.iter().map(|(id, _)| id.0).collect();
                format!(" {} {isr:?}", name(change.partition))
            };
            format!("#{} isr{}", id.0, alter.changes.iter().map(change).collect::<String>())
        }
        ToController::Call { id, request } => format!("#{} {request:?}", id.0),
    }
}

fn show_push(message: &FromLeader) -> String {
    let partition = name(message.partition());
    match message {
        FromLeader::Push { base_offset, batches, high_watermark, .. } => {
            format!("push {partition} {} at {base_offset}, high watermark {high_watermark}", batches.len())
        }
        FromLeader::Diverged { epoch, end_offset, .. } => format!("diverged {partition} {epoch} ends at {end_offset}"),
        FromLeader::StartOver { log_start, .. } => format!("start over {partition} at {log_start}"),
        FromLeader::Advanced { high_watermark, .. } => format!("advanced {partition} to {high_watermark}"),
        FromLeader::Confirm { round, .. } => format!("confirm {partition} #{round}"),
        FromLeader::Refused { code, .. } => format!("refused {partition}: {code:?}"),
    }
}

fn show_follow(message: &FromFollower) -> String {
    let partition = name(message.partition());
    match message {
        FromFollower::Follow { leader_epoch, log_end, .. } => {
            format!("follow {partition} in {leader_epoch} from {log_end}")
        }
        FromFollower::Durable { log_end, .. } => format!("durable {partition} to {log_end}"),
        FromFollower::Confirmed { round, .. } => format!("confirmed {partition} #{round}"),
    }
}

/// `1-0 @4` appended at 4, `1-0 2 below 6` two batches with the high watermark at 6, `1-0 NotLeader` an error.
fn show_response(response: &Response) -> String {
    let shown: Vec<String> = match response {
        Response::Append(response) => {
            let shown = |result: &Result<peer_api::storage::Appended, _>| match result {
                Ok(appended) => format!("@{}", appended.base_offset),
                Err(error) => variant(error),
            };
            response.partitions.iter().map(|(id, result)| format!("{} {}", name(*id), shown(result))).collect()
        }
        Response::Fetch(response) => {
            let shown = |result: &Result<peer_api::storage::Fetched, _>| match result {
                Ok(fetched) if fetched.diverging.is_some() => "diverging".to_owned(),
                Ok(fetched) => format!("{} below {}", fetched.records.len(), fetched.high_watermark),
                Err(error) => variant(error),
            };
            response.partitions.iter().map(|(id, result)| format!("{} {}", name(*id), shown(result))).collect()
        }
        Response::ListOffsets(offsets) => {
            let shown = |result: &Result<peer_api::storage::ListedOffset, _>| match result {
                Ok(listed) => listed.offset.to_string(),
                Err(error) => variant(error),
            };
            offsets.iter().map(|(id, result)| format!("{} {}", name(*id), shown(result))).collect()
        }
        Response::EpochEnds(ends) => {
            let shown = |result: &Result<peer_api::storage::EpochEnd, _>| match result {
                Ok(end) => format!("{} ends at {}", end.epoch, end.end_offset),
                Err(error) => variant(error),
            };
            ends.iter().map(|(id, result)| format!("{} {}", name(*id), shown(result))).collect()
        }
        Response::DescribeProducers(producers) => {
            let shown = |result: &Result<Vec<_>, _>| match result {
                Ok(producers) => format!("{} producers", producers.len()),
                Err(error) => variant(error),
            };
            producers.iter().map(|(id, result)| format!("{} {}", name(*id), shown(result))).collect()
        }
        Response::Trim(trimmed) => {
            let shown = |result: &Result<Offset, _>| match result {
                Ok(low) => format!("from {low}"),
                Err(error) => variant(error),
            };
            trimmed.iter().map(|(id, result)| format!("{} {}", name(*id), shown(result))).collect()
        }
        Response::DescribeLogDirs(dirs) => {
            let sizes = dirs.iter().flat_map(|dir| &dir.replicas);
            sizes
                .map(|size| format!("{} {} bytes, lag {}", name(size.partition), size.bytes, size.offset_lag))
                .collect()
        }
        Response::Coordinate(result) => vec![match result.as_ref() {
            Ok(response) => show_group_response(response),
            Err(error) => variant(error),
        }],
    };
    shown.join(", ")
}

/// `committed` or errors, offsets as they were fetched.
fn show_group_response(response: &GroupResponse) -> String {
    match response {
        GroupResponse::OffsetCommit(Ok(topics)) => {
            let errors = topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error);
            let errors: Vec<String> =
                errors.filter(|error| *error != ErrorCode::None).map(|error| format!("{error:?}")).collect();
            if errors.is_empty() { "committed".to_owned() } else { errors.join(" ") }
        }
        GroupResponse::OffsetFetch(groups) => {
            let topics = groups.iter().flat_map(|group| group.result.as_ref().unwrap());
            let offsets = topics.flat_map(|topic| &topic.partitions).map(|partition| partition.offset.to_string());
            offsets.collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    }
}

/// The name of an error without its data.
fn variant(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}
