//! The session with the active controller: registration, heartbeats, proposals for ISRs, and the orderly stop.
//!
//! ```text
//!                                                   no space: again after a while
//!                                                               ┌────┐
//!            Welcome               BrokerRegistered         BrokerEpochRemembered
//!   Unknown ─────────► RegisterBroker ─────────► Given ──────────────────────────► Standing ──► heartbeats
//!      ▲                                                                               │
//!      └────────────────────── a heartbeat is refused: another epoch stands ───────────┘
//! ```
//!
//! A registration outlives the stream it came by. Every call, and the greeting, has its time; when one is over, the stream is
//! left and with it every call.

use std::collections::BTreeMap;

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Now, PartitionEpoch, Tick, TopicPartition};
use peer_api::controller::{
    ActiveController, AlterPartition, BrokerHeartbeat, Error, FromController, HeartbeatAnswer, IsrChange,
    RegisterBroker, Request, Response, Role, ToController,
};
use peer_api::storage::RequestId;

use replica_core::WriteFailure;

use super::StorageNode;
use crate::effect::{Effect, Effects};
use crate::event::ControllerStream;

const HEARTBEAT_MS: u64 = 300;
/// A controller that is silent for so long is left.
const ANSWER_MS_MAX: u64 = 3_000;
/// How soon a registration is written down again after the disk was full.
const REMEMBER_AGAIN_MS: u64 = 1_000;
/// How long handing over leadership may take before the node stops without.
const HANDOVER_MS_MAX: u64 = 10_000;
/// How long appends in flight may take before leadership is handed over all the same.
const DRAIN_MS_MAX: u64 = 100;
/// How long producers are held off for a handover. If it has not happened by then, this node leads on while it waits.
const HELD_OFF_MS_MAX: u64 = 500;

#[derive(Debug, Default)]
pub(super) struct Session {
    stream: Option<Stream>,
    registration: Registration,
    /// What the data directory bears since this process wrote it down.
    broker_epoch_on_disk: Option<BrokerEpoch>,
    fenced: bool,
    calls: BTreeMap<RequestId, Call>,
    last_call: u64,
    /// Only while there is a stream.
    heartbeat_at: Option<Tick>,
    proposals: Vec<IsrChange>,
    shutdown: Shutdown,
    /// Until then nothing is appended, because somebody else is about to lead.
    held_off_until: Tick,
}

#[derive(Debug)]
struct Stream {
    id: ControllerStream,
    /// The active controller has to greet us by then; `None` once it has.
    welcome_by: Option<Tick>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Registration {
    #[default]
    Unknown,
    /// Given by the controller, and on its way into the data directory (R13); sent again then, if the disk was full.
    Given(BrokerEpoch, Option<Tick>),
    Standing(BrokerEpoch),
}

#[derive(Debug)]
struct Call {
    purpose: Purpose,
    give_up_at: Tick,
}

#[derive(Debug)]
enum Purpose {
    Register,
    Heartbeat { want_shutdown: bool },
    AlterPartition(Vec<TopicPartition>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shutdown {
    #[default]
    NotWanted,
    /// No more is appended, so that nobody is left without knowing what became of a batch. What is in flight has until then.
    Draining(Tick),
    /// Leadership is being handed over. At the latest then the node stops.
    Wanted(Tick),
    Stopped,
}

impl Session {
    /// The registration that stands.
    pub(super) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        match self.registration {
            Registration::Standing(broker_epoch) => Some(broker_epoch),
            Registration::Unknown | Registration::Given(..) => None,
        }
    }

    pub(super) fn holds_off(&self, now: Tick) -> bool {
        now < self.held_off_until
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.fenced
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let stop_at = match self.shutdown {
            Shutdown::Draining(until) | Shutdown::Wanted(until) => Some(until),
            Shutdown::NotWanted | Shutdown::Stopped => None,
        };
        [self.give_up_at(), self.heartbeat_at, self.remember_at(), stop_at].into_iter().flatten().min()
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

    /// When the controller will have been silent for too long.
    fn give_up_at(&self) -> Option<Tick> {
        let welcome_by = self.stream.as_ref().and_then(|stream| stream.welcome_by);
        // Calls are made in order of time, and all have the same patience.
        welcome_by.into_iter().chain(self.calls.values().next().map(|call| call.give_up_at)).min()
    }

    fn remember_at(&self) -> Option<Tick> {
        match self.registration {
            Registration::Given(_, again_at) => again_at,
            Registration::Unknown | Registration::Standing(_) => None,
        }
    }

    fn is_on(&self, stream: ControllerStream) -> bool {
        self.stream.as_ref().is_some_and(|current| current.id == stream)
    }

    fn is_welcome(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.welcome_by.is_none())
    }

    fn call(&mut self, now: Now, purpose: Purpose, request: Request, effects: &mut Effects) {
        let Some(stream) = &self.stream else { return };
        self.last_call += 1;
        let id = RequestId(self.last_call);
        self.calls.insert(id, Call { purpose, give_up_at: now.tick.plus_ms(ANSWER_MS_MAX) });
        effects.push(Effect::ToController { stream: stream.id, message: ToController::Call { id, request } });
    }
}

impl StorageNode {
    pub(super) fn controller_connected(&mut self, now: Now, stream: ControllerStream, effects: &mut Effects) {
        self.leave_controller(now, effects);
        let welcome_by = Some(now.tick.plus_ms(ANSWER_MS_MAX));
        self.session.stream = Some(Stream { id: stream, welcome_by });
        let follow_from = Some(self.image.at());
        let message = ToController::Hello { role: Role::Broker(self.me.broker), follow_from };
        effects.push(Effect::ToController { stream, message });
    }

