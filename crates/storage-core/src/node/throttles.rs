//! Throttles of replication, as Kafka has them: replicas that a topic lists, and that are outside the ISR, share what a broker may
//! send to all of them as their leader, and what it may receive as a follower of others.
//!
//! ```text
//!   leading    a read for a follower that lags ──► waits its turn ──► one at a time, counted when it is pushed
//!   following  a report of what is durable     ──► waits its turn ──► counted when it goes: it lets the leader push as much again
//! ```
//!
//! With enough replicas in sync, nothing that is acknowledged waits for what is held back here. A leader counts its maximal ISR (R4), so a
//! read waits only if it is for somebody outside that; a follower whose report reaches the high watermark, as last told, may be
//! counted, and that report never waits. With fewer than `min.insync.replicas`, writers wait for whoever is to join, and so for its throttle.
//!
//! Bounds: in any time, a leader sends what is earned in it, a second's worth, and one read more; and what is pushed from memory to
//! those who have reached the end of the disk. A follower receives what is earned, a second's worth, and for each throttled partition one
//! window of its leader's stream (8 MiB and a read) each time that it opens one. What is not held takes what was saved.
//!
//! What it must not know: the state of a replica's streams. What waits for a stream that has ended is dropped when its turn comes.
//!
//! Tested in `tests/node/throttles.rs`, and at the bottom of `budget.rs` and `turns.rs`.

mod budget;
mod turns;

use std::collections::BTreeMap;

use base_types::{BrokerId, Now, Offset, Tick, TopicId, TopicPartition};
use peer_api::config::{ReplicationRates, ReplicationThrottles};
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;
use replica_core::{ReadId, Role};

use super::StorageNode;
use crate::effect::{Effect, Effects};

use budget::Budget;
use turns::Turns;

#[derive(Debug, Default)]
pub(super) struct Throttles {
    /// Of the topics that list any replica.
    replicas: BTreeMap<TopicId, ReplicationThrottles>,
    leading: Budget,
    following: Budget,
    reads: Turns<(TopicPartition, BrokerId), Read>,
    /// The read that has had its turn, until the disk answers: only then is it known how much it is.
    reading: Option<(TopicPartition, BrokerId, ReadId)>,
    /// Whose read the disk has answered in this step: the push that follows has had its turn.
    had_turn: Option<(TopicPartition, BrokerId)>,
    /// With the leader that they are for.
    reports: Turns<TopicPartition, (BrokerId, FromFollower)>,
    /// For each throttled follower here that its leader has spoken to since it opened.
    arrivals: BTreeMap<TopicPartition, Arrival>,
    /// Somebody may be throttled no more.
    changed: bool,
}

/// A read that a replica asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) read: ReadId,
    pub(super) from: Offset,
    pub(super) below: Offset,
    pub(super) bytes_max: usize,
}

#[derive(Debug, Default)]
struct Arrival {
    /// Not reported yet.
    bytes: usize,
    /// As the leader told it last.
    high_watermark: Offset,
}

impl Throttles {
    pub(super) fn set_rates(&mut self, now: Now, rates: ReplicationRates) {
        self.leading.set_rate(now.tick, rates.leading);
        self.following.set_rate(now.tick, rates.following);
    }

    pub(super) fn set_replicas(&mut self, topic: TopicId, throttles: ReplicationThrottles) {
        if throttles == ReplicationThrottles::default() {
            self.replicas.remove(&topic);
        } else {
            self.replicas.insert(topic, throttles);
        }
    }

    pub(super) fn forget_replicas(&mut self) {
        self.replicas.clear();
    }

    /// At the end of the step, whoever is throttled no more goes on.
    pub(super) fn look_again(&mut self) {
        self.changed = true;
    }

    pub(super) fn read_completed(&mut self, partition: TopicPartition, read: ReadId) {
        let answered = self.reading.take_if(|&mut (of, _, reading)| (of, reading) == (partition, read));
        self.had_turn = answered.map(|(partition, follower, _)| (partition, follower));
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let read = || self.leading.opens_at().filter(|_| self.reading.is_none());
        let report = || self.following.opens_at();
        let reads = if self.reads.is_empty() { None } else { read() };
        let reports = if self.reports.is_empty() { None } else { report() };
        reads.into_iter().chain(reports).min()
    }

