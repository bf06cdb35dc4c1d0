//! Gateways: they hold nothing, so a gone one is merely no longer named to clients.
//!
//! One that comes back is not named at once. Its clients went to another gateway a moment ago, after attempts to connect that were
//! refused and ever further apart; told to come back now, they would wait out that distance first (`Config::gateway_return_ms`).

use base_types::{BrokerId, ErrorCode, Incarnation, Now, Tick};
use peer_api::controller::{HeartbeatAnswer, Refusal, RegisterGateway, Response};
use peer_api::metadata::{Gateway, Record};

use super::{Controller, Decision, refusal};
use crate::effect::Effects;
use crate::event::SessionId;

/// A gateway was removed; it may have come back since.
#[derive(Debug)]
pub(super) struct Absence {
    removed_at: Tick,
    returned: Option<Gateway>,
}

impl Controller {
    pub(super) fn register_gateway(
        &mut self,
        now: Now,
        session: SessionId,
        request: RegisterGateway,
    ) -> Result<Decision, Refusal> {
        let gateway = Gateway {
            id: request.gateway,
            incarnation: request.incarnation,
            advertised_host: request.advertised_host,
            advertised_port: request.advertised_port,
            rack: request.rack,
            host: request.host,
        };
        let known = self.known_gateway(gateway.id);
        if known.is_some_and(|known| known.incarnation != gateway.incarnation)
            && self.is_held_by_another(true, now, gateway.id, session)
        {
            let message = "Another gateway is registered with that id. If the gateway was recently restarted this should \
                           self-resolve once its session expires.";
            return Err(refusal(ErrorCode::DuplicateBrokerRegistration, message));
        }
        let is_news = known != Some(&gateway);
        self.renew_gateway(now, request.gateway, session);
        if let Some(absence) = self.absences.get_mut(&gateway.id) {
            absence.returned = Some(gateway);
            return Ok(Decision::at_once(Response::GatewayRegistered));
        }
        let records = if is_news { vec![Record::GatewayRegistered(gateway)] } else { Vec::new() };
        Ok(Decision::after(records, Response::GatewayRegistered))
    }

    /// By that id: named to clients, or back and not yet.
    fn known_gateway(&self, id: BrokerId) -> Option<&Gateway> {
        self.pending.gateway(id).or_else(|| self.absences.get(&id)?.returned.as_ref())
    }

    pub(super) fn note_absence(&mut self, now: Now, id: BrokerId) {
        let removed_at = self.absences.get(&id).map_or(now.tick, |absence| absence.removed_at);
        self.absences.insert(id, Absence { removed_at, returned: None });
    }

    /// Names the gateways that are back and were gone long enough; all of them when there is no other.
    pub(super) fn end_absences(&mut self, now: Now, effects: &mut Effects) {
        let alone = self.pending.gateways().next().is_none();
        let return_ms = self.config.gateway_return_ms;
        let over = self.absences.extract_if(.., |_, absence| {
            now.tick.ms_since(absence.removed_at) >= return_ms || (alone && absence.returned.is_some())
        });
        let returned: Vec<_> = over.filter_map(|(_, absence)| absence.returned).collect();
        if !returned.is_empty() {
            let records = returned.into_iter().map(Record::GatewayRegistered).collect();
            self.propose(now, records, None, effects);
        }
    }

    pub(super) fn gateway_heartbeat(
        &mut self,
        now: Now,
        session: SessionId,
        id: BrokerId,
        incarnation: Incarnation,
        want_shutdown: bool,
    ) -> Result<Decision, Refusal> {
        match self.known_gateway(id) {
            None => Err(refusal(ErrorCode::BrokerIdNotRegistered, "The given gateway ID was not registered.")),
            Some(known) if known.incarnation != incarnation => {
                Err(refusal(ErrorCode::StaleBrokerEpoch, "Another process is registered with that gateway id."))
            }
            Some(_) => {
                self.renew_gateway(now, id, session);
                if want_shutdown {
                    self.end_gateway_lease(now, id);
                    if let Some(absence) = self.absences.get_mut(&id) {
                        absence.returned = None;
                    }
                }
                Ok(Decision::at_once(Response::Heartbeat(HeartbeatAnswer::default())))
            }
        }
    }
}
