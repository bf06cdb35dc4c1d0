//! `struct Replica` and its one entry point; what it may answer without changing; the state that both roles share.

mod follower;
mod leader;

use std::collections::VecDeque;

use base_types::{BrokerId, LeaderEpoch, Now, Offset, PartitionEpoch, Tick, TopicPartition, invariant};
use peer_api::storage::{
    ActiveProducer, EpochEnd, EpochEndPartition, FetchPartition, Isolation, ListOffsetsPartition, ReadError,
};
use record_batch::StampedBatch;

use crate::effect::{Effect, Effects};
use crate::epoch_cache::EpochCache;
use crate::event::{Assignment, Event, OnDisk, ReadId, Role, Settings, WriteFailure, WriteId};
use crate::producer_state::ProducerState;

use follower::Follower;
use leader::Leader;

#[derive(Debug)]
pub struct Replica {
    me: BrokerId,
    partition: TopicPartition,
    settings: Settings,

    // What the log is. `durable_end <= log_end`; what lies between is on its way to the disk.
    log_start: Offset,
    durable_end: Offset,
    log_end: Offset,
    /// Never goes back in the life of this replica (R6).
    high_watermark: Offset,
    epochs: EpochCache,
    producers: ProducerState,
    /// In order of offset and of id.
    writes: VecDeque<PendingWrite>,
    /// The truncation or start-over that is under way; nothing is appended meanwhile.
    cutting: Option<WriteId>,
    /// A write failed for good: this replica takes no more writes and gives no more positions.
    failed: bool,

    // What the controller said last.
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    leader: Option<BrokerId>,
    duty: Duty,

    next_write: WriteId,
    next_read: ReadId,
}

#[derive(Debug)]
enum Duty {
    Idle,
    Leader(Leader),
    Follower(Follower),
}

#[derive(Debug)]
struct PendingWrite {
    id: WriteId,
    batch: StampedBatch,
}

/// What a fetch may be given: whole batches in `from..below`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPlan {
    pub from: Offset,
    pub below: Offset,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start: Offset,
    pub diverging: Option<EpochEnd>,
}

impl Replica {
    pub fn new(me: BrokerId, partition: TopicPartition, settings: Settings, on_disk: OnDisk) -> Replica {
        let mut replica = Replica {
            me,
            partition,
            settings,
            log_start: Offset::ZERO,
            durable_end: Offset::ZERO,
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            epochs: EpochCache::default(),
            producers: ProducerState::default(),
            writes: VecDeque::new(),
            cutting: None,
            failed: false,
            leader_epoch: LeaderEpoch::UNKNOWN,
            partition_epoch: PartitionEpoch(-1),
            leader: None,
            duty: Duty::Idle,
            next_write: WriteId(0),
            next_read: ReadId(0),
        };
        let high_watermark = on_disk.high_watermark;
        replica.load(on_disk);
        replica.high_watermark = high_watermark.clamp(replica.log_start, replica.log_end);
        replica
    }

