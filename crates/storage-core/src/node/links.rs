//! Links to other storage nodes: those that follow us, and those that lead what we follow.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerEpoch, BrokerId, ErrorCode, Now, TopicPartition};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use replica_core::{Replica, Role};

use super::StorageNode;
use crate::effect::{Effect, Effects};
use crate::event::PeerStream;

#[derive(Debug, Default)]
pub(super) struct Links {
    /// The newest stream of each follower's node.
    followers: BTreeMap<BrokerId, (PeerStream, BrokerEpoch)>,
    by_stream: BTreeMap<PeerStream, BrokerId>,
    /// Nodes that lead something we follow.
    leaders: BTreeMap<BrokerId, Leader>,
}

#[derive(Debug)]
struct Leader {
    address: String,
    /// The registration that the stream was opened with.
    broker_epoch: BrokerEpoch,
    connected: bool,
}

impl StorageNode {
    pub(super) fn follower_connected(&mut self, now: Now, stream: PeerStream, hello: Hello, effects: &mut Effects) {
        let connected = self.links.followers.get(&hello.follower).map(|&(_, broker_epoch)| broker_epoch);
        let registered = self.image.broker(hello.follower).map(|broker| broker.epoch);
        if Some(hello.broker_epoch) < connected.max(registered) {
            // An earlier life, or one that must register again: it may not speak for the one that stands (R14).
            return effects.push(Effect::CloseFollower { stream });
        }
        if let Some((old, _)) = self.links.followers.insert(hello.follower, (stream, hello.broker_epoch)) {
            self.links.by_stream.remove(&old);
            effects.push(Effect::CloseFollower { stream: old });
            self.tell_leaders_that_follower_is_lost(now, hello.follower, effects);
        }
        self.links.by_stream.insert(stream, hello.follower);
    }

    pub(super) fn follower_said(&mut self, now: Now, stream: PeerStream, message: FromFollower, effects: &mut Effects) {
        let Some(&follower) = self.links.by_stream.get(&stream) else { return };
        let Some(&(_, broker_epoch)) = self.links.followers.get(&follower) else { return };
        let partition = message.partition();
        if self.replica(partition).is_some() {
            let event = replica_core::Event::FollowerSaid { follower, broker_epoch, message };
            self.replica_step(now, partition, event, effects);
        } else if let FromFollower::Follow { partition, leader_epoch, .. } = message {
            // Not here, or not open yet: the follower tries again.
            let code = ErrorCode::UnknownTopicOrPartition;
            effects.push(Effect::ToFollower { stream, message: FromLeader::Refused { partition, leader_epoch, code } });
        }
    }

    pub(super) fn follower_lost(&mut self, now: Now, stream: PeerStream, effects: &mut Effects) {
        if let Some(follower) = self.links.by_stream.remove(&stream) {
            self.links.followers.remove(&follower);
            self.tell_leaders_that_follower_is_lost(now, follower, effects);
        }
    }

    pub(super) fn send_to_follower(&mut self, follower: BrokerId, message: FromLeader, effects: &mut Effects) {
        if let Some(&(stream, _)) = self.links.followers.get(&follower) {
            effects.push(Effect::ToFollower { stream, message });
        }
    }

    pub(super) fn leader_connected(&mut self, now: Now, leader: BrokerId, effects: &mut Effects) {
        let Some(link) = self.links.leaders.get_mut(&leader) else { return };
        link.connected = true;
        for partition in self.followed_from(leader) {
            self.replica_step(now, partition, replica_core::Event::LeaderReachable, effects);
        }
    }

    pub(super) fn leader_said(&mut self, now: Now, leader: BrokerId, message: FromLeader, effects: &mut Effects) {
        let partition = message.partition();
        // A message of a node that leads no more says nothing to us.
        if self.replica(partition).and_then(followed) == Some(leader) {
            self.count_arrival(&message);
            self.replica_step(now, partition, replica_core::Event::LeaderSaid(message), effects);
        }
    }

    pub(super) fn leader_lost(&mut self, now: Now, leader: BrokerId, effects: &mut Effects) {
        let Some(link) = self.links.leaders.get_mut(&leader) else { return };
        link.connected = false;
        for partition in self.followed_from(leader) {
            self.replica_step(now, partition, replica_core::Event::LeaderLost, effects);
        }
    }

    /// Without a link the message is dropped: the replica opens again as soon as there is one.
    pub(super) fn send_to_leader(&self, leader: BrokerId, message: FromFollower, effects: &mut Effects) {
        if self.links.leaders.get(&leader).is_some_and(|link| link.connected) {
            effects.push(Effect::ToLeader { leader, message });
        }
    }

    /// Keeps exactly the links that the followed partitions need, opened with our newest registration.
    pub(super) fn refresh_links(&mut self, effects: &mut Effects) {
        let needed: BTreeSet<BrokerId> = self.open_replicas().filter_map(|(_, replica)| followed(replica)).collect();
        self.links.leaders.retain(|leader, _| {
            let keep = needed.contains(leader);
            if !keep {
                effects.push(Effect::DisconnectLeader { leader: *leader });
            }
            keep
        });
        for leader in needed {
            self.link_to(leader, effects);
        }
    }

    pub(super) fn link_to_leader_of(&mut self, partition: TopicPartition, effects: &mut Effects) {
        if let Some(leader) = self.replica(partition).and_then(followed) {
            self.link_to(leader, effects);
        }
    }

    fn link_to(&mut self, leader: BrokerId, effects: &mut Effects) {
        let Some(broker_epoch) = self.session.broker_epoch() else { return };
        let Some(broker) = self.image.broker(leader) else { return };
        let address = broker.peer_address.clone();
        let link = self.links.leaders.get(&leader);
        if link.is_some_and(|link| link.address == address && link.broker_epoch == broker_epoch) {
            return;
        }
        effects.push(Effect::ConnectLeader { leader, address: address.clone(), broker_epoch });
        self.links.leaders.insert(leader, Leader { address, broker_epoch, connected: false });
    }

    fn followed_from(&self, leader: BrokerId) -> Vec<TopicPartition> {
        let follows = |replica: &Replica| followed(replica) == Some(leader);
        self.open_replicas().filter(|(_, replica)| follows(replica)).map(|(partition, _)| partition).collect()
    }

    fn tell_leaders_that_follower_is_lost(&mut self, now: Now, follower: BrokerId, effects: &mut Effects) {
        let leads = |replica: &Replica| replica.role() == Role::Leader;
        let led: Vec<TopicPartition> =
            self.open_replicas().filter(|(_, replica)| leads(replica)).map(|(partition, _)| partition).collect();
        for partition in led {
            self.replica_step(now, partition, replica_core::Event::FollowerLost { follower }, effects);
        }
    }
}

fn followed(replica: &Replica) -> Option<BrokerId> {
    match replica.role() {
        Role::Follower { leader } => Some(leader),
        Role::Leader | Role::Idle => None,
    }
}
