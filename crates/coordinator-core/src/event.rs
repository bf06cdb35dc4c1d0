//! Everything that can happen to a coordinator.

use base_types::TopicId;
use bytes::Bytes;
use peer_api::config::{Lookup, TopicSettings, broker_config};
use peer_api::groups::{Caller, GROUPS_TOPIC, GroupRequest};
use peer_api::metadata::Image;
use peer_api::storage::AppendError;

use crate::records::Record;

/// Names a request; chosen by the owner, given back in the reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestKey(pub u64);

/// Names an append. They are numbered in the order in which they are asked for, and are committed in that order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AppendId(pub u64);

/// A record of the log, in Kafka's own format. Without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl LogRecord {
    /// A bound for what a batch with this record takes, header and all.
    pub(crate) fn size(&self) -> usize {
        const BATCH_HEADER: usize = 61;
        const RECORD_FRAME: usize = 40;
        BATCH_HEADER + RECORD_FRAME + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    /// The records of one batch of the log, in order. They come before [`Event::LoadFinished`] and never after it.
    ///
    /// Assumes: all of it is committed. A new leader waits with the last ones until its high watermark has reached what its
    /// log held when it was elected, since an offset that was answered once must not go back (G3, G4).
    RecordsLoaded(Vec<LogRecord>),
    /// The log was read to its end. Requests before that are answered with LoadInProgress.
    LoadFinished,
    Requested {
        request: RequestKey,
        caller: Caller,
        body: GroupRequest,
    },
    /// The append is below the high watermark.
    AppendCommitted(AppendId),
    /// Nothing of the append is in the log and nothing ever will be. Errors that are not definite are not said here: the
    /// append is then either committed later, or the leadership ends.
    AppendRefused {
        append: AppendId,
        error: AppendError,
    },
    /// Whether the partition has as many replicas in sync as `min.insync.replicas` asks for. While it has not, what needs a
    /// write is refused before anything changes. A coordinator starts writable.
    WritableChanged(bool),
    /// The image that steps are given has changed. `removed` are the topics that it held before and holds no more.
    ///
    /// They are told, not looked for, because an image may lag: a topic it does not know yet may have offsets already (C10).
    MetadataChanged {
        removed: Vec<(TopicId, String)>,
    },
    SettingsChanged(Settings),
    /// A deadline given by [`crate::GroupCoordinator::next_deadline`] has passed.
    Ticked,
    /// The partition is not led here any more: everyone who waits is told, and nothing may be asked of the log again.
    Unloaded,
}

/// The broker's settings that coordinators act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub group_session_timeout_ms_min: i32,
    pub group_session_timeout_ms_max: i32,
    /// How long the first rebalance of a group waits for more members.
    pub group_initial_rebalance_delay_ms: i32,
    pub group_size_max: usize,
    pub offset_metadata_bytes_max: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval_ms: u64,
    /// The largest batch that the partition takes (`max.message.bytes` of the topic).
    pub append_bytes_max: usize,
    /// How long an answer waits for its write.
    pub commit_timeout_ms: u64,
    pub consumer_heartbeat_interval_ms: i32,
    pub consumer_session_timeout_ms: i32,
    /// How soon after a target of a group the next one may be computed.
    pub consumer_assignment_interval_ms: i32,
    pub consumer_group_size_max: usize,
    /// Server-side assignors by name; the first is the default.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`: disabled, upgrade, downgrade or bidirectional.
    pub consumer_migration_policy: String,
}

/// The broker configs that [`Settings`] are made of.
pub const CONFIGS: &[&str] = &[
    "group.consumer.assignment.interval.ms",
    "group.consumer.assignors",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.session.timeout.ms",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "offset.metadata.max.bytes",
    "offsets.commit.timeout.ms",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
];

impl Settings {
    /// As this broker's configs say.
    pub fn of(lookup: Lookup<'_>) -> Settings {
        let text = |name: &str| {
            broker_config(name).and_then(|definition| lookup.broker_config(definition).value).unwrap_or_default()
        };
        let number = |name: &str, otherwise: i64| text(name).parse::<i64>().unwrap_or(otherwise);
        let int = |name: &str, otherwise: i64| number(name, otherwise).clamp(0, i64::from(i32::MAX)) as i32;
        let size = |name: &str, otherwise: i64| usize::try_from(number(name, otherwise)).unwrap_or(usize::MAX);
        let millis = |name: &str, otherwise: i64| u64::try_from(number(name, otherwise)).unwrap_or(0);
        Settings {
            group_session_timeout_ms_min: int("group.min.session.timeout.ms", 6_000),
            group_session_timeout_ms_max: int("group.max.session.timeout.ms", 1_800_000),
            group_initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms", 3_000),
            group_size_max: size("group.max.size", i64::from(i32::MAX)),
            offset_metadata_bytes_max: size("offset.metadata.max.bytes", 4_096),
            offsets_retention_ms: number("offsets.retention.minutes", 10_080).saturating_mul(60_000),
            offsets_retention_check_interval_ms: millis("offsets.retention.check.interval.ms", 600_000),
            append_bytes_max: usize::try_from(TopicSettings::looked_up(lookup, GROUPS_TOPIC).max_message_bytes)
                .unwrap_or(0),
            commit_timeout_ms: millis("offsets.commit.timeout.ms", 5_000),
            consumer_heartbeat_interval_ms: int("group.consumer.heartbeat.interval.ms", 5_000),
            consumer_session_timeout_ms: int("group.consumer.session.timeout.ms", 45_000),
            consumer_assignment_interval_ms: int("group.consumer.assignment.interval.ms", 200),
            consumer_group_size_max: size("group.consumer.max.size", i64::from(i32::MAX)),
            consumer_assignors: text("group.consumer.assignors")
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            consumer_migration_policy: text("group.consumer.migration.policy").to_ascii_lowercase(),
        }
    }

    /// Whether the log takes these in one batch.
    pub(crate) fn one_batch_holds<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> bool {
        records.into_iter().map(|record| record.encode().size()).sum::<usize>() <= self.append_bytes_max
    }
}

impl Default for Settings {
    /// Kafka's defaults.
    fn default() -> Settings {
        Settings::of(Lookup::new(&Image::default()))
    }
}
