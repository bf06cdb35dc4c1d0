//! One decision in the making: what a group may look at, and what it wants written and answered.

use base_types::{Now, Random, Tick};
use peer_api::groups::GroupResponse;
use peer_api::metadata::Image;

use crate::event::{RequestKey, Settings};
use crate::records::Record;
use crate::timers::{GroupTimer, Timer, Timers};

/// What a group is given to decide with. The coordinator makes one for each call, and afterwards turns the records into
/// as few appends as hold them and lets the answers go when their time has come.
pub(crate) struct Turn<'a> {
    pub now: Now,
    pub settings: &'a Settings,
    pub image: &'a Image,
    pub random: &'a mut Random,
    pub timers: &'a mut Timers,
    pub group_id: &'a str,
    pub outcome: Outcome,
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub records: Vec<Record>,
    /// Wait for everything that is written of the group so far, `records` included.
    pub answers: Vec<(RequestKey, GroupResponse)>,
    /// Wait for nothing.
    pub answers_at_once: Vec<(RequestKey, GroupResponse)>,
}

impl Turn<'_> {
    /// Records are written as one batch, all or nothing, if one holds them; else in several, in their order. The caller has folded
    /// the record into the live state, or does so now: what the log holds and what is in memory change together.
    pub fn write(&mut self, record: Record) {
        self.outcome.records.push(record);
    }

    /// Whether the log takes a batch with this record. One that is refused ends the coordinator, with all its other groups.
    pub fn fits(&self, record: &Record) -> bool {
        self.settings.one_batch_holds([record])
    }

    /// Whether these go in one batch with what is written already.
    pub fn has_room_for(&self, more: &[Record]) -> bool {
        self.settings.one_batch_holds(self.outcome.records.iter().chain(more))
    }

    /// Answers when all that the group has written up to now is committed: the answer may tell of it.
    pub fn reply(&mut self, request: RequestKey, response: GroupResponse) {
        self.outcome.answers.push((request, response));
    }

    /// Answers now: for refusals, and for what tells of nothing that was written.
    pub fn reply_at_once(&mut self, request: RequestKey, response: GroupResponse) {
        self.outcome.answers_at_once.push((request, response));
    }

    pub fn set_timer(&mut self, kind: GroupTimer, at: Tick) {
        self.timers.set(Timer::Group { group_id: self.group_id.to_owned(), kind }, at);
    }

    /// Unless it runs already.
    pub fn set_timer_if_none(&mut self, kind: GroupTimer, at: Tick) {
        self.timers.set_if_none(Timer::Group { group_id: self.group_id.to_owned(), kind }, at);
    }

    pub fn cancel_timer(&mut self, kind: GroupTimer) {
        self.timers.cancel(&Timer::Group { group_id: self.group_id.to_owned(), kind });
    }
}
