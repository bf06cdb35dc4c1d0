//! A reader: reads all partitions of the topics that it is told of, from the beginning on.
//!
//! ```text
//!   metadata ─► fetches, for ever ─┬─► metadata: at times, and when the leader is elsewhere
//!                                  ├─► where does the log begin? when an offset is not in it
//!                                  └─► where does it end? at times
//! ```
//!
//! It names the newest leader epoch that it has heard of, as Kafka's clients do (KIP-320), so that a leader of the past cannot serve it. At times
//! it goes back, and at times to another gateway. A *final* one is started when all is well again, asks first where each log ends, and is
//! done when it has read it all.

use std::collections::{BTreeMap, BTreeSet};

use base_types::Tick;
use bytes::Bytes;
use history_checker::Moment;

use super::book::{Shared, Topic};
use super::operations::fetch::{BY_ID, Fetch, Fetched, Said, Want};
use super::operations::list_offsets::{End, ListOffsets, Listed};
use super::operations::metadata::Metadata;
use super::operations::{Asked, Scribe};
use super::{Connection, Gateways, News, PAUSE_MS};
use crate::world::{Context, Input, Process};

const REFRESH_MS: u64 = 4_000;
/// How often it does something else than fetch; per mille.
const LOOKS: u64 = 60;
const SEEKS: u64 = 20;
const CHANGES: u64 = 5;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub id: i32,
    pub gateways: i32,
    /// Of Fetch.
    pub version: i16,
    pub sessions: bool,
    pub is_final: bool,
    /// Between two fetches.
    pub pace_ms: u64,
}

pub struct Reader {
    settings: Settings,
    scribe: Scribe,
    connection: Connection,
    asked: Option<What>,
    wait_until: Option<Tick>,
    refresh_at: Tick,
    places: BTreeMap<(Topic, i32), Place>,
    session: Session,
    /// A final reader's: when it asked for the ends, and whether it knows them all.
    ends_asked: Moment,
    knows_ends: bool,
}

#[derive(Default)]
struct Place {
    position: i64,
    /// Behind the last record that was read.
    read_to: i64,
    last_epoch: i32,
    /// The epoch in which the position was not in the log.
    out_of_range: Option<i32>,
    /// A final reader's: where it ends, and whether it has been there.
    end: Option<i64>,
    is_finished: bool,
}

/// What a fetch must say: id and epoch of its session, which of the partitions it must name, and which it names as forgotten.
struct Naming {
    session: (i32, i32),
    news: Vec<usize>,
    forgotten: Vec<(Topic, i32)>,
}

/// What a fetch session knows (KIP-227).
#[derive(Default)]
struct Session {
    id: i32,
    epoch: i32,
    stream: u32,
    known: BTreeMap<(Topic, i32), Want>,
}

enum What {
    Metadata(Asked<Metadata>),
    Begins(Asked<ListOffsets>),
    Ends(Asked<ListOffsets>),
    Fetch(Asked<Fetch>),
}

impl Reader {
    pub fn new(settings: Settings, book: &Shared) -> Reader {
        Reader {
            settings,
            scribe: Scribe::new(book),
            connection: Connection::new(0, Gateways::Any { count: settings.gateways, last: settings.id }),
            asked: None,
            wait_until: None,
            refresh_at: Tick(0),
            places: BTreeMap::new(),
            session: Session::default(),
            ends_asked: Moment(0),
            knows_ends: false,
        }
    }

    /// A final reader has read it all.
    pub fn is_done(&self) -> bool {
        self.knows_ends && self.places.values().all(|place| place.is_finished)
    }

    /// What a final reader still waits for.
    pub fn lacks(&self) -> String {
        let lacking = self.places.iter().filter(|(_, place)| !place.is_finished);
        let lacking = lacking.map(|((topic, partition), place)| {
            format!("{}-{partition} at {} of {:?}", topic.name, place.position, place.end)
        });
        lacking.collect::<Vec<_>>().join(", ")
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if !self.connection.is_free() || self.wait_until.is_some() || self.asked.is_some() {
            return;
        }
        let lost: Vec<(Topic, i32)> = self.keys(|_, place| place.out_of_range.is_some());
        let what = if self.refresh_at <= context.now.tick {
            What::Metadata(self.scribe.ask(&mut self.connection, context, Metadata { version: 12 }))
        } else if !lost.is_empty() {
            What::Begins(self.list(context, End::Earliest, lost))
        } else if self.settings.is_final && !self.knows_ends {
            let all = self.keys(|_, place| place.end.is_none());
            if self.ends_asked == Moment(0) {
                self.ends_asked = self.scribe.book.borrow_mut().now();
            }
            What::Ends(self.list(context, End::Latest, all))
        } else if !self.settings.is_final && context.random.chance(LOOKS) {
            let end = if context.random.chance(500) { End::Latest } else { End::Earliest };
            What::Ends(self.list(context, end, self.keys(|(topic, _), _| topic.is_fixed())))
        } else {
            self.roam(context);
            if !self.connection.is_free() {
                return;
            }
            match self.fetch(context) {
                Some(asked) => What::Fetch(asked),
                None => return self.pause(context, PAUSE_MS),
            }
        };
        self.asked = Some(what);
    }

