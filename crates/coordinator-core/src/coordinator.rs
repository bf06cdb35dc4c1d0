//! `struct GroupCoordinator` and its one entry point: who may be served at all, what is folded, what waits for which write.

mod administration;
mod expiry;
mod membership;
mod offsets;

use std::collections::{BTreeMap, BTreeSet};

use base_types::{Now, Random, Tick, TopicId, invariant};
use bytes::Bytes;
use peer_api::groups::{Caller, CoordinatorError, GroupKind, GroupRequest, GroupResponse, GroupState, JoinProtocol};
use peer_api::metadata::Image;
use peer_api::storage::AppendError;

use crate::classic::ClassicGroup;
use crate::consumer::ConsumerGroup;
use crate::effect::{Effect, Effects};
use crate::event::{AppendId, Event, LogRecord, RequestKey, Settings};
use crate::group::Group;
use crate::offsets::Offsets;
use crate::records::{ConsumerRecord, OffsetKey, Record};
use crate::timers::{Timer, Timers};
use crate::turn::{Outcome, Turn};

/// How many timers fire in one step at most. What is left is due at once.
const TIMERS_PER_STEP: usize = 1_000;

/// The coordinator of the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupCoordinator {
    desk: Desk,
    life: Life,
    /// The partition has `min.insync.replicas` in sync.
    writable: bool,
    groups: BTreeMap<String, Group>,
    offsets: Offsets,
    /// Topics that are gone and whose offsets have yet to go.
    removed_topics: Vec<(TopicId, String)>,
    /// Where looking for old offsets goes on.
    expiry_from: Option<String>,
    /// Not answered yet.
    open: BTreeSet<RequestKey>,
    in_flight: BTreeMap<AppendId, InFlight>,
    /// The newest append in flight of each group that has one.
    last_append: BTreeMap<String, AppendId>,
    next_append: AppendId,
    records_skipped: u64,
}

/// What every decision is made with.
#[derive(Debug)]
struct Desk {
    settings: Settings,
    random: Random,
    timers: Timers,
}

impl Desk {
    fn turn<'a>(&'a mut self, now: Now, image: &'a Image, group_id: &'a str) -> Turn<'a> {
        Turn {
            now,
            settings: &self.settings,
            image,
            random: &mut self.random,
            timers: &mut self.timers,
            group_id,
            outcome: Outcome::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Loading,
    Serving,
    /// The log refused a record: waiting to be dropped.
    Distrusted,
    Unloaded,
}

/// Asked of the log and not yet committed.
#[derive(Debug)]
struct InFlight {
    group_id: String,
    /// What it belongs to began in an earlier append.
    continues: bool,
    offsets: Vec<OffsetKey>,
    /// When those who wait are told that it takes too long.
    deadline: Tick,
    answers: Vec<(RequestKey, GroupResponse)>,
}

impl GroupCoordinator {
    /// `random` makes member ids, which must differ from those of every other coordinator and of every earlier life.
    pub fn new(settings: Settings, random: Random) -> GroupCoordinator {
        GroupCoordinator {
            desk: Desk { settings, random, timers: Timers::default() },
            life: Life::Loading,
            writable: true,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            removed_topics: Vec::new(),
            expiry_from: None,
            open: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            last_append: BTreeMap::new(),
            next_append: AppendId(0),
            records_skipped: 0,
        }
    }

    /// The only way to change a coordinator. Deterministic: the same state, `now`, `image` and `event` give the same effects.
    /// `image` is this node's newest view of the metadata.
    pub fn step(&mut self, now: Now, image: &Image, event: Event, effects: &mut Effects) {
        match event {
            Event::RecordsLoaded(records) => records.iter().for_each(|record| self.load(record)),
            Event::LoadFinished => self.finish_load(now, image, effects),
            Event::Requested { request, caller, body } => self.requested(now, image, request, &caller, body, effects),
            Event::AppendCommitted(append) => self.append_committed(append, effects),
            Event::AppendRefused { append, error } => self.append_refused(append, &error, effects),
            Event::WritableChanged(writable) => self.writable_changed(now, image, writable, effects),
            Event::MetadataChanged { removed } => self.metadata_changed(now, removed, effects),
            Event::SettingsChanged(settings) => self.desk.settings = settings,
            Event::Ticked => self.ticked(now, image, effects),
            Event::Unloaded => {
                self.life = Life::Unloaded;
                self.answer_everyone(CoordinatorError::Lost, effects);
            }
        }
    }

