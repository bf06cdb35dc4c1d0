//! It sees every log and every disk, remembers what was ever committed, and knows the rules by their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use base_types::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use peer_api::metadata::{BrokerState, Image};
use peer_api::storage::{Acks, AppendError, Appended, FetchPartition, Isolation, ListOffsetsPartition, OffsetSpec};
use record_batch::StampedBatch;
use replica_core::{Replica, Role};

use crate::disk::{Disk, epochs_of, producers_of};
use crate::metadata::{Metadata, is_active, life_of};
use crate::node::{Node, Slot, min_isr};
use crate::value::Value;
use crate::world::{Proposal, Request};

type Nodes = BTreeMap<BrokerId, Arc<Node>>;

#[derive(Clone, Debug, Default)]
pub struct Judge {
    ledgers: BTreeMap<TopicPartition, Box<Ledger>>,
    pub seen: Seen,
}

/// What it has counted decides nothing.
impl Hash for Judge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ledgers.hash(state);
    }
}

/// How often each rule had something to look at: a run in which nothing happened proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub acknowledged: u64,
    pub committed: u64,
    pub cuts: u64,
    pub elections: u64,
    pub isr_changes: u64,
    pub eligible: u64,
    pub moves: u64,
    pub disks_gone: u64,
    pub duplicates: u64,
    pub refused_sequences: u64,
    pub confirmed: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.acknowledged += other.acknowledged;
        self.committed += other.committed;
        self.cuts += other.cuts;
        self.elections += other.elections;
        self.isr_changes += other.isr_changes;
        self.eligible += other.eligible;
        self.moves += other.moves;
        self.disks_gone += other.disks_gone;
        self.duplicates += other.duplicates;
        self.refused_sequences += other.refused_sequences;
        self.confirmed += other.confirmed;
    }
}

/// What is known of one partition.
#[derive(Clone, Hash, Debug, Default)]
struct Ledger {
    /// Everything that ever was below a leader's high watermark, in order.
    committed: Vec<Entry>,
    /// How many replicas each of them had to be on when it was committed.
    copies: Vec<usize>,
    /// Clients had it deleted up to here.
    trimmed: Offset,
    /// What lay on disks that are gone: it was durable as promised, and then more went than any promise covers.
    gone: BTreeSet<(BrokerId, Entry)>,
    /// Who led in each epoch, and in which life.
    leaders: BTreeMap<LeaderEpoch, (BrokerId, u64)>,
    /// By CRC.
    values: BTreeMap<u32, Attempts>,
    /// The end of the log as a leader has told it, and under which epoch.
    told_end: (LeaderEpoch, Offset),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Entry {
    base: Offset,
    next: Offset,
    epoch: LeaderEpoch,
    crc: u32,
}

#[derive(Clone, Hash, Debug)]
struct Attempts {
    value: Value,
    /// Those without an answer, or with one that leaves it open whether the value is in the log.
    open: usize,
    acknowledged_at: Option<Offset>,
}

impl Judge {
    pub fn committed_end(&self, partition: TopicPartition) -> Offset {
        self.ledgers.get(&partition).map_or(Offset::ZERO, |ledger| ledger.committed_end())
    }

    pub fn attempted(&mut self, value: Value, crc: u32) {
        let values = &mut self.ledgers.entry(value.partition).or_default().values;
        values.entry(crc).or_insert(Attempts { value, open: 0, acknowledged_at: None }).open += 1;
    }

    pub fn disk_gone(&mut self, id: BrokerId, partition: TopicPartition, disk: &Disk) {
        let gone = disk.log.iter().map(|batch| (id, entry_of(batch)));
        self.ledgers.entry(partition).or_default().gone.extend(gone);
        self.seen.disks_gone += 1;
    }

    /// Whether the disk has what was committed, and nothing else, from where it begins.
    pub fn is_all(&self, partition: TopicPartition, disk: &Disk) -> bool {
        let Some(ledger) = self.ledgers.get(&partition) else { return disk.log.is_empty() };
        ledger.is_held(disk.log_start, &disk.log) && disk.log_end() == ledger.committed_end().max(disk.log_start)
    }