    fn next_read(&mut self, now: Now) -> Option<((TopicPartition, BrokerId), Read)> {
        let may = !self.reads.is_empty() && self.reading.is_none() && self.leading.is_open(now.tick);
        if may { self.reads.next() } else { None }
    }

    fn next_report(&mut self, now: Now) -> Option<(TopicPartition, (BrokerId, FromFollower))> {
        let may = !self.reports.is_empty() && self.following.is_open(now.tick);
        if may { self.reports.next() } else { None }
    }
}

impl StorageNode {
    /// Reads for a follower, now or when it has its turn.
    pub(super) fn read_for(
        &mut self,
        partition: TopicPartition,
        follower: BrokerId,
        read: Read,
        effects: &mut Effects,
    ) {
        if self.holds(partition, follower, read) {
            self.throttles.reads.wait((partition, follower), read);
        } else {
            effects.push(read.of(partition));
        }
    }

    pub(super) fn count_push(&mut self, now: Now, follower: BrokerId, message: &FromLeader) {
        if let FromLeader::Push { partition, batches, .. } = message
            && self.throttles_sending(*partition, follower)
        {
            let bytes = batches.iter().map(StampedBatch::size).sum();
            match self.throttles.had_turn.take_if(|&mut turn| turn == (*partition, follower)) {
                Some(_) => self.throttles.leading.spend(now.tick, bytes),
                None => self.throttles.leading.spend_saved(now.tick, bytes),
            }
        }
    }

    pub(super) fn count_arrival(&mut self, message: &FromLeader) {
        let partition = message.partition();
        if !self.throttles_receiving(partition) {
            return;
        }
        let (epoch, bytes, high_watermark) = match message {
            FromLeader::Push { leader_epoch, batches, high_watermark, .. } => {
                (leader_epoch, batches.iter().map(StampedBatch::size).sum(), high_watermark)
            }
            FromLeader::Advanced { leader_epoch, high_watermark, .. } => (leader_epoch, 0, high_watermark),
            _ => return,
        };
        if self.replica(partition).is_some_and(|replica| replica.leader_epoch() == *epoch) {
            let arrival = self.throttles.arrivals.entry(partition).or_default();
            arrival.bytes += bytes;
            arrival.high_watermark = *high_watermark;
        }
    }

    /// What a replica says to its leader goes there, now or when it has its turn.
    pub(super) fn say_to_leader(&mut self, now: Now, leader: BrokerId, message: FromFollower, effects: &mut Effects) {
        let partition = message.partition();
        match &message {
            FromFollower::Durable { log_end, .. } => {
                let arrival = self.throttles.arrivals.get(&partition);
                if arrival.is_some_and(|arrival| *log_end < arrival.high_watermark) {
                    return self.throttles.reports.wait(partition, (leader, message));
                }
                self.count_unheld_report(now, partition);
            }
            // It says what a report would, and begins another stream.
            FromFollower::Follow { .. } => {
                self.count_unheld_report(now, partition);
                self.throttles.arrivals.remove(&partition);
            }
            FromFollower::Confirmed { .. } => {}
        }
        self.send_to_leader(leader, message, effects);
    }

    /// At the end of each step: as much as the budgets allow.
    pub(super) fn let_throttled_go(&mut self, now: Now, effects: &mut Effects) {
        self.throttles.had_turn = None;
        if std::mem::take(&mut self.throttles.changed) {
            self.let_unthrottled_go(effects);
        }
        while let Some(((partition, follower), read)) = self.throttles.next_read(now) {
            if self.awaits(partition, follower, read.read) {
                self.throttles.reading = Some((partition, follower, read.read));
                effects.push(read.of(partition));
            }
        }
        while let Some((partition, (leader, message))) = self.throttles.next_report(now) {
            let bytes = self.reported(partition);
            self.throttles.following.spend(now.tick, bytes);
            self.send_to_leader(leader, message, effects);
        }
    }