    pub(super) fn controller_lost(&mut self, now: Now, stream: ControllerStream, effects: &mut Effects) {
        if self.session.is_on(stream) {
            self.leave_controller(now, effects);
        }
    }

    pub(super) fn controller_said(
        &mut self,
        now: Now,
        stream: ControllerStream,
        message: FromController,
        effects: &mut Effects,
    ) {
        if !self.session.is_on(stream) {
            return;
        }
        match message {
            FromController::Welcome { .. } => {
                if let Some(stream) = &mut self.session.stream {
                    stream.welcome_by = None;
                }
                self.report(now, effects);
            }
            FromController::NotActive { active } => self.reconnect_controller(now, active, effects),
            FromController::Update(update) => self.metadata_updated(now, update, effects),
            FromController::Answer { id, result } => self.controller_answered(now, id, result, effects),
        }
    }

    /// Leaves the stream for another.
    pub(super) fn reconnect_controller(&mut self, now: Now, active: Option<ActiveController>, effects: &mut Effects) {
        if let Some(stream) = &self.session.stream {
            effects.push(Effect::ReconnectController { stream: stream.id, active });
            self.leave_controller(now, effects);
        }
    }

    /// Once the data directory bears the registration, the node may ask to be unfenced (R13).
    pub(super) fn broker_epoch_remembered(
        &mut self,
        now: Now,
        broker_epoch: BrokerEpoch,
        result: Result<(), WriteFailure>,
        effects: &mut Effects,
    ) {
        let is_awaited = matches!(self.session.registration, Registration::Given(given, _) if given == broker_epoch);
        match result {
            Ok(()) => {
                self.session.broker_epoch_on_disk = Some(broker_epoch);
                if is_awaited {
                    self.session.registration = Registration::Standing(broker_epoch);
                    self.report(now, effects);
                    self.refresh_links(effects);
                }
            }
            Err(WriteFailure::NoSpace) if is_awaited => {
                let again_at = now.tick.plus_ms(REMEMBER_AGAIN_MS);
                self.session.registration = Registration::Given(broker_epoch, Some(again_at));
            }
            Err(WriteFailure::NoSpace) => {}
            // As for a write that failed: the node is of no use without its directory (S6).
            Err(WriteFailure::Failed | WriteFailure::Corrupt) => self.shutdown_requested(now, effects),
        }
    }

