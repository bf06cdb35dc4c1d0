//! A producer: sends records to partitions of the topics that it is told of, and knows what it was promised of each.
//!
//! ```text
//!   configure ─► metadata ─► producer id ─► batches, several requests under way ─► metadata, at times
//! ```
//!
//! What is not idempotent is sent once. What is idempotent and was not acknowledged is sent again, one batch of its partition after the other, and
//! nothing new of that partition before: as Kafka's clients do.
//!
//! To the history's judge all batches of one connection are numbered by one producer, whether they are or not: the gateway promises
//! order and no repetition by itself (W1, W2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base_types::{ErrorCode, ProducerEpoch, ProducerId, Tick};
use bytes::Bytes;
use history_checker::{Client, Delivery};

use super::book::{Sends, Shared, Topic};
use super::operations::alter_configs::{AlterConfigs, Resource};
use super::operations::init_producer_id::InitProducerId;
use super::operations::metadata::Metadata;
use super::operations::produce::{self, ACKS_ALL, BY_ID, Batch, Fate, Part, Produce};
use super::operations::{Asked, Done, Operation, Scribe};
use super::{Connection, Gateways, News, PAUSE_MS};
use crate::world::{Context, Input, Process};

const REFRESH_MS: u64 = 5_000;
const RECORDS_MAX: u64 = 5;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub id: i32,
    pub gateways: i32,
    /// −1 if it is idempotent.
    pub acks: i16,
    pub idempotent: bool,
    pub requests_in_flight_max: usize,
    pub partitions_per_request_max: usize,
    pub version: i16,
    /// Tells the cluster so: topics that do not say otherwise need as many in sync.
    pub min_insync_replicas: Option<u8>,
    /// Between two requests.
    pub pace_ms: u64,
    /// Sends nothing new after this.
    pub stop_ms: u64,
}

pub struct Producer {
    settings: Settings,
    scribe: Scribe,
    connection: Connection,
    /// In the order of the answers.
    asked: VecDeque<What>,
    wait_until: Option<Tick>,
    refresh_at: Tick,
    is_configured: bool,
    producer: Option<(ProducerId, ProducerEpoch)>,
    /// When everything under way has ended, the producer id is of no more use.
    begins_anew: bool,
    lanes: BTreeMap<(Topic, i32), Lane>,
    /// Topics that were deleted: what is left of their numbers is of no use.
    gone: BTreeSet<Topic>,
    /// As whom it sends what is not idempotent, and since which stream.
    plain: (u32, Client),
}

/// An idempotent producer's partition.
#[derive(Default)]
struct Lane {
    next_sequence: i32,
    /// To be sent again, by sequence.
    unsettled: BTreeMap<i32, Batch>,
    in_flight: usize,
}

enum What {
    Configure(Asked<AlterConfigs>),
    Metadata(Asked<Metadata>),
    Init(Asked<InitProducerId>),
    Produce(Asked<Produce>),
}

impl Producer {
    pub fn new(settings: Settings, book: &Shared) -> Producer {
        let scribe = Scribe::new(book);
        let plain = (0, scribe.client);
        Producer {
            settings,
            scribe,
            connection: Connection::new(0, Gateways::Any { count: settings.gateways, last: settings.id }),
            asked: VecDeque::new(),
            wait_until: None,
            refresh_at: Tick(0),
            is_configured: settings.min_insync_replicas.is_none(),
            producer: None,
            begins_anew: false,
            lanes: BTreeMap::new(),
            gone: BTreeSet::new(),
            plain,
        }
    }

    /// Nothing waits to be sent again.
    pub fn is_settled(&self) -> bool {
        self.lanes.values().all(|lane| lane.unsettled.is_empty() && lane.in_flight == 0)
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        while self.connection.is_open() && self.wait_until.is_none() {
            if self.asked.is_empty() {
                if self.begins_anew {
                    self.begin_anew();
                }
                if self.prepare(context) {
                    return;
                }
            } else if self.begins_anew {
                return;
            }
            let is_preparing = !matches!(self.asked.back(), None | Some(What::Produce(_)));
            if is_preparing || self.asked.len() >= self.settings.requests_in_flight_max {
                return;
            }
            let parts = self.again();
            if !parts.is_empty() {
                self.produce(context, parts);
                continue;
            }
            let is_over = context.now.tick.0 >= self.settings.stop_ms;
            if is_over || self.refresh_at <= context.now.tick {
                return;
            }
            let parts = self.fresh(context);
            if parts.is_empty() {
                self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
                return;
            }
            self.produce(context, parts);
            let pace_ms = self.settings.pace_ms;
            self.wait_until = Some(context.now.tick.plus_ms(context.random.between(pace_ms / 2, pace_ms * 3 / 2)));
        }
    }