    /// At times goes back, at times to another gateway.
    fn roam(&mut self, context: &mut Context<'_>) {
        if self.settings.is_final {
            return;
        }
        if context.random.chance(SEEKS) && !self.places.is_empty() {
            let which = context.random.below(self.places.len() as u64) as usize;
            if let Some(((topic, partition), place)) = self.places.iter_mut().nth(which) {
                let to = if context.random.chance(200) { 0 } else { place.position - context.random.below(50) as i64 };
                (place.position, place.last_epoch) = (to.max(0), -1);
                let (client, to) = (self.scribe.client, place.position);
                self.scribe.book.borrow_mut().sought(client, topic, *partition, to);
            }
        }
        if context.random.chance(CHANGES) {
            self.connection.change(context);
        }
    }

    fn keys(&self, is_meant: impl Fn(&(Topic, i32), &Place) -> bool) -> Vec<(Topic, i32)> {
        self.places.iter().filter(|(key, place)| is_meant(key, place)).map(|(key, _)| key.clone()).collect()
    }

    /// ListOffsets knows topics by name only. Of one that may have been made again nothing can be predicted: it is asked without an epoch.
    fn list(&mut self, context: &mut Context<'_>, end: End, keys: Vec<(Topic, i32)>) -> Asked<ListOffsets> {
        let partition = |(topic, partition): (Topic, i32)| {
            let is_fixed = topic.is_fixed();
            let epoch = if is_fixed { self.scribe.view.leader_epoch(&topic, partition) } else { -1 };
            (topic, partition, epoch)
        };
        let partitions = keys.into_iter().map(partition).collect();
        let version = context.random.between(4, 10) as i16;
        self.scribe.ask(&mut self.connection, context, ListOffsets { version, end, partitions })
    }

    fn fetch(&mut self, context: &mut Context<'_>) -> Option<Asked<Fetch>> {
        let by_id = self.settings.version >= BY_ID;
        let is_meant = |(topic, _): &(Topic, i32), place: &Place| (by_id || topic.is_fixed()) && !place.is_finished;
        let want = |(topic, partition): &(Topic, i32), place: &Place| Want {
            topic: topic.clone(),
            partition: *partition,
            offset: place.position,
            leader_epoch: self.scribe.view.leader_epoch(topic, *partition),
            last_epoch: place.last_epoch,
        };
        let meant = self.places.iter().filter(|(key, place)| is_meant(key, place));
        let wants: Vec<Want> = meant.map(|(key, place)| want(key, place)).collect();
        if wants.is_empty() {
            return None;
        }
        let naming = if self.settings.sessions {
            self.session.next(self.connection.streams(), &wants)
        } else {
            Naming { session: (0, -1), news: (0..wants.len()).collect(), forgotten: Vec::new() }
        };
        let Naming { session, news, forgotten } = naming;
        let wait_ms_max = if self.settings.is_final { 20 } else { 500 };
        let version = self.settings.version;
        let fetch = Fetch { version, session, wants, news, forgotten, wait_ms_max };
        Some(self.scribe.ask(&mut self.connection, context, fetch))
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (scribe, connection) = (&mut self.scribe, &self.connection);
        match self.asked.take() {
            None => {}
            Some(What::Metadata(asked)) => {
                if scribe.answered(connection, asked, frame) {
                    self.refresh_at = context.now.tick.plus_ms(REFRESH_MS);
                    self.take_up();
                } else {
                    self.pause(context, PAUSE_MS);
                }
            }
            Some(What::Begins(asked)) => {
                let listed = scribe.answered(connection, asked, frame);
                let all_told = listed.iter().all(|(_, _, found)| found.is_some());
                listed.into_iter().for_each(|listed| self.begins(listed));
                if !all_told {
                    self.is_elsewhere(context);
                }
            }
            Some(What::Ends(asked)) => {
                let listed = scribe.answered(connection, asked, frame);
                if self.settings.is_final {
                    self.ends(context, listed);
                }
            }
            Some(What::Fetch(asked)) => {
                let at = asked.at();
                let fetched = scribe.answered(connection, asked, frame);
                self.fetched(context, at, fetched);
            }
        }
    }

    /// New partitions are read from their beginning.
    fn take_up(&mut self) {
        let by_id = self.settings.version >= BY_ID;
        let view = &self.scribe.view;
        self.places.retain(|(topic, _), _| view.has(topic));
        let known = view.topics().filter(|(topic, _)| by_id || topic.is_fixed());
        let all: Vec<(Topic, i32)> =
            known.flat_map(|(topic, count)| (0..count).map(move |partition| (topic.clone(), partition))).collect();
        for key in all {
            if !self.places.contains_key(&key) {
                self.scribe.book.borrow_mut().sought(self.scribe.client, &key.0, key.1, 0);
                self.places.insert(key, Place { last_epoch: -1, ..Place::default() });
            }
        }
    }

