//! Storage nodes: registration, fencing, unfencing, controlled shutdown, and what each does to the partitions.

use base_types::{BrokerEpoch, BrokerId, ErrorCode, Now, planted};
use peer_api::config::{Durability, TopicSettings};
use peer_api::controller::{BrokerHeartbeat, HeartbeatAnswer, Refusal, RegisterBroker, Response};
use peer_api::metadata::{Broker, BrokerState, Image, MetadataOffset, Record};

use super::{Controller, Decision, REBALANCE_MAX, changed, is_eligible, refusal};
use crate::event::SessionId;
use crate::partition_change::Change;

/// What a data directory still holds when its node registers again (`docs/decisions/0002-unclean-restarts.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directory {
    /// Stopped cleanly: everything.
    Whole,
    /// Stopped anyhow: everything that was fsynced.
    Synced,
    /// New, wiped, damaged or another one: nothing that could be relied on.
    Unknown,
}

impl Controller {
    pub(super) fn register_broker(
        &mut self,
        now: Now,
        session: SessionId,
        request: RegisterBroker,
    ) -> Result<Decision, Refusal> {
        if let Some(cluster_id) = &request.cluster_id
            && cluster_id != self.pending.cluster_id()
        {
            let message = format!("Expected cluster ID {}, but got cluster ID {cluster_id}", self.pending.cluster_id());
            return Err(refusal(ErrorCode::InconsistentClusterId, message));
        }
        let known = self.pending.broker(request.broker);
        if let Some(known) = known.filter(|known| known.incarnation == request.incarnation) {
            // The answer was lost, or another controller gave it.
            let broker_epoch = known.epoch;
            self.renew_broker(now, request.broker, session);
            return Ok(Decision::after(Vec::new(), Response::BrokerRegistered { broker_epoch }));
        }
        if known.is_some() && self.is_held_by_another(false, now, request.broker, session) {
            let message = "Another broker is registered with that broker id. If the broker was recently restarted this \
                           should self-resolve once its session expires.";
            return Err(refusal(ErrorCode::DuplicateBrokerRegistration, message));
        }
        self.renew_broker(now, request.broker, session);
        self.conditions.entry(request.broker).or_default().begin_life();
        let broker_epoch = BrokerEpoch(self.consensus.next_index() as i64);
        let records = registration(&self.pending, &request, broker_epoch);
        Ok(Decision::after(records, Response::BrokerRegistered { broker_epoch }))
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        session: SessionId,
        request: BrokerHeartbeat,
    ) -> Result<Decision, Refusal> {
        let id = request.broker;
        let Some(broker) = self.pending.broker(id) else {
            return Err(refusal(ErrorCode::BrokerIdNotRegistered, "The given broker ID was not registered."));
        };
        if broker.epoch != request.broker_epoch {
            let message =
                format!("Expected broker epoch {}, but got broker epoch {}", broker.epoch, request.broker_epoch);
            return Err(refusal(ErrorCode::StaleBrokerEpoch, message));
        }
        let state = broker.state;
        self.renew_broker(now, id, session);
        self.conditions.entry(id).or_default().hear(&request);
        let without = self.without_damaged(id, &request.damaged);
        if !without.is_empty() {
            let given_up = without.iter().map(|(partition, state)| (*partition, state.leader_epoch)).collect();
            let answer =
                HeartbeatAnswer { fenced: state == BrokerState::Fenced, given_up, ..HeartbeatAnswer::default() };
            let records = without.into_iter().map(|(partition, state)| Record::PartitionChanged { partition, state });
            return Ok(Decision::after(records.collect(), Response::Heartbeat(answer)));
        }
        if request.want_shutdown {
            let records = if state == BrokerState::Active { shutting_down(&self.pending, id) } else { Vec::new() };
            let answer = HeartbeatAnswer {
                fenced: state == BrokerState::Fenced,
                may_shutdown: records.is_empty() && !leads_any(&self.committed, id),
                ..HeartbeatAnswer::default()
            };
            return Ok(Decision { at_once: records.is_empty(), records, response: Response::Heartbeat(answer) });
        }
        let caught_up = i64::try_from(request.metadata_offset.0).is_ok_and(|at| at >= request.broker_epoch.0);
        if state == BrokerState::Fenced && caught_up {
            let records = unfencing(&self.pending, id, request.broker_epoch);
            return Ok(Decision::after(records, Response::Heartbeat(HeartbeatAnswer::default())));
        }
        let fenced = self.committed.broker(id).is_none_or(|broker| broker.state == BrokerState::Fenced);
        Ok(Decision::at_once(Response::Heartbeat(HeartbeatAnswer { fenced, ..HeartbeatAnswer::default() })))
    }