    /// Whether this node, as `image` knows it, holds durably everything that was committed.
    pub fn holds(&self, image: &Image, node: &Node, partition: TopicPartition) -> bool {
        let Some(ledger) = self.ledgers.get(&partition) else { return true };
        let disk = node.slots.get(&partition).map(|slot| &slot.disk);
        let (log_start, log) = disk.map_or((Offset::ZERO, &[][..]), |disk| (disk.log_start, &disk.log[..]));
        node.counts_in(image) && ledger.is_held(log_start, log)
    }

    /// What must hold of a replica after each of its steps.
    pub fn check_step(&mut self, node: &Node, partition: TopicPartition, high_watermark_before: Offset) {
        let Some(slot) = node.slots.get(&partition) else { return };
        let Some(replica) = &slot.replica else { return };
        let id = node.id;
        let ledger = self.ledgers.entry(partition).or_default();
        let high_watermark = replica.high_watermark();
        if replica.role() == Role::Leader {
            let leader = *ledger.leaders.entry(replica.leader_epoch()).or_insert((id, node.life));
            assert_eq!(leader, (id, node.life), "R8: two leaders in epoch {}", replica.leader_epoch());
            ledger.trimmed = ledger.trimmed.max(replica.log_start());
            if high_watermark > high_watermark_before {
                let replicas = node.view.partition(partition).map_or(1, |state| state.replicas.len());
                let least = replica.settings().min_insync_replicas.min(replicas);
                let isr = replica.isr();
                assert!(isr.len() >= least, "R5: {id} moves to {high_watermark} with ISR {isr:?}");
                self.seen.committed += ledger.commit(slot, high_watermark, least);
            }
            ledger.check_reads(replica, partition);
        }
        for batch in slot.log.iter().filter(|batch| batch.header().next_offset() <= high_watermark) {
            let entry = entry_of(batch);
            let known = ledger.committed.binary_search_by_key(&entry.base, |known| known.base);
            let known = known.ok().and_then(|at| ledger.committed.get(at));
            assert_eq!(known, Some(&entry), "R1, R7, R10: {id} has below its high watermark what was not committed");
        }
    }

    /// Everything derived is what a scan of the log yields, and the log is one that producers could have made.
    pub fn check_log(&self, node: &Node, partition: TopicPartition) {
        let Some(slot) = node.slots.get(&partition) else { return };
        let Some(replica) = &slot.replica else { return };
        let (id, log, log_start) = (node.id, &slot.log, slot.disk.log_start);
        // While the log is cut, the replica still has the old one.
        if log.last().map_or(log_start, |last| last.header().next_offset()) != replica.log_end() {
            return;
        }
        // What was trimmed is gone from the log, and stays in what was derived from it.
        let is_whole = log_start == Offset::ZERO;
        if is_whole || !log.is_empty() {
            assert_eq!(replica.epochs().starts(), epochs_of(log_start, log), "R11: epochs of {id}");
        }
        if is_whole {
            assert_eq!(*replica.producers(), producers_of(log), "P5: producers of {id}");
        }
        let values = &self.ledgers[&partition].values;
        let mut last: BTreeMap<i64, (i16, i64)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut end = log_start;
        for header in log.iter().map(StampedBatch::header) {
            assert_eq!(header.base_offset.max(log_start), end, "R10: a hole in the log of {id}");
            end = header.next_offset();
            assert!(values.contains_key(&header.crc), "R18: {id} has in {partition} what nobody sent there");
            assert!(seen.insert(header.crc), "P1: {id} has {:?} twice", values[&header.crc].value);
            if header.has_producer_id() {
                let (epoch, sequence) = (header.producer_epoch.0, i64::from(header.base_sequence.0));
                if let Some(&(old_epoch, expected)) = last.get(&header.producer_id.0) {
                    assert!(epoch >= old_epoch, "P4: {id} went back to epoch {epoch}");
                    let expected = if epoch > old_epoch { 0 } else { expected };
                    assert_eq!(sequence, expected, "P3: a gap in the sequences of {id}");
                }
                let next = (sequence + i64::from(header.record_count)) % (1 << 31);
                last.insert(header.producer_id.0, (epoch, next));
            }
        }
    }