    /// The only way to change a replica. Deterministic: the same state, `now` and `event` give the same effects.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let high_watermark = self.high_watermark;
        let starts_over = matches!(event, Event::LogChanged { .. });
        match event {
            Event::MetadataChanged(assignment) => self.metadata_changed(now, assignment, effects),
            Event::SettingsChanged(settings) => {
                self.settings = settings;
                self.leader_advance(now, effects);
            }
            Event::AppendRequested { request, acks, deadline, leader_epoch, batch } => {
                self.append_requested(now, leader::Append { request, acks, deadline, leader_epoch }, &batch, effects);
            }
            Event::WriteCompleted { write, result } => self.write_completed(now, write, result, effects),
            Event::LogChanged { write, on_disk } => self.log_changed(now, write, on_disk, effects),
            Event::ReadCompleted { read, batches } => self.read_completed(read, batches, effects),
            Event::FollowerSaid { follower, broker_epoch, message } => {
                self.follower_said(now, (follower, broker_epoch), message, effects);
            }
            Event::FollowerLost { follower } => self.follower_lost(follower),
            Event::LeaderSaid(message) => self.leader_said(now, message, effects),
            Event::LeaderReachable => self.leader_reachable(effects),
            Event::LeaderLost => self.leader_lost(),
            Event::IsrDecided(result) => self.isr_decided(now, result, effects),
            Event::Ticked => self.ticked(now, effects),
        }
        invariant!(
            R6,
            starts_over || self.high_watermark >= high_watermark,
            "{} after {high_watermark}",
            self.high_watermark
        );
        if self.high_watermark > high_watermark {
            effects.push(Effect::HighWatermarkAdvanced);
        }
        self.check_invariants();
    }

    /// When [`Event::Ticked`] is due next, if ever. An idle replica has no deadline.
    pub fn next_deadline(&self) -> Option<Tick> {
        match &self.duty {
            Duty::Idle => None,
            Duty::Leader(leader) => leader.next_deadline(self.log_end, &self.settings),
            Duty::Follower(follower) => follower.next_deadline(),
        }
    }

    pub fn role(&self) -> Role {
        match &self.duty {
            Duty::Idle => Role::Idle,
            Duty::Leader(_) => Role::Leader,
            Duty::Follower(follower) => Role::Follower { leader: follower.leader },
        }
    }

    pub fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The end of what `read_committed` may see: the high watermark, as no transaction is open.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark
    }

    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    pub fn active_producers(&self) -> Result<Vec<ActiveProducer>, ReadError> {
        self.require_leader(LeaderEpoch::UNKNOWN)?;
        Ok(self.producers.active().collect())
    }

    /// The ISR as the leader knows it; empty elsewhere.
    pub fn isr(&self) -> &[BrokerId] {
        match &self.duty {
            Duty::Leader(leader) => leader.isr(),
            Duty::Idle | Duty::Follower(_) => &[],
        }
    }

    /// What a consumer at `fetch` may be given, by a leader of a valid epoch only (W5).
    pub fn plan_fetch(&self, fetch: &FetchPartition, isolation: Isolation) -> Result<FetchPlan, ReadError> {
        self.require_leader(fetch.leader_epoch)?;
        let last_stable_offset = self.last_stable_offset();
        let mut plan = FetchPlan {
            from: fetch.fetch_offset,
            below: match isolation {
                Isolation::ReadUncommitted => self.high_watermark,
                Isolation::ReadCommitted => last_stable_offset,
            },
            high_watermark: self.high_watermark,
            last_stable_offset,
            log_start: self.log_start,
            diverging: None,
        };
        if fetch.last_fetched_epoch != LeaderEpoch::UNKNOWN {
            let unknown = EpochEnd { epoch: LeaderEpoch::UNKNOWN, end_offset: Offset::UNKNOWN };
            let end = self.epochs.end_of(fetch.last_fetched_epoch, self.log_end).unwrap_or(unknown);
            if end.epoch < fetch.last_fetched_epoch || end.end_offset < fetch.fetch_offset {
                plan.diverging = Some(end);
                plan.below = plan.from;
                return Ok(plan);
            }
        }
        if fetch.fetch_offset < self.log_start || fetch.fetch_offset > self.log_end {
            return Err(ReadError::OffsetOutOfRange { log_start: self.log_start, high_watermark: self.high_watermark });
        }
        Ok(plan)
    }

    /// The end of the log as clients may know it.
    pub fn latest_offset(&self, ask: &ListOffsetsPartition) -> Result<(Offset, LeaderEpoch), ReadError> {
        self.require_leader(ask.leader_epoch)?;
        if let Duty::Leader(leader) = &self.duty
            && self.high_watermark < leader.epoch_start()
        {
            return Err(ReadError::OffsetNotAvailable);
        }
        let offset = match ask.isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset(),
        };
        Ok((offset, self.leader_epoch))
    }

    pub fn earliest_offset(&self, ask: &ListOffsetsPartition) -> Result<(Offset, LeaderEpoch), ReadError> {
        self.require_leader(ask.leader_epoch)?;
        Ok((self.log_start, self.epochs.epoch_at(self.log_start)))
    }

    /// The largest epoch not above the one asked for, and where it ends (OffsetForLeaderEpoch).
    pub fn epoch_end(&self, ask: &EpochEndPartition) -> Result<EpochEnd, ReadError> {
        self.require_leader(ask.current_leader_epoch)?;
        if ask.leader_epoch == self.leader_epoch {
            return Ok(EpochEnd { epoch: self.leader_epoch, end_offset: self.log_end });
        }
        let unknown = EpochEnd { epoch: LeaderEpoch::UNKNOWN, end_offset: Offset::UNKNOWN };
        if ask.leader_epoch > self.leader_epoch {
            return Ok(unknown);
        }
        Ok(self.epochs.end_of(ask.leader_epoch, self.log_end).unwrap_or(unknown))
    }

    /// Whether this replica leads, under an epoch that agrees with the asker's; an asker without an epoch agrees with any.
    pub fn require_leader(&self, asked: LeaderEpoch) -> Result<(), ReadError> {
        let leads = matches!(self.duty, Duty::Leader(_)) && !self.failed;
        if asked != LeaderEpoch::UNKNOWN {
            if asked < self.leader_epoch {
                return Err(ReadError::FencedLeaderEpoch);
            }
            if asked > self.leader_epoch {
                return Err(ReadError::UnknownLeaderEpoch);
            }
        }
        if leads { Ok(()) } else { Err(self.not_leader()) }
    }

    /// Cheap and without effect; called after every step and by the simulator.
    pub fn check_invariants(&self) {
        invariant!(R7, self.high_watermark <= self.log_end, "{} beyond {}", self.high_watermark, self.log_end);
        invariant!(R7, self.durable_end <= self.log_end, "{} beyond {}", self.durable_end, self.log_end);
        invariant!(S11, self.log_start <= self.log_end, "{} beyond {}", self.log_start, self.log_end);
        if let Some(last) = self.writes.back() {
            invariant!(
                R10,
                last.batch.header().next_offset() == self.log_end,
                "ends at {}",
                last.batch.header().next_offset()
            );
        }
        if let Duty::Leader(leader) = &self.duty {
            leader.check_invariants(self.log_end);
        }
    }

    fn not_leader(&self) -> ReadError {
        ReadError::NotLeader { leader: self.leader.unwrap_or(BrokerId::NONE), leader_epoch: self.leader_epoch }
    }

    fn metadata_changed(&mut self, now: Now, assignment: Assignment, effects: &mut Effects) {
        let Assignment { leader_epoch, partition_epoch, leader, .. } = assignment;
        if partition_epoch < self.partition_epoch || leader_epoch < self.leader_epoch {
            return;
        }
        let new_epoch = leader_epoch > self.leader_epoch;
        if !new_epoch {
            invariant!(
                R8,
                leader == self.leader || leader.is_none() || self.leader.is_none(),
                "{leader:?} and {:?}",
                self.leader
            );
        }
        self.leader_epoch = leader_epoch;
        self.partition_epoch = partition_epoch;
        self.leader = leader;
        let duty = std::mem::replace(&mut self.duty, Duty::Idle);
        self.duty = match (duty, leader) {
            (Duty::Leader(mut old), Some(leader)) if leader == self.me => {
                old.reassigned(now, self.log_end, new_epoch, &assignment);
                Duty::Leader(old)
            }
            (Duty::Follower(old), Some(leader)) if leader == old.leader && !new_epoch => Duty::Follower(old),
            (old, leader) => {
                if let Duty::Leader(old) = old {
                    self.resign(&old, effects);
                    effects.push(Effect::RoleChanged);
                }
                match leader {
                    Some(leader) if leader == self.me => {
                        Duty::Leader(Leader::new(now, self.me, self.log_end, &assignment))
                    }
                    Some(leader) => Duty::Follower(Follower::new(leader)),
                    None => Duty::Idle,
                }
            }
        };
        if new_epoch {
            effects.push(Effect::RoleChanged);
        }
        self.leader_advance(now, effects);
        self.leader_propose(now, effects);
        self.follower_open(effects);
    }

    fn write_completed(&mut self, now: Now, write: WriteId, result: Result<(), WriteFailure>, effects: &mut Effects) {
        // A write that a truncation overtook is gone from the list, and its completion says nothing any more.
        if self.writes.front().is_none_or(|first| first.id != write) {
            return;
        }
        match result {
            Ok(()) => {
                let Some(done) = self.writes.pop_front() else { return };
                self.durable_end = done.batch.header().next_offset();
                self.leader_advance(now, effects);
                self.leader_pump_all(effects);
                self.leader_propose(now, effects);
                self.follower_report(effects);
            }
            // Nothing reached the disk. The same bytes are asked for again, because their offsets may have been pushed to
            // followers already; producers are held off by the storage node while space is short.
            Err(WriteFailure::NoSpace) => {
                for pending in &self.writes {
                    effects.push(Effect::Write { write: pending.id, batch: pending.batch.clone() });
                }
            }
            Err(WriteFailure::Failed) => {
                self.failed = true;
                self.writes.clear();
                self.log_end = self.durable_end.max(self.high_watermark);
                match std::mem::replace(&mut self.duty, Duty::Idle) {
                    Duty::Leader(leader) => leader.fail(effects),
                    Duty::Follower(_) | Duty::Idle => {}
                }
                effects.push(Effect::RoleChanged);
            }
        }
    }

    fn log_changed(&mut self, now: Now, write: WriteId, on_disk: OnDisk, effects: &mut Effects) {
        if self.cutting != Some(write) {
            return;
        }
        self.cutting = None;
        self.load(on_disk);
        self.high_watermark = self.high_watermark.clamp(self.log_start, self.log_end);
        self.follower_open(effects);
        self.leader_advance(now, effects);
    }

    /// Takes over what the disk holds; every derived state is made anew from it (S4, S5).
    fn load(&mut self, on_disk: OnDisk) {
        self.log_start = on_disk.log_start;
        self.log_end = on_disk.log_end;
        self.durable_end = on_disk.log_end;
        self.epochs = EpochCache::new(on_disk.leader_epochs);
        self.producers =
            on_disk.producer_state.and_then(|bytes| ProducerState::decode(&bytes).ok()).unwrap_or_default();
        for header in &on_disk.headers_since {
            self.producers.append(header);
        }
    }

    fn write(&mut self, batch: StampedBatch, effects: &mut Effects) {
        let header = *batch.header();
        invariant!(R10, header.base_offset == self.log_end, "{} at {}", header.base_offset, self.log_end);
        self.epochs.append(header.leader_epoch, header.base_offset);
        self.producers.append(&header);
        self.log_end = header.next_offset();
        let write = self.new_write();
        self.writes.push_back(PendingWrite { id: write, batch: batch.clone() });
        effects.push(Effect::Write { write, batch });
    }

    fn new_write(&mut self) -> WriteId {
        self.next_write.0 += 1;
        self.next_write
    }
}
