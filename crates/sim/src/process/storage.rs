//! A storage node in the simulator: its core, and the real `segment-log` on a disk that loses power.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, Incarnation, Offset, Random, Tick, TopicPartition};
use bytes::Bytes;
use peer_api::controller::ActiveController;
use peer_api::storage::{LogDir, OffsetSpec, ReplicaSize};
use record_batch::{StampedBatch, batches};
use segment_log::{
    Checkpoint, Durability, LogOptions, LogStore, LogWrite, OpenError, ReadError, ReplicaOptions, StoreError,
};
use storage_core::{
    ControllerStream, Effect, Effects, Event, FetchPart, GatewayStream, Identity, OnDisk, PeerStream, ReadFailure,
    StorageNode, TimestampHit, WriteFailure,
};
use store_api::{DiskOperation, MemKv, MemVfs};

use crate::faults::Loss;
use crate::network::{Payload, Purpose, StreamId};
use crate::world::{Context, Exit, Input, Process, ProcessId};

const CONTROLLER_TOKEN: u64 = 1;
const DISK_TOKEN: u64 = 2;
/// Tokens from here on dial the leader with that id.
const LEADER_TOKENS: u64 = 1_000;
const REDIAL_MS: u64 = 50;

/// What outlives the process.
#[derive(Clone, Default)]
pub struct Disk {
    pub vfs: MemVfs,
    pub kv: Arc<MemKv>,
    pub broker_epoch: Option<BrokerEpoch>,
    pub cluster_id: Option<String>,
}

impl Disk {
    /// Only the process died.
    pub fn after_kill(&self) -> Disk {
        Disk { kv: Arc::new(self.kv.after_kill()), ..self.clone() }
    }

    pub fn after_power_loss(&self, loss: Loss) -> Disk {
        let mut random = Random::new(loss.seed);
        Disk {
            vfs: self.vfs.after_crash(loss.survivors, &mut random),
            kv: Arc::new(self.kv.after_crash(&mut random)),
            ..self.clone()
        }
    }
}

pub struct Storage {
    core: StorageNode,
    log: LogStore,
    disk: Disk,
    controllers: i32,
    next_controller: i32,
    streams: BTreeMap<StreamId, Use>,
    controller: Option<StreamId>,
    leaders: BTreeMap<BrokerId, Link>,
    /// Work for the disk, in order; one group at a time is under way.
    jobs: VecDeque<Effect>,
    completions: Vec<Event>,
    busy: bool,
    /// The core has said its last word; what the disk was asked for is still done.
    is_stopping: bool,
    closing: Closing,
    was_clean: bool,
    /// Where logs were to end, of cuts that failed: the disk has them or not.
    failed_cuts: BTreeMap<TopicPartition, Offset>,
    /// Everything that the disk does takes so many times longer.
    pub slowness: u64,
}

struct Link {
    broker_epoch: BrokerEpoch,
    stream: Option<StreamId>,
}

/// How far the log came in being closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    NotYet,
    /// It failed before it was marked as closed.
    Failed,
    /// It is marked; or power was lost, or the disk failed, while the mark was given its name, so that it is or is not.
    Marked,
}

#[derive(Clone, Copy)]
enum Use {
    Gateway,
    Follower,
    Controller,
    Leader(BrokerId),
}