    /// What must hold of the cluster after each step of anyone.
    pub fn check_world(&self, nodes: &Nodes, metadata: &Metadata) {
        for &partition in self.ledgers.keys() {
            self.check_partition(nodes, metadata, partition);
        }
    }

    pub fn check_partition(&self, nodes: &Nodes, metadata: &Metadata, partition: TopicPartition) {
        let Some(ledger) = self.ledgers.get(&partition) else { return };
        self.check_image(nodes, metadata.committed(), partition, ledger);
        if metadata.in_flight() > 0 {
            self.check_image(nodes, metadata.pending(), partition, ledger);
        }
    }

    fn check_image(&self, nodes: &Nodes, image: &Image, partition: TopicPartition, ledger: &Ledger) {
        let Some(state) = image.partition(partition) else { return };
        for member in state.isr.iter().chain(&state.elr) {
            let node = &nodes[member];
            let holds = !node.counts_in(image) || self.holds(image, node, partition);
            assert!(holds, "R3: member {member} of ISR {:?} ELR {:?} lacks what was committed", state.isr, state.elr);
        }
        let held = state.isr.iter().chain(&state.elr).any(|member| self.holds(image, &nodes[member], partition));
        assert!(
            held || ledger.committed.is_empty(),
            "R2: nobody who may lead {partition} has what was committed: {state:?}"
        );
        let Some(node) = state.leader.map(|leader| &nodes[&leader]) else { return };
        let Some(slot) = node.slots.get(&partition) else { return };
        let Some(replica) = slot.replica.as_ref() else { return };
        if replica.role() != Role::Leader || replica.leader_epoch() != state.leader_epoch {
            return;
        }
        let id = node.id;
        assert!(ledger.is_held(slot.disk.log_start, &slot.log), "R2: leader {id} lacks what was committed");
        let maximal = replica.maximal_isr();
        let least = replica.settings().min_insync_replicas.min(state.replicas.len());
        let elr = if replica.isr().len() >= least { &state.elr[..] } else { &[] };
        let counted = state.isr.iter().chain(elr).all(|member| maximal.contains(member));
        assert!(counted, "R4: leader {id} counts {maximal:?}, ISR {:?} ELR {:?}", state.isr, state.elr);
    }

    /// What the controller has just decided, before anybody hears of it.
    pub fn check_decision(&mut self, before: &Image, after: &Image) {
        for (partition, new) in after.partitions() {
            let Some(old) = before.partition(partition) else { continue };
            if old == new {
                continue;
            }
            for member in &new.isr {
                let alive = after.broker(*member).is_some_and(|broker| broker.state != BrokerState::Fenced);
                assert!(alive, "R14: {member} is fenced and in the ISR {:?} of {partition}", new.isr);
            }
            let full = new.isr.len() >= min_isr(after, partition).clamp(1, new.replicas.len().max(1));
            assert!(!full || new.elr.is_empty(), "R15: ISR {:?} ELR {:?} of {partition}", new.isr, new.elr);
            let dropped: Vec<_> = old.replicas.iter().filter(|id| !new.replicas.contains(id)).collect();
            if !dropped.is_empty() {
                // A move that is called off drops what it was to bring.
                let called_off = dropped.iter().all(|id| old.adding.contains(id));
                let complete = new.replicas.iter().all(|id| new.isr.contains(id));
                assert!(called_off || complete, "R19: {dropped:?} go and ISR is {:?}", new.isr);
                self.seen.moves += 1;
            }
            self.seen.elections += u64::from(old.leader_epoch != new.leader_epoch);
            self.seen.isr_changes += u64::from(old.isr != new.isr);
            self.seen.eligible += u64::from(!new.elr.is_empty());
        }
        for broker in after.brokers() {
            let old = before.broker(broker.id).filter(|old| old.epoch != broker.epoch);
            assert!(
                old.is_none_or(|old| old.epoch < broker.epoch),
                "R14: {} registers under an older epoch",
                broker.id
            );
        }
    }

