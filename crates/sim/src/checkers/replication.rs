//! R1 to R4, R6, R8 to R12 and R16, and P1 in the logs: every running replica against what is known to be committed.
//!
//! What is committed of a partition is remembered batch by batch, from whoever first said so. Each replica is compared once up to
//! where it says that it is committed, and from there on later. A replica that starts anew is compared anew.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Sequence, TopicPartition};
use peer_api::metadata::{BrokerState, Image, PartitionState};
use record_batch::BatchHeader;

/// A replica as it is seen from outside.
pub struct Replica<'a> {
    pub node: BrokerId,
    /// Of its process.
    pub life: u64,
    pub partition: TopicPartition,
    pub leads: bool,
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub log_end: Offset,
    pub durable_end: Offset,
    pub high_watermark: Offset,
    /// The ISR and whoever may have joined it; of a leader.
    pub maximal_isr: Vec<BrokerId>,
    /// Its node is registered, unfenced, and so recorded in the newest metadata.
    pub is_in_office: bool,
    pub log: &'a dyn Log,
}

/// The bytes of a replica's log.
pub trait Log {
    /// The headers of the batches that lie in this range, with checked CRCs.
    fn headers(&self, from: Offset, below: Offset, partition: TopicPartition) -> Result<Vec<BatchHeader>, String>;
}

/// Over the whole run.
#[derive(Debug, Default)]
pub struct Replication {
    partitions: BTreeMap<TopicPartition, Committed>,
    compared: BTreeMap<(BrokerId, TopicPartition), Compared>,
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), BrokerId>,
    states: BTreeMap<TopicPartition, PartitionState>,
    /// How much of a partition each disk holds durably, running or not.
    durable: BTreeMap<(BrokerId, TopicPartition), Offset>,
    /// The same of disks that are gone. A leader may hear later what they had confirmed.
    lost: BTreeMap<(BrokerId, TopicPartition), Offset>,
}

#[derive(Debug, Default)]
struct Committed {
    /// The largest that any replica ever said.
    high_watermark: Offset,
    batches: BTreeMap<Offset, Batch>,
    sequences: BTreeMap<(ProducerId, ProducerEpoch, Sequence), Offset>,
    /// The lowest min.insync.replicas that was ever in force.
    min_insync_replicas: usize,
    /// The copies of what lies below were counted when it was committed.
    counted: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Batch {
    next: Offset,
    leader_epoch: LeaderEpoch,
    crc: u32,
}

#[derive(Clone, Copy, Debug)]
struct Compared {
    life: u64,
    to: Offset,
}

impl Replication {
    /// The largest high watermark that any replica of the partition ever had.
    pub fn high_watermark(&self, partition: TopicPartition) -> Offset {
        self.partitions.get(&partition).map_or(Offset::ZERO, |committed| committed.high_watermark)
    }

    /// What the disk of that node holds durably.
    pub fn durable_end(&self, node: BrokerId, partition: TopicPartition) -> Option<Offset> {
        self.durable.get(&(node, partition)).copied()
    }

    /// The disk of that node holds these and no others.
    pub fn holds(&mut self, node: BrokerId, partitions: &BTreeSet<TopicPartition>) {
        self.durable.retain(|(holder, partition), _| *holder != node || partitions.contains(partition));
        self.compared.retain(|(holder, partition), _| *holder != node || partitions.contains(partition));
    }

    /// All that the disk of that node holds durably.
    pub fn durable_of(&self, node: BrokerId) -> impl Iterator<Item = (TopicPartition, Offset)> + '_ {
        self.durable
            .iter()
            .filter(move |((holder, _), _)| *holder == node)
            .map(|(&(_, partition), &end)| (partition, end))
    }

    /// The disk of that node is another one.
    pub fn disk_lost(&mut self, node: BrokerId) {
        let lost = self.durable.extract_if(.., |(holder, _), _| *holder == node);
        self.lost.extend(lost);
        self.compared.retain(|(holder, _), _| *holder != node);
    }

