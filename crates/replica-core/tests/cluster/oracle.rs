//! The dumb twin: it sees every log and every disk, remembers what was ever committed, and knows the rules by their ids.

use std::collections::BTreeMap;

use base_types::{BrokerId, LeaderEpoch, Offset};
use peer_api::storage::{Acks, AppendError, Appended};
use record_batch::StampedBatch;
use replica_core::{Role, Settings};

use super::batch::Spec;
use super::controller::Controller;
use super::disk::{epochs_from, producers_of};
use super::{Node, Request};

#[derive(Debug, Default)]
pub struct Oracle {
    /// Everything that ever was below a leader's high watermark, in order.
    pub committed: Vec<Entry>,
    /// What was committed and is not in the history that the last unclean election chose.
    lost: Vec<Entry>,
    /// The epoch of the last unclean election. Whoever leads in an older one may commit still, for nobody.
    unclean_since: LeaderEpoch,
    /// Its leader has not led yet: until then nobody knows which history it chose.
    is_undecided: bool,
    /// What lay on disks that were replaced: it was durable as promised, and then more went than any promise covers.
    replaced: BTreeMap<BrokerId, Vec<StampedBatch>>,
    /// Who led in each epoch, and in which life.
    leaders: BTreeMap<LeaderEpoch, (BrokerId, u64)>,
    /// By CRC, which is as good as the value.
    values: BTreeMap<u32, Value>,
    /// How often each rule had something to look at: a run in which nothing happened proves nothing.
    pub acknowledged: usize,
    pub truncated: usize,
    pub duplicates: usize,
    pub confirmed: usize,
    pub lowered: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub base: Offset,
    pub next: Offset,
    pub epoch: LeaderEpoch,
    pub crc: u32,
}

#[derive(Debug)]
struct Value {
    spec: Spec,
    /// Attempts without an answer, or with one that leaves it open whether the value is in the log.
    open: usize,
    acknowledged_at: Option<Offset>,
}

impl Oracle {
    pub fn committed_end(&self) -> Offset {
        self.committed.last().map_or(Offset::ZERO, |entry| entry.next)
    }

    pub fn attempted(&mut self, spec: Spec, crc: u32) {
        self.values.entry(crc).or_insert(Value { spec, open: 0, acknowledged_at: None }).open += 1;
    }

    pub fn disk_replaced(&mut self, id: BrokerId, log: &[StampedBatch]) {
        self.replaced.entry(id).or_default().extend_from_slice(log);
    }

    pub fn elected_uncleanly(&mut self, epoch: LeaderEpoch) {
        self.unclean_since = epoch;
        self.is_undecided = true;
    }

    /// The log of the first leader since the unclean election is the history now.
    fn decided_by(&mut self, node: &Node) {
        self.is_undecided = false;
        let log_start = node.disk.log_start;
        let mut held = node.disk.log.iter().map(entry_of);
        let is_kept = |entry: &&Entry| entry.base < log_start || held.next() == Some(**entry);
        let kept = self.committed.iter().take_while(is_kept).count();
        for entry in self.committed.split_off(kept) {
            self.values.entry(entry.crc).and_modify(|value| value.acknowledged_at = None);
            self.lost.push(entry);
        }
    }

    /// R6: a high watermark goes back because of an unclean election, and that is told.
    pub fn told_lost(&mut self, id: BrokerId, from: Offset, to: Offset) {
        assert!(self.unclean_since > LeaderEpoch(0), "R12: {id} gives up {to}..{from} without an unclean election");
        self.lowered += 1;
    }

    /// Whether every batch of `log` that was committed, and everything committed that lies in its range, is the same.
    fn holds_all_committed(&self, log_start: Offset, log: &[StampedBatch]) -> bool {
        let committed = self.committed.iter().filter(|entry| entry.base >= log_start);
        let mut held = log.iter().map(entry_of);
        committed.into_iter().all(|entry| held.next() == Some(*entry))
    }

