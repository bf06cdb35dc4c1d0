//! Group coordinators: one for each partition of `__consumer_offsets` that is led here.
//!
//! ```text
//!             leads                    read to where the log ended when it was elected
//!   nothing ─────────► Loading ─────────────────────────────────────────────────────────► Serving
//!      ▲                │   ▲                                                              │   │
//!      │                │   └─── the log refused a record, or nobody knows what became of it ──┤
//!      └────────────────┴─────────────────── leads no more, or in another epoch ───────────────┘
//! ```
//!
//! A coordinator belongs to one leadership: it is told nothing of an earlier one and survives none. What replicas say of
//! appends and confirmations, and of their role, is taken up at the end of the node's step, so that no replica is stepped from within its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base_types::{LeaderEpoch, Now, Offset, Random, Tick, TopicId, TopicPartition, planted};
use bytes::Bytes;
use coordinator_core::{AppendId, GroupCoordinator, LogRecord, RequestKey, Settings};
use peer_api::config::Lookup;
use peer_api::groups::{
    Caller, CoordinatorError, GROUPS_TOPIC, GroupKind, GroupRequest, GroupResponse, GroupState, ToCoordinator,
};
use peer_api::metadata::{ConfigResource, Image, Record, Update};
use peer_api::storage::{Acks, AppendError, Appended, RequestId, Response};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch, StampedBatch, batches};
use replica_core::{Replica, Role};

use super::{Identity, StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::{FetchKey, FetchPart, GatewayStream, ReadFailure};

/// How much of the log is read, and folded in one step, at a time.
const LOAD_BYTES: usize = 1 << 20;
/// What one batch of the log may become when it is decompressed. Ours are not compressed; those that tools bring may be.
const LOAD_BATCH_BYTES_MAX: usize = 256 << 20;
/// How soon a load goes on after the disk failed it, or begins after the log refused a record.
const LOAD_PAUSE_MS: u64 = 500;
/// An append is never given up: its answer says what became of it, however late. Whoever waits is told earlier, by the
/// coordinator itself.
const APPEND_MS_MAX: u64 = u32::MAX as u64;
/// Marks what coordinators append, among the keys of all append requests.
const OURS: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Coordinators {
    /// Of [`GROUPS_TOPIC`].
    topic: Option<TopicId>,
    hosts: BTreeMap<TopicPartition, Host>,
    settings: Settings,
    /// Makes the seeds of coordinators.
    random: Random,
    /// Whom each open request is to be answered to. Requests of a gateway that is gone are not here.
    requests: BTreeMap<RequestKey, (GatewayStream, RequestId)>,
    last_request: u64,
    /// Among them those that the coordinator gets when the replica is confirmed to lead.
    unconfirmed: BTreeMap<RequestKey, (TopicPartition, Caller, GroupRequest)>,
    /// With the replicas.
    appends: BTreeMap<u64, (TopicPartition, AppendId)>,
    last_append: u64,
    /// What replicas have answered in this step.
    settled: VecDeque<(u64, Result<Appended, AppendError>)>,
    confirmed: VecDeque<(RequestKey, Result<(), CoordinatorError>)>,
    /// Partitions that may have changed in this step.
    touched: BTreeSet<TopicPartition>,
    /// With the disk.
    reads: BTreeMap<FetchKey, TopicPartition>,
    deadlines: BTreeSet<(Tick, TopicPartition)>,
    loads: Loads,
}

/// A coordinator and the leadership that it belongs to.
#[derive(Debug)]
struct Host {
    core: GroupCoordinator,
    leader_epoch: LeaderEpoch,
    /// `None` once everything is read.
    load: Option<Load>,
    /// What the coordinator was told last.
    writable: bool,
    /// The disk is full until then.
    full_until: Option<Tick>,
    /// Under which deadline it stands in [`Coordinators::deadlines`].
    scheduled: Option<Tick>,
}

#[derive(Debug)]
struct Load {
    began: Tick,
    next: Offset,
    /// Where the log ended when this began. All of it is read, and only once it is committed.
    end: Offset,
    reading: Option<FetchKey>,
    /// Nothing is read before then.
    paused_until: Option<Tick>,
}

/// How long loading took, over the life of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    pub count: u64,
    pub ms_total: u64,
    pub ms_max: u64,
}