    /// The controller has taken up a proposal.
    pub fn check_isr_change(&mut self, before: &Image, proposal: &Proposal) {
        let Some(old) = before.partition(proposal.partition) else { return };
        let matches = (old.leader_epoch, old.partition_epoch) == (proposal.leader_epoch, proposal.partition_epoch);
        assert!(matches, "R9: {proposal:?} is taken up in {old:?}");
        for (id, epoch) in &proposal.isr {
            let is_current = is_active(before, *id) && before.broker(*id).is_some_and(|known| known.epoch == *epoch);
            assert!(is_current, "R14: {id} of epoch {epoch} joins, and is life {:?} now", life_of(before, *id));
        }
    }

    /// `StartOver` may drop what lies below its new start; nothing else that was committed may go. Except from a log that counts
    /// for nothing: outside ISR and ELR, a follower that does not know yet who leads may obey the leader before, which does not
    /// know either. What it cut it gets back; R3 sees to it that it is no member meanwhile.
    pub fn check_cut(
        &mut self,
        partition: TopicPartition,
        role: Role,
        counts: bool,
        log: &[StampedBatch],
        to: Offset,
        start: Option<Offset>,
    ) {
        assert_ne!(role, Role::Leader, "R12: a leader's log is cut");
        self.seen.cuts += 1;
        let Some(ledger) = self.ledgers.get(&partition).filter(|_| counts) else { return };
        let cut = log.iter().map(entry_of).filter(|entry| entry.next > to);
        for entry in cut.filter(|entry| start.is_none_or(|start| entry.next > start)) {
            let was_committed = ledger.committed.contains(&entry) && entry.next > ledger.trimmed;
            assert!(!was_committed, "R12: {entry:?} was committed and is cut");
        }
    }

    pub fn check_reply(&mut self, request: &Request, result: &Result<Appended, AppendError>, nodes: &Nodes) {
        let Request { node, acks, value, .. } = *request;
        let ledger = self.ledgers.get_mut(&value.partition).expect("it was attempted");
        // A producer's batch is known by its sequence, any other by its bytes.
        let is_twin = |other: &Value| {
            other.producer.is_some() && (other.producer, other.records) == (value.producer, value.records)
        };
        let twins = ledger.values.iter().filter(|(_, attempts)| is_twin(&attempts.value)).map(|(crc, _)| *crc);
        let twins: Vec<u32> = twins.collect();
        let sent = ledger.values.iter_mut().find(|(_, attempts)| attempts.value == value);
        let (&crc, attempts) = sent.expect("only values that were sent");
        match result {
            Ok(appended) => {
                let at = appended.base_offset;
                let is_it = |entry: &Entry| entry.base == at && (entry.crc == crc || twins.contains(&entry.crc));
                let has_it = |node: &&Arc<Node>| {
                    let slot = node.slots.get(&value.partition);
                    slot.is_some_and(|slot| slot.disk.log.iter().any(|batch| is_it(&entry_of(batch))))
                        || ledger.gone.iter().any(|(id, entry)| *id == node.id && is_it(entry))
                };
                let copies = nodes.values().filter(has_it).count();
                let was_trimmed = at < ledger.trimmed;
                let settings = nodes[&node].replica(value.partition).map(Replica::settings);
                let replicas = nodes[&node].view.partition(value.partition).map_or(1, |state| state.replicas.len());
                let committed = ledger.committed.binary_search_by_key(&at, |entry| entry.base).ok();
                // The minimum may have been lower when it was committed, and a retry is told what the first attempt was.
                let needed = match (acks, settings, committed) {
                    (Acks::All, Some(settings), Some(index)) => {
                        settings.min_insync_replicas.min(replicas).min(ledger.copies[index])
                    }
                    _ => 1,
                };
                assert!(copies >= needed || was_trimmed, "R16: {value:?} is acknowledged with {copies} durable copies");
                if acks == Acks::All {
                    let earlier = *attempts.acknowledged_at.get_or_insert(at);
                    assert_eq!(earlier, at, "P2: {value:?} has two offsets");
                    let entry = committed.map(|index| ledger.committed[index]);
                    assert!(entry.is_some_and(|entry| is_it(&entry)), "R16: {value:?} is acknowledged, not committed");
                }
                self.seen.acknowledged += 1;
                self.seen.duplicates += u64::from(attempts.open > 1);
            }
            Err(error) if error.is_definite() => {
                attempts.open -= 1;
                let visible = attempts.open == 0 && ledger.committed.iter().any(|entry| entry.crc == crc);
                assert!(!visible, "R17: {value:?} is visible and {error:?} was definite");
                if let AppendError::OutOfOrderSequence { .. } = error {
                    self.seen.refused_sequences += 1;
                    let slot = nodes[&node].slots.get(&value.partition);
                    let log = slot.map_or(&[][..], |slot| &slot.log);
                    let of_producer = |batch: &&StampedBatch| {
                        let header = batch.header();
                        value.producer.is_some_and(|(id, epoch, _)| {
                            (header.producer_id.0, header.producer_epoch.0) == (id, epoch)
                        })
                    };
                    let mut window = log.iter().rev().filter(of_producer).take(5);
                    let known = window.any(|batch| batch.header().crc == crc);
                    assert!(!known, "P2: {value:?} is one of the last five and not known again");
                }
            }
            Err(_) => {}
        }
    }

