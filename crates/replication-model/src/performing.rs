//! A replica steps: what it asks for is done, and the judge looks.

use std::fmt::Write as _;

use base_types::{BrokerEpoch, BrokerId, Offset, TopicPartition};
use peer_api::metadata::{PartitionState, Record};
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;
use replica_core::{Effect, Effects, Event, Replica, Role};

use crate::disk::Job;
use crate::world::{Message, Proposal, World};

impl World {
    pub(crate) fn step(&mut self, id: BrokerId, partition: TopicPartition, event: Event) {
        let now = self.now(id);
        let Some(slot) = self.slot(id, partition) else { return };
        if let Event::LogChanged { result: Ok(_), .. } = event {
            slot.log.clone_from(&slot.disk.log);
            slot.unscanned = true;
        }
        if let Event::TrimCompleted { .. } = event {
            let log_start = slot.disk.log_start;
            slot.log.retain(|batch| batch.header().next_offset() > log_start);
            slot.unscanned = true;
        }
        let Some(replica) = &mut slot.replica else { return };
        let (role, high_watermark) = (replica.role(), replica.high_watermark());
        let pushed = match &event {
            Event::LeaderSaid(FromLeader::Push { batches, .. }) => batches.clone(),
            _ => Vec::new(),
        };
        let mut effects = Effects::default();
        replica.step(now, event, &mut effects);
        let effects: Vec<Effect> = effects.drain().collect();
        if self.trace.is_some() {
            effects.iter().for_each(|effect| self.tell_people(id, partition, effect));
        }
        // Replies are judged when the judge knows what the step has committed.
        let (replies, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Reply { .. }));
        others.into_iter().for_each(|effect| self.perform(id, partition, role, effect));
        self.slot(id, partition).into_iter().for_each(|slot| slot.saw_push(&pushed));
        self.judge.check_step(&self.nodes[&id], partition, high_watermark);
        if let Some(slot) = self.slot(id, partition).filter(|slot| slot.unscanned) {
            slot.unscanned = false;
            self.judge.check_log(&self.nodes[&id], partition);
        }
        self.judge.check_partition(&self.nodes, &self.metadata, partition);
        replies.into_iter().for_each(|effect| self.perform(id, partition, role, effect));
    }

    fn perform(&mut self, id: BrokerId, partition: TopicPartition, role: Role, effect: Effect) {
        let Some(slot) = self.slot(id, partition) else { return };
        match effect {
            Effect::Write { write, batch } => {
                slot.saw_write(&batch);
                slot.disk.jobs.push_back(Job::Write { write, batch });
            }
            Effect::Truncate { write, to } => {
                slot.disk.jobs.push_back(Job::Truncate { write, to });
                self.check_cut(id, partition, role, to, None);
            }
            Effect::StartOver { write, at } => {
                slot.disk.jobs.push_back(Job::StartOver { write, at });
                self.check_cut(id, partition, role, Offset::ZERO, Some(at));
            }
            Effect::Trim { write, to } => slot.disk.jobs.push_back(Job::Trim { write, to }),
            Effect::Read { read, from, below, bytes_max, .. } => {
                slot.disk.jobs.push_back(Job::Read { read, from, below, bytes_max });
            }
            Effect::ToFollower { follower, message } => {
                self.send((follower, id), id, follower, |_| Message::ToFollower(message));
            }
            Effect::ToLeader { leader, message } => {
                self.send((id, leader), id, leader, |broker_epoch| Message::ToLeader(broker_epoch, message));
            }
            Effect::ProposeIsr { leader_epoch, partition_epoch, isr } => {
                let node = &self.nodes[&id];
                let Some(broker_epoch) = node.broker_epoch else { return };
                let (leader, life) = (id, node.life);
                let proposal = Proposal { leader, life, broker_epoch, partition, leader_epoch, partition_epoch, isr };
                self.proposals.push(proposal);
            }
            Effect::Reply { request, result } => {
                let request = self.requests.remove(&request).expect("one reply to each request");
                self.judge.check_reply(&request, &result, &self.nodes);
                self.replies.push((request, result));
            }
            Effect::Confirmed { request, result } => {
                let confirmation = self.confirmations.remove(&request);
                let (node, _, committed) = confirmation.expect("one answer to each confirmation");
                assert_eq!(node, id, "somebody else answers");
                self.judge.check_confirmation(committed, &result);
            }
            Effect::HighWatermarkLowered { from, to, .. } => {
                panic!("R12: the high watermark goes from {from} to {to} and nobody was elected uncleanly")
            }
            Effect::HighWatermarkAdvanced | Effect::RoleChanged | Effect::Trimmed { .. } => {}
        }
    }

    fn check_cut(&mut self, id: BrokerId, partition: TopicPartition, role: Role, to: Offset, start: Option<Offset>) {
        let images = [self.metadata.committed(), self.metadata.pending()];
        let counts = images.iter().any(|image| {
            let epoch = self.replica(id, partition).map(Replica::leader_epoch);
            image.partition(partition).is_some_and(|state| {
                let is_member = state.isr.contains(&id) || state.elr.contains(&id);
                (is_member && self.nodes[&id].counts_in(image)) || Some(state.leader_epoch) == epoch
            })
        });
        let log = &self.nodes[&id].slots[&partition].log;
        self.judge.check_cut(partition, role, counts, log, to, start);
    }

    fn send(
        &mut self,
        stream: (BrokerId, BrokerId),
        from: BrokerId,
        to: BrokerId,
        message: impl FnOnce(BrokerEpoch) -> Message,
    ) {
        let Some(stream) = self.streams.get(&stream).filter(|stream| stream.open) else { return };
        let letters = self.letters.entry((from, to, stream.id)).or_default();
        letters.push_back(message(stream.broker_epoch));
    }

    // For people.

    pub fn describe(&self, id: BrokerId) -> String {
        let node = &self.nodes[&id];
        let mut text = format!("{id} life {} {}", node.life, if node.up { "up" } else { "down" });
        for (partition, slot) in &node.slots {
            let Some(replica) = &slot.replica else {
                let _ = write!(text, "; {partition}: {} on disk", log(&slot.disk.log));
                continue;
            };
            let role = match replica.role() {
                Role::Leader => format!("leads, isr {:?}", replica.isr()),
                Role::Follower { leader } => format!("follows {leader}"),
                Role::Idle => "idle".to_owned(),
            };
            let (durable, high_watermark) = (replica.durable_end(), replica.high_watermark());
            let epoch = replica.leader_epoch();
            let _ = write!(
                text,
                "; {partition}: e{epoch} {role}; {}, durable {durable}, hw {high_watermark}",
                log(&slot.log)
            );
        }
        text
    }

    pub(crate) fn tell_people_of(&mut self, record: &Record) {
        let line = match record {
            Record::PartitionChanged { partition, state } => {
                let PartitionState { replicas, isr, elr, leader, leader_epoch, partition_epoch, .. } = state;
                format!(
                    "{partition}: e{leader_epoch} p{partition_epoch} {leader:?} of {replicas:?}, ISR {isr:?}, ELR {elr:?}"
                )
            }
            other => format!("{other:?}"),
        };
        self.note(|| format!("controller: {line}"));
    }

    fn tell_people(&mut self, id: BrokerId, partition: TopicPartition, effect: &Effect) {
        let what = match effect {
            Effect::Write { batch, .. } => format!("writes {}", one(batch)),
            Effect::Truncate { to, .. } => format!("truncates to {to}"),
            Effect::StartOver { at, .. } => format!("starts over at {at}"),
            Effect::Trim { to, .. } => format!("trims to {to}"),
            Effect::Read { follower, from, below, .. } => format!("reads {from}..{below} for {follower}"),
            Effect::ToFollower { follower, message } => format!("to {follower}: {}", said_by_leader(message)),
            Effect::ToLeader { leader, message } => format!("to {leader}: {}", said_by_follower(message)),
            Effect::ProposeIsr { partition_epoch, isr, .. } => format!("proposes {isr:?} after p{partition_epoch}"),
            Effect::Reply { request, result } => format!("answers request {}: {result:?}", request.0),
            Effect::Trimmed { request, result } => format!("answers trim {}: {result:?}", request.0),
            Effect::Confirmed { request, result } => format!("confirms {}: {result:?}", request.0),
            Effect::HighWatermarkLowered { from, to, .. } => format!("high watermark lowered from {from} to {to}"),
            Effect::HighWatermarkAdvanced => {
                let high_watermark = self.replica(id, partition).map_or(Offset::UNKNOWN, Replica::high_watermark);
                format!("high watermark {high_watermark}")
            }
            Effect::RoleChanged => self.describe(id),
        };
        self.note(|| format!("{id} {partition}: {what}"));
    }
}

