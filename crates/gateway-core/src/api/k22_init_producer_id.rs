//! InitProducerId (22): an id for an idempotent producer (KIP-98).
//!
//! Versions 0–5. v2: flexible. v3: the current id and epoch (KIP-360). v4: `PRODUCER_FENCED`. v5: transactions v2 (KIP-890). Version 6 is
//! unstable in Kafka 4.3 and not told.
//!
//! Ids come in blocks from the controller, each given to one gateway (P7), and each id to one producer (P6). A transactional id
//! is answered `COORDINATOR_NOT_AVAILABLE` until there are transactions.
//!
//! Deviation from Kafka: none known.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

use base_types::{ErrorCode, ProducerId};
use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};
use peer_api::controller;

use crate::limits::READ_TIMEOUT_MS;
use crate::operation::{Answer, Begun, Context, Operation, Progress};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=5;

/// Ids that are ours to give.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    blocks: VecDeque<Range<i64>>,
}

impl ProducerIds {
    fn take(&mut self) -> Option<ProducerId> {
        loop {
            match self.blocks.front_mut()?.next() {
                Some(id) => return Some(ProducerId(id)),
                None => self.blocks.pop_front(),
            };
        }
    }

    fn put(&mut self, first: ProducerId, count: i64) {
        self.blocks.push_back(first.0..first.0.saturating_add(count));
    }
}

pub(crate) fn begin(cx: &mut Context<'_>, request: InitProducerIdRequest) -> Begun {
    let code = match &request.transactional_id {
        Some(id) if id.is_empty() => Some(ErrorCode::InvalidRequest),
        Some(_) => Some(ErrorCode::CoordinatorNotAvailable),
        None if (request.producer_id == -1) != (request.producer_epoch == -1) => Some(ErrorCode::InvalidRequest),
        None => None,
    };
    match code {
        Some(code) => Begun::Answered(refuse(cx, code)),
        None => Begun::settle(InitProducerId, cx),
    }
}

struct InitProducerId;

impl Operation for InitProducerId {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        if let Some(id) = cx.shared.producer_ids.take() {
            return give(cx, id).into();
        }
        cx.ask_controller(controller::Request::AllocateProducerIds);
        cx.wake_at(cx.now.tick.plus_ms(READ_TIMEOUT_MS));
        Progress::Pending
    }

    fn controller_answered(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<controller::Response, controller::Error>,
    ) -> Progress {
        if let Ok(controller::Response::ProducerIds { first, count }) = result {
            cx.shared.producer_ids.put(first, count);
        }
        match cx.shared.producer_ids.take() {
            Some(id) => give(cx, id).into(),
            None => refuse(cx, ErrorCode::CoordinatorLoadInProgress).into(),
        }
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        refuse(cx, ErrorCode::CoordinatorLoadInProgress).into()
    }
}

fn give(cx: &Context<'_>, id: ProducerId) -> Answer {
    cx.respond(&InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() })
}

fn refuse(cx: &mut Context<'_>, code: ErrorCode) -> Answer {
    let error_code = cx.code(code);
    cx.respond(&InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use peer_api::controller::{Error, Response};

    use super::*;
    use crate::testing::World;

    fn plain() -> InitProducerIdRequest {
        InitProducerIdRequest { transactional_id: None, producer_id: -1, producer_epoch: -1, ..Default::default() }
    }

    /// Trap 35, P6.
    #[test]
    fn ids_come_from_blocks_and_each_is_given_once() {
        let mut world = World::new(1);
        let mut given = Vec::new();
        for version in SUPPORTED {
            for _ in 0..2 {
                world.send(version, &plain());
                if let Some((call, request)) = world.calls.pop_front() {
                    assert_eq!(request, controller::Request::AllocateProducerIds);
                    let first = ProducerId(1000 * i64::from(version));
                    world.controller_answers(call, Ok(Response::ProducerIds { first, count: 3 }));
                }
                let (_, response) = world.answer::<InitProducerIdRequest>(version);
                assert_eq!((response.error_code, response.producer_epoch), (0, 0));
                given.push(response.producer_id);
            }
        }
        assert_eq!(given, [0, 1, 2, 1000, 1001, 1002, 3000, 3001, 3002, 4000, 4001, 4002]);
    }

    #[test]
    fn transactional_ids_and_half_given_ids_are_refused() {
        let mut world = World::new(1);
        let mut code = |request: InitProducerIdRequest| world.ask::<InitProducerIdRequest>(4, &request).error_code;
        assert_eq!(code(InitProducerIdRequest { transactional_id: Some("tx".into()), ..plain() }), 15);
        assert_eq!(code(InitProducerIdRequest { transactional_id: Some("".into()), ..plain() }), 42);
        assert_eq!(code(InitProducerIdRequest { producer_id: 4, ..plain() }), 42);
    }

    #[test]
    fn without_a_controller_the_client_is_told_to_come_again() {
        let mut world = World::new(1);
        world.send(4, &plain());
        let (call, _) = world.next_call();
        world.controller_answers(call, Err(Error::LostLeadership));
        assert_eq!(world.answer::<InitProducerIdRequest>(4).1.error_code, 14);
        world.send(4, &plain());
        world.pass(READ_TIMEOUT_MS);
        let (_, response) = world.answer::<InitProducerIdRequest>(4);
        assert_eq!((response.error_code, response.producer_id, response.producer_epoch), (14, -1, -1));
    }
}