    /// When [`Event::Ticked`] is due. The owner asks again after each step.
    pub fn next_deadline(&self) -> Option<Tick> {
        let timers = if self.may_decide() { self.desk.timers.next() } else { None };
        let waiting = self.in_flight.values().find(|append| !append.answers.is_empty()).map(|append| append.deadline);
        [timers, waiting].into_iter().flatten().min()
    }

    /// Without effect; grows with the number of groups and offsets.
    pub fn check_invariants(&self) {
        // A group of which only a part was read is none yet.
        for (group_id, group) in self.groups.iter().filter(|_| self.life != Life::Loading) {
            group.check_invariants(group_id);
        }
        for (append, in_flight) in &self.in_flight {
            assert!(*append < self.next_append, "{append:?} is in flight and was not asked for");
            for (request, _) in &in_flight.answers {
                assert!(self.open.contains(request), "{request:?} waits for {append:?} and is answered");
            }
        }
        if self.life == Life::Serving {
            for group_id in self.offsets.groups() {
                invariant!(G4, self.groups.contains_key(group_id), "{group_id} has offsets and is no group");
            }
        }
    }

    /// Records that could not be read when loading. They are not folded; everything else is.
    pub fn records_skipped(&self) -> u64 {
        self.records_skipped
    }

    /// How many groups and offsets there are.
    pub fn size(&self) -> (usize, usize) {
        (self.groups.len(), self.offsets.len())
    }

    /// Grows with the number of groups.
    pub fn groups_by_state(&self) -> BTreeMap<(GroupKind, GroupState), usize> {
        let mut counts = BTreeMap::new();
        for group in self.groups.values() {
            *counts.entry((group.kind(), group.state())).or_default() += 1;
        }
        counts
    }

    fn load(&mut self, record: &LogRecord) {
        match Record::decode(record) {
            Ok(Some(record)) => self.fold(&record),
            Ok(None) => {}
            Err(_) => self.records_skipped += 1,
        }
    }

    /// Compaction keeps the last record of each key where it was, so what belongs together may come in any order: a group is
    /// judged only when everything was read.
    fn fold(&mut self, record: &Record) {
        match record {
            Record::Offset { key, value } => self.offsets.load(key, value.as_ref()),
            Record::Classic { group_id, value: Some(value) } => {
                self.groups.insert(group_id.clone(), Group::Classic(ClassicGroup::from_value(value)));
            }
            Record::Classic { group_id, value: None } => {
                if let Some(Group::Classic(_)) = self.groups.get(group_id) {
                    self.groups.remove(group_id);
                }
            }
            Record::Consumer { group_id, record } => self.fold_consumer(group_id, record),
        }
    }

    fn fold_consumer(&mut self, group_id: &str, record: &ConsumerRecord) {
        match self.groups.get_mut(group_id) {
            Some(Group::Consumer(group)) => group.apply(record),
            // What is taken back of a group that became a classic one.
            Some(Group::Classic(_)) | None if record.is_tombstone() => {}
            Some(Group::Classic(_)) | None => {
                let mut group = ConsumerGroup::default();
                group.apply(record);
                self.groups.insert(group_id.to_owned(), Group::Consumer(group));
            }
        }
    }

    fn finish_load(&mut self, now: Now, image: &Image, effects: &mut Effects) {
        if self.life != Life::Loading {
            return;
        }
        self.life = Life::Serving;
        self.groups.retain(|_, group| !matches!(group, Group::Consumer(group) if group.is_gone()));
        for group_id in self.offsets.groups() {
            self.groups.entry(group_id.clone()).or_insert_with(|| Group::Classic(ClassicGroup::default()));
        }
        self.begin_sessions(now, image, effects);
        self.schedule_expiry(now);
        self.forget_removed_topics(now, effects);
    }

    /// Nobody knows, or could tell, when members were heard of last: it counts from now.
    fn begin_sessions(&mut self, now: Now, image: &Image, effects: &mut Effects) {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for group_id in ids {
            self.decide(now, image, &group_id, effects, |group, turn| group.loaded(turn));
        }
    }

