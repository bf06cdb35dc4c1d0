//! Everything works again; what was on its way arrives or is lost. Then all must come to rest: every partition led, every replica
//! in sync, all logs equal, everyone answered, and a write taken.

use base_types::TopicPartition;
use peer_api::storage::Acks;
use replica_core::{Replica, Role};

use super::Run;
use crate::node::Slot;
use crate::value::Value;

const ROUNDS: usize = 200;

impl Run {
    pub(super) fn heal(&mut self) {
        self.world.note(|| "--- heals".to_owned());
        for id in self.world.ids() {
            self.world.node(id).paused = false;
            let node = &self.world.nodes[&id];
            let is_broken = node.slots.values().any(|slot| slot.disk.broken);
            if node.up && (node.stopping || is_broken) {
                self.world.crash(id, 0, usize::MAX);
            }
            if !self.world.nodes[&id].up {
                self.world.start(id);
            }
            for slot in self.world.node(id).slots.values_mut() {
                (slot.disk.full, slot.disk.unreadable) = (false, false);
            }
        }
        self.rates.late = 1_000;
        (0..20).for_each(|_| self.deliver());
        self.come_to_rest();
        self.write_to_all();
    }

    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..ROUNDS {
            self.settle_metadata();
            self.connect_all();
            self.settle();
            while !self.world.proposals.is_empty() {
                let proposal = self.world.proposals.remove(0);
                self.world.decide(&proposal);
            }
            if self.is_at_rest() {
                return;
            }
            self.world.advance(50);
        }
        let nodes: Vec<String> = self.world.ids().into_iter().map(|id| self.world.describe(id)).collect();
        let image = self.world.metadata.committed();
        let states: Vec<_> = image.partitions().collect();
        panic!("liveness: never at rest: {nodes:#?}, {states:?}, waiting {:?}", self.world.requests);
    }

    /// Commits, answers and tells everything, until everybody is registered and unfenced.
    pub(super) fn settle_metadata(&mut self) {
        for id in self.world.ids() {
            if self.world.nodes[&id].broker_epoch.is_none() {
                self.world.register(id);
            }
        }
        for _ in 0..2 {
            while self.world.metadata.in_flight() > 0 {
                self.world.commit_one();
            }
            for answer in std::mem::take(&mut self.world.answers) {
                self.world.answer(answer);
            }
            for id in self.world.ids() {
                let newest = self.world.metadata.committed_at();
                if self.world.nodes[&id].heard < newest {
                    self.world.tell(id, newest);
                }
                self.world.heartbeat(id);
            }
        }
    }

    pub(super) fn connect_all(&mut self) {
        for id in self.world.ids() {
            for partition in self.world.partitions_of(id) {
                if let Some(Role::Follower { leader }) = self.world.replica(id, partition).map(Replica::role)
                    && !self.world.streams.get(&(id, leader)).is_some_and(|stream| stream.open)
                {
                    self.world.connect(id, leader);
                }
            }
        }
    }

    /// Delivers and finishes everything that is under way, without the passing of time.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let live = self.world.letters.keys().copied().find(|&queue| !self.world.is_late(queue));
            if let Some(queue) = live {
                self.world.deliver(queue, false);
                continue;
            }
            let mut finished = false;
            for id in self.world.ids() {
                for partition in self.world.partitions_of(id) {
                    finished |= self.world.finish_disk_job(id, partition);
                }
            }
            if !finished {
                return;
            }
        }
        panic!("liveness: nothing ever settles");
    }

    fn is_at_rest(&self) -> bool {
        let world = &self.world;
        let rests = |(partition, state): (TopicPartition, &peer_api::metadata::PartitionState)| {
            if world.acting_leader(partition).is_none() {
                return false;
            }
            let all_in_sync = state.replicas.iter().all(|id| {
                let has_all = |slot: &Slot| {
                    let replica = slot.replica.as_ref();
                    world.judge.is_all(partition, &slot.disk)
                        && replica.is_some_and(|replica| {
                            let ends = (replica.high_watermark(), replica.log_end());
                            ends == (slot.disk.log_end(), slot.disk.log_end())
                        })
                };
                state.isr.contains(id) && world.nodes[id].slots.get(&partition).is_some_and(|slot| has_all(slot))
            });
            all_in_sync && !state.is_moving()
        };
        world.metadata.in_flight() == 0
            && world.requests.is_empty()
            && world.confirmations.is_empty()
            && world.metadata.committed().partitions().all(rests)
    }

    /// At rest every partition takes a write, and comes to rest again.
    fn write_to_all(&mut self) {
        self.world.replies.clear();
        let partitions: Vec<_> = self.world.metadata.committed().partitions().map(|(partition, _)| partition).collect();
        for (number, &partition) in (u32::MAX / 2..).zip(&partitions) {
            let leader = self.world.acting_leader(partition).expect("it is at rest");
            let epoch = self.world.replica(leader, partition).map(Replica::leader_epoch).expect("it leads");
            let value = Value { partition, number, records: 1, producer: None };
            self.world.append(leader, epoch, Acks::All, value, 60_000);
        }
        self.come_to_rest();
        let answers: Vec<_> = self.world.replies.iter().map(|(_, result)| result.as_ref().map(drop)).collect();
        assert_eq!(answers, vec![Ok(()); partitions.len()], "liveness: a healthy partition takes a write");
    }
}