/// What can be said of the coordinators of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorStats {
    pub coordinators: usize,
    pub loading: usize,
    pub groups: BTreeMap<(GroupKind, GroupState), usize>,
    pub offsets: usize,
    pub requests_waiting: usize,
    pub appends_waiting: usize,
    /// Records that could not be read, in the logs of the present coordinators.
    pub records_skipped: u64,
    pub loads: Loads,
}

/// What an update of the metadata is to coordinators. Made before the image takes it up.
#[derive(Debug, Default)]
pub(super) struct News {
    topics_before: Vec<(TopicId, String)>,
    topics: bool,
    settings: bool,
}

/// Whether a replica's answer is for a coordinator.
pub(super) fn is_ours(request: replica_core::RequestKey) -> bool {
    request.0 & OURS != 0
}

impl Coordinators {
    /// Member ids must differ from those of every other node and every earlier life: what makes this life unique makes them so.
    pub(super) fn new(me: &Identity) -> Coordinators {
        let number = u128::from_be_bytes(me.incarnation.0);
        Coordinators {
            topic: None,
            hosts: BTreeMap::new(),
            settings: settings(&Image::default(), me),
            random: Random::new((number >> 64) as u64 ^ number as u64),
            requests: BTreeMap::new(),
            last_request: 0,
            unconfirmed: BTreeMap::new(),
            appends: BTreeMap::new(),
            last_append: 0,
            settled: VecDeque::new(),
            confirmed: VecDeque::new(),
            touched: BTreeSet::new(),
            reads: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            loads: Loads::default(),
        }
    }

    pub(super) fn stats(&self) -> CoordinatorStats {
        let mut stats = CoordinatorStats {
            coordinators: self.hosts.len(),
            loading: self.hosts.values().filter(|host| host.load.is_some()).count(),
            requests_waiting: self.requests.len(),
            appends_waiting: self.appends.len(),
            loads: self.loads,
            ..CoordinatorStats::default()
        };
        for host in self.hosts.values() {
            for (kind_and_state, count) in host.core.groups_by_state() {
                *stats.groups.entry(kind_and_state).or_default() += count;
            }
            stats.offsets += host.core.size().1;
            stats.records_skipped += host.core.records_skipped();
        }
        stats
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|&(tick, _)| tick)
    }

    /// The gateway is gone. What it asked for goes on, but nobody is there to be told.
    pub(super) fn forget(&mut self, gone: GatewayStream) {
        let requests = &mut self.requests;
        requests.retain(|_, (stream, _)| *stream != gone);
        self.unconfirmed.retain(|request, _| requests.contains_key(request));
    }

    /// A replica took a step.
    pub(super) fn touch(&mut self, partition: TopicPartition) {
        if self.topic == Some(partition.topic) || self.hosts.contains_key(&partition) {
            self.touched.insert(partition);
        }
    }

    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.hosts.keys());
    }

    pub(super) fn append_settled(&mut self, key: replica_core::RequestKey, result: Result<Appended, AppendError>) {
        self.settled.push_back((key.0, result));
    }

    pub(super) fn confirmed(&mut self, key: replica_core::RequestKey, result: Result<Offset, AppendError>) {
        let result = match result {
            Ok(_) => Ok(()),
            Err(AppendError::NotEnoughReplicas | AppendError::TimedOut) => Err(CoordinatorError::NotAvailable),
            Err(_) => Err(CoordinatorError::NotCoordinator),
        };
        self.confirmed.push_back((RequestKey(key.0), result));
    }

    pub(super) fn is_reading(&self, key: FetchKey) -> bool {
        self.reads.contains_key(&key)
    }

    pub(super) fn news(&self, image: &Image, update: &Update) -> News {
        let mut news = News::default();
        match update {
            Update::Snapshot { .. } => {
                (news.topics, news.settings) = (true, true);
                if !self.hosts.is_empty() {
                    news.topics_before = image.topics().map(|topic| (topic.id, topic.name.clone())).collect();
                }
            }
            Update::Delta { records, .. } => records.iter().for_each(|record| news.add(image, record)),
        }
        news
    }

    fn new_core(&mut self) -> GroupCoordinator {
        GroupCoordinator::new(self.settings.clone(), self.random.fork(1))
    }

    fn forget_appends(&mut self, of: TopicPartition) {
        self.appends.retain(|_, (partition, _)| *partition != of);
    }

    fn schedule(&mut self, partition: TopicPartition) {
        let Some(host) = self.hosts.get_mut(&partition) else { return };
        let paused_until = host.load.as_ref().and_then(|load| load.paused_until);
        let due = [host.core.next_deadline(), paused_until, host.full_until].into_iter().flatten().min();
        if let Some(old) = std::mem::replace(&mut host.scheduled, due) {
            self.deadlines.remove(&(old, partition));
        }
        self.deadlines.extend(due.map(|due| (due, partition)));
    }
}