    /// Asks for what must be known before batches are sent.
    fn prepare(&mut self, context: &mut Context<'_>) -> bool {
        let what = if !self.is_configured {
            let alter = AlterConfigs {
                version: 1,
                resource: Resource::Brokers,
                name: "min.insync.replicas",
                value: self.settings.min_insync_replicas.map(|count| count.to_string()).unwrap_or_default(),
            };
            What::Configure(self.scribe.ask(&mut self.connection, context, alter))
        } else if self.refresh_at <= context.now.tick {
            What::Metadata(self.scribe.ask(&mut self.connection, context, Metadata { version: 12 }))
        } else if self.settings.idempotent && self.producer.is_none() {
            let version = context.random.between(0, 5) as i16;
            What::Init(self.scribe.ask(&mut self.connection, context, InitProducerId { version }))
        } else {
            return false;
        };
        self.asked.push_back(what);
        true
    }

    /// What was not acknowledged, the first batch of each partition that has nothing under way.
    fn again(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        for ((topic, partition), lane) in &mut self.lanes {
            if lane.in_flight > 0 || parts.len() >= self.settings.partitions_per_request_max {
                continue;
            }
            if let Some((_, batch)) = lane.unsettled.pop_first() {
                parts.push(Part { topic: topic.clone(), partition: *partition, batch });
            }
        }
        parts
    }

    fn fresh(&mut self, context: &mut Context<'_>) -> Vec<Part> {
        let by_id = self.settings.version >= BY_ID;
        let known = self.scribe.view.topics().filter(|(topic, _)| by_id || topic.is_fixed());
        let mut targets: Vec<(Topic, i32)> = known
            .flat_map(|(topic, partitions)| (0..partitions).map(move |partition| (topic.clone(), partition)))
            .filter(|target| self.lanes.get(target).is_none_or(|lane| lane.unsettled.is_empty()))
            .filter(|(topic, _)| !self.gone.contains(topic))
            .collect();
        let mut parts = Vec::new();
        let count = context.random.between(1, self.settings.partitions_per_request_max as u64);
        for _ in 0..count.min(targets.len() as u64) {
            let (topic, partition) = targets.swap_remove(context.random.below(targets.len() as u64) as usize);
            let batch = self.batch(context, &topic, partition);
            parts.push(Part { topic, partition, batch });
        }
        parts
    }

    fn batch(&mut self, context: &mut Context<'_>, topic: &Topic, partition: i32) -> Batch {
        let count = context.random.between(1, RECORDS_MAX);
        let client = self.client();
        let sends = self.scribe.book.borrow_mut().sends(client, (topic, partition), Delivery::Idempotent, count);
        let numbered = self.producer.map(|(id, epoch)| {
            let lane = self.lanes.entry((topic.clone(), partition)).or_default();
            let sequence = lane.next_sequence;
            lane.next_sequence += count as i32;
            (id, epoch, sequence)
        });
        let records = produce::batch(&sends, numbered, context.now.wall);
        Batch { sends, records, sequence: numbered.map(|(_, _, sequence)| sequence), may_be_there: false }
    }

    /// What is not idempotent keeps its order on one connection only.
    fn client(&mut self) -> Client {
        if self.settings.idempotent {
            return self.scribe.client;
        }
        if self.plain.0 != self.connection.streams() {
            self.plain = (self.connection.streams(), self.scribe.book.borrow_mut().client());
        }
        self.plain.1
    }

