//! Gateways: they hold nothing, so a gone one is merely no longer named to clients.

use base_types::{BrokerId, ErrorCode, Incarnation, Now};
use peer_api::controller::{HeartbeatAnswer, Refusal, RegisterGateway, Response};
use peer_api::metadata::{Gateway, Record};

use super::{Controller, Decision, refusal};
use crate::event::SessionId;

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
        let known = self.pending.gateway(gateway.id);
        if known.is_some_and(|known| known.incarnation != gateway.incarnation)
            && self.is_held_by_another(true, now, gateway.id, session)
        {
            let message = "Another gateway is registered with that id. If the gateway was recently restarted this should \
                           self-resolve once its session expires.";
            return Err(refusal(ErrorCode::DuplicateBrokerRegistration, message));
        }
        let records = if known == Some(&gateway) { Vec::new() } else { vec![Record::GatewayRegistered(gateway)] };
        self.renew_gateway(now, request.gateway, session);
        Ok(Decision::after(records, Response::GatewayRegistered))
    }

    pub(super) fn gateway_heartbeat(
        &mut self,
        now: Now,
        session: SessionId,
        id: BrokerId,
        incarnation: Incarnation,
    ) -> Result<Decision, Refusal> {
        match self.pending.gateway(id) {
            None => Err(refusal(ErrorCode::BrokerIdNotRegistered, "The given gateway ID was not registered.")),
            Some(known) if known.incarnation != incarnation => {
                Err(refusal(ErrorCode::StaleBrokerEpoch, "Another process is registered with that gateway id."))
            }
            Some(_) => {
                self.renew_gateway(now, id, session);
                let answer = HeartbeatAnswer { fenced: false, may_shutdown: false };
                Ok(Decision::at_once(Response::Heartbeat(answer)))
            }
        }
    }
}