    pub(super) fn check_throttles(&self) {
        let throttles = &self.throttles;
        let reads = throttles.reads.names().map(|(partition, _)| partition);
        for partition in reads.chain(throttles.reports.names()).chain(throttles.arrivals.keys()) {
            assert!(self.slots.contains_key(partition), "{partition} is gone and waits for its turn");
        }
        assert!(throttles.leading.is_limited() || throttles.reads.is_empty(), "reads wait for nothing");
        assert!(throttles.following.is_limited() || throttles.reports.is_empty(), "reports wait for nothing");
    }

    /// What is held back without a reason now goes on, and what is of no use any more is dropped.
    fn let_unthrottled_go(&mut self, effects: &mut Effects) {
        let mut reads = std::mem::take(&mut self.throttles.reads);
        reads.retain(|&(partition, follower), read| {
            let awaited = self.awaits(partition, follower, read.read);
            let stays = awaited && self.holds(partition, follower, *read);
            if awaited && !stays {
                effects.push(read.of(partition));
            }
            stays
        });
        self.throttles.reads = reads;
        let mut reports = std::mem::take(&mut self.throttles.reports);
        reports.retain(|&partition, (leader, message)| {
            let heeded = self.is_heeded(*leader, message);
            let stays = heeded && self.throttles_receiving(partition);
            if heeded && !stays {
                self.send_to_leader(*leader, message.clone(), effects);
            }
            stays
        });
        self.throttles.reports = reports;
        let mut arrivals = std::mem::take(&mut self.throttles.arrivals);
        arrivals.retain(|&partition, _| self.slots.contains_key(&partition) && self.throttles_receiving(partition));
        self.throttles.arrivals = arrivals;
        // The disk need not answer for a replica that is gone.
        let reading = self.throttles.reading;
        self.throttles.reading = reading.filter(|&(partition, follower, read)| self.awaits(partition, follower, read));
    }

    fn count_unheld_report(&mut self, now: Now, partition: TopicPartition) {
        let bytes = self.reported(partition);
        self.throttles.following.spend_saved(now.tick, bytes);
    }

    /// All that arrived for the follower is reported, one way or another: so many bytes since the last time.
    fn reported(&mut self, partition: TopicPartition) -> usize {
        self.throttles.reports.remove(partition);
        self.throttles.arrivals.get_mut(&partition).map_or(0, |arrival| std::mem::take(&mut arrival.bytes))
    }

    /// Whether the read has to wait its turn. Where the log begins later by now, nothing is sent, and the follower has to hear of it.
    fn holds(&self, partition: TopicPartition, follower: BrokerId, read: Read) -> bool {
        let is_there = self.replica(partition).is_some_and(|replica| read.from >= replica.log_start());
        is_there && self.throttles_sending(partition, follower)
    }

    fn throttles_sending(&self, partition: TopicPartition, follower: BrokerId) -> bool {
        let listed = |topic: &ReplicationThrottles| topic.leading.contain(partition.partition, self.me.broker);
        self.throttles.leading.is_limited()
            && self.throttles.replicas.get(&partition.topic).is_some_and(listed)
            && self.replica(partition).is_some_and(|replica| !replica.maximal_isr().contains(&follower))
    }

    fn throttles_receiving(&self, partition: TopicPartition) -> bool {
        let me = self.me.broker;
        let listed = |topic: &ReplicationThrottles| topic.following.contain(partition.partition, me);
        self.throttles.following.is_limited()
            && self.throttles.replicas.get(&partition.topic).is_some_and(listed)
            && self.image.partition(partition).is_some_and(|state| !state.isr.contains(&me))
    }

    fn awaits(&self, partition: TopicPartition, follower: BrokerId, read: ReadId) -> bool {
        self.replica(partition).is_some_and(|replica| replica.awaits(follower, read))
    }

    /// Whether the replica still follows whom it said that to, in the epoch that it said it in.
    fn is_heeded(&self, to: BrokerId, message: &FromFollower) -> bool {
        let FromFollower::Durable { partition, leader_epoch, .. } = message else { return false };
        let follows = Role::Follower { leader: to };
        self.replica(*partition).is_some_and(|it| it.role() == follows && it.leader_epoch() == *leader_epoch)
    }
}

impl Read {
    fn of(self, partition: TopicPartition) -> Effect {
        let Read { read, from, below, bytes_max } = self;
        Effect::Read { partition, read, from, below, bytes_max }
    }
}