    fn writable_changed(&mut self, now: Now, image: &Image, writable: bool, effects: &mut Effects) {
        let becomes_writable = writable && !self.writable;
        self.writable = writable;
        if becomes_writable && self.life == Life::Serving {
            // Heartbeats of the consumer protocol were refused meanwhile.
            self.begin_sessions(now, image, effects);
            self.forget_removed_topics(now, effects);
        }
    }

    fn metadata_changed(&mut self, now: Now, removed: Vec<(TopicId, String)>, effects: &mut Effects) {
        self.removed_topics.extend(removed);
        if !self.may_decide() {
            return;
        }
        self.forget_removed_topics(now, effects);
    }

    fn requested(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        caller: &Caller,
        body: GroupRequest,
        effects: &mut Effects,
    ) {
        let is_new = self.open.insert(request);
        assert!(is_new, "{request:?} is asked a second time");
        if let Some(error) = self.refusal(&body) {
            return self.reply(request, Err(error), effects);
        }
        match body {
            // While the groups are read a member is kept in the belief that all is well, as Kafka does: it would only come again.
            GroupRequest::Heartbeat(_) if self.life != Life::Serving => {
                self.reply(request, Ok(GroupResponse::Heartbeat(Ok(()))), effects);
            }
            GroupRequest::JoinGroup(mut join) => {
                join.protocols.iter_mut().for_each(|protocol| detach(&mut protocol.metadata));
                self.join_group(now, image, request, caller, join, effects);
            }
            GroupRequest::SyncGroup(mut sync) => {
                sync.assignments.iter_mut().for_each(|(_, assignment)| detach(assignment));
                self.sync_group(now, image, request, sync, effects);
            }
            GroupRequest::Heartbeat(heartbeat) => self.heartbeat(now, image, request, &heartbeat, effects),
            GroupRequest::LeaveGroup(leave) => self.leave_group(now, image, request, leave, effects),
            GroupRequest::ConsumerGroupHeartbeat(heartbeat) => {
                self.consumer_heartbeat(now, image, request, caller, heartbeat, effects);
            }
            GroupRequest::OffsetCommit(commit) => self.commit_offsets(now, image, request, commit, effects),
            GroupRequest::OffsetFetch(fetch) => self.fetch_offsets(image, request, &fetch, effects),
            GroupRequest::OffsetDelete(delete) => self.delete_offsets(now, request, &delete, effects),
            GroupRequest::DescribeGroups(describe) => self.describe_groups(request, &describe, effects),
            GroupRequest::ConsumerGroupDescribe(describe) => {
                self.describe_consumer_groups(image, request, &describe, effects);
            }
            GroupRequest::ListGroups(list) => self.list_groups(request, &list, effects),
            GroupRequest::DeleteGroups(delete) => self.delete_groups(now, request, &delete, effects),
        }
    }

    /// Why nothing can be served now, or not this.
    fn refusal(&self, body: &GroupRequest) -> Option<CoordinatorError> {
        match (self.life, body) {
            (Life::Loading | Life::Distrusted, GroupRequest::Heartbeat(_)) => None,
            (Life::Loading | Life::Distrusted, _) => Some(CoordinatorError::LoadInProgress),
            (Life::Unloaded, _) => Some(CoordinatorError::NotCoordinator),
            (Life::Serving, body) if !self.writable && may_write(body) => Some(CoordinatorError::NotAvailable),
            (Life::Serving, body) if is_too_large(body, self.desk.settings.append_bytes_max) => {
                Some(CoordinatorError::WriteRefused)
            }
            (Life::Serving, _) => None,
        }
    }

    /// Whether what is decided by itself, and not on request, can be written.
    fn may_decide(&self) -> bool {
        self.life == Life::Serving && self.writable
    }

    fn ticked(&mut self, now: Now, image: &Image, effects: &mut Effects) {
        let late: Vec<(RequestKey, GroupResponse)> = self
            .in_flight
            .values_mut()
            .take_while(|append| append.deadline <= now.tick)
            .flat_map(|append| append.answers.drain(..))
            .collect();
        for (request, _) in late {
            self.reply(request, Err(CoordinatorError::TimedOut), effects);
        }
        if !self.may_decide() {
            return;
        }
        for _ in 0..TIMERS_PER_STEP {
            match self.desk.timers.pop_due(now.tick) {
                Some(Timer::Group { group_id, kind }) => {
                    self.decide(now, image, &group_id, effects, |group, turn| group.timer_fired(turn, &kind));
                }
                // The rest of a round may be due at once: it waits for the next step.
                Some(Timer::Expiry) => {
                    self.expire_offsets(now, effects);
                    break;
                }
                None => break,
            }
        }
    }