    fn produce(&mut self, context: &mut Context<'_>, parts: Vec<Part>) {
        for part in &parts {
            if part.batch.sequence.is_some() {
                self.lanes.entry((part.topic.clone(), part.partition)).or_default().in_flight += 1;
            }
        }
        let produce = Produce { version: self.settings.version, acks: self.settings.acks, parts };
        if self.settings.acks == 0 {
            self.connection.tell(context, produce.version, &produce.request());
            let mut book = self.scribe.book.borrow_mut();
            return produce.parts.into_iter().for_each(|part| book.not_promised(part.batch.sends));
        }
        let asked = self.scribe.ask(&mut self.connection, context, produce);
        self.asked.push_back(What::Produce(asked));
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let Some(what) = self.asked.pop_front() else { return };
        let (scribe, connection) = (&mut self.scribe, &self.connection);
        let is_well = match what {
            What::Configure(asked) => {
                self.is_configured = scribe.answered(connection, asked, frame) == Done::Yes;
                self.is_configured
            }
            What::Metadata(asked) => {
                let is_well = scribe.answered(connection, asked, frame);
                if is_well {
                    self.refresh_at = context.now.tick.plus_ms(REFRESH_MS);
                    self.forget_deleted();
                }
                is_well
            }
            What::Init(asked) => {
                self.producer = scribe.answered(connection, asked, frame);
                self.producer.is_some()
            }
            What::Produce(asked) => {
                let fates = scribe.answered(connection, asked, frame);
                fates.into_iter().fold(true, |is_well, (part, fate)| self.settle(part, fate) && is_well)
            }
        };
        if !is_well {
            self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
            // Another gateway may know better.
            if self.asked.is_empty() && context.random.chance(200) {
                self.connection.change(context);
            }
        }
    }

    /// Whether all is well.
    fn settle(&mut self, part: Part, fate: Fate) -> bool {
        let batch = part.batch;
        let target = (part.topic, part.partition);
        if matches!(fate, Fate::NotThere(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition)) {
            self.refresh_at = Tick(0);
        }
        let Some(sequence) = batch.sequence else { return self.settle_plain(batch.sends, fate) };
        let Some(lane) = self.lanes.get_mut(&target) else { return true };
        lane.in_flight -= 1;
        let mut book = self.scribe.book.borrow_mut();
        let is_behind = lane.unsettled.first_key_value().is_some_and(|(&first, _)| first < sequence);
        match fate {
            Fate::There(base) => {
                book.acknowledged(batch.sends, base);
                return true;
            }
            Fate::NotThere(ErrorCode::OutOfOrderSequenceNumber) if !is_behind => {
                book.complain(
                    "P3",
                    format_args!("{target:?}: sequence {sequence} is a gap, and all before is settled"),
                );
            }
            Fate::NotThere(ErrorCode::InvalidProducerEpoch) => {
                book.complain("P4", format_args!("{target:?}: sequence {sequence}: the only epoch is an older one"));
            }
            // It will never be taken, for its time, say, when a clock has jumped; and nothing behind it will.
            Fate::NotThere(code) if !code.is_retriable() => self.begins_anew = true,
            Fate::NotThere(_) | Fate::Unknown => {}
        }
        let may_be_there = batch.may_be_there || fate == Fate::Unknown;
        lane.unsettled.insert(sequence, Batch { may_be_there, ..batch });
        false
    }

    /// With a new producer id, as another client: what was not acknowledged will not be sent again.
    fn begin_anew(&mut self) {
        self.begins_anew = false;
        self.producer = None;
        let mut book = self.scribe.book.borrow_mut();
        self.scribe.client = book.client();
        for batch in std::mem::take(&mut self.lanes).into_values().flat_map(|lane| lane.unsettled.into_values()) {
            if batch.may_be_there { book.unknown(batch.sends) } else { book.failed(batch.sends) }
        }
    }

    fn settle_plain(&mut self, sends: Sends, fate: Fate) -> bool {
        let mut book = self.scribe.book.borrow_mut();
        match fate {
            Fate::There(base) if self.settings.acks == ACKS_ALL => book.acknowledged(sends, base),
            Fate::NotThere(_) => book.failed(sends),
            Fate::There(_) => book.not_promised(sends),
            Fate::Unknown => book.unknown(sends),
        }
        matches!(fate, Fate::There(_))
    }

    /// To no open question an answer will come.
    fn unanswered(&mut self) {
        for what in std::mem::take(&mut self.asked) {
            let What::Produce(asked) = what else { continue };
            for part in asked.operation.parts {
                self.settle(part, Fate::Unknown);
            }
        }
    }

    fn forget_deleted(&mut self) {
        let view = &self.scribe.view;
        let book = &self.scribe.book;
        let gone = &mut self.gone;
        self.lanes.retain(|(topic, _), lane| {
            if view.has(topic) || lane.in_flight > 0 {
                return true;
            }
            gone.insert(topic.clone());
            for batch in std::mem::take(&mut lane.unsettled).into_values() {
                let mut book = book.borrow_mut();
                if batch.may_be_there { book.unknown(batch.sends) } else { book.failed(batch.sends) }
            }
            false
        });
    }
}

impl Process for Producer {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match self.connection.handle(context, &input) {
            News::Nothing => {}
            News::Answered(frame) => self.answered(context, frame),
            News::Unanswered => self.unanswered(),
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}