impl Storage {
    pub fn start(
        id: i32,
        disk: Disk,
        incarnation: Incarnation,
        controllers: i32,
        statics: BTreeMap<String, String>,
    ) -> Result<Storage, OpenError> {
        let mut options = LogOptions::new(incarnation);
        options.journal_file_bytes = 1 << 20;
        options.journal_bytes_max = 4 << 20;
        options.tail_cache_bytes = 1 << 20;
        options.bypass_bytes = 64 << 10;
        options.reserve_bytes = 0;
        let (log, report) = LogStore::open(Arc::new(disk.vfs.clone()), disk.kv.clone(), options)?;
        let identity = Identity {
            broker: BrokerId(id),
            incarnation,
            cluster_id: disk.cluster_id.clone(),
            rack: Some(format!("rack-{id}")),
            peer_address: format!("storage:{id}"),
            host: format!("host-{id}"),
            clean_since: disk.broker_epoch.filter(|_| report.was_clean),
            intact_since: disk.broker_epoch,
            statics,
        };
        Ok(Storage {
            core: StorageNode::new(identity),
            log,
            disk,
            controllers,
            next_controller: id,
            streams: BTreeMap::new(),
            controller: None,
            leaders: BTreeMap::new(),
            jobs: VecDeque::new(),
            completions: Vec::new(),
            busy: false,
            is_stopping: false,
            closing: Closing::NotYet,
            was_clean: report.was_clean,
            failed_cuts: BTreeMap::new(),
            slowness: 1,
        })
    }

    pub fn core(&self) -> &StorageNode {
        &self.core
    }

    /// It may say when it is opened again that it was closed in order.
    pub fn may_be_clean(&self) -> bool {
        self.closing == Closing::Marked
    }

    /// What the log said when it was opened.
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub fn log(&self) -> &LogStore {
        &self.log
    }

    /// From where to where the disk is known to hold that log.
    pub fn bounds(&self, partition: TopicPartition) -> Option<(Offset, Offset)> {
        let (start, end) = self.log.bounds(partition)?;
        Some((start, self.failed_cuts.get(&partition).map_or(end, |cut| end.min(*cut))))
    }