    /// It is a broker no more. Its replicas stay where they are, as those of one that is down, until they are moved. One that is
    /// still alive registers again.
    pub(super) fn unregister_broker(&mut self, broker: BrokerId) -> Result<Decision, Refusal> {
        if self.pending.broker(broker).is_none() {
            let text = format!("Broker ID {broker} is not currently registered");
            return Err(refusal(ErrorCode::BrokerIdNotRegistered, text));
        }
        self.conditions.remove(&broker);
        let records = leaving(&self.pending, broker, Record::BrokerUnregistered { broker }, |_| false, false);
        Ok(Decision::after(records, Response::BrokerUnregistered { visible_at: MetadataOffset(0) }))
    }
}

/// One failed node: new leaders for what it led, and out of every ISR.
pub fn fencing(image: &Image, id: BrokerId) -> Vec<Record> {
    let Some(broker) = image.broker(id) else { return Vec::new() };
    let record = Record::BrokerStateChanged { broker: id, broker_epoch: broker.epoch, state: BrokerState::Fenced };
    if planted!(FencedStaysInIsr) {
        return vec![record];
    }
    leaving(image, id, record, |_| false, false)
}

pub fn shutting_down(image: &Image, id: BrokerId) -> Vec<Record> {
    let Some(broker) = image.broker(id) else { return Vec::new() };
    let (broker_epoch, state) = (broker.epoch, BrokerState::ShuttingDown);
    leaving(image, id, Record::BrokerStateChanged { broker: id, broker_epoch, state }, |_| false, false)
}

/// It has seen its own registration. Partitions without a leader may have one now.
pub fn unfencing(image: &Image, id: BrokerId, broker_epoch: BrokerEpoch) -> Vec<Record> {
    let state = BrokerState::Active;
    let mut records = vec![Record::BrokerStateChanged { broker: id, broker_epoch, state }];
    if image.directory_epoch(id) != Some(broker_epoch) {
        records.push(Record::DirectoryConfirmed { broker: id, broker_epoch });
    }
    let mut draft = image.clone();
    records.iter().for_each(|record| draft.apply(record));
    records.extend(elections(&draft, |replicas| replicas.contains(&id)));
    records
}

/// Leaderships that return to the first replica.
pub fn preferred_elections(image: &Image) -> Vec<Record> {
    let mut records = Vec::new();
    for topic in image.topics() {
        for (index, old) in topic.partitions.iter().enumerate() {
            let Some(first) = old.replicas.first().filter(|first| Some(**first) != old.leader) else { continue };
            if !old.isr.contains(first) || !is_eligible(image, *first) || records.len() == REBALANCE_MAX {
                continue;
            }
            let change = Change { isr: old.isr.clone(), prefer_first: true, ..Change::default() };
            if let Some(state) = changed(image, &topic.name, old, &change) {
                records.push(partition_record(topic.id, index, state));
            }
        }
    }
    records
}

/// A new life of a node. It starts fenced (R14), so the old one leaves every ISR; and ELRs too where it may have lost data (R13).
pub fn registration(image: &Image, request: &RegisterBroker, epoch: BrokerEpoch) -> Vec<Record> {
    let record = Record::BrokerRegistered(Broker {
        id: request.broker,
        epoch,
        incarnation: request.incarnation,
        rack: request.rack.clone(),
        peer_address: request.peer_address.clone(),
        host: request.host.clone(),
        state: BrokerState::Fenced,
    });
    let confirmed = image.directory_epoch(request.broker);
    let directory = match confirmed {
        expected @ Some(_) if request.clean_since == expected => Directory::Whole,
        expected @ Some(_) if request.intact_since == expected => Directory::Synced,
        Some(_) => Directory::Unknown,
        // Never unfenced, so in no ISR; or it was registered and crashed before it wrote anything.
        None => Directory::Whole,
    };
    // Registered under a later epoch that it wrote down, but was not unfenced under: still the same directory.
    let last = image.broker(request.broker).map(|broker| broker.epoch);
    let bears_last = last.is_some() && (request.clean_since == last || request.intact_since == last);
    let directory = match directory {
        Directory::Unknown if last.is_some() && request.clean_since == last => Directory::Whole,
        Directory::Unknown if last.is_some() && request.intact_since == last => Directory::Synced,
        other => other,
    };
    let loses = |topic: &str| match directory {
        Directory::Whole => false,
        Directory::Synced => TopicSettings::of(image, topic).durability == Durability::PageCache,
        Directory::Unknown => true,
    };
    let mut records = leaving(image, request.broker, record, loses, directory == Directory::Unknown);
    // Known from now on: should this registration come to nothing too, its directory will bear that epoch still.
    if let Some(broker_epoch) = last.filter(|_| bears_last && confirmed.is_some() && confirmed != last) {
        records.push(Record::DirectoryConfirmed { broker: request.broker, broker_epoch });
    }
    records
}

