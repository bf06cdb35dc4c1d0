//! `struct GroupCoordinator` and its one entry point: who may be served at all, what waits for which write.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{Now, Random, Tick};
use peer_api::groups::{Caller, ConsumerGroupDescribe, CoordinatorError, GroupNotFound, GroupRequest, GroupResponse};
use peer_api::metadata::Image;
use peer_api::storage::AppendError;

use crate::consumer::ConsumerGroup;
use crate::effect::{Effect, Effects};
use crate::event::{AppendId, Event, LogRecord, RequestKey, Settings};
use crate::group::Group;
use crate::records::{Decoded, Record};
use crate::timers::{Timer, Timers};
use crate::turn::{Outcome, Turn};

/// How many timers fire in one step at most. What is left is due at once.
const TIMERS_PER_STEP: usize = 1_000;

/// The coordinator of the groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct GroupCoordinator {
    settings: Settings,
    random: Random,
    life: Life,
    /// The partition has `min.insync.replicas` in sync.
    writable: bool,
    groups: BTreeMap<String, Group>,
    timers: Timers,
    /// Not answered yet.
    open: BTreeSet<RequestKey>,
    in_flight: BTreeMap<AppendId, InFlight>,
    /// The newest append in flight of each group that has one.
    last_append: BTreeMap<String, AppendId>,
    next_append: AppendId,
    records_skipped: u64,
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
    groups: BTreeSet<String>,
    /// When those who wait are told that it takes too long.
    deadline: Tick,
    answers: Vec<(RequestKey, GroupResponse)>,
}

impl GroupCoordinator {
    /// `random` makes member ids, which must differ from those of every other coordinator and of every earlier life.
    pub fn new(settings: Settings, random: Random) -> GroupCoordinator {
        GroupCoordinator {
            settings,
            random,
            life: Life::Loading,
            writable: true,
            groups: BTreeMap::new(),
            timers: Timers::default(),
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
            Event::WritableChanged(writable) => self.writable = writable,
            Event::MetadataChanged { removed: _ } => self.metadata_changed(now, image, effects),
            Event::SettingsChanged(settings) => self.settings = settings,
            Event::Ticked => self.ticked(now, image, effects),
            Event::Unloaded => {
                self.life = Life::Unloaded;
                self.answer_everyone(CoordinatorError::Lost, effects);
            }
        }
    }

    /// When [`Event::Ticked`] is due. The owner asks again after each step.
    pub fn next_deadline(&self) -> Option<Tick> {
        let timers = if self.life == Life::Serving && self.writable { self.timers.next() } else { None };
        let waiting = self.in_flight.values().find(|append| !append.answers.is_empty()).map(|append| append.deadline);
        [timers, waiting].into_iter().flatten().min()
    }

    /// Cheap, and without effect.
    pub fn check_invariants(&self) {}

    /// Records that could not be read when loading. They are not folded; everything else is.
    pub fn records_skipped(&self) -> u64 {
        self.records_skipped
    }

    fn load(&mut self, record: &LogRecord) {
        match Record::decode(record) {
            Ok(Decoded::Known(record)) => self.apply(&record),
            Ok(Decoded::Other { .. }) => {}
            Err(_) => self.records_skipped += 1,
        }
    }

    fn apply(&mut self, record: &Record) {
        match record {
            Record::Offset { .. } | Record::Classic { .. } => {}
            Record::Consumer { group_id, record } => {
                let group =
                    self.groups.entry(group_id.clone()).or_insert_with(|| Group::Consumer(ConsumerGroup::default()));
                let Group::Consumer(group) = group;
                group.apply(record);
                if group.is_gone() {
                    self.groups.remove(group_id);
                }
            }
        }
    }

    fn finish_load(&mut self, now: Now, image: &Image, effects: &mut Effects) {
        self.life = Life::Serving;
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for group_id in ids {
            self.with_group(now, image, &group_id, effects, |group, turn| match group {
                Group::Consumer(group) => group.loaded(turn),
            });
        }
    }