    /// Has the registration written down that was given.
    fn remember(&mut self, broker_epoch: BrokerEpoch, effects: &mut Effects) {
        self.session.registration = Registration::Given(broker_epoch, None);
        if self.me.cluster_id.is_none() && !self.image.cluster_id().is_empty() {
            // The metadata with the registration came before the answer.
            self.me.cluster_id = Some(self.image.cluster_id().to_owned());
        }
        effects.push(Effect::RememberBrokerEpoch { broker_epoch, cluster_id: self.me.cluster_id.clone() });
    }

    pub(super) fn shutdown_requested(&mut self, now: Now, effects: &mut Effects) {
        if self.session.shutdown != Shutdown::NotWanted {
            return;
        }
        if self.session.broker_epoch().is_none() {
            return self.stop(now, effects); // It leads nothing.
        }
        if !self.session.is_welcome() {
            return self.want_shutdown(now, ANSWER_MS_MAX, effects);
        }
        self.session.shutdown = Shutdown::Draining(now.tick.plus_ms(DRAIN_MS_MAX));
        self.session.held_off_until = now.tick.plus_ms(HELD_OFF_MS_MAX);
    }

    fn want_shutdown(&mut self, now: Now, patience_ms: u64, effects: &mut Effects) {
        self.session.shutdown = Shutdown::Wanted(now.tick.plus_ms(patience_ms));
        self.report(now, effects);
    }

    /// Asks for successors as soon as no append is in flight.
    pub(super) fn hand_over_when_drained(&mut self, now: Now, effects: &mut Effects) {
        let Shutdown::Draining(until) = self.session.shutdown else { return };
        if self.appends.len() == 0 || until <= now.tick {
            self.want_shutdown(now, HANDOVER_MS_MAX, effects);
        }
    }

    pub(super) fn session_ticked(&mut self, now: Now, effects: &mut Effects) {
        let due = |deadline: Option<Tick>| deadline.is_some_and(|at| at <= now.tick);
        if due(self.session.give_up_at()) {
            self.reconnect_controller(now, None, effects);
        }
        if due(self.session.heartbeat_at) {
            self.report(now, effects);
        }
        if let Registration::Given(broker_epoch, again_at) = self.session.registration
            && due(again_at)
        {
            self.remember(broker_epoch, effects);
        }
        if matches!(self.session.shutdown, Shutdown::Wanted(until) if until <= now.tick) {
            self.stop(now, effects);
        }
    }

    /// One call for all the proposals of a step.
    pub(super) fn propose_isr_changes(&mut self, now: Now, effects: &mut Effects) {
        if self.session.proposals.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.session.proposals);
        // Without a session they are dropped: the replicas ask again until they hear.
        let Some(broker_epoch) = self.session.broker_epoch().filter(|_| self.session.is_welcome()) else { return };
        let purpose = Purpose::AlterPartition(changes.iter().map(|change| change.partition).collect());
        let request = AlterPartition { broker: self.me.broker, broker_epoch, changes };
        self.session.call(now, purpose, Request::AlterPartition(request), effects);
    }

    /// The stream is gone, and with it every answer that was to come by it.
    fn leave_controller(&mut self, now: Now, effects: &mut Effects) {
        self.session.stream = None;
        self.session.heartbeat_at = None;
        if let Shutdown::Draining(_) = self.session.shutdown {
            self.session.shutdown = Shutdown::Wanted(now.tick.plus_ms(ANSWER_MS_MAX));
        }
        if let Shutdown::Wanted(until) = &mut self.session.shutdown {
            // The controller counts us out already; a new one may still let us hand over.
            *until = now.tick.plus_ms(ANSWER_MS_MAX).min(*until);
        }
        for call in std::mem::take(&mut self.session.calls).into_values() {
            self.call_lost(now, call.purpose, effects);
        }
    }

