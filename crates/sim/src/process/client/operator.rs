//! An operator with topics of its own, which nobody else creates, alters or deletes. So it knows what it must be told.
//!
//! ```text
//!           create            create partitions, set and read a config, trim, look
//!   absent ────────► present ──────────────────────────────────────────────────────┐
//!      ▲                │  ▲                                                       │
//!      └──── delete ────┘  └───────────────────────────────────────────────────────┘
//! ```
//!
//! A change that nobody answered may be made at any later time, by a gateway that stood still. Then the topic is left as it is, and the operator
//! goes on with one of another name. What a change did must be seen on the connection that answered it; another gateway may hear of it later.

use base_types::Tick;
use bytes::Bytes;

use super::book::{Shared, Topic};
use super::operations::alter_configs::{AlterConfigs, Resource};
use super::operations::create_partitions::CreatePartitions;
use super::operations::create_topics::CreateTopics;
use super::operations::delete_records::DeleteRecords;
use super::operations::delete_topics::DeleteTopics;
use super::operations::describe_configs::DescribeConfigs;
use super::operations::list_offsets::{End, ListOffsets, Listed};
use super::operations::metadata::Metadata;
use super::operations::{Asked, Done, Scribe};
use super::{Connection, Gateways, News, PAUSE_MS};
use crate::world::{Context, Input, Process};

const CONFIG: &str = "segment.bytes";
const PARTITIONS_MAX: i32 = 4;
/// Topics are left behind, so there is a last one.
const NAMES_MAX: u32 = 8;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub id: i32,
    pub gateways: i32,
    pub replication_factor: i16,
    /// Between two changes.
    pub pace_ms: u64,
    /// Changes nothing after this.
    pub stop_ms: u64,
}

pub struct Operator {
    settings: Settings,
    scribe: Scribe,
    connection: Connection,
    asked: Option<What>,
    wait_until: Option<Tick>,
    /// How many topics were left behind.
    name: u32,
    topic: Option<Present>,
}

/// A topic that it has made.
struct Present {
    topic: Topic,
    partitions: i32,
    /// The value of the config, if it has set it.
    config: Option<String>,
    /// The stream on which all this was told.
    stream: u32,
    /// The last end that was told of a partition.
    latest: Option<(i32, i64)>,
}

enum What {
    Create(Asked<CreateTopics>),
    Delete(Asked<DeleteTopics>),
    Partitions(Asked<CreatePartitions>),
    Configure(Asked<AlterConfigs>),
    Describe(Asked<DescribeConfigs>),
    Look(Asked<Metadata>),
    Offsets(Asked<ListOffsets>),
    Trim(Asked<DeleteRecords>),
}

impl What {
    /// Whether something may have changed, or come to, if nobody answers.
    fn is_change(&self) -> bool {
        !matches!(self, What::Describe(_) | What::Look(_) | What::Offsets(_))
    }
}

impl Operator {
    pub fn new(settings: Settings, book: &Shared) -> Operator {
        Operator {
            settings,
            scribe: Scribe::new(book),
            connection: Connection::new(0, Gateways::Any { count: settings.gateways, last: settings.id }),
            asked: None,
            wait_until: None,
            name: 0,
            topic: None,
        }
    }

    fn name(&self) -> String {
        format!("aside-{}-{}", self.settings.id, self.name)
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let is_over = context.now.tick.0 >= self.settings.stop_ms || self.name >= NAMES_MAX;
        if is_over || !self.connection.is_free() || self.wait_until.is_some() || self.asked.is_some() {
            return;
        }
        let name = self.name();
        let (scribe, connection) = (&mut self.scribe, &mut self.connection);
        let Some(present) = &self.topic else {
            let create = CreateTopics {
                version: 7,
                name,
                partitions: context.random.between(1, 2) as i32,
                replication_factor: self.settings.replication_factor,
                min_insync_replicas: if self.settings.replication_factor > 1 { 2 } else { 1 },
            };
            self.asked = Some(What::Create(scribe.ask(connection, context, create)));
            return;
        };
        let version = context.random.between(0, 2) as i16;
        let what = match context.random.below(12) {
            0 => {
                let version = context.random.between(1, 6) as i16;
                What::Delete(scribe.ask(connection, context, DeleteTopics { version, name }))
            }
            1 if present.partitions < PARTITIONS_MAX => {
                let grow = CreatePartitions { version, name, count: present.partitions + 1 };
                What::Partitions(scribe.ask(connection, context, grow))
            }
            2 | 3 => {
                let value = context.random.between(1 << 20, 1 << 24).to_string();
                let alter = AlterConfigs { version: 1, resource: Resource::Topic(name), name: CONFIG, value };
                What::Configure(scribe.ask(connection, context, alter))
            }
            4 | 5 => {
                let version = 1 + version;
                What::Describe(scribe.ask(connection, context, DescribeConfigs { version, topic: name, name: CONFIG }))
            }
            6 | 7 => match present.latest.filter(|(_, latest)| *latest > 0) {
                Some((partition, latest)) => {
                    let to = context.random.between(1, latest as u64) as i64;
                    scribe.book.borrow_mut().trims(scribe.client, &present.topic, partition, to);
                    let trim = DeleteRecords { version, topic: present.topic.clone(), partition, to };
                    What::Trim(scribe.ask(connection, context, trim))
                }
                None => What::Offsets(offsets(scribe, connection, context, present)),
            },
            8 | 9 => What::Offsets(offsets(scribe, connection, context, present)),
            _ => What::Look(scribe.ask(connection, context, Metadata { version: 12 })),
        };
        self.asked = Some(what);
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let Some(what) = self.asked.take() else { return };
        let (scribe, connection, stream) = (&mut self.scribe, &self.connection, self.connection.streams());
        let done = match what {
            What::Create(asked) => {
                let (name, partitions) = (asked.operation.name.clone(), asked.operation.partitions);
                let (done, id) = scribe.answered(connection, asked, frame);
                self.is_created(done, Topic { name, id }, partitions);
                done
            }
            What::Delete(asked) => {
                let done = scribe.answered(connection, asked, frame);
                self.is_deleted(done);
                done
            }
            What::Partitions(asked) => {
                let count = asked.operation.count;
                let done = scribe.answered(connection, asked, frame);
                self.is_changed(done, "more partitions", |present| present.partitions = count);
                done
            }
            What::Configure(asked) => {
                let value = asked.operation.value.clone();
                let done = scribe.answered(connection, asked, frame);
                self.is_changed(done, "a config", |present| present.config = Some(value));
                done
            }
            What::Describe(asked) => {
                let told = scribe.answered(connection, asked, frame);
                let known = self.topic.as_ref().filter(|present| present.stream == stream);
                if let Some(Present { config: Some(config), topic, .. }) = known
                    && told.as_ref() != Some(config)
                {
                    let mut book = self.scribe.book.borrow_mut();
                    book.complain("W4", format_args!("{topic:?}: {CONFIG} was set to {config}, and is {told:?}"));
                }
                Done::Yes
            }
            What::Look(asked) => {
                scribe.answered(connection, asked, frame);
                self.looked();
                Done::Yes
            }
            What::Offsets(asked) => {
                let listed = scribe.answered(connection, asked, frame);
                self.listed(listed);
                Done::Yes
            }
            What::Trim(asked) => scribe.answered(connection, asked, frame),
        };
        if done == Done::Unknown {
            self.leave_behind();
        }
        let pace_ms = self.settings.pace_ms;
        self.wait_until = Some(context.now.tick.plus_ms(context.random.between(pace_ms / 2, pace_ms * 3 / 2)));
        if done == Done::No || context.random.chance(20) {
            self.connection.change(context);
        }
    }