    fn step(&mut self, context: &mut Context<'_>, event: Event) {
        let mut effects = Effects::default();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.core.step(context.now, event, &mut effects);
            let asked: Vec<Effect> = effects.drain().collect();
            for effect in asked {
                events.extend(self.perform(context, effect));
            }
        }
        self.core.check_invariants();
        self.work(context);
    }

    fn perform(&mut self, context: &mut Context<'_>, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Answer { stream, message } => context.send(StreamId(stream.0), Payload::FromStorage(message)),
            Effect::ToController { stream, message } => {
                context.send(StreamId(stream.0), Payload::ToController(message));
            }
            Effect::ReconnectController { stream, active } => {
                context.close(StreamId(stream.0));
                self.streams.remove(&StreamId(stream.0));
                self.controller = None;
                self.dial_controller(context, active.as_ref());
            }
            Effect::ToFollower { stream, message } => context.send(StreamId(stream.0), Payload::FromLeader(message)),
            Effect::CloseFollower { stream } => {
                context.close(StreamId(stream.0));
                self.streams.remove(&StreamId(stream.0));
            }
            Effect::ToLeader { leader, message } => {
                if let Some(stream) = self.leaders.get(&leader).and_then(|link| link.stream) {
                    context.send(stream, Payload::FromFollower(message));
                }
            }
            Effect::ConnectLeader { leader, broker_epoch, .. } => {
                if let Some(Link { stream: Some(stream), .. }) =
                    self.leaders.insert(leader, Link { broker_epoch, stream: None })
                {
                    context.close(stream);
                    self.streams.remove(&stream);
                }
                self.dial_leader(context, leader, 0);
            }
            Effect::DisconnectLeader { leader } => {
                if let Some(Link { stream: Some(stream), .. }) = self.leaders.remove(&leader) {
                    context.close(stream);
                    self.streams.remove(&stream);
                }
            }
            Effect::FetchRead { fetch, parts, bytes_max } => {
                return Some(Event::FetchRead { fetch, parts: self.read_parts(&parts, bytes_max) });
            }
            Effect::Read { partition, read, from, below, bytes_max } => {
                let batches = self.log.read(partition, from, below, bytes_max).ok().map(|hit| each_batch(&hit.batches));
                return Some(Event::ReadCompleted { partition, read, batches });
            }
            Effect::FindTimestamp { lookup, partition, at, below } => {
                let found = match at {
                    OffsetSpec::At(timestamp) => self.log.find_timestamp(partition, timestamp, below),
                    _ => self.log.find_max_timestamp(partition, below),
                };
                let hit = found.map_err(|_| ReadFailure::Failed).map(|hit| {
                    hit.map(|hit| TimestampHit {
                        offset: hit.offset,
                        timestamp: hit.timestamp,
                        leader_epoch: hit.leader_epoch,
                    })
                });
                return Some(Event::TimestampFound { lookup, hit });
            }
            Effect::DescribeLogDir { lookup } => {
                let size = |partition| ReplicaSize { partition, bytes: self.log.size(partition), offset_lag: 0 };
                let log_dir = LogDir {
                    broker: self.core.broker(),
                    error: None,
                    path: "/simulated".to_owned(),
                    bytes_total: 1 << 30,
                    bytes_usable: 1 << 29,
                    replicas: self.log.replicas().into_iter().map(size).collect(),
                };
                return Some(Event::LogDirDescribed { lookup, log_dir });
            }
            // For people.
            Effect::HighWatermarkLowered { .. } => {}
            Effect::Stop => self.is_stopping = true,
            Effect::RefuseCluster(refusal) => panic!("there is one cluster: {}", refusal.message),
            effect => self.jobs.push_back(effect),
        }
        None
    }

    /// Lets the disk do what waits, as one group; it is done a while later, and nothing is told before.
    fn work(&mut self, context: &mut Context<'_>) {
        if self.closing != Closing::NotYet {
            // The process is gone when this input has been dealt with.
            return;
        }
        if self.is_stopping && !self.busy && self.jobs.is_empty() {
            self.close();
            if !self.disk.vfs.is_crashed() {
                context.exit(Exit::Stopped);
            }
            return;
        }
        if self.busy || self.jobs.is_empty() {
            return;
        }
        self.busy = true;
        let mut group: Vec<(TopicPartition, storage_core::WriteId, StampedBatch)> = Vec::new();
        while let Some(job) = self.jobs.pop_front() {
            if let Effect::Write { partition, write, batch } = job {
                group.push((partition, write, batch));
                continue;
            }
            self.commit(&mut group);
            self.do_job(job);
        }
        self.commit(&mut group);
        if context.random.chance(100) {
            // In the background there is always somebody tidying up.
            let prepared = self.log.prepare_journal().map(drop);
            let flushed = prepared.and_then(|()| self.log.flush(segment_log::FlushBudget::DUE).map(drop));
            if flushed.is_err() && self.log.failure().is_some() {
                self.completions.push(Event::ShutdownRequested);
            }
        }
        let micros = if context.random.chance(20) {
            context.random.between(5_000, 200_000)
        } else {
            context.random.between(100, 2_000)
        };
        context.after(micros * self.slowness, DISK_TOKEN);
    }

    /// A directory that has failed cannot be closed in order, and is not.
    fn close(&mut self) {
        let had_failed = self.log.failure().is_some();
        let closed = self.log.shutdown();
        let is_marked = !had_failed && closed.as_ref().err().is_none_or(failed_at_the_name);
        self.closing = if is_marked { Closing::Marked } else { Closing::Failed };
    }

    fn commit(&mut self, group: &mut Vec<(TopicPartition, storage_core::WriteId, StampedBatch)>) {
        if group.is_empty() {
            return;
        }
        let write = |(tp, _, batch): &(TopicPartition, storage_core::WriteId, StampedBatch)| LogWrite {
            tp: *tp,
            batch: batch.clone(),
            durability: Durability::Fsync,
        };
        let writes: Vec<LogWrite> = group.iter().map(write).collect();
        let result = match self.log.commit(&writes) {
            Ok(_) => Ok(()),
            Err(StoreError::NoSpace) => Err(WriteFailure::NoSpace),
            Err(_) => Err(WriteFailure::Failed),
        };
        let completed = group.drain(..).map(|(partition, write, _)| Event::WriteCompleted { partition, write, result });
        self.completions.extend(completed);
    }

    fn do_job(&mut self, job: Effect) {
        match job {
            Effect::OpenReplica { partition, .. } => {
                let opened = match self.log.open_replica(partition) {
                    Ok(Some(replica)) => Some(replica),
                    Ok(None) => self.log.create_replica(partition, ReplicaOptions { segment_bytes: 256 << 10 }).ok(),
                    Err(_) => None,
                };
                self.completions.push(match opened {
                    Some(replica) => Event::ReplicaOpened { partition, on_disk: on_disk(replica) },
                    None => Event::ReplicaOpenFailed { partition },
                });
                if self.log.damage(partition).is_some() {
                    self.completions.push(Event::ReplicaDamaged { partition });
                }
            }
            Effect::SetReplicaAside { partition, settings } => {
                match self.log.set_aside(partition, base_types::Timestamp(0)) {
                    Ok(_) => self.do_job(Effect::OpenReplica { partition, settings }),
                    Err(StoreError::Failed(_)) => self.completions.push(Event::ShutdownRequested),
                    Err(_) => self.completions.push(Event::ReplicaNotSetAside { partition }),
                }
            }
            Effect::DeleteReplica { partition } => drop(self.log.delete_replica(partition)),
            Effect::Truncate { partition, write, to } => {
                let cut = self.log.truncate(partition, to).map(drop);
                self.changed(partition, write, to, cut);
            }
            Effect::StartOver { partition, write, at } => {
                let cut = self.log.reset(partition, at);
                self.changed(partition, write, at, cut);
            }
            Effect::Trim { partition, write, to } => {
                let result = match self.log.advance_log_start(partition, to) {
                    Ok(()) => Ok(self.log.first_batch(partition).unwrap_or(to)),
                    Err(segment_log::StoreError::NoSpace) => Err(storage_core::WriteFailure::NoSpace),
                    Err(_) => Err(storage_core::WriteFailure::Failed),
                };
                self.completions.push(Event::TrimCompleted { partition, write, result });
            }
            Effect::Checkpoint { partition, as_of, high_watermark, producer_state } => {
                drop(self.log.checkpoint(partition, &Checkpoint { as_of, high_watermark, producer_state }));
            }
            Effect::RememberBrokerEpoch { broker_epoch, cluster_id } => {
                if self.disk.vfs.is_crashed() {
                    return;
                }
                self.disk.broker_epoch = Some(broker_epoch);
                self.disk.cluster_id = cluster_id;
                self.completions.push(Event::BrokerEpochRemembered { broker_epoch, result: Ok(()) });
            }
            _ => {}
        }
    }

    fn changed(
        &mut self,
        partition: TopicPartition,
        write: storage_core::WriteId,
        to: Offset,
        cut: Result<(), StoreError>,
    ) {
        if let Err(StoreError::Failed(_)) = cut {
            self.failed_cuts.insert(partition, to);
        }
        let result = match cut {
            Ok(()) => match self.log.open_replica(partition) {
                Ok(Some(replica)) => Ok(on_disk(replica)),
                Err(ReadError::Corrupt(_)) => Err(WriteFailure::Corrupt),
                Ok(None) | Err(_) => Err(WriteFailure::Failed),
            },
            Err(StoreError::NoSpace) => Err(WriteFailure::NoSpace),
            Err(StoreError::Corrupt(_)) => Err(WriteFailure::Corrupt),
            Err(_) => Err(WriteFailure::Failed),
        };
        self.completions.push(Event::LogChanged { partition, write, result });
    }

    fn read_parts(&self, parts: &[FetchPart], bytes_max: usize) -> Vec<Result<Vec<Bytes>, ReadFailure>> {
        let mut room = bytes_max;
        let mut results = Vec::new();
        for part in parts {
            if room == 0 {
                break;
            }
            let read = self.log.read(part.partition, part.from, part.below, part.bytes_max.min(room));
            let result = read.map(|hit| hit.batches).map_err(|error| match error {
                ReadError::OutOfRange { .. } | ReadError::NoReplica(_) => ReadFailure::OutOfRange,
                ReadError::Corrupt(_) => ReadFailure::Corrupt,
                ReadError::Disk(_) => ReadFailure::Failed,
            });
            if let Ok(batches) = &result {
                room = room.saturating_sub(batches.iter().map(Bytes::len).sum());
            }
            results.push(result);
        }
        results
    }

    fn dial_controller(&mut self, context: &mut Context<'_>, active: Option<&ActiveController>) {
        let id = match active {
            Some(active) => active.id.0,
            None => {
                self.next_controller += 1;
                1 + self.next_controller % self.controllers
            }
        };
        context.dial(ProcessId::Controller(id), Purpose::Controller, CONTROLLER_TOKEN, REDIAL_MS);
    }

    fn dial_leader(&mut self, context: &mut Context<'_>, leader: BrokerId, pause_ms: u64) {
        let Some(link) = self.leaders.get(&leader) else { return };
        let hello = peer_api::replication::Hello { follower: self.core.broker(), broker_epoch: link.broker_epoch };
        let token = LEADER_TOKENS + leader.0 as u64;
        context.dial(ProcessId::Storage(leader.0), Purpose::Follow(hello), token, pause_ms);
    }
}