    /// Whoever reads now misses nothing that was committed, by whomever, before it asked.
    pub fn check_confirmation(&mut self, committed_then: Offset, result: &Result<Offset, AppendError>) {
        if let Ok(high_watermark) = result {
            let misses_none = *high_watermark >= committed_then;
            assert!(misses_none, "G4: {high_watermark} is all, and {committed_then} was committed");
            self.seen.confirmed += 1;
        }
    }
}

impl Ledger {
    fn committed_end(&self) -> Offset {
        self.committed.last().map_or(Offset::ZERO, |entry| entry.next)
    }

    /// Whether everything committed that lies in the range of the log is in it.
    fn is_held(&self, log_start: Offset, log: &[StampedBatch]) -> bool {
        let from = log_start.max(self.trimmed);
        let first = self.committed.partition_point(|entry| entry.next <= from);
        let mut held = log.iter().skip_while(|batch| batch.header().next_offset() <= from).map(entry_of);
        self.committed[first..].iter().all(|entry| held.next() == Some(*entry))
    }

    fn commit(&mut self, slot: &Slot, high_watermark: Offset, copies: usize) -> u64 {
        let end = self.committed_end();
        let entries = slot.log.iter().map(entry_of);
        let before = self.committed.len();
        for entry in entries.filter(|entry| entry.base >= end && entry.next <= high_watermark) {
            let Attempts { value, open, .. } = &self.values[&entry.crc];
            assert!(*open > 0, "R17: {value:?} becomes visible after a definite error");
            self.committed.push(entry);
            self.copies.push(copies);
        }
        (self.committed.len() - before) as u64
    }

    /// What readers are told.
    fn check_reads(&mut self, replica: &Replica, partition: TopicPartition) {
        let (leader_epoch, isolation) = (replica.leader_epoch(), Isolation::ReadUncommitted);
        let ask = ListOffsetsPartition { partition, leader_epoch, isolation, at: OffsetSpec::Latest };
        if let Ok((end, _)) = replica.latest_offset(&ask) {
            let (epoch, told) = self.told_end;
            if leader_epoch >= epoch {
                assert!(
                    end >= told,
                    "R6: the end of the log was {told} in epoch {epoch} and is {end} in {leader_epoch}"
                );
                self.told_end = (leader_epoch, end);
            }
        }
        let fetch = FetchPartition {
            partition,
            leader_epoch,
            fetch_offset: replica.log_start(),
            last_fetched_epoch: LeaderEpoch::UNKNOWN,
            bytes_max: u32::MAX,
        };
        if let Ok(plan) = replica.plan_fetch(&fetch, isolation) {
            let end = self.committed_end().max(plan.from);
            assert!(plan.below <= end, "R6: a fetch may read to {}, and {end} is committed", plan.below);
        }
    }
}

fn entry_of(batch: &StampedBatch) -> Entry {
    let header = batch.header();
    Entry { base: header.base_offset, next: header.next_offset(), epoch: header.leader_epoch, crc: header.crc }
}
