//! Decisions of a leader: offsets, acknowledgements, what each follower is sent, the ISR and the high watermark.

use std::collections::{BTreeMap, VecDeque};

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Now, Offset, PartitionEpoch, Tick, Timestamp, invariant,
};
use bytes::Bytes;
use peer_api::metadata::PartitionState;
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{Acks, AppendError, Appended};
use record_batch::{ProducedBatch, StampedBatch};

use super::{Duty, Replica};
use crate::effect::{Effect, Effects};
use crate::event::{Assignment, ReadId, RequestKey, Settings};
use crate::high_watermark;
use crate::isr::{self, Standing};
use crate::producer_state::Verdict;

/// Bytes pushed to a follower and not yet confirmed. Enough to keep two disks busy, little enough to bound memory.
const BYTES_IN_FLIGHT_MAX: usize = 8 << 20;
/// One read for a follower that lags.
const CATCH_UP_BYTES: usize = 1 << 20;
/// How long a high watermark may stay unsaid to followers while nothing is pushed.
const ADVANCE_DELAY_MS: u64 = 20;
/// How soon a proposal that got no clear answer is made again.
const PROPOSAL_RETRY_MS: u64 = 500;

#[derive(Debug)]
pub(super) struct Leader {
    /// Where the log ended when this epoch began: nothing is known to be committed in this epoch before the high watermark is here.
    epoch_start: Offset,
    isr: Vec<BrokerId>,
    /// Of which partition epoch `isr` is.
    partition_epoch: PartitionEpoch,
    proposal: Option<Proposal>,
    broker_epochs: BTreeMap<BrokerId, BrokerEpoch>,
    /// Every other replica.
    followers: BTreeMap<BrokerId, Progress>,
    /// Refused: no other proposal before this.
    propose_after: Option<Tick>,
    /// `acks=all`, waiting for the high watermark; in order of `end`.
    until_committed: VecDeque<Waiting>,
    /// `acks=1`, waiting for our own disk; in order of `end`.
    until_durable: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Proposal {
    isr: Vec<BrokerId>,
    /// When to make it again if nothing is heard.
    retry_at: Tick,
}

/// How far a follower is.
#[derive(Debug)]
struct Progress {
    link: Link,
    broker_epoch: BrokerEpoch,
    durable_end: Option<Offset>,
    caught_up_at: Tick,
    /// The high watermark it was told.
    told: Offset,
    /// When it has to be told a newer one.
    tell_at: Option<Tick>,
}

#[derive(Debug)]
enum Link {
    /// It has not opened in this epoch, or its stream ended.
    Silent,
    /// It agrees with the log up to `next`; everything after is pushed as it comes, or read while it lags.
    Streaming { next: Offset, in_flight: VecDeque<(Offset, usize)>, bytes_in_flight: usize, reading: Option<ReadId> },
}

#[derive(Debug)]
struct Waiting {
    request: RequestKey,
    deadline: Tick,
    end: Offset,
    appended: Appended,
}

/// An append request but for its batch.
pub(super) struct Append {
    pub request: RequestKey,
    pub acks: Acks,
    pub deadline: Tick,
    pub leader_epoch: LeaderEpoch,
}

impl Leader {
    pub(super) fn new(now: Now, me: BrokerId, log_end: Offset, assignment: &Assignment) -> Leader {
        let mut leader = Leader {
            epoch_start: log_end,
            isr: Vec::new(),
            partition_epoch: PartitionEpoch(-1),
            proposal: None,
            propose_after: None,
            broker_epochs: BTreeMap::new(),
            followers: BTreeMap::new(),
            until_committed: VecDeque::new(),
            until_durable: VecDeque::new(),
        };
        for &replica in assignment.replicas.iter().filter(|&&replica| replica != me) {
            leader.followers.insert(replica, Progress::new(now.tick));
        }
        leader.adopt(assignment);
        leader
    }