impl News {
    fn add(&mut self, image: &Image, record: &Record) {
        match record {
            Record::TopicRemoved { id } => {
                self.topics = true;
                self.topics_before.extend(image.topic(*id).map(|topic| (topic.id, topic.name.clone())));
            }
            // Leaders and ISRs come and go; groups care for how many partitions there are, and in which racks.
            Record::PartitionChanged { partition, state } => {
                self.topics |= image.partition(*partition).is_none_or(|old| old.replicas != state.replicas);
            }
            Record::BrokerRegistered(_) | Record::TopicCreated { .. } => self.topics = true,
            Record::ConfigChanged { resource: ConfigResource::Broker(_) | ConfigResource::Cluster, .. } => {
                self.settings = true;
            }
            // How large a batch may be is the topic's own setting.
            Record::ConfigChanged { resource: ConfigResource::Topic(topic), .. } if topic == GROUPS_TOPIC => {
                self.settings = true;
            }
            _ => {}
        }
    }
}

/// As this node's configs say: dynamic ones of the broker, then of the cluster, then what the process was started with.
fn settings(image: &Image, me: &Identity) -> Settings {
    Settings::of(Lookup::new(image).on_broker(me.broker).with_static(&me.statics))
}

impl Load {
    fn new(now: Now, replica: &Replica) -> Load {
        let (next, end) = (replica.log_start(), replica.log_end());
        Load { began: now.tick, next, end, reading: None, paused_until: None }
    }
}

