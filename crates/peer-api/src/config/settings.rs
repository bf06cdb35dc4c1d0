//! A topic's configs as the services use them.

use super::lookup::Lookup;
use super::topic_config;
use super::validate::elements;
use crate::metadata::Image;

/// The settings of one topic, every layer resolved. Cheap to compare: a change of metadata that leaves them equal needs no action.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    pub cleanup_policy: CleanupPolicy,
    pub compression: TopicCompression,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub durability: Durability,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    /// As configured; see [`TopicSettings::min_insync_replicas_of`].
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    /// Negative: no limit.
    pub retention_bytes: i64,
    /// Negative: for ever.
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCompression {
    /// As the producer sent it.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// What an acknowledgement promises (architecture decision 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Fsync,
    PageCache,
}

impl TopicSettings {
    /// The settings of `topic` as the whole cluster must agree on them.
    pub fn of(image: &Image, topic: &str) -> TopicSettings {
        TopicSettings::looked_up(Lookup::new(image), topic)
    }

    pub fn looked_up(lookup: Lookup<'_>, topic: &str) -> TopicSettings {
        let reader = Reader { lookup, topic };
        let policies = elements(&reader.text("cleanup.policy"));
        let segment_bytes = match reader.text("internal.segment.bytes").parse() {
            Ok(bytes) => bytes,
            Err(_) => reader.int("segment.bytes"),
        };
        TopicSettings {
            cleanup_policy: CleanupPolicy {
                delete: policies.iter().any(|policy| policy == "delete"),
                compact: policies.iter().any(|policy| policy == "compact"),
            },
            compression: match reader.text("compression.type").as_str() {
                "uncompressed" => TopicCompression::Uncompressed,
                "gzip" => TopicCompression::Gzip,
                "snappy" => TopicCompression::Snappy,
                "lz4" => TopicCompression::Lz4,
                "zstd" => TopicCompression::Zstd,
                _ => TopicCompression::Producer,
            },
            compression_gzip_level: reader.int("compression.gzip.level"),
            compression_lz4_level: reader.int("compression.lz4.level"),
            compression_zstd_level: reader.int("compression.zstd.level"),
            delete_retention_ms: reader.long("delete.retention.ms"),
            durability: match reader.text("thalweg.durability").as_str() {
                "page-cache" => Durability::PageCache,
                _ => Durability::Fsync,
            },
            file_delete_delay_ms: reader.long("file.delete.delay.ms"),
            flush_messages: reader.long("flush.messages"),
            flush_ms: reader.long("flush.ms"),
            index_interval_bytes: reader.int("index.interval.bytes"),
            max_compaction_lag_ms: reader.long("max.compaction.lag.ms"),
            max_message_bytes: reader.int("max.message.bytes"),
            message_timestamp_after_max_ms: reader.long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: reader.long("message.timestamp.before.max.ms"),
            message_timestamp_type: match reader.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: reader.text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: reader.long("min.compaction.lag.ms"),
            min_insync_replicas: reader.int("min.insync.replicas"),
            preallocate: reader.flag("preallocate"),
            retention_bytes: reader.long("retention.bytes"),
            retention_ms: reader.long("retention.ms"),
            segment_bytes,
            segment_index_bytes: reader.int("segment.index.bytes"),
            segment_jitter_ms: reader.long("segment.jitter.ms"),
            segment_ms: reader.long("segment.ms"),
            unclean_leader_election_enable: reader.flag("unclean.leader.election.enable"),
        }
    }

    /// The minimum that can be asked of a partition with so many replicas: a topic with fewer replicas than
    /// `min.insync.replicas` stays writable, as in Kafka.
    pub fn min_insync_replicas_of(&self, replicas: usize) -> usize {
        usize::try_from(self.min_insync_replicas).unwrap_or(1).min(replicas).max(1)
    }
}

impl Default for TopicSettings {
    /// Kafka's defaults.
    fn default() -> TopicSettings {
        TopicSettings::of(&Image::default(), "")
    }
}

struct Reader<'a> {
    lookup: Lookup<'a>,
    topic: &'a str,
}

impl Reader<'_> {
    /// The value in force; the default when what is set cannot be parsed, which the controller does not let happen.
    fn text(&self, name: &str) -> String {
        topic_config(name).and_then(|definition| self.lookup.topic_value(self.topic, definition)).unwrap_or_default()
    }

    fn long(&self, name: &str) -> i64 {
        let default = || topic_config(name)?.default?.parse().ok();
        self.text(name).parse().ok().or_else(default).unwrap_or_default()
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).unwrap_or(i32::MAX)
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{ConfigResource, Record};

    #[test]
    fn defaults_are_kafkas() {
        let settings = TopicSettings::default();
        assert_eq!(settings.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(settings.max_message_bytes, 1_048_588);
        assert_eq!(settings.retention_ms, 7 * 24 * 3_600_000);
        assert_eq!(settings.retention_bytes, -1);
        assert_eq!(settings.min_insync_replicas, 1);
        assert_eq!(settings.durability, Durability::Fsync);
        assert_eq!(settings.message_timestamp_type, TimestampType::CreateTime);
        assert_eq!(settings.segment_bytes, 1 << 30);
    }

    #[test]
    fn a_topic_takes_its_own_value_before_the_clusters() {
        let mut image = Image::default();
        let mut set = |resource, name: &str, value: &str| {
            image.apply(&Record::ConfigChanged { resource, name: name.to_owned(), value: Some(value.to_owned()) });
        };
        set(ConfigResource::Cluster, "min.insync.replicas", "2");
        set(ConfigResource::Cluster, "message.max.bytes", "5000");
        set(ConfigResource::Topic("t".to_owned()), "max.message.bytes", "6000");
        set(ConfigResource::Topic("t".to_owned()), "cleanup.policy", "compact, delete");
        set(ConfigResource::Topic("t".to_owned()), "thalweg.durability", "page-cache");
        let settings = TopicSettings::of(&image, "t");
        assert_eq!((settings.min_insync_replicas, settings.max_message_bytes), (2, 6000));
        assert_eq!(settings.cleanup_policy, CleanupPolicy { delete: true, compact: true });
        assert_eq!(settings.durability, Durability::PageCache);
        assert_eq!(TopicSettings::of(&image, "u").max_message_bytes, 5000);
    }

    #[test]
    fn the_minimum_isr_never_exceeds_the_replicas() {
        let settings = TopicSettings { min_insync_replicas: 2, ..TopicSettings::default() };
        assert_eq!((settings.min_insync_replicas_of(1), settings.min_insync_replicas_of(3)), (1, 2));
    }
}