    /// What is so at this moment. Called before a process ends, too, so that nothing it knew is missed.
    pub fn note(&mut self, replicas: &[Replica<'_>], min_insync_replicas: impl Fn(TopicPartition) -> usize) {
        for replica in replicas {
            let committed = self
                .partitions
                .entry(replica.partition)
                .or_insert_with(|| Committed { min_insync_replicas: usize::MAX, ..Committed::default() });
            committed.high_watermark = committed.high_watermark.max(replica.high_watermark);
            let least = min_insync_replicas(replica.partition);
            committed.min_insync_replicas = committed.min_insync_replicas.min(least);
            self.durable.insert((replica.node, replica.partition), replica.durable_end);
        }
    }

    /// `image` is the committed metadata, or nothing where it is not known to be the newest.
    pub fn check(&mut self, replicas: &[Replica<'_>], image: Option<&Image>) -> Result<(), String> {
        for replica in replicas {
            self.check_leader_epoch(replica)?;
            let state = image.and_then(|image| image.partition(replica.partition)).filter(|_| replica.is_in_office);
            if let Some(state) = state {
                self.check_office(replica, state)?;
            }
            let leads = state.is_some_and(|state| leads_now(replica, state));
            let known = if leads { self.high_watermark(replica.partition) } else { replica.high_watermark };
            self.compare(replica, known.min(replica.durable_end))?;
        }
        if let Some(image) = image {
            self.check_states(image)?;
        }
        self.check_copies(image)
    }

    /// R8.
    fn check_leader_epoch(&mut self, replica: &Replica<'_>) -> Result<(), String> {
        if !replica.leads {
            return Ok(());
        }
        let Replica { node, partition, leader_epoch, .. } = *replica;
        let known = *self.leaders.entry((partition, leader_epoch)).or_insert(node);
        if known == node {
            Ok(())
        } else {
            Err(format!("R8: {partition} epoch {leader_epoch} is led by {known} and {node}"))
        }
    }

    /// R2, R3, R4: of a replica whose node may be trusted with what the controller gave it.
    fn check_office(&self, replica: &Replica<'_>, state: &PartitionState) -> Result<(), String> {
        let Replica { node, partition, .. } = *replica;
        let committed = self.high_watermark(partition);
        let is_candidate = state.isr.contains(&node) || state.elr.contains(&node);
        if leads_now(replica, state) {
            if replica.log_end < committed {
                let end = replica.log_end;
                return Err(format!("R2: {partition}: leader {node} ends at {end}, and {committed} was committed"));
            }
            // With a full ISR there is no ELR (R15); with a small one the leader commits nothing (R5).
            if let Some(missed) = state.isr.iter().find(|id| !replica.maximal_isr.contains(id)) {
                let isr = &replica.maximal_isr;
                return Err(format!("R4: {partition}: {missed} may be elected, and leader {node} waits for {isr:?}"));
            }
        } else if is_candidate && replica.durable_end < committed {
            let end = replica.durable_end;
            return Err(format!("R3: {partition}: candidate {node} ends at {end}, and {committed} was committed"));
        }
        Ok(())
    }

    /// R1, R10, R12, P1: batches below `end` are those that everybody has there.
    fn compare(&mut self, replica: &Replica<'_>, end: Offset) -> Result<(), String> {
        let Replica { node, life, partition, .. } = *replica;
        let fresh = Compared { life, to: Offset::ZERO };
        let compared = self.compared.entry((node, partition)).or_insert(fresh);
        if compared.life != life {
            *compared = fresh;
        }
        if replica.log_end < compared.to {
            return Err(format!("R12: {partition}: node {node} ends at {}, and had {}", replica.log_end, compared.to));
        }
        let from = compared.to.max(replica.log_start);
        if from >= end {
            return Ok(());
        }
        compared.to = end;
        let committed = self.partitions.entry(partition).or_default();
        let headers = replica
            .log
            .headers(from, end, partition)
            .map_err(|error| format!("{error}: {partition} on node {node}"))?;
        let mut expected = from;
        for header in &headers {
            let (base, next) = (header.base_offset, header.next_offset());
            let follows = base == expected || (expected == from && base <= from);
            if !follows {
                return Err(format!("R10: {partition}: on node {node} {base} follows {expected}"));
            }
            expected = next;
            committed.take_up(header).map_err(|error| format!("{error}: {partition} on node {node}"))?;
        }
        if expected < end {
            return Err(format!(
                "S1: {partition}: node {node} has nothing at {expected}, and {end} is committed there"
            ));
        }
        Ok(())
    }

    /// R9.
    fn check_states(&mut self, image: &Image) -> Result<(), String> {
        for (partition, state) in image.partitions() {
            let Some(before) = self.states.insert(partition, state.clone()) else { continue };
            let epochs = |state: &PartitionState| (state.partition_epoch, state.leader_epoch);
            let PartitionEpoch(epoch) = before.partition_epoch;
            if before.partition_epoch > state.partition_epoch || before.leader_epoch > state.leader_epoch {
                return Err(format!("R9: {partition}: {:?} after {:?}", epochs(state), epochs(&before)));
            }
            if before.partition_epoch == state.partition_epoch && before != *state {
                return Err(format!("R9: {partition}: two states in epoch {epoch}: {before:?} and {state:?}"));
            }
        }
        Ok(())
    }

    /// R16: what has been committed lately is durable often enough. Of what was deleted nothing need be.
    fn check_copies(&mut self, image: Option<&Image>) -> Result<(), String> {
        for (&partition, committed) in &mut self.partitions {
            let end = committed.high_watermark;
            let is_deleted = image.is_some_and(|image| image.partition(partition).is_none());
            if end == std::mem::replace(&mut committed.counted, end) || is_deleted {
                continue;
            }
            let disks = self.durable.iter().chain(&self.lost);
            let holds = disks.filter(|((_, held), durable)| *held == partition && **durable >= end);
            let copies = holds.map(|((node, _), _)| *node).collect::<BTreeSet<BrokerId>>().len();
            let least = committed.min_insync_replicas;
            if copies < least {
                return Err(format!("R16: {partition}: {end} is committed, on {copies} disks of at least {least}"));
            }
        }
        Ok(())
    }
}

impl Committed {
    fn take_up(&mut self, header: &BatchHeader) -> Result<(), String> {
        let base = header.base_offset;
        let batch = Batch { next: header.next_offset(), leader_epoch: header.leader_epoch, crc: header.crc };
        if let Some(known) = self.batches.get(&base) {
            let agrees = *known == batch;
            return if agrees { Ok(()) } else { Err(format!("R1: at {base} {known:?} and {batch:?}")) };
        }
        let before = self.batches.range(..base).next_back().filter(|(_, before)| before.next > base);
        let after = self.batches.range(base..).next().filter(|(after, _)| **after < batch.next);
        if let Some((other, _)) = before.or(after) {
            return Err(format!("R10: a batch at {base} and another at {other}"));
        }
        self.batches.insert(base, batch);
        if header.producer_id != ProducerId::NONE {
            let sequence = (header.producer_id, header.producer_epoch, header.base_sequence);
            if let Some(first) = self.sequences.insert(sequence, base) {
                return Err(format!("P1: {sequence:?} is at {first} and at {base}"));
            }
        }
        Ok(())
    }
}

fn leads_now(replica: &Replica<'_>, state: &PartitionState) -> bool {
    replica.leads && state.leader == Some(replica.node) && state.leader_epoch == replica.leader_epoch
}

/// Whether the newest metadata have this registration of the broker, unfenced.
pub fn is_in_office(image: &Image, node: BrokerId, epoch: Option<base_types::BrokerEpoch>) -> bool {
    let broker = image.broker(node).filter(|broker| broker.state != BrokerState::Fenced);
    broker.is_some_and(|broker| Some(broker.epoch) == epoch)
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};
    use record_batch::{BatchBuilder, Compression};

    use super::*;

    /// Batches of one record from offset 0 on, with these values.
    struct Values(Vec<&'static str>);

    impl Log for Values {
        fn headers(&self, from: Offset, below: Offset, _: TopicPartition) -> Result<Vec<BatchHeader>, String> {
            let header = |(offset, value): (usize, &&str)| {
                let mut batch = BatchBuilder::new(Compression::None).base_offset(Offset(offset as i64));
                batch.push(None, Some(value.as_bytes()), &[], base_types::Timestamp(0));
                batch.build().ok().and_then(|bytes| BatchHeader::parse(&bytes).ok())
            };
            let all = self.0.iter().enumerate().filter_map(header);
            Ok(all.filter(|header| header.base_offset >= from && header.base_offset < below).collect())
        }
    }

    fn replica(node: i32, log: &Values, high_watermark: i64) -> Replica<'_> {
        let end = Offset(log.0.len() as i64);
        Replica {
            node: BrokerId(node),
            life: 1,
            partition: TopicPartition { topic: TopicId::default(), partition: PartitionIndex(0) },
            leads: false,
            leader_epoch: LeaderEpoch(1),
            log_start: Offset::ZERO,
            log_end: end,
            durable_end: end,
            high_watermark: Offset(high_watermark),
            maximal_isr: Vec::new(),
            is_in_office: true,
            log,
        }
    }

    fn looked(replication: &mut Replication, replicas: &[Replica<'_>], least: usize) -> Result<(), String> {
        replication.note(replicas, |_| least);
        replication.check(replicas, None)
    }

    #[test]
    fn what_is_committed_is_the_same_everywhere_and_what_is_not_need_not_be() {
        let (a, b, c) = (Values(vec!["x", "y"]), Values(vec!["x", "z"]), Values(vec!["w"]));
        let mut replication = Replication::default();
        assert_eq!(looked(&mut replication, &[replica(1, &a, 2), replica(2, &b, 1)], 1), Ok(()));
        assert!(looked(&mut replication, &[replica(3, &c, 1)], 1).unwrap_err().starts_with("R1"));
    }

    #[test]
    fn what_was_committed_is_not_cut_off() {
        let (long, short) = (Values(vec!["x", "y"]), Values(vec!["x"]));
        let mut replication = Replication::default();
        assert_eq!(looked(&mut replication, &[replica(1, &long, 2)], 1), Ok(()));
        assert!(looked(&mut replication, &[replica(1, &short, 1)], 1).unwrap_err().starts_with("R12"));
    }

    #[test]
    fn an_epoch_has_one_leader() {
        let log = Values(vec!["x"]);
        let leads = |node| Replica { leads: true, ..replica(node, &log, 1) };
        assert!(looked(&mut Replication::default(), &[leads(1), leads(2)], 1).unwrap_err().starts_with("R8"));
    }

    #[test]
    fn what_is_committed_is_on_as_many_disks_as_it_must_be() {
        let log = Values(vec!["x"]);
        let both = [replica(1, &log, 1), replica(2, &log, 1)];
        assert_eq!(looked(&mut Replication::default(), &both, 2), Ok(()));
        assert!(looked(&mut Replication::default(), &both[..1], 2).unwrap_err().starts_with("R16"));

        let mut lost = Replication::default();
        assert_eq!(looked(&mut lost, &[replica(1, &log, 0), replica(2, &log, 0)], 2), Ok(()));
        lost.disk_lost(BrokerId(2));
        assert_eq!(looked(&mut lost, &both[..1], 2), Ok(()), "it had confirmed before");

        let mut deleted = Replication::default();
        deleted.note(&both[..1], |_| 2);
        assert_eq!(deleted.check(&[], Some(&Image::default())), Ok(()), "the newest metadata do not have it any more");
    }

    #[test]
    fn leaders_and_candidates_have_all_that_was_committed() {
        let log = Values(vec!["x", "y"]);
        let mut replication = Replication::default();
        assert_eq!(looked(&mut replication, &[replica(1, &log, 2)], 1), Ok(()));
        let state = PartitionState {
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(2)],
            elr: vec![BrokerId(3)],
            leader: Some(BrokerId(2)),
            leader_epoch: LeaderEpoch(1),
            ..PartitionState::default()
        };
        let short = Values(vec!["x"]);
        let leader = Replica { leads: true, maximal_isr: vec![BrokerId(2)], ..replica(2, &short, 1) };
        assert!(replication.check_office(&leader, &state).unwrap_err().starts_with("R2"));
        assert!(replication.check_office(&replica(3, &short, 1), &state).unwrap_err().starts_with("R3"));
        assert_eq!(replication.check_office(&replica(1, &short, 1), &state), Ok(()), "it is no candidate");
        let alone = Replica { leads: true, maximal_isr: Vec::new(), ..replica(2, &log, 2) };
        assert!(replication.check_office(&alone, &state).unwrap_err().starts_with("R4"));
    }
}
