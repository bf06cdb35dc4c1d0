//! The session with the active controller: registration, heartbeats, proposals for ISRs, and the orderly stop.

use std::collections::BTreeMap;

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Now, PartitionEpoch, Tick, TopicPartition};
use peer_api::controller::{
    AlterPartition, BrokerHeartbeat, Error, FromController, HeartbeatAnswer, IsrChange, RegisterBroker, Request,
    Response, Role, ToController,
};
use peer_api::storage::RequestId;

use super::StorageNode;
use crate::effect::{Effect, Effects};
use crate::event::ControllerStream;

const HEARTBEAT_MS: u64 = 300;
/// A call that got no answer for so long is given up, and the stream with it.
const ANSWER_MS_MAX: u64 = 3_000;

#[derive(Debug, Default)]
pub(super) struct Session {
    stream: Option<ControllerStream>,
    /// The active controller has greeted us on this stream.
    welcomed: bool,
    broker_epoch: Option<BrokerEpoch>,
    /// What the data directory bears since this process wrote it down.
    broker_epoch_on_disk: Option<BrokerEpoch>,
    fenced: bool,
    calls: BTreeMap<RequestId, Call>,
    last_call: u64,
    heartbeat_at: Option<Tick>,
    proposals: Vec<IsrChange>,
    wants_shutdown: bool,
}

#[derive(Debug)]
enum Call {
    Register { give_up_at: Tick },
    Heartbeat { give_up_at: Tick },
    AlterPartition { partitions: Vec<TopicPartition> },
}

impl Session {
    pub(super) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.broker_epoch
    }

    pub(super) fn stream(&self) -> Option<ControllerStream> {
        self.stream
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.fenced
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let calls = self.calls.values().filter_map(Call::give_up_at);
        calls.chain(self.heartbeat_at).min()
    }

    pub(super) fn propose(
        &mut self,
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        isr: Vec<(BrokerId, BrokerEpoch)>,
    ) {
        self.proposals.push(IsrChange { partition, leader_epoch, partition_epoch, isr });
    }

    fn call(&mut self, request: Request, call: Call, effects: &mut Effects) {
        let Some(stream) = self.stream else { return };
        self.last_call += 1;
        let id = RequestId(self.last_call);
        self.calls.insert(id, call);
        effects.push(Effect::ToController { stream, message: ToController::Call { id, request } });
    }
}

impl Call {
    fn give_up_at(&self) -> Option<Tick> {
        match self {
            Call::Register { give_up_at } | Call::Heartbeat { give_up_at } => Some(*give_up_at),
            Call::AlterPartition { .. } => None,
        }
    }
}

impl StorageNode {
    pub(super) fn controller_connected(&mut self, stream: ControllerStream, effects: &mut Effects) {
        self.session.stream = Some(stream);
        self.session.welcomed = false;
        let follow_from = Some(self.image.at());
        let message = ToController::Hello { role: Role::Broker(self.me.broker), follow_from };
        effects.push(Effect::ToController { stream, message });
    }

    pub(super) fn controller_lost(&mut self, now: Now, stream: ControllerStream, effects: &mut Effects) {
        if self.session.stream != Some(stream) {
            return;
        }
        self.session.stream = None;
        self.session.welcomed = false;
        self.session.heartbeat_at = None;
        for call in std::mem::take(&mut self.session.calls).into_values() {
            if let Call::AlterPartition { partitions } = call {
                self.isr_undecided(now, partitions, effects);
            }
        }
    }

    pub(super) fn controller_said(
        &mut self,
        now: Now,
        stream: ControllerStream,
        message: FromController,
        effects: &mut Effects,
    ) {
        if self.session.stream != Some(stream) {
            return;
        }
        match message {
            FromController::Welcome { .. } => {
                self.session.welcomed = true;
                match self.session.broker_epoch {
                    // The registration outlives the stream; the first heartbeat says whether it still stands.
                    Some(_) => self.heartbeat(now, effects),
                    None => self.register(now, effects),
                }
            }
            FromController::NotActive { active } => {
                effects.push(Effect::ReconnectController { stream, active });
                self.controller_lost(now, stream, effects);
            }
            FromController::Update(update) => self.metadata_updated(now, update, effects),
            FromController::Answer { id, result } => self.controller_answered(now, id, result, effects),
        }
    }

    pub(super) fn shutdown_requested(&mut self, now: Now, effects: &mut Effects) {
        if self.session.wants_shutdown {
            return;
        }
        self.session.wants_shutdown = true;
        if self.session.broker_epoch.is_none() || !self.session.welcomed {
            self.stop(effects);
        } else {
            self.heartbeat(now, effects);
        }
    }