    /// What must hold of a node after each of its steps.
    pub fn check_step(&mut self, node: &Node, settings: Settings, high_watermark_before: Offset) {
        let Some(replica) = &node.replica else { return };
        let id = node.id;
        let high_watermark = replica.high_watermark();
        let leads = replica.role() == Role::Leader;
        if leads {
            let leader = *self.leaders.entry(replica.leader_epoch()).or_insert((id, node.life));
            assert_eq!(leader, (id, node.life), "R8: two leaders in epoch {}", replica.leader_epoch());
            if self.is_undecided && replica.leader_epoch() >= self.unclean_since {
                self.decided_by(node);
            }
        }
        // A log that started over while its node was elected begins with a high watermark; that is not to move it.
        if leads && high_watermark > high_watermark_before.max(replica.log_start()) {
            let least = settings.min_insync_replicas.min(3);
            assert!(replica.isr().len() >= least, "R5: {id} moves to {high_watermark} with ISR {:?}", replica.isr());
            self.commit(node, high_watermark);
        }
        for batch in node.view.iter().filter(|batch| batch.header().next_offset() <= high_watermark) {
            let entry = entry_of(batch);
            let known = self.committed.binary_search_by_key(&entry.base, |known| known.base);
            let known = known.ok().and_then(|at| self.committed.get(at));
            let is_known = known == Some(&entry) || self.lost.contains(&entry);
            assert!(is_known, "R1, R7, R10: {id} has below its high watermark what was not committed: {entry:?}");
        }
        self.check_log(node);
    }