    /// Lets one group decide, and settles what comes of it. `false` when there is no such group.
    fn decide(
        &mut self,
        now: Now,
        image: &Image,
        group_id: &str,
        effects: &mut Effects,
        decision: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) -> bool {
        let Some(group) = self.groups.get_mut(group_id) else { return false };
        let mut turn = self.desk.turn(now, image, group_id);
        decision(group, &mut turn);
        group.settle_kind(&mut turn);
        let outcome = turn.outcome;
        if matches!(group, Group::Consumer(group) if group.is_gone()) {
            self.groups.remove(group_id);
        }
        self.settle(now, group_id, outcome, effects);
        true
    }

    fn settle(&mut self, now: Now, group_id: &str, outcome: Outcome, effects: &mut Effects) {
        self.append(now, group_id, &outcome.records, effects);
        let waits_for = self.last_append.get(group_id).copied();
        for (request, response) in outcome.answers {
            self.reply_after(waits_for, request, response, effects);
        }
        for (request, response) in outcome.answers_at_once {
            self.reply(request, Ok(response), effects);
        }
    }

    /// Asks the log for the records, in their order: in one batch, all or nothing, if one holds them, else in as few as do. None of
    /// these is there without those before it. Groups have changed already; offsets change here. Returns the last append.
    fn append(&mut self, now: Now, group_id: &str, mut records: &[Record], effects: &mut Effects) -> Option<AppendId> {
        let bytes_max = self.desk.settings.append_bytes_max;
        let mut encoded = records.iter().map(Record::encode).peekable();
        let mut last = None;
        while let Some(first) = encoded.next() {
            let mut bytes = first.size();
            let mut batch = vec![first];
            while let Some(record) = encoded.next_if(|record| bytes + record.size() <= bytes_max) {
                bytes += record.size();
                batch.push(record);
            }
            let (appended, later) = records.split_at(batch.len());
            last = Some(self.append_batch(now, (group_id, last.is_some()), appended, batch, effects));
            records = later;
        }
        last
    }

    fn append_batch(
        &mut self,
        now: Now,
        (group_id, continues): (&str, bool),
        records: &[Record],
        batch: Vec<LogRecord>,
        effects: &mut Effects,
    ) -> AppendId {
        let append = self.next_append;
        self.next_append = AppendId(append.0 + 1);
        let mut offsets = Vec::new();
        for record in records {
            if let Record::Offset { key, value } = record {
                self.offsets.change(append, key, value.as_ref());
                offsets.push(key.clone());
            }
        }
        self.last_append.insert(group_id.to_owned(), append);
        let deadline = now.tick.plus_ms(self.desk.settings.commit_timeout_ms);
        let group_id = group_id.to_owned();
        let in_flight = InFlight { group_id, continues, offsets, deadline, answers: Vec::new() };
        self.in_flight.insert(append, in_flight);
        effects.push(Effect::Append { append, records: batch });
        append
    }

    fn append_committed(&mut self, append: AppendId, effects: &mut Effects) {
        let Some(committed) = self.in_flight.remove(&append) else { return };
        if self.last_append.get(&committed.group_id) == Some(&append) {
            self.last_append.remove(&committed.group_id);
        }
        for key in &committed.offsets {
            self.offsets.settle(append, key);
        }
        for (request, response) in committed.answers {
            self.reply(request, Ok(response), effects);
        }
    }

    /// The state has what the log will never have, and others may have been decided on it: nothing of it can be kept.
    fn append_refused(&mut self, append: AppendId, error: &AppendError, effects: &mut Effects) {
        if self.life != Life::Serving {
            return;
        }
        self.life = Life::Distrusted;
        let refused = match error {
            AppendError::NotLeader { .. } | AppendError::UnknownPartition => CoordinatorError::NotCoordinator,
            AppendError::NotEnoughReplicas | AppendError::NoSpace => CoordinatorError::NotAvailable,
            _ => CoordinatorError::WriteRefused,
        };
        if let Some(in_flight) = self.in_flight.remove(&append) {
            // Of what continues an earlier append a part may be in the log.
            let refused = if in_flight.continues { CoordinatorError::Lost } else { refused };
            for (request, _) in in_flight.answers {
                self.reply(request, Err(refused), effects);
            }
        }
        self.answer_everyone(CoordinatorError::Lost, effects);
        effects.push(Effect::Reload);
    }