    /// The controller spoke again and this replica leads still.
    pub(super) fn reassigned(&mut self, now: Now, log_end: Offset, new_epoch: bool, assignment: &Assignment) {
        if new_epoch {
            self.epoch_start = log_end;
        }
        self.followers.retain(|follower, _| assignment.replicas.contains(follower));
        for &replica in &assignment.replicas {
            if !self.followers.contains_key(&replica) && Some(replica) != assignment.leader {
                self.followers.insert(replica, Progress::new(now.tick));
            }
        }
        if new_epoch {
            // Followers open again under the new epoch before anything is pushed under it.
            for progress in self.followers.values_mut() {
                *progress = Progress::new(now.tick);
            }
        }
        self.adopt(assignment);
    }

    pub(super) fn isr(&self) -> &[BrokerId] {
        &self.isr
    }

    pub(super) fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    pub(super) fn next_deadline(&self, log_end: Offset, settings: &Settings) -> Option<Tick> {
        let replies = self.waiting().map(|waiting| waiting.deadline);
        let proposal = self.proposal.iter().map(|proposal| proposal.retry_at).chain(self.propose_after);
        let advances = self.followers.values().filter_map(|progress| progress.tell_at);
        let lags = self.followers.iter().filter_map(|(id, progress)| {
            let lags = self.isr.contains(id) && self.proposal.is_none() && !progress.is_caught_up(log_end);
            lags.then(|| progress.caught_up_at.plus_ms(settings.replica_lag_ms_max + 1))
        });
        replies.chain(proposal).chain(advances).chain(lags).min()
    }

    /// The disk failed: what was acknowledged stays so, the rest is unknown.
    pub(super) fn fail(&self, effects: &mut Effects) {
        for waiting in self.waiting() {
            effects.push(Effect::Reply { request: waiting.request, result: Err(AppendError::StorageFailed) });
        }
    }

    pub(super) fn check_invariants(&self, log_end: Offset) {
        for queue in [&self.until_committed, &self.until_durable] {
            let ends = queue.iter().map(|waiting| waiting.end);
            invariant!(
                R16,
                ends.is_sorted() && queue.back().is_none_or(|last| last.end <= log_end),
                "log end {log_end}"
            );
        }
        for progress in self.followers.values() {
            if let (Link::Streaming { next, .. }, Some(durable)) = (&progress.link, progress.durable_end) {
                invariant!(
                    R7,
                    durable <= *next && *next <= log_end,
                    "durable {durable}, sent {next}, log end {log_end}"
                );
            }
        }
    }

    fn adopt(&mut self, assignment: &Assignment) {
        self.broker_epochs = assignment.broker_epochs.iter().copied().collect();
        // The same partition epoch said again (a broker's registration changed) decides nothing about a proposal.
        if assignment.partition_epoch > self.partition_epoch {
            self.partition_epoch = assignment.partition_epoch;
            self.isr.clone_from(&assignment.isr);
            self.proposal = None;
            self.propose_after = None;
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.until_committed.iter().chain(&self.until_durable)
    }

    /// Members, and those who may be members by now for all we know.
    fn maximal_isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let proposed = self.proposal.iter().flat_map(|proposal| proposal.isr.iter());
        let proposed = proposed.filter(|id| !self.isr.contains(id));
        self.isr.iter().chain(proposed).copied()
    }
}

impl Progress {
    fn new(now: Tick) -> Progress {
        Progress {
            link: Link::Silent,
            broker_epoch: BrokerEpoch(-1),
            durable_end: None,
            caught_up_at: now,
            told: Offset::UNKNOWN,
            tell_at: None,
        }
    }

    fn is_caught_up(&self, log_end: Offset) -> bool {
        matches!(self.link, Link::Streaming { .. }) && self.durable_end.is_some_and(|end| end >= log_end)
    }

