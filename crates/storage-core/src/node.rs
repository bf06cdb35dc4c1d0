//! `struct StorageNode` and its one entry point.

mod appends;
mod coordinators;
mod damage;
mod disk;
mod fetches;
mod gathering;
mod links;
mod lookups;
mod metadata;
mod session;
mod throttles;
mod trims;

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Now, Offset, Tick, TopicPartition, invariant};
use peer_api::config::TopicSettings;
use peer_api::metadata::{Image, MetadataOffset};
use peer_api::storage::{FromStorage, Request, RequestId, Response, ToStorage};
use replica_core::{Names, Replica, Role, WriteId};

use crate::effect::{Effect, Effects};
use crate::event::{Event, FetchKey, GatewayStream};

use appends::Appends;
use coordinators::Coordinators;
use damage::Damaged;
use disk::Checkpoint;
use fetches::Fetches;
use links::Links;
use lookups::Lookups;
use session::Session;
use throttles::{Read, Throttles};
use trims::Trims;

pub use coordinators::{CoordinatorStats, Loads};

/// Who this node is. Fixed for the life of the process, but that a new directory comes to belong to a cluster.
#[derive(Clone, Debug)]
pub struct Identity {
    pub broker: BrokerId,
    pub incarnation: Incarnation,
    /// Of the cluster that the data directory belongs to; `None` before its first registration.
    pub cluster_id: Option<String>,
    pub rack: Option<String>,
    /// `host:port` of its gRPC listener.
    pub peer_address: String,
    /// Name of the machine.
    pub host: String,
    /// The broker epoch of a clean stop, if the last stop was clean.
    pub clean_since: Option<BrokerEpoch>,
    /// The broker epoch last written down in this data directory, if recovery found it whole; `None` for a new or damaged one.
    pub intact_since: Option<BrokerEpoch>,
    /// Broker configs that differ from Kafka's defaults, by Kafka's names: any of [`crate::STATIC_CONFIGS`].
    pub statics: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct StorageNode {
    me: Identity,
    image: Image,
    slots: BTreeMap<TopicPartition, Slot>,
    /// What replicas that are here no more have named their writes and reads. Should one come back, it goes on from there: what
    /// the disk still says of the former one must not be taken for its own.
    former: BTreeMap<TopicPartition, Names>,
    /// On the disk since before this life, and nothing is known of it yet.
    strays: BTreeSet<TopicPartition>,
    session: Session,
    links: Links,
    appends: Appends,
    fetches: Fetches,
    lookups: Lookups,
    trims: Trims,
    coordinators: Coordinators,
    throttles: Throttles,
    /// Until then producers are held off, because the disk said that it is full.
    disk_full_until: Tick,
    /// When which partition wants to be looked at.
    deadlines: BTreeSet<(Tick, TopicPartition)>,
    /// Scratch for the effects of replicas, kept to spare allocations.
    replica_effects: replica_core::Effects,
}

/// A partition that this node has a replica of.
#[derive(Debug)]
struct Slot {
    settings: TopicSettings,
    /// `None` until the disk has opened it.
    replica: Option<Replica>,
    /// Under which deadline it stands in [`StorageNode::deadlines`].
    scheduled: Option<Tick>,
    /// The disk was asked to open it and has not answered yet.
    opening: bool,
    /// Fetches that wait for something to happen here.
    waiters: BTreeSet<FetchKey>,
    /// The disk found it damaged.
    damaged: Option<Damaged>,
    /// Its files go aside in this leader epoch, and there was no room for that yet or the disk is about it.
    aside_in: Option<LeaderEpoch>,
    /// The cut of the log that the disk is about.
    cutting: Option<WriteId>,
    bytes_since_checkpoint: usize,
    /// Derived state that is kept as soon as what it was derived from is durable.
    checkpoint: Option<Checkpoint>,
    /// Where the log is to begin, once the checkpoint has been kept.
    trim: Option<(WriteId, Offset)>,
}

/// What a storage node can say of itself at any moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub metadata_offset: MetadataOffset,
    pub registered: bool,
    pub fenced: bool,
    pub replicas: usize,
    pub leaders: usize,
    pub under_replicated: usize,
    pub under_min_isr: usize,
    /// Damaged and still in place, given up for another copy or not.
    pub damaged: usize,
    pub appends_waiting: usize,
    pub fetches_waiting: usize,
    pub coordinators: CoordinatorStats,
}