    fn answer_everyone(&mut self, error: CoordinatorError, effects: &mut Effects) {
        self.in_flight.clear();
        self.last_append.clear();
        for request in std::mem::take(&mut self.open) {
            effects.push(Effect::Reply { request, response: Err(error) });
        }
    }

    /// When the append is committed; now if there is none, or if it is already.
    fn reply_after(
        &mut self,
        append: Option<AppendId>,
        request: RequestKey,
        response: GroupResponse,
        effects: &mut Effects,
    ) {
        match append.and_then(|append| self.in_flight.get_mut(&append)) {
            Some(in_flight) => in_flight.answers.push((request, response)),
            None => self.reply(request, Ok(response), effects),
        }
    }

    /// Every answer goes out here, and each request is open until then.
    fn reply(&mut self, request: RequestKey, response: Result<GroupResponse, CoordinatorError>, effects: &mut Effects) {
        let was_open = self.open.remove(&request);
        assert!(was_open, "{request:?} is answered a second time");
        effects.push(Effect::Reply { request, response });
    }
}

/// What is kept for long must not hold on to the frame that it came in, which has other requests' bytes too.
fn detach(bytes: &mut Bytes) {
    *bytes = Bytes::copy_from_slice(bytes);
}

/// Whether a request by itself makes the log take more than it would. A record that is larger than a batch may be can only fail, and
/// would take all groups with it; offsets may take a few batches, which is twice as many as Kafka lets one commit have.
fn is_too_large(body: &GroupRequest, batch_bytes_max: usize) -> bool {
    const BATCHES_PER_COMMIT: usize = 4;
    const RECORD: usize = 160;
    match body {
        GroupRequest::OffsetCommit(commit) => {
            let records = commit.topics.iter().flat_map(|topic| {
                let key = RECORD + commit.group_id.len() + topic.name.len();
                topic.partitions.iter().map(move |of| key + of.metadata.as_ref().map_or(0, String::len))
            });
            let (largest, all) = records.fold((0, 0), |(largest, all), record| (record.max(largest), all + record));
            largest > batch_bytes_max || all > BATCHES_PER_COMMIT * batch_bytes_max
        }
        // In a group of the consumer protocol what the first protocol says of topics is in the member's record once more.
        GroupRequest::JoinGroup(join) => {
            let bytes = |protocol: &JoinProtocol| protocol.name.len() + protocol.metadata.len();
            let all = join.protocols.iter().map(bytes).sum::<usize>() + join.protocols.first().map_or(0, bytes);
            RECORD + all > batch_bytes_max
        }
        GroupRequest::ConsumerGroupHeartbeat(heartbeat) => {
            let names = heartbeat.subscribed_topic_names.iter().flatten().map(|name| name.len() + 3).sum::<usize>();
            // The expression is in the member's record and in the key of its own.
            let regex = 2 * heartbeat.subscribed_topic_regex.as_ref().map_or(0, String::len);
            RECORD + names + regex > batch_bytes_max
        }
        _ => false,
    }
}

/// Requests that are refused up front while nothing can be written. Those that only may write are among them.
fn may_write(body: &GroupRequest) -> bool {
    match body {
        GroupRequest::JoinGroup(_)
        | GroupRequest::SyncGroup(_)
        | GroupRequest::LeaveGroup(_)
        | GroupRequest::OffsetCommit(_)
        | GroupRequest::OffsetDelete(_)
        | GroupRequest::DeleteGroups(_)
        | GroupRequest::ConsumerGroupHeartbeat(_) => true,
        GroupRequest::Heartbeat(_)
        | GroupRequest::OffsetFetch(_)
        | GroupRequest::DescribeGroups(_)
        | GroupRequest::ListGroups(_)
        | GroupRequest::ConsumerGroupDescribe(_) => false,
    }
}