    fn standing(&self) -> Standing {
        Standing { durable_end: self.durable_end, caught_up_at: self.caught_up_at }
    }
}

impl Replica {
    pub(super) fn append_requested(&mut self, now: Now, append: Append, batch: &ProducedBatch, effects: &mut Effects) {
        let request = append.request;
        if let Err(error) = self.try_append(now, append, batch, effects) {
            effects.push(Effect::Reply { request, result: Err(error) });
        }
    }

    /// On error nothing was appended and never will be: every error here is definite (R17).
    fn try_append(
        &mut self,
        now: Now,
        append: Append,
        batch: &ProducedBatch,
        effects: &mut Effects,
    ) -> Result<(), AppendError> {
        let not_leader =
            AppendError::NotLeader { leader: self.leader.unwrap_or(BrokerId::NONE), leader_epoch: self.leader_epoch };
        let Duty::Leader(leader) = &self.duty else { return Err(not_leader) };
        if append.leader_epoch != self.leader_epoch || self.cutting.is_some() {
            return Err(not_leader);
        }
        let min_insync_replicas = self.effective_min_insync_replicas();
        if append.acks == Acks::All && leader.isr.len() < min_insync_replicas {
            return Err(AppendError::NotEnoughReplicas);
        }
        check_settings(&self.settings, now.wall, batch)?;
        let (base_offset, end, log_append_time) = match self.producers.check(batch.header())? {
            Verdict::Append => {
                let base_offset = self.log_end;
                let (stamped, log_append_time) = if self.settings.log_append_time {
                    let epoch = self.leader_epoch;
                    (StampedBatch::stamp_with_log_append_time(batch, base_offset, epoch, now.wall), now.wall)
                } else {
                    (StampedBatch::stamp(batch, base_offset, self.leader_epoch), Timestamp::NONE)
                };
                self.write(stamped.clone(), effects);
                self.leader_push(base_offset, &stamped, effects);
                (base_offset, self.log_end, log_append_time)
            }
            Verdict::Duplicate { base_offset, next_offset, timestamp } => {
                let log_append_time = if self.settings.log_append_time { timestamp } else { Timestamp::NONE };
                (base_offset, next_offset, log_append_time)
            }
        };
        let appended = Appended { base_offset, log_append_time, log_start: self.log_start };
        let waiting = Waiting { request: append.request, deadline: append.deadline, end, appended };
        if let Duty::Leader(leader) = &mut self.duty {
            let queue = match append.acks {
                Acks::All => &mut leader.until_committed,
                Acks::Leader => &mut leader.until_durable,
            };
            let position = queue.partition_point(|earlier| earlier.end <= end);
            queue.insert(position, waiting);
        }
        // A duplicate may be durable already, and then there is no completion to wait for.
        self.leader_settle(effects);
        Ok(())
    }

    /// Moves the high watermark as far as the maximal ISR allows, and answers whoever waited for it.
    pub(super) fn leader_advance(&mut self, now: Now, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let min_insync_replicas = self.settings.min_insync_replicas.min(1 + leader.followers.len());
        let durable_ends = leader.maximal_isr().map(|id| match leader.followers.get(&id) {
            // A member that has not spoken in this epoch holds at least what was committed before.
            Some(progress) => progress.durable_end.unwrap_or(Offset::ZERO),
            None => self.durable_end,
        });
        let bound = high_watermark::bound(durable_ends, leader.isr.len(), min_insync_replicas);
        if let Some(bound) = bound.filter(|&bound| bound > self.high_watermark) {
            invariant!(R5, leader.isr.len() >= min_insync_replicas, "ISR {:?}", leader.isr);
            self.high_watermark = bound;
            for progress in leader.followers.values_mut() {
                if matches!(progress.link, Link::Streaming { .. }) && progress.tell_at.is_none() {
                    progress.tell_at = Some(now.tick.plus_ms(ADVANCE_DELAY_MS));
                }
            }
        }
        self.leader_settle(effects);
    }