impl Process for Storage {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match input {
            Input::Started => {
                let partitions = self.log.replicas();
                self.step(context, Event::ReplicasFound { partitions });
                self.dial_controller(context, None);
            }
            Input::Accepted { stream, purpose, .. } => match purpose {
                Purpose::Gateway => drop(self.streams.insert(stream, Use::Gateway)),
                Purpose::Follow(hello) => {
                    self.streams.insert(stream, Use::Follower);
                    self.step(context, Event::FollowerConnected { stream: PeerStream(stream.0), hello });
                }
                Purpose::Controller | Purpose::Raft | Purpose::Kafka => context.close(stream),
            },
            Input::Dialled { stream, token: CONTROLLER_TOKEN } => {
                self.streams.insert(stream, Use::Controller);
                self.controller = Some(stream);
                self.step(context, Event::ControllerConnected { stream: ControllerStream(stream.0) });
            }
            Input::Dialled { stream, token } => {
                let leader = BrokerId((token - LEADER_TOKENS) as i32);
                match self.leaders.get_mut(&leader) {
                    Some(link) if link.stream.is_none() => {
                        link.stream = Some(stream);
                        self.streams.insert(stream, Use::Leader(leader));
                        self.step(context, Event::LeaderConnected { leader });
                    }
                    _ => context.close(stream),
                }
            }
            Input::DialFailed { token: CONTROLLER_TOKEN } => self.dial_controller(context, None),
            Input::DialFailed { token } => {
                let leader = BrokerId((token - LEADER_TOKENS) as i32);
                self.dial_leader(context, leader, REDIAL_MS);
            }
            Input::Received { stream, payload } => {
                let event = match (self.streams.get(&stream), payload) {
                    (Some(Use::Gateway), Payload::ToStorage(message)) => {
                        Event::GatewayAsked { stream: GatewayStream(stream.0), message }
                    }
                    (Some(Use::Follower), Payload::FromFollower(message)) => {
                        Event::FollowerSaid { stream: PeerStream(stream.0), message }
                    }
                    (Some(Use::Controller), Payload::FromController(message)) => {
                        Event::ControllerSaid { stream: ControllerStream(stream.0), message }
                    }
                    (Some(&Use::Leader(leader)), Payload::FromLeader(message)) => Event::LeaderSaid { leader, message },
                    _ => return,
                };
                self.step(context, event);
            }
            Input::Closed { stream } => match self.streams.remove(&stream) {
                Some(Use::Gateway) => self.step(context, Event::GatewayLost { stream: GatewayStream(stream.0) }),
                Some(Use::Follower) => self.step(context, Event::FollowerLost { stream: PeerStream(stream.0) }),
                Some(Use::Controller) => {
                    self.controller = None;
                    self.step(context, Event::ControllerLost { stream: ControllerStream(stream.0) });
                    self.dial_controller(context, None);
                }
                Some(Use::Leader(leader)) => {
                    if let Some(link) = self.leaders.get_mut(&leader) {
                        link.stream = None;
                    }
                    self.step(context, Event::LeaderLost { leader });
                    self.dial_leader(context, leader, REDIAL_MS);
                }
                None => {}
            },
            Input::Done { .. } => {
                self.busy = false;
                for event in std::mem::take(&mut self.completions) {
                    self.step(context, event);
                }
                self.work(context);
            }
            Input::Ticked => self.step(context, Event::Ticked),
            Input::StopRequested => self.step(context, Event::ShutdownRequested),
        }
        if self.disk.vfs.is_crashed() {
            context.exit(Exit::PowerLost);
        }
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.core.next_deadline()
    }
}