    pub(super) fn session_ticked(&mut self, now: Now, effects: &mut Effects) {
        let overdue = |call: &Call| call.give_up_at().is_some_and(|at| at <= now.tick);
        if let Some(stream) = self.session.stream
            && self.session.calls.values().any(overdue)
        {
            effects.push(Effect::ReconnectController { stream, active: None });
            self.controller_lost(now, stream, effects);
        }
        if self.session.heartbeat_at.is_some_and(|at| at <= now.tick) {
            match self.session.broker_epoch {
                Some(_) => self.heartbeat(now, effects),
                None => self.register(now, effects),
            }
        }
    }

    /// One call for all the proposals of a step.
    pub(super) fn propose_isr_changes(&mut self, effects: &mut Effects) {
        if self.session.proposals.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.session.proposals);
        // Without a session they are dropped: the replicas ask again until they hear.
        let Some(broker_epoch) = self.session.broker_epoch.filter(|_| self.session.welcomed) else { return };
        let partitions = changes.iter().map(|change| change.partition).collect();
        let request = AlterPartition { broker: self.me.broker, broker_epoch, changes };
        self.session.call(Request::AlterPartition(request), Call::AlterPartition { partitions }, effects);
    }

    fn register(&mut self, now: Now, effects: &mut Effects) {
        self.session.heartbeat_at = None;
        let request = RegisterBroker {
            broker: self.me.broker,
            cluster_id: self.me.cluster_id.clone(),
            incarnation: self.me.incarnation,
            rack: self.me.rack.clone(),
            peer_address: self.me.peer_address.clone(),
            host: self.me.host.clone(),
            clean_since: self.me.clean_since,
            intact_since: self.session.broker_epoch_on_disk.or(self.me.intact_since),
        };
        let call = Call::Register { give_up_at: now.tick.plus_ms(ANSWER_MS_MAX) };
        self.session.call(Request::RegisterBroker(request), call, effects);
    }

    fn heartbeat(&mut self, now: Now, effects: &mut Effects) {
        let Some(broker_epoch) = self.session.broker_epoch else { return };
        self.session.heartbeat_at = Some(now.tick.plus_ms(HEARTBEAT_MS));
        if self.session.calls.values().any(|call| matches!(call, Call::Heartbeat { .. })) {
            return;
        }
        let request = BrokerHeartbeat {
            broker: self.me.broker,
            broker_epoch,
            metadata_offset: self.image.at(),
            want_shutdown: self.session.wants_shutdown,
        };
        let call = Call::Heartbeat { give_up_at: now.tick.plus_ms(ANSWER_MS_MAX) };
        self.session.call(Request::BrokerHeartbeat(request), call, effects);
    }

    fn controller_answered(&mut self, now: Now, id: RequestId, result: Result<Response, Error>, effects: &mut Effects) {
        match (self.session.calls.remove(&id), result) {
            (Some(Call::Register { .. }), Ok(Response::BrokerRegistered { broker_epoch })) => {
                self.session.fenced = true;
                effects.push(Effect::RememberBrokerEpoch { broker_epoch });
            }
            (Some(Call::Heartbeat { .. }), Ok(Response::Heartbeat(HeartbeatAnswer { fenced, may_shutdown }))) => {
                self.session.fenced = fenced;
                if may_shutdown && self.session.wants_shutdown {
                    self.stop(effects);
                }
            }
            // It does not know this life of ours any more.
            (Some(Call::Heartbeat { .. }), Err(Error::Refused(refusal)))
                if matches!(refusal.code, ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered) =>
            {
                self.session.broker_epoch = None;
                self.register(now, effects);
            }
            (Some(Call::AlterPartition { .. }), Ok(Response::PartitionsAltered(results))) => {
                for (partition, result) in results {
                    let event = replica_core::Event::IsrDecided(result.map_err(Some));
                    self.replica_step(now, partition, event, effects);
                }
            }
            (Some(Call::AlterPartition { partitions }), _) => self.isr_undecided(now, partitions, effects),
            // Anything else is tried again with the next heartbeat.
            (Some(Call::Register { .. } | Call::Heartbeat { .. }), _) => {
                self.session.heartbeat_at = Some(now.tick.plus_ms(HEARTBEAT_MS));
            }
            (None, _) => {}
        }
    }

    /// The data directory bears the registration now: from here on the node may ask to be unfenced (R13).
    pub(super) fn broker_epoch_remembered(&mut self, now: Now, broker_epoch: BrokerEpoch, effects: &mut Effects) {
        self.session.broker_epoch_on_disk = Some(broker_epoch);
        self.session.broker_epoch = Some(broker_epoch);
        if self.session.welcomed {
            self.heartbeat(now, effects);
        }
        self.refresh_links(effects);
    }

    fn isr_undecided(&mut self, now: Now, partitions: Vec<TopicPartition>, effects: &mut Effects) {
        for partition in partitions {
            self.replica_step(now, partition, replica_core::Event::IsrDecided(Err(None)), effects);
        }
    }

    fn stop(&mut self, effects: &mut Effects) {
        self.checkpoint_all(effects);
        effects.push(Effect::Stop);
    }
}