    /// Asks the controller for the next change of the ISR that is due, one at a time.
    pub(super) fn leader_propose(&mut self, now: Now, effects: &mut Effects) {
        let (high_watermark, lag_ms_max) = (self.high_watermark, self.settings.replica_lag_ms_max);
        let (log_end, me) = (self.log_end, self.me);
        let (leader_epoch, partition_epoch) = (self.leader_epoch, self.partition_epoch);
        let Duty::Leader(leader) = &mut self.duty else { return };
        if leader.proposal.is_some() || leader.propose_after.is_some_and(|at| at > now.tick) {
            return;
        }
        leader.propose_after = None;
        let stays = |id: &BrokerId| {
            leader.followers.get(id).is_none_or(|progress| {
                progress.is_caught_up(log_end) || !isr::must_leave(progress.standing(), now.tick, lag_ms_max)
            })
        };
        let mut next: Vec<BrokerId> = leader.isr.iter().copied().filter(stays).collect();
        for (&id, progress) in &leader.followers {
            let may_join = isr::may_join(progress.standing(), high_watermark, leader.epoch_start)
                && matches!(progress.link, Link::Streaming { .. })
                && leader.broker_epochs.get(&id) == Some(&progress.broker_epoch);
            if may_join && !leader.isr.contains(&id) {
                next.push(id);
            }
        }
        if next == leader.isr {
            return;
        }
        let epoch_of = |id: &BrokerId| Some((*id, *leader.broker_epochs.get(id)?));
        let isr: Vec<(BrokerId, BrokerEpoch)> = next.iter().filter_map(epoch_of).collect();
        // A member whose registration we do not know is fenced or about to be: the controller is the one to take it out.
        if isr.len() != next.len() || !next.contains(&me) {
            return;
        }
        leader.proposal = Some(Proposal { isr: next, retry_at: now.tick.plus_ms(PROPOSAL_RETRY_MS) });
        effects.push(Effect::ProposeIsr { leader_epoch, partition_epoch, isr });
    }

    pub(super) fn isr_decided(
        &mut self,
        now: Now,
        result: Result<PartitionState, Option<ErrorCode>>,
        effects: &mut Effects,
    ) {
        let partition_epoch = self.partition_epoch;
        let Duty::Leader(leader) = &mut self.duty else { return };
        match result {
            Ok(state) => {
                if state.leader_epoch != self.leader_epoch || state.partition_epoch <= partition_epoch {
                    return;
                }
                self.partition_epoch = state.partition_epoch;
                leader.partition_epoch = state.partition_epoch;
                leader.isr = state.isr;
                leader.proposal = None;
                self.leader_advance(now, effects);
                self.leader_propose(now, effects);
            }
            // Refused: the ISR is what it was, or newer metadata is on its way and will say. A refusal for a stale partition
            // epoch may mean that our own proposal went through unseen, so the maximal ISR stays until the metadata comes.
            Err(Some(code)) if code != ErrorCode::InvalidUpdateVersion => {
                leader.proposal = None;
                leader.propose_after = Some(now.tick.plus_ms(PROPOSAL_RETRY_MS));
            }
            Err(_) => {}
        }
    }