    /// Everything derived is what a scan of the log yields, and the log is one that producers could have made.
    fn check_log(&self, node: &Node) {
        let Some(replica) = node.replica.as_ref() else { return };
        let id = node.id;
        // While the log is cut, the replica still has the old one.
        if node.view.last().map_or(node.disk.log_start, |last| last.header().next_offset()) != replica.log_end() {
            return;
        }
        // What was trimmed is gone from the log, and stays in what was derived from it.
        let is_whole = node.disk.log_start == Offset::ZERO;
        if is_whole || !node.view.is_empty() {
            let scanned = epochs_from(node.disk.log_start, &node.view);
            assert_eq!(replica.epochs().starts(), scanned, "R11: epochs of {id}");
        }
        if is_whole {
            assert_eq!(*replica.producers(), producers_of(&node.view), "P5: producers of {id}");
        }
        let mut last: BTreeMap<i64, (i16, i64)> = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        let mut end = node.disk.log_start;
        for batch in &node.view {
            let header = batch.header();
            assert_eq!(header.base_offset.max(node.disk.log_start), end, "R10: a hole in the log of {id}");
            end = header.next_offset();
            assert!(seen.insert(header.crc), "P1: {id} has {:?} twice", self.values[&header.crc].spec);
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
    pub fn check_cluster(&self, nodes: &BTreeMap<BrokerId, Node>, controller: &Controller) {
        if self.is_undecided {
            return;
        }
        let state = &controller.state;
        for member in &state.isr {
            let disk = &nodes[member].disk;
            assert!(
                self.holds_all_committed(disk.log_start, &disk.log),
                "R3: member {member} lacks what was committed"
            );
        }
        let Some(leader) = state.leader.and_then(|leader| nodes.get(&leader)) else { return };
        let Some(replica) = leader.replica.as_ref() else { return };
        if replica.role() != Role::Leader || replica.leader_epoch() != state.leader_epoch {
            return;
        }
        assert!(
            self.holds_all_committed(leader.disk.log_start, &leader.view),
            "R2: leader {} lacks what was committed",
            leader.id
        );
        let maximal = replica.maximal_isr();
        assert!(
            state.isr.iter().all(|member| maximal.contains(member)),
            "R4: leader {} counts {maximal:?} and the ISR is {:?}",
            leader.id,
            state.isr
        );
    }

    /// `StartOver` may drop what lies below its new start; nothing else that was committed may go. Except from a log that counts
    /// for nothing: outside the ISR, a follower that does not know yet who leads may obey the leader before, which does not
    /// know either. What it cut it gets back; R3 sees to it that it is no member meanwhile.
    pub fn check_cut(&mut self, role: Role, counts: bool, view: &[StampedBatch], to: Offset, start: Option<Offset>) {
        assert_ne!(role, Role::Leader, "R12: a leader's log is cut");
        self.truncated += 1;
        if !counts || self.is_undecided {
            return;
        }
        let cut = view.iter().map(entry_of).filter(|entry| entry.next > to);
        for entry in cut.filter(|entry| start.is_none_or(|start| entry.next > start)) {
            assert!(!self.committed.contains(&entry), "R12: {entry:?} was committed and is cut");
        }
    }

    pub fn check_reply(
        &mut self,
        request: &Request,
        result: &Result<Appended, AppendError>,
        nodes: &BTreeMap<BrokerId, Node>,
        settings: Settings,
    ) {
        let sent = self.values.iter_mut().find(|(_, value)| value.spec == request.spec);
        let (&crc, value) = sent.expect("only values that were sent");
        match result {
            Ok(appended) => {
                let is_it = |batch: &StampedBatch| {
                    batch.header().base_offset == appended.base_offset && is(crc, request.spec, batch)
                };
                let replaced = |node: &Node| self.replaced.get(&node.id).is_some_and(|log| log.iter().any(is_it));
                let has_it = |node: &&Node| node.disk.log.iter().any(is_it) || replaced(node);
                let copies = nodes.values().filter(has_it).count();
                let needed = match request.acks {
                    Acks::All => settings.min_insync_replicas.min(nodes.len()),
                    Acks::Leader => 1,
                };
                assert!(copies >= needed, "R16: {:?} is acknowledged with {copies} durable copies", request.spec);
                if request.acks == Acks::All {
                    let is_at = |entry: &Entry| entry.base == appended.base_offset;
                    let is_lost = self.lost.iter().any(is_at);
                    let committed = self.committed.iter().any(is_at);
                    assert!(committed || is_lost, "R16: {:?} is acknowledged and not committed", request.spec);
                    if committed && !is_lost {
                        let earlier = *value.acknowledged_at.get_or_insert(appended.base_offset);
                        assert_eq!(earlier, appended.base_offset, "P2: {:?} has two offsets", request.spec);
                    }
                }
                self.acknowledged += 1;
            }
            Err(error) if error.is_definite() => {
                value.open -= 1;
                let visible = value.open == 0 && self.committed.iter().any(|entry| entry.crc == crc);
                assert!(!visible, "R17: {:?} is visible and {error:?} was definite", request.spec);
            }
            Err(_) => {}
        }
    }

    /// Whoever reads now misses nothing that was committed, by whomever, before it asked.
    pub fn check_confirmation(&mut self, committed_then: Offset, result: &Result<Offset, AppendError>) {
        if let Ok(high_watermark) = result {
            assert!(
                *high_watermark >= committed_then,
                "G4: {high_watermark} is all, and {committed_then} was committed"
            );
            self.confirmed += 1;
        }
    }

    fn commit(&mut self, node: &Node, high_watermark: Offset) {
        let leader_epoch = node.replica.as_ref().map_or(LeaderEpoch::UNKNOWN, |replica| replica.leader_epoch());
        if leader_epoch < self.unclean_since {
            return self.lost.extend(node.view.iter().map(entry_of).filter(|entry| entry.next <= high_watermark));
        }
        let end = self.committed_end();
        let fresh = node.view.iter().map(entry_of).filter(|entry| entry.base >= end && entry.next <= high_watermark);
        for entry in fresh {
            let Value { spec, open, .. } = &self.values[&entry.crc];
            assert!(*open > 0, "R17: {spec:?} becomes visible after a definite error");
            self.committed.push(entry);
        }
    }
}

/// A producer's batch is known by its sequence, as brokers know it; any other by its bytes.
fn is(crc: u32, spec: Spec, batch: &StampedBatch) -> bool {
    let header = batch.header();
    match spec.producer {
        None => header.crc == crc,
        Some((id, epoch, sequence)) => {
            let of_batch = (header.producer_id.0, header.producer_epoch.0, header.base_sequence.0);
            of_batch == (id, epoch, sequence) && header.record_count == spec.records
        }
    }
}

fn entry_of(batch: &StampedBatch) -> Entry {
    let header = batch.header();
    Entry { base: header.base_offset, next: header.next_offset(), epoch: header.leader_epoch, crc: header.crc }
}
