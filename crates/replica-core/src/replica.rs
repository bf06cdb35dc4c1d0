//! `struct Replica` and its one entry point; what it may answer without changing; the state that both roles share.

mod follower;
mod leader;

use std::collections::VecDeque;

use base_types::{BrokerId, LeaderEpoch, Now, Offset, PartitionEpoch, Tick, TopicPartition, invariant, planted};
use peer_api::storage::{
    ActiveProducer, AppendError, EpochEnd, EpochEndPartition, FetchPartition, Isolation, ListOffsetsPartition,
    ReadError, TrimError,
};
use record_batch::{BatchHeader, StampedBatch};

use crate::effect::{Effect, Effects};
use crate::epoch_cache::EpochCache;
use crate::event::{Assignment, Event, Names, OnDisk, ReadId, Role, Settings, WriteFailure, WriteId};
use crate::producer_state::{ProducerState, Verdict};

use follower::Follower;
use leader::Leader;

/// How soon writes are asked for again after the disk was full.
const WRITE_RETRY_MS: u64 = 100;

#[derive(Clone, Hash, Debug)]
pub struct Replica {
    me: BrokerId,
    partition: TopicPartition,
    settings: Settings,

    // What the log is. `durable_end <= log_end`; what lies between is on its way to the disk.
    log_start: Offset,
    /// Where the batch begins that holds it. Batches are sent whole, so that is where an empty follower begins.
    first_batch: Offset,
    /// Where the log is to begin; what is committed can go, and nothing else (S11).
    log_start_wanted: Offset,
    /// The trim that is on its way to the disk, and what the log begins with when it is done.
    trimming: Option<(WriteId, Offset)>,
    durable_end: Offset,
    log_end: Offset,
    /// Never goes back in the life of this replica (R6), but for a cut that an unclean election allows.
    high_watermark: Offset,
    epochs: EpochCache,
    producers: ProducerState,
    /// In order of offset and of id.
    writes: VecDeque<PendingWrite>,
    /// The disk was full: nothing is written before then, and then everything in `writes` is asked for again, or the cut.
    retry_writes_at: Option<Tick>,
    /// It was full for a trim: none is asked for before then. Writes that were asked for meanwhile have not failed by that.
    retry_trim_at: Option<Tick>,
    /// The truncation or start-over that is under way; nothing is appended and nothing is answered meanwhile.
    cutting: Option<Cutting>,
    /// What the controller said meanwhile. It waits, because a leader's log is never cut (R12).
    deferred: Option<Assignment>,
    /// A write failed for good: this replica takes no more writes, gives no more positions, and has no duty any more.
    failed: bool,

    // What the controller said last.
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    leader: Option<BrokerId>,
    unclean_since: Option<LeaderEpoch>,
    duty: Duty,

    next_write: WriteId,
    next_read: ReadId,
}