    pub(super) fn follower_said(
        &mut self,
        now: Now,
        (follower, broker_epoch): (BrokerId, BrokerEpoch),
        message: FromFollower,
        effects: &mut Effects,
    ) {
        match message {
            FromFollower::Follow { partition, leader_epoch, log_end, last_epoch } => {
                let Duty::Leader(leader) = &mut self.duty else {
                    return effects.push(refuse(
                        follower,
                        partition,
                        self.leader_epoch,
                        ErrorCode::NotLeaderOrFollower,
                    ));
                };
                if leader_epoch != self.leader_epoch {
                    let code = if leader_epoch < self.leader_epoch {
                        ErrorCode::FencedLeaderEpoch
                    } else {
                        ErrorCode::UnknownLeaderEpoch
                    };
                    return effects.push(refuse(follower, partition, self.leader_epoch, code));
                }
                let Some(progress) = leader.followers.get_mut(&follower) else {
                    return effects.push(refuse(
                        follower,
                        partition,
                        self.leader_epoch,
                        ErrorCode::UnknownTopicOrPartition,
                    ));
                };
                if self.failed {
                    return;
                }
                progress.link = Link::Silent;
                progress.broker_epoch = broker_epoch;
                let answer = if log_end < self.log_start {
                    Some(FromLeader::StartOver { partition, leader_epoch, log_start: self.log_start })
                } else if last_epoch == LeaderEpoch::UNKNOWN {
                    None
                } else {
                    match self.epochs.end_of(last_epoch, self.log_end) {
                        None => Some(FromLeader::StartOver { partition, leader_epoch, log_start: self.log_start }),
                        Some(end) if end.epoch == last_epoch && end.end_offset >= log_end => None,
                        Some(end) => Some(FromLeader::Diverged {
                            partition,
                            leader_epoch,
                            epoch: end.epoch,
                            end_offset: end.end_offset,
                        }),
                    }
                };
                if let Some(message) = answer {
                    return effects.push(Effect::ToFollower { follower, message });
                }
                progress.link =
                    Link::Streaming { next: log_end, in_flight: VecDeque::new(), bytes_in_flight: 0, reading: None };
                progress.told = Offset::UNKNOWN;
                progress.tell_at = Some(now.tick);
                self.follower_is_at(now, follower, log_end, effects);
                self.leader_tell(now, effects);
            }
            FromFollower::Durable { leader_epoch, log_end, .. } => {
                if leader_epoch == self.leader_epoch {
                    self.follower_is_at(now, follower, log_end, effects);
                }
            }
        }
    }

    pub(super) fn follower_lost(&mut self, follower: BrokerId) {
        if let Duty::Leader(leader) = &mut self.duty
            && let Some(progress) = leader.followers.get_mut(&follower)
        {
            progress.link = Link::Silent;
            progress.tell_at = None;
        }
    }

    pub(super) fn read_completed(&mut self, read: ReadId, batches: Option<Vec<Bytes>>, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let reads =
            |progress: &Progress| matches!(progress.link, Link::Streaming { reading, .. } if reading == Some(read));
        let Some((&follower, progress)) = leader.followers.iter_mut().find(|(_, progress)| reads(progress)) else {
            return;
        };
        let Link::Streaming { reading, next, .. } = &mut progress.link else { return };
        *reading = None;
        let from = *next;
        let stamped: Option<Vec<StampedBatch>> = batches
            .and_then(|batches| batches.into_iter().map(|bytes| StampedBatch::from_stored(bytes).ok()).collect());
        let Some(mut stamped) = stamped else {
            // It cannot be read: let the follower ask again, and meanwhile the disk's owner deals with the damage.
            progress.link = Link::Silent;
            return;
        };
        // A read finds the batch that holds `from`; a follower is always at a batch boundary, so that batch begins there.
        stamped.retain(|batch| batch.header().base_offset >= from);
        if !stamped.is_empty() {
            self.push_to(follower, stamped, effects);
        }
        self.leader_pump(follower, effects);
    }

    pub(super) fn leader_pump_all(&mut self, effects: &mut Effects) {
        let Duty::Leader(leader) = &self.duty else { return };
        let followers: Vec<BrokerId> = leader.followers.keys().copied().collect();
        for follower in followers {
            self.leader_pump(follower, effects);
        }
    }

