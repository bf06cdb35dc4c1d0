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