    /// The position was not in the log. So it lies before its beginning: what was read is never cut off, and nobody seeks beyond that.
    fn begins(&mut self, (topic, partition, found): Listed) {
        let (Some((offset, epoch)), Some(place)) = (found, self.places.get_mut(&(topic.clone(), partition))) else {
            return;
        };
        let refused_in = place.out_of_range.take();
        let mut book = self.scribe.book.borrow_mut();
        if offset <= place.position && refused_in == Some(epoch) && topic.is_fixed() {
            let (name, to) = (&topic.name, place.read_to);
            book.complain(
                "R6",
                format_args!("{name}-{partition}: {} is not in the log, which was read to {to}", place.position),
            );
        }
        place.position = offset.max(place.position);
        place.last_epoch = -1;
        book.sought(self.scribe.client, &topic, partition, place.position);
    }

    fn ends(&mut self, context: &Context<'_>, listed: Vec<Listed>) {
        for (topic, partition, found) in listed {
            if let (Some((end, _)), Some(place)) = (found, self.places.get_mut(&(topic, partition))) {
                place.end = Some(end);
            }
        }
        self.knows_ends = self.places.values().all(|place| place.end.is_some());
        if !self.knows_ends {
            self.is_elsewhere(context);
        }
        self.finish();
    }

    fn fetched(&mut self, context: &mut Context<'_>, at: Moment, fetched: Fetched) {
        self.session.is_answered(fetched.session);
        let (mut read, mut is_elsewhere, mut is_late) = (Vec::new(), false, false);
        for (want, said) in fetched.parts {
            let Some(place) = self.places.get_mut(&(want.topic.clone(), want.partition)) else { continue };
            match said {
                Said::Read { records, next, last_epoch } => {
                    place.position = next;
                    place.read_to = place.read_to.max(next);
                    place.last_epoch = last_epoch;
                    read.push((want.topic, want.partition, records));
                }
                Said::OutOfRange => {
                    place.out_of_range = Some(want.leader_epoch);
                    self.session.says_again(&(want.topic, want.partition));
                }
                Said::Elsewhere => is_elsewhere = true,
                Said::Later => is_late = true,
            }
        }
        self.scribe.book.borrow_mut().polled(self.scribe.client, at, &read);
        self.finish();
        if is_elsewhere {
            self.is_elsewhere(context);
        } else if is_late || read.iter().all(|(_, _, records)| records.is_empty()) {
            self.pause(context, PAUSE_MS);
        } else {
            self.pause(context, self.settings.pace_ms);
        }
    }

    fn finish(&mut self) {
        if !self.settings.is_final {
            return;
        }
        let mut book = self.scribe.book.borrow_mut();
        for ((topic, partition), place) in &mut self.places {
            let is_at_end = place.end.is_some_and(|end| place.position >= end) && place.out_of_range.is_none();
            if is_at_end && !place.is_finished {
                place.is_finished = true;
                book.finished(self.scribe.client, self.ends_asked, topic, *partition, place.position);
            }
        }
    }

    fn is_elsewhere(&mut self, context: &Context<'_>) {
        self.refresh_at = context.now.tick;
        self.pause(context, PAUSE_MS);
    }

    fn pause(&mut self, context: &Context<'_>, ms: u64) {
        self.wait_until = (ms > 0).then(|| context.now.tick.plus_ms(ms));
    }
}

impl Session {
    /// For the next fetch, which wants these.
    fn next(&mut self, stream: u32, wants: &[Want]) -> Naming {
        if self.stream != stream {
            *self = Session { stream, ..Session::default() };
        }
        let key = |want: &Want| (want.topic.clone(), want.partition);
        let is_news = |(_, want): &(usize, &Want)| self.epoch == 0 || self.known.get(&key(want)) != Some(*want);
        let news = wants.iter().enumerate().filter(is_news).map(|(place, _)| place).collect();
        let wanted: BTreeSet<(Topic, i32)> = wants.iter().map(key).collect();
        let forgotten = self.known.keys().filter(|key| !wanted.contains(*key) && self.epoch > 0).cloned().collect();
        self.known = wants.iter().map(|want| (key(want), want.clone())).collect();
        Naming { session: (self.id, self.epoch), news, forgotten }
    }

    /// The session knows it still, and is told to forget it if it is not wanted any more.
    fn says_again(&mut self, key: &(Topic, i32)) {
        if let Some(known) = self.known.get_mut(key) {
            known.offset = -1;
        }
    }

    fn is_answered(&mut self, id: Option<i32>) {
        match id {
            Some(id) if self.epoch == 0 || id == self.id => (self.id, self.epoch) = (id, self.epoch + 1),
            _ => (self.id, self.epoch) = (0, 0),
        }
    }
}

impl Process for Reader {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match self.connection.handle(context, &input) {
            News::Nothing => {}
            News::Answered(frame) => self.answered(context, frame),
            News::Unanswered => {
                self.asked = None;
                self.refresh_at = context.now.tick;
            }
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}