impl StorageNode {
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        stream: GatewayStream,
        id: RequestId,
        asked: ToCoordinator,
        effects: &mut Effects,
    ) {
        let ToCoordinator { partition, caller, request } = asked;
        let partition = self.coordinators.topic.map(|topic| TopicPartition { topic, partition });
        let host = partition.and_then(|partition| Some((partition, self.coordinators.hosts.get(&partition)?)));
        let Some((partition, host)) = host else {
            return effects.push(coordinator_answer(stream, id, Err(CoordinatorError::NotCoordinator)));
        };
        let serves = host.load.is_none();
        self.coordinators.last_request += 1;
        let key = RequestKey(self.coordinators.last_request);
        self.coordinators.requests.insert(key, (stream, id));
        match request {
            GroupRequest::OffsetFetch(_) if serves => {
                let deadline = now.tick.plus_ms(self.coordinators.settings.commit_timeout_ms);
                self.coordinators.unconfirmed.insert(key, (partition, caller, request));
                let request = replica_core::RequestKey(key.0);
                let event = replica_core::Event::ConfirmationRequested { request, deadline };
                self.replica_step(now, partition, event, effects);
            }
            body => {
                let event = coordinator_core::Event::Requested { request: key, caller, body };
                self.coordinator_step(now, partition, event, effects);
            }
        }
    }

    /// Takes up what replicas have said in this step.
    pub(super) fn run_coordinators(&mut self, now: Now, effects: &mut Effects) {
        loop {
            if let Some((key, result)) = self.coordinators.settled.pop_front() {
                self.coordinator_append_settled(now, key, result, effects);
            } else if let Some((key, result)) = self.coordinators.confirmed.pop_front() {
                self.coordinator_confirmed(now, key, result, effects);
            } else if let Some(partition) = self.coordinators.touched.pop_first() {
                self.tend(now, partition, effects);
            } else {
                return;
            }
        }
    }

    pub(super) fn tick_coordinators(&mut self, now: Now, effects: &mut Effects) {
        let due = self.coordinators.deadlines.iter().take_while(|(tick, _)| *tick <= now.tick);
        for partition in due.map(|&(_, partition)| partition).collect::<Vec<_>>() {
            let Some(host) = self.coordinators.hosts.get_mut(&partition) else { continue };
            if let Some(load) = &mut host.load {
                load.paused_until.take_if(|until| *until <= now.tick);
            }
            self.coordinators.touched.insert(partition);
            self.coordinator_step(now, partition, coordinator_core::Event::Ticked, effects);
        }
    }

    /// Which topic is the groups' one now. Before replicas are told what the image says of them.
    pub(super) fn find_groups_topic(&mut self) {
        self.coordinators.topic = self.image.topic_named(GROUPS_TOPIC).map(|topic| topic.id);
    }

    /// After replicas were told: a coordinator that leads no more is not asked to write.
    pub(super) fn tell_coordinators(&mut self, now: Now, news: News, effects: &mut Effects) {
        self.run_coordinators(now, effects);
        let hosts: Vec<TopicPartition> = self.coordinators.hosts.keys().copied().collect();
        if news.settings {
            let settings = settings(&self.image, &self.me);
            if settings != self.coordinators.settings {
                self.coordinators.settings = settings.clone();
                for &partition in &hosts {
                    let event = coordinator_core::Event::SettingsChanged(settings.clone());
                    self.coordinator_step(now, partition, event, effects);
                }
            }
        }
        if news.topics {
            let mut removed = news.topics_before;
            removed.retain(|(id, _)| self.image.topic(*id).is_none());
            for &partition in &hosts {
                let event = coordinator_core::Event::MetadataChanged { removed: removed.clone() };
                self.coordinator_step(now, partition, event, effects);
            }
        }
    }

    /// The disk has answered a load.
    pub(super) fn coordinator_read(
        &mut self,
        now: Now,
        key: FetchKey,
        parts: Vec<Result<Vec<Bytes>, ReadFailure>>,
        effects: &mut Effects,
    ) {
        let Some(partition) = self.coordinators.reads.remove(&key) else { return };
        let Some(host) = self.coordinators.hosts.get_mut(&partition) else { return };
        let Some(load) = host.load.as_mut().filter(|load| load.reading == Some(key)) else { return };
        load.reading = None;
        self.coordinators.touched.insert(partition);
        match loaded(parts) {
            Some((next, mut records)) => {
                load.next = next;
                if planted!(LoadMissesLastBatch) && next >= load.end {
                    records.pop();
                }
                for batch in records {
                    let event = coordinator_core::Event::RecordsLoaded(batch);
                    self.coordinator_step(now, partition, event, effects);
                }
            }
            // What is folded stays true, since a leader's log is not cut (R12).
            None => load.paused_until = Some(now.tick.plus_ms(LOAD_PAUSE_MS)),
        }
    }

    pub(super) fn check_coordinators(&self) {
        let Coordinators { settled, confirmed, touched, .. } = &self.coordinators;
        assert!(settled.is_empty() && confirmed.is_empty() && touched.is_empty(), "left for the next step");
        for (partition, host) in &self.coordinators.hosts {
            host.core.check_invariants();
            let leads = self.leadership(*partition);
            assert_eq!(leads, Some(host.leader_epoch), "{partition} has a coordinator and is not led");
            let scheduled = host.scheduled.is_none_or(|due| self.coordinators.deadlines.contains(&(due, *partition)));
            assert!(scheduled, "{partition} waits for a tick that nobody knows of");
        }
        for (partition, _, _) in self.coordinators.unconfirmed.values() {
            assert!(self.coordinators.hosts.contains_key(partition), "a request to no coordinator for {partition}");
        }
        for (partition, _) in self.coordinators.appends.values() {
            assert!(self.coordinators.hosts.contains_key(partition), "an append of no coordinator for {partition}");
        }
    }

    /// In which epoch a partition of the groups' topic is led here.
    fn leadership(&self, partition: TopicPartition) -> Option<LeaderEpoch> {
        if planted!(CoordinatorOutlivesLeadership)
            && let Some(host) = self.coordinators.hosts.get(&partition)
        {
            return Some(host.leader_epoch);
        }
        let replica = self.replica(partition).filter(|replica| replica.role() == Role::Leader)?;
        (self.coordinators.topic == Some(partition.topic)).then(|| replica.leader_epoch())
    }

    /// Sees to it that there is a coordinator where there should be one, that it knows what it must, and that its load goes on.
    fn tend(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let leads = self.leadership(partition);
        let hosted = self.coordinators.hosts.get(&partition).map(|host| host.leader_epoch);
        if hosted != leads {
            self.unload(now, partition, effects);
            if let (Some(leader_epoch), Some(replica)) = (leads, self.replica(partition)) {
                let load = Some(Load::new(now, replica));
                let core = self.coordinators.new_core();
                let host = Host { core, leader_epoch, load, writable: true, full_until: None, scheduled: None };
                self.coordinators.hosts.insert(partition, host);
            }
        }
        self.tell_whether_writable(now, partition, effects);
        self.load_on(now, partition, effects);
        self.coordinators.schedule(partition);
    }

    fn unload(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        self.coordinator_step(now, partition, coordinator_core::Event::Unloaded, effects);
        if let Some(host) = self.coordinators.hosts.remove(&partition)
            && let Some(due) = host.scheduled
        {
            self.coordinators.deadlines.remove(&(due, partition));
        }
        let unconfirmed = self.coordinators.unconfirmed.extract_if(.., |_, (of, _, _)| *of == partition);
        for request in unconfirmed.map(|(request, _)| request).collect::<Vec<_>>() {
            self.coordinator_reply(request, Err(CoordinatorError::NotCoordinator), effects);
        }
        self.coordinators.forget_appends(partition);
        self.coordinators.reads.retain(|_, of| *of != partition);
    }

    /// A new coordinator under the same leadership, which reads what the log says. Everyone who waited has been answered.
    fn reload(&mut self, now: Now, partition: TopicPartition) {
        let Some(replica) = self.replica(partition) else { return };
        // The pause keeps a log that refuses everything from being asked again within the step.
        let paused_until = Some(now.tick.plus_ms(LOAD_PAUSE_MS));
        let load = Load { paused_until, ..Load::new(now, replica) };
        let core = self.coordinators.new_core();
        self.coordinators.forget_appends(partition);
        self.coordinators.touched.insert(partition);
        if let Some(host) = self.coordinators.hosts.get_mut(&partition) {
            (host.core, host.load, host.writable) = (core, Some(load), true);
        }
    }

    fn tell_whether_writable(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let full_until = Some(self.disk_full_until).filter(|until| *until > now.tick);
        let writable = full_until.is_none() && self.has_min_isr(partition);
        let Some(host) = self.coordinators.hosts.get_mut(&partition) else { return };
        host.full_until = full_until;
        if std::mem::replace(&mut host.writable, writable) != writable {
            self.coordinator_step(now, partition, coordinator_core::Event::WritableChanged(writable), effects);
        }
    }

    fn load_on(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let Some(replica) = self.slots.get(&partition).and_then(|slot| slot.replica.as_ref()) else { return };
        let Some(host) = self.coordinators.hosts.get_mut(&partition) else { return };
        let Some(load) = host.load.as_mut().filter(|load| load.reading.is_none() && load.paused_until.is_none()) else {
            return;
        };
        // What was deleted meanwhile need not be read.
        load.next = load.next.max(replica.log_start());
        let below = load.end.min(replica.high_watermark());
        if load.next >= load.end {
            let took_ms = now.tick.ms_since(load.began);
            host.load = None;
            self.coordinators.loads.add(took_ms);
            self.coordinator_step(now, partition, coordinator_core::Event::LoadFinished, effects);
        } else if load.next < below {
            let fetch = self.fetches.new_key();
            load.reading = Some(fetch);
            self.coordinators.reads.insert(fetch, partition);
            let part = FetchPart { partition, from: load.next, below, bytes_max: LOAD_BYTES };
            effects.push(Effect::FetchRead { fetch, parts: vec![part], bytes_max: LOAD_BYTES });
        }
    }

    /// Steps one coordinator and carries out what it asks for.
    fn coordinator_step(
        &mut self,
        now: Now,
        partition: TopicPartition,
        event: coordinator_core::Event,
        effects: &mut Effects,
    ) {
        let Some(host) = self.coordinators.hosts.get_mut(&partition) else { return };
        let leader_epoch = host.leader_epoch;
        let mut asked = coordinator_core::Effects::default();
        host.core.step(now, &self.image, event, &mut asked);
        self.coordinators.schedule(partition);
        for effect in asked.drain() {
            match effect {
                coordinator_core::Effect::Append { append, records } => {
                    self.coordinator_append(now, (partition, leader_epoch), append, &records, effects);
                }
                coordinator_core::Effect::Reply { request, response } => {
                    self.coordinator_reply(request, response, effects);
                }
                coordinator_core::Effect::Reload => self.reload(now, partition),
            }
        }
    }

    fn coordinator_reply(
        &mut self,
        request: RequestKey,
        response: Result<GroupResponse, CoordinatorError>,
        effects: &mut Effects,
    ) {
        if let Some((stream, id)) = self.coordinators.requests.remove(&request) {
            effects.push(coordinator_answer(stream, id, response));
        }
    }

    /// Offsets are read only once it is certain that no later leader had committed others by then (G4).
    fn coordinator_confirmed(
        &mut self,
        now: Now,
        request: RequestKey,
        result: Result<(), CoordinatorError>,
        effects: &mut Effects,
    ) {
        let Some((partition, caller, body)) = self.coordinators.unconfirmed.remove(&request) else { return };
        match result {
            Ok(()) => {
                let event = coordinator_core::Event::Requested { request, caller, body };
                self.coordinator_step(now, partition, event, effects);
            }
            Err(error) => self.coordinator_reply(request, Err(error), effects),
        }
    }

    fn coordinator_append(
        &mut self,
        now: Now,
        (partition, leader_epoch): (TopicPartition, LeaderEpoch),
        append: AppendId,
        records: &[LogRecord],
        effects: &mut Effects,
    ) {
        // The refusal of one that was asked for with it is taken up before this step ends, and answers everyone.
        let is_refused = |(key, result): &(u64, Result<Appended, AppendError>)| {
            result.is_err() && self.coordinators.appends.get(key).is_some_and(|(of, _)| *of == partition)
        };
        if self.coordinators.settled.iter().any(is_refused) {
            return;
        }
        self.coordinators.last_append += 1;
        let key = OURS | self.coordinators.last_append;
        self.coordinators.appends.insert(key, (partition, append));
        match batch_of(records, now) {
            Ok(batch) => {
                let event = replica_core::Event::AppendRequested {
                    request: replica_core::RequestKey(key),
                    acks: Acks::All,
                    deadline: now.tick.plus_ms(APPEND_MS_MAX),
                    leader_epoch,
                    batch,
                    has_space: now.tick >= self.disk_full_until,
                };
                self.replica_step(now, partition, event, effects);
            }
            Err(error) => self.coordinators.settled.push_back((key, Err(error))),
        }
    }

    fn coordinator_append_settled(
        &mut self,
        now: Now,
        key: u64,
        result: Result<Appended, AppendError>,
        effects: &mut Effects,
    ) {
        let Some((partition, append)) = self.coordinators.appends.remove(&key) else { return };
        match result {
            Ok(_) => {
                let event = coordinator_core::Event::AppendCommitted(append);
                self.coordinator_step(now, partition, event, effects);
            }
            Err(error) if error.is_definite() => {
                let event = coordinator_core::Event::AppendRefused { append, error };
                self.coordinator_step(now, partition, event, effects);
            }
            // It may yet be committed. Whoever reads the log until all of it is, knows: the next leader, or we ourselves.
            Err(_) => {
                self.coordinator_step(now, partition, coordinator_core::Event::Unloaded, effects);
                self.reload(now, partition);
            }
        }
    }
}

