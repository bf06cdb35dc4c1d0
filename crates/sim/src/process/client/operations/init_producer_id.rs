//! InitProducerId without a transactional id: an id for an idempotent producer (KIP-98).
//!
//! Predicted: an id and epoch that nobody in this run has got before, whichever gateway answers, and whatever became of the gateways and controllers
//! that answered before (P6, P7).

use base_types::{ErrorCode, ProducerEpoch, ProducerId};
use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Notes, Operation};

pub struct InitProducerId {
    pub version: i16,
}

impl Operation for InitProducerId {
    type Request = InitProducerIdRequest;
    type Outcome = Option<(ProducerId, ProducerEpoch)>;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> InitProducerIdRequest {
        InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: InitProducerIdResponse) -> Self::Outcome {
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {
                let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                if !notes.book.is_new_producer(id, epoch) {
                    notes.book.complain("P7", format_args!("producer id {id} with epoch {epoch} was given before"));
                }
                Some((ProducerId(id), ProducerEpoch(epoch)))
            }
            // Nothing is lost by an id that nobody got.
            Some(
                ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotController
                | ErrorCode::RequestTimedOut,
            ) => None,
            _ => {
                notes.never("InitProducerId", answer.error_code);
                None
            }
        }
    }
}