    fn is_created(&mut self, done: Done, topic: Topic, partitions: i32) {
        let mut book = self.scribe.book.borrow_mut();
        match done {
            Done::Yes => {
                if !book.is_new_topic(topic.id) {
                    book.complain("R18", format_args!("{topic:?} was made with an id that is not new"));
                }
                let stream = self.connection.streams();
                self.topic = Some(Present { topic, partitions, config: None, stream, latest: None });
            }
            Done::Already => book.complain("C7", format_args!("{} is there, though nobody made it", topic.name)),
            Done::No | Done::Unknown => {}
        }
    }

    fn is_deleted(&mut self, done: Done) {
        let Some(present) = &self.topic else { return };
        match done {
            Done::Yes => {
                self.scribe.view.is_gone(&present.topic);
                self.topic = None;
            }
            Done::Already => self.is_missing("deleted"),
            Done::No | Done::Unknown => {}
        }
    }

    fn is_changed(&mut self, done: Done, what: &str, change: impl FnOnce(&mut Present)) {
        let stream = self.connection.streams();
        match (done, &mut self.topic) {
            (Done::Yes, Some(present)) => {
                change(present);
                present.stream = stream;
            }
            (Done::Already, _) => self.is_missing(what),
            _ => {}
        }
    }

    /// A gateway that has not heard of the topic refuses what it is asked of it; the one that has told of it must not.
    fn is_missing(&mut self, what: &str) {
        if let Some(present) = self.topic.as_ref().filter(|present| present.stream == self.connection.streams()) {
            let topic = &present.topic;
            self.scribe.book.borrow_mut().complain("W4", format_args!("{topic:?} is not there to get {what}"));
        }
    }

    fn looked(&mut self) {
        let Some(present) = self.topic.as_ref().filter(|present| present.stream == self.connection.streams()) else {
            return;
        };
        let told = self.scribe.view.topic(&present.topic.name);
        if told.is_none_or(|(topic, partitions)| *topic != present.topic || partitions != present.partitions) {
            let (topic, partitions) = (&present.topic, present.partitions);
            let mut book = self.scribe.book.borrow_mut();
            book.complain("W4", format_args!("{topic:?} with {partitions} partitions is told as {told:?}"));
        }
    }

    fn listed(&mut self, listed: Vec<Listed>) {
        let Some(present) = &mut self.topic else { return };
        for (_, partition, found) in listed {
            if let Some((latest, _)) = found {
                present.latest = Some((partition, latest));
            }
        }
    }

    /// Who knows what will become of it.
    fn leave_behind(&mut self) {
        self.name += 1;
        self.topic = None;
    }
}

/// Where one of its partitions ends, or begins.
fn offsets(
    scribe: &mut Scribe,
    connection: &mut Connection,
    context: &mut Context<'_>,
    present: &Present,
) -> Asked<ListOffsets> {
    let partition = context.random.below(present.partitions as u64) as i32;
    let epoch = scribe.view.leader_epoch(&present.topic, partition);
    let end = if present.latest.is_none() || context.random.chance(500) { End::Latest } else { End::Earliest };
    let partitions = vec![(present.topic.clone(), partition, epoch)];
    scribe.ask(connection, context, ListOffsets { version: 6, end, partitions })
}

impl Process for Operator {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match self.connection.handle(context, &input) {
            News::Nothing => {}
            News::Answered(frame) => self.answered(context, frame),
            News::Unanswered => {
                if self.asked.take().is_some_and(|what| what.is_change()) {
                    self.leave_behind();
                }
                self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
            }
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}