/// The mark is written beside the manifest, synced, moved into its place, and its directory synced. Nothing else is moved when a log is
/// closed, and nothing else lies in that directory.
fn failed_at_the_name(error: &StoreError) -> bool {
    match error {
        StoreError::Failed(failure) => match failure.operation {
            DiskOperation::Rename => true,
            DiskOperation::SyncDirectory => failure.path.is_empty(),
            _ => false,
        },
        _ => false,
    }
}

fn each_batch(pieces: &[Bytes]) -> Vec<Bytes> {
    let split = |piece: &Bytes| -> Vec<Bytes> {
        batches(piece).map_while(Result::ok).map(|(_, range)| piece.slice(range)).collect()
    };
    pieces.iter().flat_map(split).collect()
}

fn on_disk(replica: segment_log::ReplicaOnDisk) -> OnDisk {
    let checkpoint = replica.checkpoint;
    OnDisk {
        log_start: replica.log_start,
        first_batch: replica.first_batch,
        log_end: replica.log_end,
        leader_epochs: replica.leader_epochs,
        high_watermark: checkpoint.as_ref().map_or(Offset::ZERO, |checkpoint| checkpoint.high_watermark),
        producer_state: checkpoint.map(|checkpoint| checkpoint.producer_state),
        headers_since: replica.headers_since_checkpoint,
    }
}