    pub(super) fn ticked(&mut self, now: Now, effects: &mut Effects) {
        if let Duty::Leader(leader) = &mut self.duty {
            let too_few = leader.isr.len() < self.settings.min_insync_replicas.min(1 + leader.followers.len());
            for queue in [&mut leader.until_committed, &mut leader.until_durable] {
                queue.retain(|waiting| {
                    if waiting.deadline > now.tick {
                        return true;
                    }
                    let error = if too_few { AppendError::NotEnoughReplicasAfterAppend } else { AppendError::TimedOut };
                    effects.push(Effect::Reply { request: waiting.request, result: Err(error) });
                    false
                });
            }
            if let Some(proposal) = &mut leader.proposal
                && proposal.retry_at <= now.tick
            {
                proposal.retry_at = now.tick.plus_ms(PROPOSAL_RETRY_MS);
                let epoch_of = |id: &BrokerId| Some((*id, *leader.broker_epochs.get(id)?));
                let isr = proposal.isr.iter().filter_map(epoch_of).collect();
                let (leader_epoch, partition_epoch) = (self.leader_epoch, self.partition_epoch);
                effects.push(Effect::ProposeIsr { leader_epoch, partition_epoch, isr });
            }
        }
        self.leader_tell(now, effects);
        self.leader_propose(now, effects);
        self.follower_ticked(now, effects);
    }

    /// Leadership is over. Whatever was not committed may be cut off by the next leader, or may survive: indeterminate.
    pub(super) fn resign(&self, leader: &Leader, effects: &mut Effects) {
        for waiting in leader.waiting() {
            let error = AppendError::LeaderChanged {
                leader: self.leader.unwrap_or(BrokerId::NONE),
                leader_epoch: self.leader_epoch,
            };
            effects.push(Effect::Reply { request: waiting.request, result: Err(error) });
        }
    }

    fn effective_min_insync_replicas(&self) -> usize {
        match &self.duty {
            Duty::Leader(leader) => self.settings.min_insync_replicas.min(1 + leader.followers.len()),
            Duty::Follower(_) | Duty::Idle => self.settings.min_insync_replicas,
        }
    }

    fn follower_is_at(&mut self, now: Now, follower: BrokerId, durable: Offset, effects: &mut Effects) {
        let log_end = self.log_end;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(progress) = leader.followers.get_mut(&follower) else { return };
        let Link::Streaming { next, in_flight, bytes_in_flight, .. } = &mut progress.link else { return };
        if durable > *next {
            // It claims more than it was sent in this stream: it must open again and find out where it stands.
            progress.link = Link::Silent;
            return;
        }
        while let Some(&(end, size)) = in_flight.front()
            && end <= durable
        {
            *bytes_in_flight -= size;
            in_flight.pop_front();
        }
        progress.durable_end = Some(durable);
        if durable >= log_end {
            progress.caught_up_at = now.tick;
        }
        self.leader_advance(now, effects);
        self.leader_propose(now, effects);
        self.leader_pump(follower, effects);
    }

    /// Answers, oldest first, every request whose position is reached.
    fn leader_settle(&mut self, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        for (queue, reached) in
            [(&mut leader.until_committed, self.high_watermark), (&mut leader.until_durable, self.durable_end)]
        {
            while let Some(waiting) = queue.pop_front_if(|waiting| waiting.end <= reached) {
                effects.push(Effect::Reply { request: waiting.request, result: Ok(waiting.appended) });
            }
        }
    }

    /// Hands a new batch to every follower that has everything before it.
    fn leader_push(&mut self, base_offset: Offset, batch: &StampedBatch, effects: &mut Effects) {
        let Duty::Leader(leader) = &self.duty else { return };
        let ready = |progress: &Progress| match &progress.link {
            Link::Streaming { next, bytes_in_flight, reading: None, .. } => {
                *next == base_offset && *bytes_in_flight < BYTES_IN_FLIGHT_MAX
            }
            Link::Streaming { .. } | Link::Silent => false,
        };
        let followers: Vec<BrokerId> =
            leader.followers.iter().filter(|(_, progress)| ready(progress)).map(|(&id, _)| id).collect();
        for follower in followers {
            self.push_to(follower, vec![batch.clone()], effects);
        }
    }