/// What is known of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStats {
    pub partition: TopicPartition,
    pub leads: bool,
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub log_end: Offset,
    pub durable_end: Offset,
    pub high_watermark: Offset,
}

impl StorageNode {
    pub fn new(me: Identity) -> StorageNode {
        StorageNode {
            coordinators: Coordinators::new(&me),
            me,
            image: Image::default(),
            slots: BTreeMap::new(),
            former: BTreeMap::new(),
            strays: BTreeSet::new(),
            session: Session::default(),
            links: Links::default(),
            appends: Appends::default(),
            fetches: Fetches::default(),
            lookups: Lookups::default(),
            trims: Trims::default(),
            throttles: Throttles::default(),
            disk_full_until: Tick::default(),
            deadlines: BTreeSet::new(),
            replica_effects: replica_core::Effects::default(),
        }
    }

    /// The only entry point. Deterministic: the same state, `now` and `event` give the same effects.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::GatewayAsked { stream, message } => self.gateway_asked(now, stream, message, effects),
            Event::GatewayLost { stream } => {
                self.appends.forget(stream);
                self.lookups.forget(stream);
                self.trims.forget(stream);
                self.coordinators.forget(stream);
                self.forget_fetches(stream);
            }
            Event::ControllerConnected { stream } => self.controller_connected(now, stream, effects),
            Event::ControllerSaid { stream, message } => self.controller_said(now, stream, message, effects),
            Event::ControllerLost { stream } => self.controller_lost(now, stream, effects),
            Event::FollowerConnected { stream, hello } => self.follower_connected(now, stream, hello, effects),
            Event::FollowerSaid { stream, message } => self.follower_said(now, stream, message, effects),
            Event::FollowerLost { stream } => self.follower_lost(now, stream, effects),
            Event::LeaderConnected { leader } => self.leader_connected(now, leader, effects),
            Event::LeaderSaid { leader, message } => self.leader_said(now, leader, message, effects),
            Event::LeaderLost { leader } => self.leader_lost(now, leader, effects),
            Event::ReplicasFound { partitions } => self.strays.extend(partitions),
            Event::ReplicaOpened { partition, on_disk } => self.replica_opened(now, partition, on_disk, effects),
            Event::ReplicaOpenFailed { partition } => self.replica_open_failed(now, partition, effects),
            Event::ReplicaNotSetAside { partition } => self.not_set_aside(now, partition),
            Event::ReplicaDamaged { partition } => self.replica_damaged(now, partition, effects),
            Event::WriteCompleted { partition, write, result } => {
                self.write_completed(now, partition, write, result, effects);
            }
            Event::LogChanged { partition, write, result } => {
                self.log_changed(now, partition, write, result, effects);
            }
            Event::ReadCompleted { partition, read, batches } => {
                self.throttles.read_completed(partition, read);
                self.replica_step(now, partition, replica_core::Event::ReadCompleted { read, batches }, effects);
            }
            Event::TrimCompleted { partition, write, result } => {
                // A read of what is gone need not wait.
                self.throttles.look_again();
                self.trim_completed(now, partition, write, result, effects);
            }
            Event::FetchRead { fetch, parts } if self.coordinators.is_reading(fetch) => {
                self.coordinator_read(now, fetch, parts, effects);
            }
            Event::FetchRead { fetch, parts } if self.lookups.is_reading(fetch) => {
                self.time_read(fetch, &parts, effects)
            }
            Event::FetchRead { fetch, parts } => self.fetch_read(now, fetch, parts, effects),
            Event::TimestampFound { lookup, hit } => self.timestamp_found(lookup, hit, effects),
            Event::LogDirDescribed { lookup, log_dir } => self.log_dir_described(lookup, log_dir, effects),
            Event::BrokerEpochRemembered { broker_epoch, result } => {
                self.broker_epoch_remembered(now, broker_epoch, result, effects);
            }
            Event::ShutdownRequested => self.shutdown_requested(now, effects),
            Event::Ticked => self.ticked(now, effects),
        }
        self.run_coordinators(now, effects);
        self.serve_woken_fetches(now, effects);
        self.propose_isr_changes(now, effects);
        self.hand_over_when_drained(now, effects);
        self.let_throttled_go(now, effects);
    }

    /// When [`Event::Ticked`] is due next, if ever.
    pub fn next_deadline(&self) -> Option<Tick> {
        let replicas = self.deadlines.first().map(|&(tick, _)| tick);
        let all = [
            replicas,
            self.fetches.next_deadline(),
            self.session.next_deadline(),
            self.coordinators.next_deadline(),
            self.throttles.next_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// Without effect; called by the simulator after every step.
    pub fn check_invariants(&self) {
        for (partition, slot) in &self.slots {
            if let Some(replica) = &slot.replica {
                replica.check_invariants();
                if let Some(checkpoint) = &slot.checkpoint {
                    invariant!(S4, checkpoint.as_of <= replica.log_end(), "{partition}: as of {}", checkpoint.as_of);
                }
            }
            let scheduled = slot.scheduled.is_none_or(|due| self.deadlines.contains(&(due, *partition)));
            assert!(scheduled, "{partition} waits for a tick that nobody knows of");
        }
        let scheduled = self.slots.values().filter(|slot| slot.scheduled.is_some()).count();
        assert_eq!(self.deadlines.len(), scheduled, "a tick is due for a partition that is gone");
        self.check_fetches();
        self.check_coordinators();
        self.check_throttles();
    }

    pub fn broker(&self) -> BrokerId {
        self.me.broker
    }

    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.session.broker_epoch()
    }

    pub fn image(&self) -> &Image {
        &self.image
    }

    pub fn replica(&self, partition: TopicPartition) -> Option<&Replica> {
        self.slots.get(&partition)?.replica.as_ref()
    }

    pub fn replica_stats(&self) -> impl Iterator<Item = ReplicaStats> + '_ {
        self.open_replicas().map(|(partition, replica)| ReplicaStats {
            partition,
            leads: replica.role() == Role::Leader,
            leader_epoch: replica.leader_epoch(),
            log_start: replica.log_start(),
            log_end: replica.log_end(),
            durable_end: replica.durable_end(),
            high_watermark: replica.high_watermark(),
        })
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            metadata_offset: self.image.at(),
            registered: self.session.broker_epoch().is_some(),
            fenced: self.session.is_fenced(),
            replicas: self.slots.len(),
            damaged: self.slots.values().filter(|slot| slot.is_damaged()).count(),
            appends_waiting: self.appends.len(),
            fetches_waiting: self.fetches.len(),
            coordinators: self.coordinators.stats(),
            ..Stats::default()
        };
        for (partition, replica) in self.open_replicas() {
            if replica.role() == Role::Leader {
                let replicas = self.image.partition(partition).map_or(0, |state| state.replicas.len());
                stats.leaders += 1;
                stats.under_replicated += usize::from(replica.isr().len() < replicas);
                stats.under_min_isr += usize::from(!self.has_min_isr(partition));
            }
        }
        stats
    }

    /// Whether enough replicas are in sync with this leader to write.
    fn has_min_isr(&self, partition: TopicPartition) -> bool {
        let replicas = self.image.partition(partition).map_or(0, |state| state.replicas.len());
        let slot = self.slots.get(&partition);
        slot.is_some_and(|slot| {
            let in_sync = slot.replica.as_ref().map_or(0, |replica| replica.isr().len());
            in_sync >= slot.settings.min_insync_replicas_of(replicas)
        })
    }

    fn open_replicas(&self) -> impl Iterator<Item = (TopicPartition, &Replica)> {
        self.slots.iter().filter_map(|(&partition, slot)| Some((partition, slot.replica.as_ref()?)))
    }

    fn gateway_asked(&mut self, now: Now, stream: GatewayStream, message: ToStorage, effects: &mut Effects) {
        let ToStorage { id, request } = message;
        match request {
            Request::Append(request) => self.append(now, stream, id, request, effects),
            Request::Fetch(request) => self.fetch(now, stream, id, request, effects),
            Request::CancelFetch(fetch) => self.cancel_fetch(now, stream, fetch, effects),
            Request::ListOffsets(partitions) => self.list_offsets(stream, id, &partitions, effects),
            Request::EpochEnds(partitions) => self.epoch_ends(stream, id, &partitions, effects),
            Request::DescribeProducers(partitions) => self.describe_producers(stream, id, &partitions, effects),
            Request::DescribeLogDirs => self.describe_log_dirs(stream, id, effects),
            Request::Trim(request) => self.trim(now, stream, id, request, effects),
            Request::Coordinate(asked) => self.coordinate(now, stream, id, *asked, effects),
        }
    }

    fn ticked(&mut self, now: Now, effects: &mut Effects) {
        let due: Vec<TopicPartition> =
            self.deadlines.iter().take_while(|(tick, _)| *tick <= now.tick).map(|&(_, partition)| partition).collect();
        for partition in due {
            self.schedule(partition, None);
            match self.replica(partition) {
                Some(_) => self.replica_step(now, partition, replica_core::Event::Ticked, effects),
                None => self.reopen(now, partition, effects),
            }
        }
        self.tick_coordinators(now, effects);
        self.expire_fetches(now, effects);
        self.session_ticked(now, effects);
    }

    /// Steps one replica and carries out, or passes on, what it asks for. Without an open replica the event is dropped: every
    /// sender of such an event says it again or has given up.
    fn replica_step(&mut self, now: Now, partition: TopicPartition, event: replica_core::Event, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(replica) = &mut slot.replica else { return };
        self.coordinators.touch(partition);
        let mut asked = std::mem::take(&mut self.replica_effects);
        replica.step(now, event, &mut asked);
        let due = replica.next_deadline();
        if due != slot.scheduled {
            self.schedule(partition, due);
        }
        for effect in asked.drain() {
            self.replica_asked(now, partition, effect, effects);
        }
        self.replica_effects = asked;
    }

    fn schedule(&mut self, partition: TopicPartition, due: Option<Tick>) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        if let Some(old) = std::mem::replace(&mut slot.scheduled, due) {
            self.deadlines.remove(&(old, partition));
        }
        self.deadlines.extend(due.map(|due| (due, partition)));
    }

    fn replica_asked(
        &mut self,
        now: Now,
        partition: TopicPartition,
        effect: replica_core::Effect,
        effects: &mut Effects,
    ) {
        match effect {
            replica_core::Effect::Write { write, batch } => self.write(partition, write, batch, effects),
            replica_core::Effect::Truncate { write, to } => {
                self.cut(partition, write);
                effects.push(Effect::Truncate { partition, write, to });
            }
            replica_core::Effect::StartOver { write, at } => {
                self.cut(partition, write);
                effects.push(Effect::StartOver { partition, write, at });
            }
            replica_core::Effect::HighWatermarkLowered { from, to, last_epoch, unclean_since } => {
                effects.push(Effect::HighWatermarkLowered { partition, from, to, last_epoch, unclean_since });
            }
            replica_core::Effect::Trim { write, to } => self.trim_log(partition, write, to, effects),
            replica_core::Effect::Trimmed { request, result } => self.trim_settled(request, result, effects),
            replica_core::Effect::Read { follower, read, from, below, bytes_max } => {
                self.read_for(partition, follower, Read { read, from, below, bytes_max }, effects);
            }
            replica_core::Effect::ToFollower { follower, message } => {
                self.count_push(now, follower, &message);
                self.send_to_follower(follower, message, effects);
            }
            replica_core::Effect::ToLeader { leader, message } => self.say_to_leader(now, leader, message, effects),
            replica_core::Effect::ProposeIsr { leader_epoch, partition_epoch, isr } => {
                self.throttles.look_again();
                self.session.propose(partition, leader_epoch, partition_epoch, isr);
            }
            replica_core::Effect::Reply { request, result } if coordinators::is_ours(request) => {
                self.coordinators.append_settled(request, result);
            }
            replica_core::Effect::Reply { request, result } => self.append_settled(request, result, effects),
            replica_core::Effect::Confirmed { request, result } => self.coordinators.confirmed(request, result),
            replica_core::Effect::HighWatermarkAdvanced | replica_core::Effect::RoleChanged => {
                if let Some(slot) = self.slots.get(&partition) {
                    self.fetches.wake(&slot.waiters);
                }
            }
        }
    }
}

fn answer(stream: GatewayStream, id: RequestId, response: Response) -> Effect {
    Effect::Answer { stream, message: FromStorage { id, response } }
}