    fn metadata_changed(&mut self, now: Now, image: &Image, effects: &mut Effects) {
        if self.life != Life::Serving {
            return;
        }
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for group_id in ids {
            self.with_group(now, image, &group_id, effects, |group, turn| match group {
                Group::Consumer(group) => group.metadata_changed(turn),
            });
        }
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
        self.open.insert(request);
        match self.life {
            Life::Serving => {}
            Life::Loading | Life::Distrusted => {
                return self.reply(request, Err(CoordinatorError::LoadInProgress), effects);
            }
            Life::Unloaded => return self.reply(request, Err(CoordinatorError::NotCoordinator), effects),
        }
        match body {
            GroupRequest::ConsumerGroupHeartbeat(heartbeat) => {
                let group_id = heartbeat.group_id.clone();
                self.groups.entry(group_id.clone()).or_insert_with(|| Group::Consumer(ConsumerGroup::default()));
                self.with_group(now, image, &group_id, effects, |group, turn| match group {
                    Group::Consumer(group) => group.heartbeat(turn, request, caller, heartbeat),
                });
            }
            GroupRequest::ConsumerGroupDescribe(describe) => {
                let response = self.describe_consumer_groups(image, &describe);
                self.reply(request, Ok(response), effects);
            }
            _ => self.reply(request, Err(CoordinatorError::NotAvailable), effects),
        }
    }

    fn describe_consumer_groups(&self, image: &Image, describe: &ConsumerGroupDescribe) -> GroupResponse {
        let described = describe.groups.iter().map(|group_id| match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => (group_id.clone(), Ok(group.describe(image))),
            None => {
                let message = format!("Group {group_id} not found.");
                (group_id.clone(), Err(GroupNotFound { message }))
            }
        });
        GroupResponse::ConsumerGroupDescribe(described.collect())
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
        // What timers decide is written: it waits until it can be.
        if self.life != Life::Serving || !self.writable {
            return;
        }
        for _ in 0..TIMERS_PER_STEP {
            match self.timers.pop_due(now.tick) {
                Some(Timer::Group { group_id, kind }) => {
                    self.with_group(now, image, &group_id, effects, |group, turn| match group {
                        Group::Consumer(group) => group.timer_fired(turn, &kind),
                    });
                }
                Some(Timer::Expiry) => {}
                None => break,
            }
        }
    }

    /// Lets one group decide, and settles what comes of it.
    fn with_group(
        &mut self,
        now: Now,
        image: &Image,
        group_id: &str,
        effects: &mut Effects,
        decide: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let mut turn = Turn {
            now,
            settings: &self.settings,
            image,
            random: &mut self.random,
            timers: &mut self.timers,
            group_id,
            outcome: Outcome::default(),
        };
        decide(group, &mut turn);
        let outcome = turn.outcome;
        let Group::Consumer(state) = group;
        if state.is_gone() {
            self.groups.remove(group_id);
        }
        self.settle(now, group_id, outcome, effects);
    }

    fn settle(&mut self, now: Now, group_id: &str, outcome: Outcome, effects: &mut Effects) {
        if !outcome.records.is_empty() {
            let append = self.next_append;
            self.next_append = AppendId(append.0 + 1);
            let records = outcome.records.iter().map(Record::encode).collect();
            effects.push(Effect::Append { append, records });
            let in_flight = InFlight {
                groups: BTreeSet::from([group_id.to_owned()]),
                deadline: now.tick.plus_ms(self.settings.commit_timeout_ms),
                answers: Vec::new(),
            };
            self.in_flight.insert(append, in_flight);
            self.last_append.insert(group_id.to_owned(), append);
        }
        let waits_for = self.last_append.get(group_id).and_then(|append| self.in_flight.get_mut(append));
        match waits_for {
            Some(append) => append.answers.extend(outcome.answers),
            None => {
                for (request, response) in outcome.answers {
                    self.reply(request, Ok(response), effects);
                }
            }
        }
        for (request, response) in outcome.answers_at_once {
            self.reply(request, Ok(response), effects);
        }
    }

    fn append_committed(&mut self, append: AppendId, effects: &mut Effects) {
        let Some(committed) = self.in_flight.remove(&append) else { return };
        for group_id in &committed.groups {
            if self.last_append.get(group_id) == Some(&append) {
                self.last_append.remove(group_id);
            }
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

    /// Every answer goes out here, and each request is open until then.
    fn reply(&mut self, request: RequestKey, response: Result<GroupResponse, CoordinatorError>, effects: &mut Effects) {
        let was_open = self.open.remove(&request);
        assert!(was_open, "{request:?} is answered a second time");
        effects.push(Effect::Reply { request, response });
    }
}