fn one(batch: &StampedBatch) -> String {
    let header = batch.header();
    format!("{}..{} e{}", header.base_offset, header.next_offset(), header.leader_epoch)
}

/// Runs of one epoch: `log e1 0..3 e2 3..5`.
fn log(batches: &[StampedBatch]) -> String {
    let mut text = "log".to_owned();
    let start = batches.first().map_or(Offset::ZERO, |batch| batch.header().base_offset);
    let epochs = crate::disk::epochs_of(start, batches);
    let end = batches.last().map_or(Offset::ZERO, |batch| batch.header().next_offset());
    for (index, (epoch, start)) in epochs.iter().enumerate() {
        let next = epochs.get(index + 1).map_or(end, |&(_, start)| start);
        let _ = write!(text, " e{epoch} {start}..{next}");
    }
    if epochs.is_empty() { "log empty".to_owned() } else { text }
}

fn said_by_leader(message: &FromLeader) -> String {
    match message {
        FromLeader::Push { leader_epoch, batches, high_watermark, .. } => {
            let batches: Vec<String> = batches.iter().map(one).collect();
            format!("e{leader_epoch} push {} hw {high_watermark}", batches.join(", "))
        }
        FromLeader::Diverged { epoch, end_offset, .. } => format!("diverged: e{epoch} ends at {end_offset}"),
        FromLeader::StartOver { log_start, .. } => format!("start over at {log_start}"),
        FromLeader::Advanced { leader_epoch, high_watermark, log_start, .. } => {
            format!("e{leader_epoch} advanced hw {high_watermark} from {log_start}")
        }
        FromLeader::Confirm { round, .. } => format!("confirm {round}"),
        FromLeader::Refused { leader_epoch, code, .. } => format!("refused e{leader_epoch} {code}"),
    }
}

fn said_by_follower(message: &FromFollower) -> String {
    match message {
        FromFollower::Follow { leader_epoch, log_start, log_end, last_epoch, .. } => {
            format!("follow e{leader_epoch} with {log_start}..{log_end} to e{last_epoch}")
        }
        FromFollower::Durable { leader_epoch, log_start, log_end, .. } => {
            format!("e{leader_epoch} durable {log_start}..{log_end}")
        }
        FromFollower::Confirmed { round, .. } => format!("confirmed {round}"),
    }
}