#[derive(Clone, Hash, Debug)]
enum Duty {
    Idle,
    Leader(Box<Leader>),
    Follower(Follower),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Cut {
    Truncate { to: Offset },
    StartOver { at: Offset },
}

impl Cut {
    /// Where the log ends then.
    fn end(self) -> Offset {
        match self {
            Cut::Truncate { to } => to,
            Cut::StartOver { at } => at,
        }
    }
}

#[derive(Clone, Copy, Hash, Debug)]
struct Cutting {
    write: WriteId,
    cut: Cut,
    /// Below the high watermark: it goes back when the cut is done.
    lowers_high_watermark: bool,
}

#[derive(Clone, Hash, Debug)]
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
            first_batch: Offset::ZERO,
            log_start_wanted: Offset::ZERO,
            trimming: None,
            durable_end: Offset::ZERO,
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            epochs: EpochCache::default(),
            producers: ProducerState::default(),
            writes: VecDeque::new(),
            retry_writes_at: None,
            retry_trim_at: None,
            cutting: None,
            deferred: None,
            failed: false,
            leader_epoch: LeaderEpoch::UNKNOWN,
            partition_epoch: PartitionEpoch(-1),
            leader: None,
            unclean_since: None,
            duty: Duty::Idle,
            next_write: WriteId(0),
            next_read: ReadId(0),
        };
        let high_watermark = on_disk.high_watermark;
        replica.load(on_disk);
        replica.high_watermark = high_watermark.clamp(replica.log_start, replica.log_end);
        replica
    }

    /// Goes on with the names where another replica of the partition on this node left off.
    pub fn with_names_after(mut self, former: Names) -> Replica {
        self.next_write = former.write;
        self.next_read = former.read;
        self
    }

    /// What it has named its writes and reads so far.
    pub fn names(&self) -> Names {
        Names { write: self.next_write, read: self.next_read }
    }

    /// The only way to change a replica. Deterministic: the same state, `now` and `event` give the same effects.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let high_watermark = self.high_watermark;
        let may_go_back = self.cutting.is_some_and(|cut| cut.lowers_high_watermark);
        match event {
            Event::MetadataChanged(assignment) => self.metadata_changed(now, assignment, effects),
            Event::SettingsChanged(settings) => {
                self.settings = settings;
                self.leader_advance(now, effects);
            }
            Event::AppendRequested { request, acks, deadline, leader_epoch, batch, has_space } => {
                let append = leader::Append { request, acks, deadline, leader_epoch, has_space };
                self.append_requested(now, append, &batch, effects);
            }
            Event::WriteCompleted { write, result } => self.write_completed(now, write, result, effects),
            Event::TrimRequested { request, deadline, to } => self.trim_requested(request, deadline, to, effects),
            Event::ConfirmationRequested { request, deadline } => {
                self.confirmation_requested(request, deadline, effects);
            }
            Event::TrimCompleted { write, result } => self.trim_completed(now, write, result, effects),
            Event::LogChanged { write, result } => self.log_changed(now, write, result, effects),
            Event::ReadCompleted { read, batches } => self.read_completed(now, read, batches, effects),
            Event::FollowerSaid { follower, broker_epoch, message } => {
                self.follower_said(now, (follower, broker_epoch), message, effects);
            }
            Event::FollowerLost { follower } => self.follower_lost(now, follower),
            Event::LeaderSaid(message) => self.leader_said(now, message, effects),
            Event::LeaderReachable => self.leader_reachable(now, effects),
            Event::LeaderLost => self.leader_lost(),
            Event::IsrDecided(result) => self.isr_decided(now, result, effects),
            Event::Ticked => self.ticked(now, effects),
        }
        invariant!(
            R6,
            self.high_watermark >= high_watermark || may_go_back,
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
        let duty = match &self.duty {
            Duty::Idle => None,
            Duty::Leader(leader) => leader.next_deadline(&self.settings),
            Duty::Follower(follower) => follower.next_deadline(),
        };
        duty.into_iter().chain(self.retry_writes_at).chain(self.retry_trim_at).min()
    }

    pub fn role(&self) -> Role {
        match &self.duty {
            Duty::Idle => Role::Idle,
            Duty::Leader(_) => Role::Leader,
            Duty::Follower(follower) => Role::Follower { leader: follower.leader },
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
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

    /// Whether the batch is a retry of one that is in the log.
    pub fn has(&self, batch: &BatchHeader) -> bool {
        matches!(self.producers.check(batch), Ok(Verdict::Duplicate { .. }))
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

    /// The ISR and whoever may have joined it for all the leader knows (R4); empty elsewhere.
    pub fn maximal_isr(&self) -> Vec<BrokerId> {
        match &self.duty {
            Duty::Leader(leader) => leader.maximal_isr().collect(),
            Duty::Idle | Duty::Follower(_) => Vec::new(),
        }
    }

    /// What a consumer at `fetch` may be given, by a leader of a valid epoch only (W5). From beyond the high watermark: nothing yet.
    pub fn plan_fetch(&self, fetch: &FetchPartition, isolation: Isolation) -> Result<FetchPlan, ReadError> {
        self.require_leader(fetch.leader_epoch)?;
        let from = fetch.fetch_offset;
        let readable_end = self.readable_end(isolation);
        let plan = FetchPlan {
            from,
            below: readable_end.max(from),
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset(),
            log_start: self.log_start,
            diverging: None,
        };
        let out_of_range =
            ReadError::OffsetOutOfRange { log_start: self.log_start, high_watermark: self.high_watermark };
        if fetch.last_fetched_epoch != LeaderEpoch::UNKNOWN {
            // Without any epoch that old there is no point to go back to.
            let end = self.epochs.end_of(fetch.last_fetched_epoch, self.log_end).ok_or(out_of_range.clone())?;
            if end.epoch < fetch.last_fetched_epoch || end.end_offset < from {
                return Ok(FetchPlan { below: from, diverging: Some(end), ..plan });
            }
        }
        if from < self.log_start || from > self.log_end { Err(out_of_range) } else { Ok(plan) }
    }

    /// The end of the log as clients may know it.
    pub fn latest_offset(&self, ask: &ListOffsetsPartition) -> Result<(Offset, LeaderEpoch), ReadError> {
        self.require_leader(ask.leader_epoch)?;
        if let Duty::Leader(leader) = &self.duty
            && self.high_watermark < leader.epoch_start()
            && !planted!(EndToldBeforeEpochStart)
        {
            return Err(ReadError::OffsetNotAvailable);
        }
        Ok((self.readable_end(ask.isolation), self.leader_epoch))
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
        let leads = matches!(self.duty, Duty::Leader(_));
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
        invariant!(S11, self.first_batch <= self.log_start, "{} beyond {}", self.first_batch, self.log_start);
        invariant!(S11, self.log_start <= self.high_watermark, "{} beyond {}", self.log_start, self.high_watermark);
        if let Some(last) = self.writes.back() {
            invariant!(
                R10,
                last.batch.header().next_offset() == self.log_end,
                "ends at {}",
                last.batch.header().next_offset()
            );
        }
        if let Duty::Leader(leader) = &self.duty {
            invariant!(R12, self.cutting.is_none(), "a leader's log is being cut");
            leader.check_invariants(self.high_watermark, self.durable_end, self.log_end);
        }
    }

    fn not_leader(&self) -> ReadError {
        ReadError::NotLeader { leader: self.leader.unwrap_or(BrokerId::NONE), leader_epoch: self.leader_epoch }
    }

    fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted if planted!(ReadsBeyondHighWatermark) => self.log_end,
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    fn metadata_changed(&mut self, now: Now, assignment: Assignment, effects: &mut Effects) {
        let known = self.deferred.as_ref().map_or(self.partition_epoch, |deferred| deferred.partition_epoch);
        if assignment.partition_epoch < known || assignment.leader_epoch < self.leader_epoch {
            return;
        }
        if self.cutting.is_some() {
            self.deferred = Some(assignment);
            return;
        }
        let new_epoch = assignment.leader_epoch > self.leader_epoch;
        invariant!(
            R8,
            new_epoch || assignment.leader == self.leader || assignment.leader.is_none(),
            "{:?} and {:?} in epoch {}",
            assignment.leader,
            self.leader,
            self.leader_epoch
        );
        let (old_role, new_role) = (self.role(), self.role_under(&assignment, new_epoch));
        self.leader_epoch = assignment.leader_epoch;
        self.partition_epoch = assignment.partition_epoch;
        self.leader = assignment.leader;
        self.unclean_since = assignment.unclean_since;
        match (&mut self.duty, new_role) {
            (Duty::Leader(leader), Role::Leader) if new_epoch => {
                leader.elected_again(now, self.me, self.log_end, &assignment);
            }
            (Duty::Leader(leader), Role::Leader) => leader.assigned(now, self.me, self.log_end, &assignment),
            (Duty::Follower(_), Role::Follower { .. }) if new_role == old_role && !new_epoch => {}
            (_, Role::Leader) => {
                self.duty = Duty::Leader(Box::new(Leader::new(now, self.me, self.log_end, &assignment)))
            }
            (_, Role::Follower { leader }) => {
                self.take_up(Duty::Follower(Follower::new(leader)), effects);
                if planted!(TruncatesToHighWatermark) && self.high_watermark < self.log_end {
                    let to = self.high_watermark;
                    self.ask_for_cut(Cut::Truncate { to }, false, effects);
                }
            }
            (_, Role::Idle) => self.take_up(Duty::Idle, effects),
        }
        if new_epoch || new_role != old_role {
            self.log_start_wanted = self.log_start;
            effects.push(Effect::RoleChanged);
        }
        self.leader_settle_trims(effects);
        self.leader_advance(now, effects);
        self.leader_propose(now, effects);
        self.follower_open(now, effects);
    }

    fn role_under(&self, assignment: &Assignment, new_epoch: bool) -> Role {
        if self.failed || !assignment.replicas.contains(&self.me) {
            return Role::Idle;
        }
        match assignment.leader {
            Some(leader) if leader != self.me => Role::Follower { leader },
            // An earlier life of ours wrote in this epoch, and may have given offsets that this life does not know of (R8, R10).
            Some(_) if new_epoch && self.epochs.latest() >= assignment.leader_epoch => Role::Idle,
            Some(_) if new_epoch || self.role() == Role::Leader => Role::Leader,
            Some(_) | None => Role::Idle,
        }
    }

    /// Ends leadership, if there is one. Whatever was not committed may be cut off by the next leader, or may survive: the
    /// answer is indeterminate.
    fn take_up(&mut self, duty: Duty, effects: &mut Effects) {
        if let Duty::Leader(leader) = std::mem::replace(&mut self.duty, duty) {
            let next = self.leader.unwrap_or(BrokerId::NONE);
            let error = AppendError::LeaderChanged { leader: next, leader_epoch: self.leader_epoch };
            leader.abandon(&error, TrimError::NotLeader, effects);
        }
    }

    fn ticked(&mut self, now: Now, effects: &mut Effects) {
        if self.retry_writes_at.is_some_and(|at| at <= now.tick) {
            self.retry_writes(effects);
        }
        if self.retry_trim_at.take_if(|at| *at <= now.tick).is_some() {
            self.trim(effects);
        }
        self.leader_ticked(now, effects);
        self.follower_ticked(now, effects);
    }

    fn write_completed(&mut self, now: Now, write: WriteId, result: Result<(), WriteFailure>, effects: &mut Effects) {
        match result {
            Ok(()) => {
                // A write that a truncation overtook is gone from the list, and its completion says nothing any more.
                let Some(done) = self.writes.pop_front_if(|first| first.id == write) else { return };
                self.durable_end = done.batch.header().next_offset();
                self.leader_advance(now, effects);
                self.leader_pump_all(effects);
                self.trim(effects);
                self.follower_report(effects);
                self.follower_open(now, effects);
            }
            Err(WriteFailure::NoSpace) => {
                if self.writes.binary_search_by_key(&write, |pending| pending.id).is_ok() {
                    self.retry_writes_at.get_or_insert(now.tick.plus_ms(WRITE_RETRY_MS));
                }
            }
            // Whichever write it was: the directory is lost, or this log is.
            Err(WriteFailure::Failed | WriteFailure::Corrupt) => self.fail(effects),
        }
    }

    /// Nothing of these reached the disk. The same bytes are asked for again, because their offsets may have been pushed to
    /// followers already; under new ids, so that what is still said of the first attempts is not mistaken for them.
    fn retry_writes(&mut self, effects: &mut Effects) {
        self.retry_writes_at = None;
        if let Some(Cutting { cut, lowers_high_watermark, .. }) = self.cutting {
            return self.ask_for_cut(cut, lowers_high_watermark, effects);
        }
        for pending in &mut self.writes {
            self.next_write.0 += 1;
            pending.id = self.next_write;
            effects.push(Effect::Write { write: pending.id, batch: pending.batch.clone() });
        }
        self.trim(effects);
    }

    /// Has the disk delete what is wanted gone, as far as it is committed and durable here. One trim at a time: the next one
    /// goes as far as was asked meanwhile.
    fn trim(&mut self, effects: &mut Effects) {
        let to = self.log_start_wanted.min(self.high_watermark).min(self.durable_end);
        let retries = self.retry_writes_at.is_some() || self.retry_trim_at.is_some();
        let waits = self.trimming.is_some() || self.cutting.is_some() || retries;
        if self.failed || waits || to <= self.log_start {
            return;
        }
        let write = self.new_write();
        self.trimming = Some((write, to));
        effects.push(Effect::Trim { write, to });
    }

    /// The log begins later from the moment on that this is durable, so that it never begins earlier again.
    fn trim_completed(
        &mut self,
        now: Now,
        write: WriteId,
        result: Result<Offset, WriteFailure>,
        effects: &mut Effects,
    ) {
        let Some((_, to)) = self.trimming.take_if(|(asked, _)| *asked == write) else { return };
        match result {
            Ok(first_batch) => {
                self.log_start = self.log_start.max(to);
                self.first_batch = first_batch;
                self.epochs.trim(self.log_start);
                self.leader_tell_log_start(now, effects);
                self.leader_settle_trims(effects);
                self.follower_report(effects);
                self.trim(effects);
            }
            // A cut that came after it will be answered itself, and the leader says again where the log is to begin.
            Err(WriteFailure::NoSpace) if self.cutting.is_some() => {}
            Err(WriteFailure::NoSpace) => self.retry_trim_at = Some(now.tick.plus_ms(WRITE_RETRY_MS)),
            Err(WriteFailure::Failed | WriteFailure::Corrupt) => self.fail(effects),
        }
    }

    /// The disk is lost, or this log on it: what was acknowledged stays so, the rest is unknown.
    fn fail(&mut self, effects: &mut Effects) {
        if self.failed {
            return;
        }
        self.failed = true;
        self.writes.clear();
        self.retry_writes_at = None;
        self.retry_trim_at = None;
        self.cutting = None;
        self.trimming = None;
        self.deferred = None;
        if let Duty::Leader(leader) = std::mem::replace(&mut self.duty, Duty::Idle) {
            leader.abandon(&AppendError::StorageFailed, TrimError::StorageFailed, effects);
        }
        effects.push(Effect::RoleChanged);
    }

    fn log_changed(&mut self, now: Now, write: WriteId, result: Result<OnDisk, WriteFailure>, effects: &mut Effects) {
        let Some(cutting) = self.cutting.filter(|cutting| cutting.write == write) else { return };
        let on_disk = match result {
            Ok(on_disk) => on_disk,
            // The log is still to be cut, for the writes that were under way then are forgotten here.
            Err(WriteFailure::NoSpace) => {
                self.retry_writes_at = Some(now.tick.plus_ms(WRITE_RETRY_MS));
                return;
            }
            Err(WriteFailure::Failed | WriteFailure::Corrupt) => return self.fail(effects),
        };
        self.cutting = None;
        let outlive = planted!(ProducersOutliveTruncation).then(|| self.producers.clone());
        self.load(on_disk);
        if let Some(producers) = outlive {
            self.producers = producers;
        }
        if cutting.lowers_high_watermark {
            self.high_watermark = self.high_watermark.min(self.log_end);
            self.log_start_wanted = self.log_start;
        }
        self.high_watermark = self.high_watermark.max(self.log_start);
        if let Some(assignment) = self.deferred.take() {
            self.metadata_changed(now, assignment, effects);
        }
        self.follower_open(now, effects);
    }

    /// Takes over what the disk holds; every derived state is made anew from it (S4, S5).
    fn load(&mut self, on_disk: OnDisk) {
        self.log_start = on_disk.log_start;
        self.first_batch = on_disk.first_batch;
        self.log_end = on_disk.log_end;
        self.durable_end = on_disk.log_end;
        self.epochs = EpochCache::new(on_disk.leader_epochs);
        let producers = on_disk.producer_state.map(|bytes| ProducerState::decode(&bytes));
        invariant!(S5, !matches!(producers, Some(Err(_))), "damaged producer state was handed over instead of rebuilt");
        self.producers = producers.and_then(Result::ok).unwrap_or_default();
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
        if self.retry_writes_at.is_none() {
            effects.push(Effect::Write { write, batch });
        }
    }

    fn new_write(&mut self) -> WriteId {
        self.next_write.0 += 1;
        self.next_write
    }
}
