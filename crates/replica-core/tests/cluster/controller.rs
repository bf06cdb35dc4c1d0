//! A toy controller: it keeps epochs, elects from the ISR, and decides proposals by compare-and-set.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch};
use peer_api::metadata::PartitionState;
use replica_core::Assignment;

#[derive(Debug)]
pub struct Controller {
    pub state: PartitionState,
    pub registrations: BTreeMap<BrokerId, BrokerEpoch>,
    pub fenced: BTreeSet<BrokerId>,
    /// Everything it ever said; nodes hear it in order, and may skip.
    pub said: Vec<Assignment>,
    next_broker_epoch: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub leader: BrokerId,
    pub life: u64,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

impl Controller {
    pub fn new(replicas: Vec<BrokerId>, isr: Vec<BrokerId>) -> Controller {
        let mut controller = Controller {
            state: PartitionState {
                leader: None,
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                isr,
                replicas: replicas.clone(),
                ..PartitionState::default()
            },
            registrations: BTreeMap::new(),
            fenced: BTreeSet::new(),
            said: Vec::new(),
            next_broker_epoch: 10,
        };
        for id in replicas {
            controller.next_broker_epoch += 1;
            controller.registrations.insert(id, BrokerEpoch(controller.next_broker_epoch));
        }
        controller.say();
        controller
    }

    /// A node came up. It may be another life with another disk, so it leaves the ISR, unless it is all there is; and it leads
    /// no more, because it may have forgotten what it gave out (R10).
    pub fn register(&mut self, id: BrokerId) -> BrokerEpoch {
        self.next_broker_epoch += 1;
        let epoch = BrokerEpoch(self.next_broker_epoch);
        self.registrations.insert(id, epoch);
        self.fenced.remove(&id);
        self.remove(id);
        if self.state.leader.is_none() && self.state.isr.contains(&id) {
            self.state.leader = Some(id);
            self.state.leader_epoch = self.state.leader_epoch.next();
            self.state.partition_epoch = self.state.partition_epoch.next();
        }
        self.say();
        epoch
    }

    pub fn fence(&mut self, id: BrokerId) {
        self.fenced.insert(id);
        self.remove(id);
        self.say();
    }

    pub fn unfence(&mut self, id: BrokerId) {
        self.fenced.remove(&id);
        if self.state.leader.is_none() && self.state.isr.contains(&id) {
            self.elect(id);
        } else {
            self.say();
        }
    }

    pub fn elect(&mut self, leader: BrokerId) {
        assert!(self.state.isr.contains(&leader), "only members of the ISR are elected");
        self.change(Some(leader), self.state.isr.clone());
        self.say();
    }

    /// A leader from outside the ISR: what it lacks is lost.
    pub fn elect_uncleanly(&mut self, leader: BrokerId) {
        self.change(Some(leader), vec![leader]);
        self.state.unclean_since = Some(self.state.leader_epoch);
        self.say();
    }

    pub fn set_isr(&mut self, isr: Vec<BrokerId>) {
        self.state.isr = isr;
        self.state.partition_epoch = self.state.partition_epoch.next();
        self.say();
    }

    /// Even an ISR that changes nothing is taken up and moves the partition epoch: that is how a leader withdraws.
    pub fn decide(&mut self, proposal: &Proposal) -> Result<PartitionState, ErrorCode> {
        if proposal.leader_epoch != self.state.leader_epoch || Some(proposal.leader) != self.state.leader {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if proposal.partition_epoch != self.state.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let eligible = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            !self.fenced.contains(id) && self.registrations.get(id) == Some(epoch)
        };
        if !proposal.isr.iter().all(eligible) {
            return Err(ErrorCode::IneligibleReplica);
        }
        self.set_isr(proposal.isr.iter().map(|&(id, _)| id).collect());
        Ok(self.state.clone())
    }

    fn remove(&mut self, id: BrokerId) {
        let rest: Vec<BrokerId> = self.state.isr.iter().copied().filter(|&other| other != id).collect();
        let isr = if rest.is_empty() { self.state.isr.clone() } else { rest };
        let leader = if self.state.leader == Some(id) {
            isr.iter().copied().find(|other| *other != id && !self.fenced.contains(other))
        } else {
            self.state.leader
        };
        if isr != self.state.isr || leader != self.state.leader {
            self.change(leader, isr);
        }
    }

    fn change(&mut self, leader: Option<BrokerId>, isr: Vec<BrokerId>) {
        if leader != self.state.leader || isr == self.state.isr {
            self.state.leader_epoch = self.state.leader_epoch.next();
        }
        self.state.partition_epoch = self.state.partition_epoch.next();
        self.state.leader = leader;
        self.state.isr = isr;
    }

    pub fn say(&mut self) {
        let live = self.registrations.iter().filter(|(id, _)| !self.fenced.contains(id));
        self.said.push(Assignment {
            leader_epoch: self.state.leader_epoch,
            partition_epoch: self.state.partition_epoch,
            leader: self.state.leader,
            replicas: self.state.replicas.clone(),
            isr: self.state.isr.clone(),
            broker_epochs: live.map(|(&id, &epoch)| (id, epoch)).collect(),
            unclean_since: self.state.unclean_since,
        });
    }
}
