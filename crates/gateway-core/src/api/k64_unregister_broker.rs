//! UnregisterBroker (64): a broker that is gone for good is forgotten (KIP-836).
//!
//! Version 0, flexible.
//!
//! Its replicas stay assigned to it, as those of a broker that is down, until they are moved. A broker that is alive registers
//! again. Deviation from Kafka: the answer waits until this gateway no longer sees the broker.

use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use peer_api::controller::{Error, Request, Response};

use crate::api::administration::{self, Change, message};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=0;

pub(crate) fn begin(cx: &mut Context<'_>, request: UnregisterBrokerRequest) -> Begun {
    let ask = Request::UnregisterBroker { broker: BrokerId(request.broker_id) };
    administration::ask(cx, Unregistration, ask, administration::TIMEOUT_MS)
}

struct Unregistration;

impl Change for Unregistration {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let (code, text) = match result {
            Ok(Response::BrokerUnregistered { .. }) => (ErrorCode::None, String::new()),
            Ok(_) => (ErrorCode::UnknownServerError, String::new()),
            Err(error) => error::controller(&error),
        };
        let error_code = cx.code(code);
        cx.respond(&UnregisterBrokerResponse { error_code, error_message: message(text), ..Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use peer_api::controller::Refusal;
    use peer_api::metadata::Record;

    use super::*;
    use crate::testing::World;

    #[test]
    fn the_answer_waits_until_the_broker_is_gone_from_view() {
        let mut world = World::new(2);
        world.send(0, &UnregisterBrokerRequest { broker_id: 2 });
        let (call, asked) = world.next_call();
        assert_eq!(asked, Request::UnregisterBroker { broker: BrokerId(2) });
        let visible_at = peer_api::metadata::MetadataOffset(world.metadata_at().0 + 1);
        world.controller_answers(call, Ok(Response::BrokerUnregistered { visible_at }));
        assert!(world.is_silent());
        world.change(vec![Record::BrokerUnregistered { broker: BrokerId(2) }]);
        assert_eq!(world.answer::<UnregisterBrokerRequest>(0).1.error_code, 0);
    }

    #[test]
    fn a_broker_that_nobody_knows_cannot_be_forgotten() {
        let mut world = World::new(1);
        world.send(0, &UnregisterBrokerRequest { broker_id: 9 });
        let (call, _) = world.next_call();
        let refusal = Refusal { code: ErrorCode::BrokerIdNotRegistered, message: "no".into() };
        world.controller_answers(call, Err(Error::Refused(refusal)));
        assert_eq!(world.answer::<UnregisterBrokerRequest>(0).1.error_code, 102);
    }
}