impl Loads {
    fn add(&mut self, ms: u64) {
        self.count += 1;
        self.ms_total += ms;
        self.ms_max = self.ms_max.max(ms);
    }
}

fn coordinator_answer(
    stream: GatewayStream,
    id: RequestId,
    response: Result<GroupResponse, CoordinatorError>,
) -> Effect {
    answer(stream, id, Response::Coordinate(Box::new(response)))
}

/// As one batch, so that all of it is in the log or nothing.
fn batch_of(records: &[LogRecord], now: Now) -> Result<ProducedBatch, AppendError> {
    let mut batch = BatchBuilder::new(Compression::None);
    for record in records {
        batch.push(Some(&record.key), record.value.as_deref(), &[], now.wall);
    }
    let limits = BatchLimits { max_message_bytes: usize::MAX, ..BatchLimits::default() };
    let invalid = |error: &dyn std::fmt::Display| AppendError::InvalidRecord(error.to_string().into());
    let bytes = batch.build().map_err(|error| invalid(&error))?;
    ProducedBatch::check(bytes, &limits).map_err(|error| invalid(&error))
}

/// The records of each batch that was read, and the offset after them; `None` when they could not be read.
fn loaded(parts: Vec<Result<Vec<Bytes>, ReadFailure>>) -> Option<(Offset, Vec<Vec<LogRecord>>)> {
    let mut next = None;
    let mut records = Vec::new();
    for piece in parts.into_iter().next()?.ok()? {
        for batch in batches(&piece) {
            let (_, range) = batch.ok()?;
            let batch = StampedBatch::from_stored(piece.slice(range)).ok()?;
            next = Some(batch.header().next_offset());
            if !batch.header().attributes.is_control() {
                records.push(records_of(&batch)?);
            }
        }
    }
    // There is something below the high watermark: to have read nothing is to have failed.
    Some((next?, records))
}

fn records_of(batch: &StampedBatch) -> Option<Vec<LogRecord>> {
    let mut records = Vec::new();
    for record in batch.records(LOAD_BATCH_BYTES_MAX).ok()? {
        let record = record.ok()?;
        // Without a key it says nothing of any group.
        let Some(key) = record.key else { continue };
        // A copy, because groups keep parts of it, and a reference would keep all that was read with it.
        let value = record.value.map(|value| Bytes::copy_from_slice(&value));
        records.push(LogRecord { key, value });
    }
    Some(records)
}