    /// Says what there is to say: who we are, or that we are still there. And again after a while.
    pub(super) fn report(&mut self, now: Now, effects: &mut Effects) {
        if !self.session.is_welcome() {
            return;
        }
        self.session.heartbeat_at = Some(now.tick.plus_ms(HEARTBEAT_MS));
        let reports = |call: &Call| matches!(call.purpose, Purpose::Register | Purpose::Heartbeat { .. });
        if self.session.calls.values().any(reports) {
            return;
        }
        match self.session.registration {
            Registration::Unknown => self.register(now, effects),
            Registration::Given(..) => {}
            Registration::Standing(broker_epoch) => self.heartbeat(now, broker_epoch, effects),
        }
    }

    fn register(&mut self, now: Now, effects: &mut Effects) {
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
        self.session.call(now, Purpose::Register, Request::RegisterBroker(request), effects);
    }

    fn heartbeat(&mut self, now: Now, broker_epoch: BrokerEpoch, effects: &mut Effects) {
        let want_shutdown = matches!(self.session.shutdown, Shutdown::Wanted(_) | Shutdown::Stopped);
        let (damaged, not_open, more) = self.unsound_replicas();
        let request = BrokerHeartbeat {
            broker: self.me.broker,
            broker_epoch,
            metadata_offset: self.image.at(),
            want_shutdown,
            damaged,
            not_open,
            more,
        };
        self.session.call(now, Purpose::Heartbeat { want_shutdown }, Request::BrokerHeartbeat(request), effects);
    }

    fn controller_answered(&mut self, now: Now, id: RequestId, result: Result<Response, Error>, effects: &mut Effects) {
        let Some(Call { purpose, .. }) = self.session.calls.remove(&id) else { return };
        match (purpose, result) {
            (purpose, Err(Error::NotActive { active })) => {
                self.call_lost(now, purpose, effects);
                self.reconnect_controller(now, active, effects);
            }
            (Purpose::Register, Ok(Response::BrokerRegistered { broker_epoch })) => {
                self.session.fenced = true;
                self.remember(broker_epoch, effects);
            }
            // Its epochs say nothing of this directory (R13).
            (Purpose::Register, Err(Error::Refused(refusal))) if refusal.code == ErrorCode::InconsistentClusterId => {
                self.session.shutdown = Shutdown::Stopped;
                effects.push(Effect::RefuseCluster(refusal));
            }
            (
                Purpose::Heartbeat { want_shutdown },
                Ok(Response::Heartbeat(HeartbeatAnswer { fenced, may_shutdown, given_up })),
            ) => {
                self.session.fenced = fenced;
                for (partition, epoch) in given_up {
                    self.given_up(partition, epoch);
                }
                if matches!(self.session.shutdown, Shutdown::Wanted(_)) {
                    if may_shutdown {
                        self.stop(now, effects);
                    } else if !want_shutdown {
                        // It was under way when the wish came. Producers are held off, so the next one does not wait.
                        self.report(now, effects);
                    }
                }
            }
            // It does not know this life of ours any more.
            (Purpose::Heartbeat { .. }, Err(Error::Refused(refusal)))
                if matches!(refusal.code, ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered) =>
            {
                self.session.registration = Registration::Unknown;
                self.report(now, effects);
            }
            (Purpose::AlterPartition(_), Ok(Response::PartitionsAltered(results))) => {
                for (partition, result) in results {
                    let event = replica_core::Event::IsrDecided(result.map_err(Some));
                    self.replica_step(now, partition, event, effects);
                }
            }
            (purpose @ Purpose::AlterPartition(_), _) => self.call_lost(now, purpose, effects),
            // Said again when the next heartbeat is due.
            (Purpose::Register | Purpose::Heartbeat { .. }, _) => {}
        }
    }

    /// Nobody knows what became of it.
    fn call_lost(&mut self, now: Now, purpose: Purpose, effects: &mut Effects) {
        if let Purpose::AlterPartition(partitions) = purpose {
            for partition in partitions {
                self.replica_step(now, partition, replica_core::Event::IsrDecided(Err(None)), effects);
            }
        }
    }

    fn stop(&mut self, now: Now, effects: &mut Effects) {
        // What this step has settled is said before the end.
        self.run_coordinators(now, effects);
        self.session.shutdown = Shutdown::Stopped;
        self.checkpoint_all(effects);
        effects.push(Effect::Stop);
    }
}
