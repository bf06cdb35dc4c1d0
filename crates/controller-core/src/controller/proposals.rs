//! From a decision to a committed entry and its answer.

use base_types::{ErrorCode, Now, invariant};
use peer_api::controller::{Error, Response};
use peer_api::metadata::{Image, MetadataOffset, Record};
use peer_api::storage::RequestId;
use raft_core::Committed;

use super::{Controller, refusal};
use crate::effect::Effects;
use crate::event::SessionId;
use crate::records;

#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) records: Vec<Record>,
    /// Answered when this entry is applied.
    pub(super) answers: Vec<(SessionId, RequestId, Response)>,
}

impl Controller {
    /// Appends the records to the log. The answer, if there is one to give, leaves when they are committed; without records,
    /// when everything before is.
    pub(super) fn propose(
        &mut self,
        now: Now,
        records: Vec<Record>,
        answer: Option<(SessionId, RequestId, Response)>,
        effects: &mut Effects,
    ) {
        if records.is_empty() {
            let Some((session, id, response)) = answer else { return };
            match self.in_flight.last_entry() {
                Some(mut last) => last.get_mut().answers.push((session, id, response)),
                None => {
                    let response = visible_at(response, self.committed.at());
                    self.answer(session, id, Ok(response), effects);
                }
            }
            return;
        }
        let expected = self.consensus.next_index();
        match self.consensus.propose(now.tick, records::encode_entry(&records), &mut self.raft_effects) {
            Ok(index) => {
                invariant!(C2, index == expected, "proposed at {index}, {expected} was expected");
                records.iter().for_each(|record| self.pending.apply(record));
                self.pending.advance(MetadataOffset(index));
                let in_flight = InFlight { records, answers: answer.into_iter().collect() };
                self.in_flight.insert(index, in_flight);
            }
            Err(_) => {
                if let Some((session, id, _)) = answer {
                    let busy = "The controller has too many changes in flight. Try again.";
                    let error = Error::Refused(refusal(ErrorCode::ThrottlingQuotaExceeded, busy));
                    self.answer(session, id, Err(error), effects);
                }
            }
        }
    }

    /// An entry of ours is committed and folded in: whoever waited for it is told.
    pub(super) fn complete(&mut self, entry: &Committed, effects: &mut Effects) {
        let Some(done) = self.in_flight.remove(&entry.index) else { return };
        for (session, id, response) in done.answers {
            let response = visible_at(response, MetadataOffset(entry.index));
            // Who is to say nothing in an epoch has to know that before it hears of the epoch.
            if matches!(&response, Response::Heartbeat(answer) if !answer.given_up.is_empty()) {
                self.answer(session, id, Ok(response), effects);
            } else {
                self.late_answers.push((session, id, response));
            }
        }
    }

    /// What `pending` must be (checked by tests).
    pub(super) fn rebuilt_pending(&self) -> Image {
        let mut image = self.committed.clone();
        for (index, in_flight) in &self.in_flight {
            in_flight.records.iter().for_each(|record| image.apply(record));
            image.advance(MetadataOffset(*index));
        }
        image
    }
}

/// The answer, with the position at which the change can be seen.
fn visible_at(mut response: Response, at: MetadataOffset) -> Response {
    if let Some(visible_at) = response.visible_at_mut() {
        *visible_at = at;
    }
    response
}
