//! Who is alive: storage nodes and gateways keep a lease by being heard from.

use std::collections::BTreeMap;

use base_types::{BrokerId, Now, Tick};
use peer_api::metadata::{BrokerState, Record};

use super::Controller;
use super::brokers::fencing;
use crate::effect::Effects;
use crate::event::SessionId;

#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    /// Where it was last heard from; `None` when not in this term.
    session: Option<SessionId>,
    heard_at: Tick,
    /// It may be silent for so long.
    silence_max_ms: u64,
    /// Its session ended then.
    closed_at: Option<Tick>,
}

impl Lease {
    fn is_over(&self, now: Tick, grace_ms: u64) -> bool {
        now.ms_since(self.heard_at) >= self.silence_max_ms
            || self.closed_at.is_some_and(|closed_at| now.ms_since(closed_at) >= grace_ms)
    }
}

impl Controller {
    pub(super) fn renew_broker(&mut self, now: Now, id: BrokerId, session: SessionId) {
        let silence_max_ms = self.config.broker_timeout_ms;
        self.brokers.insert(id, Lease { session: Some(session), heard_at: now.tick, silence_max_ms, closed_at: None });
    }

    pub(super) fn renew_gateway(&mut self, now: Now, id: BrokerId, session: SessionId) {
        let silence_max_ms = self.config.gateway_timeout_ms;
        self.gateways.insert(id, Lease { session: Some(session), heard_at: now.tick, silence_max_ms, closed_at: None });
    }

    /// At the next tick, which is due in a moment.
    pub(super) fn end_gateway_lease(&mut self, now: Now, id: BrokerId) {
        if let Some(lease) = self.gateways.get_mut(&id) {
            let closed_at = Tick((now.tick.0 + 1).saturating_sub(self.config.gateway_grace_ms));
            (lease.silence_max_ms, lease.closed_at) = (0, Some(closed_at));
        }
    }

    /// Whether another process holds this id: heard from lately, over another session that is still open.
    pub(super) fn is_held_by_another(&self, gateway: bool, now: Now, id: BrokerId, session: SessionId) -> bool {
        let leases = if gateway { &self.gateways } else { &self.brokers };
        leases.get(&id).is_some_and(|lease| {
            lease.session.is_some_and(|held_by| held_by != session && self.sessions.contains_key(&held_by))
                && !lease.is_over(now.tick, 0)
        })
    }

    /// A new active controller has heard from nobody yet: everyone gets time to find it. Storage nodes a whole lease; gateways, whose
    /// lease is long, less: one that died with the last controller, or while there was none, has no session
    /// here whose end would tell, and its clients wait to be sent elsewhere.
    pub(super) fn renew_all_leases(&mut self, now: Now) {
        let fresh = |silence_max_ms| Lease { session: None, heard_at: now.tick, silence_max_ms, closed_at: None };
        let (broker_ms, gateway_ms) = (self.config.broker_timeout_ms, self.config.gateway_search_ms);
        self.brokers = self.committed.brokers().map(|known| (known.id, fresh(broker_ms))).collect();
        self.gateways = self.committed.gateways().map(|known| (known.id, fresh(gateway_ms))).collect();
    }

    /// This controller stood still for so long and heard nobody: that is not their silence.
    pub(super) fn forgive(&mut self, pause_ms: u64) {
        for lease in self.brokers.values_mut().chain(self.gateways.values_mut()) {
            lease.heard_at = lease.heard_at.plus_ms(pause_ms);
            lease.closed_at = lease.closed_at.map(|closed_at| closed_at.plus_ms(pause_ms));
        }
    }

    pub(super) fn start_grace(&mut self, now: Now, session: SessionId) {
        let leases = self.brokers.values_mut().chain(self.gateways.values_mut());
        leases.filter(|lease| lease.session == Some(session)).for_each(|lease| lease.closed_at = Some(now.tick));
    }

    /// It connected again; what remains of its lease counts from when it was last heard, or until this session ends too.
    pub(super) fn note_return(&mut self, now: Now, id: BrokerId, session: SessionId) {
        if let Some(lease) = self.brokers.get_mut(&id)
            && lease.closed_at.is_some_and(|closed_at| now.tick.ms_since(closed_at) < self.config.broker_grace_ms)
        {
            lease.closed_at = None;
            lease.session = Some(session);
        }
    }

    /// The next one that has not been acted on. What was refused then waits for consensus to tick, or who asks would be told to come at once, for ever.
    pub(super) fn next_grace_end(&self) -> Option<Tick> {
        let ends = |leases: &BTreeMap<BrokerId, Lease>, grace_ms: u64| {
            let ends = leases.values().filter_map(|lease| lease.closed_at).map(|at| at.plus_ms(grace_ms));
            ends.filter(|end| *end > self.ticked_at).min()
        };
        let brokers = ends(&self.brokers, self.config.broker_grace_ms);
        let gateways = ends(&self.gateways, self.config.gateway_grace_ms);
        brokers.into_iter().chain(gateways).min()
    }

    /// Fences the storage nodes and removes the gateways whose leases are over: one proposal for each.
    pub(super) fn end_leases(&mut self, now: Now, effects: &mut Effects) {
        let over = |leases: &BTreeMap<BrokerId, Lease>, grace_ms: u64| -> Vec<BrokerId> {
            let ended = leases.iter().filter(|(_, lease)| lease.is_over(now.tick, grace_ms));
            ended.map(|(id, _)| *id).collect()
        };
        for id in over(&self.brokers, self.config.broker_grace_ms) {
            if self.pending.broker(id).is_some_and(|broker| broker.state != BrokerState::Fenced) {
                let records = fencing(&self.pending, id);
                self.propose(now, records, None, effects);
            }
            // A proposal that was refused is made again at the next tick.
            if self.pending.broker(id).is_none_or(|broker| broker.state == BrokerState::Fenced) {
                self.brokers.remove(&id);
            }
        }
        for id in over(&self.gateways, self.config.gateway_grace_ms) {
            if self.pending.gateway(id).is_some() {
                self.propose(now, vec![Record::GatewayRemoved { gateway: id }], None, effects);
            }
            if self.pending.gateway(id).is_none() {
                self.gateways.remove(&id);
                self.note_absence(now, id);
            }
        }
    }
}