#[cfg(test)]
mod tests {
    use base_types::{LeaderEpoch, PartitionIndex, Timestamp, TopicId};
    use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch};
    use store_api::{DiskErrorKind, DiskFault, Survivors};

    use super::*;

    fn start(disk: Disk) -> Storage {
        Storage::start(1, disk, Incarnation::default(), 1, BTreeMap::new()).unwrap()
    }

    /// With something to be written down when it is closed.
    fn in_use(disk: &Disk) -> Storage {
        let storage = start(disk.clone());
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionIndex(0) };
        storage.log.create_replica(partition, ReplicaOptions { segment_bytes: 256 << 10 }).unwrap();
        storage
    }

    /// How often it was as said, and whether the log was marked when it was opened again.
    #[derive(Default, Debug)]
    struct Seen {
        marked: u32,
        marked_in_vain: u32,
        failed: u32,
    }

    impl Seen {
        fn opened(&mut self, said: &Storage, again: &Storage) {
            match (said.may_be_clean(), again.was_clean()) {
                (true, true) => self.marked += 1,
                (true, false) => self.marked_in_vain += 1,
                (false, false) => self.failed += 1,
                (false, true) => panic!("the log is marked, and was not known to be"),
            }
        }
    }

    #[test]
    fn a_log_that_fails_while_it_is_closed_is_marked_only_when_the_judge_knows() {
        let mut seen = Seen::default();
        for operation in
            [DiskOperation::Write, DiskOperation::Sync, DiskOperation::Rename, DiskOperation::SyncDirectory]
        {
            for skip in 0.. {
                let disk = Disk::default();
                let mut storage = in_use(&disk);
                let fault = DiskFault { operation, path: String::new(), kind: DiskErrorKind::Failed, skip, times: 1 };
                disk.vfs.inject(fault);
                let met = disk.vfs.faults_met();
                storage.close();
                if disk.vfs.faults_met() == met {
                    break;
                }
                seen.opened(&storage, &start(disk.after_kill()));
            }
        }
        assert!(seen.marked > 0 && seen.marked_in_vain > 0 && seen.failed > 0, "{seen:?}");
    }

    #[test]
    fn a_log_that_loses_power_while_it_is_closed_is_marked_only_when_the_judge_knows() {
        let mut seen = Seen::default();
        for survivors in [Survivors::Everything, Survivors::Nothing] {
            for changes in 1.. {
                let disk = Disk::default();
                let mut storage = in_use(&disk);
                disk.vfs.crash_after(changes);
                storage.close();
                if !disk.vfs.is_crashed() {
                    break;
                }
                seen.opened(&storage, &start(disk.after_power_loss(Loss { survivors, seed: changes })));
            }
        }
        assert!(seen.marked > 0 && seen.marked_in_vain > 0 && seen.failed > 0, "{seen:?}");
    }

    #[test]
    fn of_a_cut_that_failed_only_what_it_leaves_is_said_to_be_there() {
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionIndex(0) };
        let (mut cut, mut uncut) = (0, 0);
        for survivors in [Survivors::Everything, Survivors::Nothing] {
            for changes in 1.. {
                let disk = Disk::default();
                let mut storage = in_use(&disk);
                for offset in 0..3 {
                    let bytes = BatchBuilder::new(Compression::None).record(None, None, &[], Timestamp(0)).build();
                    let batch = ProducedBatch::check(bytes.unwrap(), &BatchLimits::default()).unwrap();
                    let batch = StampedBatch::stamp(&batch, Offset(offset), LeaderEpoch(0));
                    storage.commit(&mut vec![(partition, storage_core::WriteId(0), batch)]);
                }
                disk.vfs.crash_after(changes);
                storage.do_job(Effect::Truncate { partition, write: storage_core::WriteId(1), to: Offset(1) });
                if !disk.vfs.is_crashed() {
                    break;
                }
                let (_, said) = storage.bounds(partition).unwrap();
                let again = start(disk.after_power_loss(Loss { survivors, seed: changes }));
                let (_, found) = again.bounds(partition).unwrap();
                assert!(said <= found, "{said} is said to be there, and {found} was found");
                cut += u32::from(found == Offset(1));
                uncut += u32::from(found == Offset(3));
            }
        }
        assert!(cut > 0 && uncut > 0, "{cut} {uncut}");
    }

    #[test]
    fn a_log_that_had_failed_before_it_was_closed_is_not_marked() {
        let flushed = |skip| {
            let disk = Disk::default();
            let storage = in_use(&disk);
            let (operation, path) = (DiskOperation::SyncDirectory, String::new());
            disk.vfs.inject(DiskFault { operation, path, kind: DiskErrorKind::Failed, skip, times: 1 });
            let flushed = storage.log.flush(segment_log::FlushBudget::EVERYTHING);
            (disk, storage, flushed.err())
        };
        // In the same place as when it is marked.
        let mut failed_at_the_end =
            (0..).map(flushed).find(|(.., error)| error.as_ref().is_none_or(failed_at_the_name));
        let (disk, storage, error) = failed_at_the_end.as_mut().unwrap();
        assert!(error.is_some());
        storage.close();
        assert!(!storage.may_be_clean());
        assert!(!start(disk.after_kill()).was_clean());
    }
}