/// `record` and what it does to the partitions: the broker leaves every ISR and leadership, and, in topics where it may have
/// lost data, every ELR.
fn leaving(image: &Image, id: BrokerId, record: Record, loses: impl Fn(&str) -> bool, wiped: bool) -> Vec<Record> {
    let mut draft = image.clone();
    draft.apply(&record);
    let mut records = vec![record];
    for topic in image.topics() {
        if !topic.partitions.iter().any(|state| state.replicas.contains(&id)) {
            continue;
        }
        let lost = loses(&topic.name).then_some(id);
        for (index, old) in topic.partitions.iter().enumerate() {
            let named = old.isr.contains(&id) || old.elr.contains(&id) || old.last_known_elr.contains(&id);
            if !named {
                continue;
            }
            let isr = old.isr.iter().copied().filter(|member| *member != id).collect();
            let change = Change { isr, lost, wiped, ..Change::default() };
            if let Some(state) = changed(&draft, &topic.name, old, &change) {
                records.push(partition_record(topic.id, index, state));
            }
        }
    }
    records
}

/// Tries to find leaders for partitions that have none.
fn elections(image: &Image, concerned: impl Fn(&[BrokerId]) -> bool) -> Vec<Record> {
    let mut records = Vec::new();
    for topic in image.topics() {
        for (index, old) in topic.partitions.iter().enumerate() {
            if old.leader.is_some() || !concerned(&old.replicas) {
                continue;
            }
            let change = Change { isr: old.isr.clone(), prefer_first: true, ..Change::default() };
            if let Some(state) = changed(image, &topic.name, old, &change) {
                records.push(partition_record(topic.id, index, state));
            }
        }
    }
    records
}

pub(super) fn partition_record(
    topic: base_types::TopicId,
    index: usize,
    state: peer_api::metadata::PartitionState,
) -> Record {
    let partition = base_types::TopicPartition { topic, partition: base_types::PartitionIndex(index as i32) };
    Record::PartitionChanged { partition, state }
}

fn leads_any(image: &Image, id: BrokerId) -> bool {
    image.partitions().any(|(_, state)| state.leader == Some(id))
}

#[cfg(test)]
mod tests {
    use base_types::{Incarnation, TopicId};
    use peer_api::metadata::PartitionState;

    use super::*;

    #[test]
    fn a_directory_is_known_again_after_two_registrations_that_came_to_nothing() {
        let (id, mut image) = (BrokerId(1), Image::default());
        let apply = |image: &mut Image, records: Vec<Record>| records.iter().for_each(|record| image.apply(record));
        let register = |image: &mut Image, epoch: i64, intact_since: Option<i64>| {
            let request = RegisterBroker {
                broker: id,
                cluster_id: None,
                incarnation: Incarnation([epoch as u8; 16]),
                rack: None,
                peer_address: String::new(),
                host: String::new(),
                clean_since: None,
                intact_since: intact_since.map(BrokerEpoch),
            };
            apply(image, registration(image, &request, BrokerEpoch(epoch)));
        };
        register(&mut image, 1, None);
        let unfenced = unfencing(&image, id, BrokerEpoch(1));
        apply(&mut image, unfenced);
        let topic = TopicId([7; 16]);
        let isr = vec![id];
        let state =
            PartitionState { replicas: vec![id, BrokerId(2)], isr, leader: Some(id), ..PartitionState::default() };
        let created = Record::TopicCreated { id: topic, name: "topic".to_owned() };
        apply(&mut image, vec![created, partition_record(topic, 0, state)]);
        // It writes the epoch down and is gone before it is unfenced; then it is gone before it writes the next one down.
        register(&mut image, 2, Some(1));
        register(&mut image, 3, Some(2));
        register(&mut image, 4, Some(2));
        let elr = image.partitions().map(|(_, state)| state.elr.clone()).next();
        assert_eq!(elr, Some(vec![id]), "it has lost nothing");
    }
}