    /// Brings a lagging follower on: from memory where the batches are still on their way to our disk, else by a read.
    fn leader_pump(&mut self, follower: BrokerId, effects: &mut Effects) {
        loop {
            let Duty::Leader(leader) = &mut self.duty else { return };
            let Some(progress) = leader.followers.get_mut(&follower) else { return };
            let Link::Streaming { next, bytes_in_flight, reading, .. } = &mut progress.link else { return };
            if reading.is_some() || *next >= self.log_end || *bytes_in_flight >= BYTES_IN_FLIGHT_MAX {
                return;
            }
            let from = *next;
            if from < self.durable_end {
                self.next_read.0 += 1;
                *reading = Some(self.next_read);
                let below = self.durable_end;
                return effects.push(Effect::Read { read: self.next_read, from, below, bytes_max: CATCH_UP_BYTES });
            }
            let first = self.writes.partition_point(|pending| pending.batch.header().base_offset < from);
            let mut size = 0;
            let within = |batch: &&StampedBatch| {
                let fits = size == 0 || size + batch.size() <= CATCH_UP_BYTES;
                size += batch.size();
                fits
            };
            let batches: Vec<StampedBatch> =
                self.writes.range(first..).map(|pending| &pending.batch).take_while(within).cloned().collect();
            if batches.is_empty() {
                return;
            }
            self.push_to(follower, batches, effects);
        }
    }

    fn push_to(&mut self, follower: BrokerId, batches: Vec<StampedBatch>, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(progress) = leader.followers.get_mut(&follower) else { return };
        let Link::Streaming { next, in_flight, bytes_in_flight, .. } = &mut progress.link else { return };
        let base_offset = *next;
        for batch in &batches {
            invariant!(R10, batch.header().base_offset == *next, "{} at {next}", batch.header().base_offset);
            *next = batch.header().next_offset();
            *bytes_in_flight += batch.size();
            in_flight.push_back((*next, batch.size()));
        }
        progress.told = self.high_watermark;
        progress.tell_at = None;
        let message = FromLeader::Push {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            base_offset,
            batches,
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        };
        effects.push(Effect::ToFollower { follower, message });
    }

    /// Tells the high watermark to followers that have waited long enough for it.
    fn leader_tell(&mut self, now: Now, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        for (&follower, progress) in &mut leader.followers {
            if progress.tell_at.is_none_or(|at| at > now.tick) {
                continue;
            }
            progress.tell_at = None;
            if progress.told < self.high_watermark {
                progress.told = self.high_watermark;
                let message = FromLeader::Advanced {
                    partition: self.partition,
                    leader_epoch: self.leader_epoch,
                    high_watermark: self.high_watermark,
                    log_start: self.log_start,
                };
                effects.push(Effect::ToFollower { follower, message });
            }
        }
    }
}

fn refuse(
    follower: BrokerId,
    partition: base_types::TopicPartition,
    leader_epoch: LeaderEpoch,
    code: ErrorCode,
) -> Effect {
    Effect::ToFollower { follower, message: FromLeader::Refused { partition, leader_epoch, code } }
}

fn check_settings(settings: &Settings, wall: Timestamp, batch: &ProducedBatch) -> Result<(), AppendError> {
    let header = batch.header();
    if header.size() > settings.message_bytes_max {
        return Err(AppendError::MessageTooLarge { size: header.size(), max: settings.message_bytes_max });
    }
    if !settings.log_append_time {
        let late = header.max_timestamp.0.saturating_sub(wall.0) > settings.timestamp_after_ms_max;
        let early = wall.0.saturating_sub(header.base_timestamp.0) > settings.timestamp_before_ms_max;
        if late || early {
            return Err(AppendError::InvalidTimestamp);
        }
    }
    Ok(())
}
