//! Topic configs: Apache Kafka 4.3's, and our own under `thalweg.`.

use super::definition::{Definition, Dynamic, Kind, Rule, ServerName, Unit};

const fn server(name: &'static str) -> ServerName {
    ServerName { name, unit: Unit::Same }
}

const fn minutes(name: &'static str) -> ServerName {
    ServerName { name, unit: Unit::MinutesToMs }
}

const fn hours(name: &'static str) -> ServerName {
    ServerName { name, unit: Unit::HoursToMs }
}

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    server_names: &'static [ServerName],
    documentation: &'static str,
) -> Definition {
    Definition {
        name,
        kind,
        default: Some(default),
        rule,
        server_names,
        dynamic: Dynamic::ClusterWide,
        internal: false,
        documentation,
    }
}

pub(super) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
pub(super) const DURABILITIES: &[&str] = &["fsync", "page-cache"];

/// Every topic config, in order of name.
pub const TOPIC_CONFIGS: &[Definition] = &[
    config(
        "cleanup.policy",
        Kind::List,
        "delete",
        Rule::EachOf(CLEANUP_POLICIES),
        &[server("log.cleanup.policy")],
        "How old data goes away: `delete` drops segments past the retention limits, `compact` keeps the last record of each key; both may be given. Empty keeps everything.",
    ),
    config(
        "compression.gzip.level",
        Kind::Int,
        "-1",
        Rule::GzipLevel,
        &[server("compression.gzip.level")],
        "Gzip level for batches that are compressed again because compression.type is gzip.",
    ),
    config(
        "compression.lz4.level",
        Kind::Int,
        "9",
        Rule::Between(1, 17),
        &[server("compression.lz4.level")],
        "LZ4 level for batches that are compressed again because compression.type is lz4.",
    ),
    config(
        "compression.type",
        Kind::String,
        "producer",
        Rule::OneOf(COMPRESSION_TYPES),
        &[server("compression.type")],
        "The codec batches are stored with. `producer` keeps what the producer chose.",
    ),
    config(
        "compression.zstd.level",
        Kind::Int,
        "3",
        Rule::Between(-131_072, 22),
        &[server("compression.zstd.level")],
        "Zstandard level for batches that are compressed again because compression.type is zstd.",
    ),
    config(
        "delete.retention.ms",
        Kind::Long,
        "86400000",
        Rule::AtLeast(0),
        &[server("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps tombstones, so that a consumer that began at offset 0 can still see them.",
    ),
    config(
        "file.delete.delay.ms",
        Kind::Long,
        "60000",
        Rule::AtLeast(0),
        &[server("log.segment.delete.delay.ms")],
        "How long files stay on disk after their segment was dropped from the log.",
    ),
    config(
        "flush.messages",
        Kind::Long,
        "9223372036854775807",
        Rule::AtLeast(1),
        &[server("log.flush.interval.messages")],
        "Sync to disk after this many records. Only of use with thalweg.durability=page-cache; otherwise every batch is synced before it is acknowledged.",
    ),
    config(
        "flush.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::AtLeast(0),
        &[server("log.flush.interval.ms"), server("log.flush.scheduler.interval.ms")],
        "Sync to disk when this much time has passed. Only of use with thalweg.durability=page-cache; otherwise every batch is synced before it is acknowledged.",
    ),
    config(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        Rule::ThrottledReplicas,
        &[],
        "Followers whose replication traffic is throttled: `partition:broker` pairs, or `*` for all.",
    ),
    config(
        "index.interval.bytes",
        Kind::Int,
        "4096",
        Rule::AtLeast(0),
        &[server("log.index.interval.bytes")],
        "About how many bytes of log lie between two entries of the offset index.",
    ),
    Definition {
        name: "internal.segment.bytes",
        kind: Kind::Int,
        default: None,
        rule: Rule::Any,
        server_names: &[],
        dynamic: Dynamic::ClusterWide,
        internal: true,
        documentation: "Segment size without the lower bound; for tests.",
    },
    config(
        "leader.replication.throttled.replicas",
        Kind::List,
        "",
        Rule::ThrottledReplicas,
        &[],
        "Leaders whose replication traffic is throttled: `partition:broker` pairs, or `*` for all.",
    ),
    config(
        "local.retention.bytes",
        Kind::Long,
        "-2",
        Rule::AtLeast(-2),
        &[server("log.local.retention.bytes")],
        "With tiered storage, how much stays on local disk; -2 means retention.bytes.",
    ),
    config(
        "local.retention.ms",
        Kind::Long,
        "-2",
        Rule::AtLeast(-2),
        &[server("log.local.retention.ms")],
        "With tiered storage, how long data stays on local disk; -2 means retention.ms.",
    ),
    config(
        "max.compaction.lag.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::AtLeast(1),
        &[server("log.cleaner.max.compaction.lag.ms")],
        "The longest a record may wait before compaction considers it.",
    ),
    config(
        "max.message.bytes",
        Kind::Int,
        "1048588",
        Rule::AtLeast(0),
        &[server("message.max.bytes")],
        "The largest batch accepted, as it arrives: compressed, headers of the batch included.",
    ),
    config(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        Rule::AtLeast(0),
        &[server("log.message.timestamp.after.max.ms")],
        "How far ahead of the broker's clock a record's timestamp may lie. Not checked when timestamps are set on append.",
    ),
    config(
        "message.timestamp.before.max.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::AtLeast(0),
        &[server("log.message.timestamp.before.max.ms")],
        "How far behind the broker's clock a record's timestamp may lie. Not checked when timestamps are set on append.",
    ),
    config(
        "message.timestamp.type",
        Kind::String,
        "CreateTime",
        Rule::OneOf(TIMESTAMP_TYPES),
        &[server("log.message.timestamp.type")],
        "Whose clock gives records their timestamp: the producer's (CreateTime) or the leader's (LogAppendTime).",
    ),
    config(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        "0.5",
        Rule::Between(0, 1),
        &[server("log.cleaner.min.cleanable.ratio")],
        "Compaction starts once this share of the log has not been compacted yet.",
    ),
    config(
        "min.compaction.lag.ms",
        Kind::Long,
        "0",
        Rule::AtLeast(0),
        &[server("log.cleaner.min.compaction.lag.ms")],
        "How long a record stays uncompacted at least.",
    ),
    config(
        "min.insync.replicas",
        Kind::Int,
        "1",
        Rule::AtLeast(1),
        &[server("min.insync.replicas")],
        "How many in-sync replicas must hold a record before an acks=all write is acknowledged and before any consumer sees it.",
    ),
    config(
        "preallocate",
        Kind::Boolean,
        "false",
        Rule::Any,
        &[server("log.preallocate")],
        "Whether a new segment's space is reserved on disk at once.",
    ),
    config(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        Rule::Any,
        &[],
        "With tiered storage, whether copying to remote storage has stopped and what is there is only read.",
    ),
    config(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        Rule::Any,
        &[],
        "Whether turning tiered storage off for the topic deletes its remote data.",
    ),
    config("remote.storage.enable", Kind::Boolean, "false", Rule::Any, &[], "Whether the topic uses tiered storage."),
    config(
        "retention.bytes",
        Kind::Long,
        "-1",
        Rule::Any,
        &[server("log.retention.bytes")],
        "How large a partition may grow before its oldest segments are dropped; -1 for no limit.",
    ),
    config(
        "retention.ms",
        Kind::Long,
        "604800000",
        Rule::AtLeast(-1),
        &[server("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")],
        "How long records are kept before their segment may be dropped; -1 for ever.",
    ),
    config(
        "segment.bytes",
        Kind::Int,
        "1073741824",
        Rule::AtLeast(1_048_576),
        &[server("log.segment.bytes")],
        "The size at which a segment is closed and a new one begun. Retention and compaction work on closed segments.",
    ),
    config(
        "segment.index.bytes",
        Kind::Int,
        "10485760",
        Rule::AtLeast(4),
        &[server("log.index.size.max.bytes")],
        "The largest size of a segment's offset index.",
    ),
    config(
        "segment.jitter.ms",
        Kind::Long,
        "0",
        Rule::AtLeast(0),
        &[server("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        "Up to this much is taken off segment.ms at random, so that segments of many partitions do not close at once.",
    ),
    config(
        "segment.ms",
        Kind::Long,
        "604800000",
        Rule::AtLeast(1),
        &[server("log.roll.ms"), hours("log.roll.hours")],
        "The age at which a segment is closed even when it is not full.",
    ),
    config(
        "thalweg.durability",
        Kind::String,
        "fsync",
        Rule::OneOf(DURABILITIES),
        &[server("thalweg.durability")],
        "What an acknowledgement promises: `fsync`, that the record survives power loss; `page-cache`, Kafka's own promise, that it is in memory on min.insync.replicas machines.",
    ),
    config(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        Rule::Any,
        &[server("unclean.leader.election.enable")],
        "Whether a replica that may lack acknowledged records may lead when no other can. Loses data.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{broker_config, validate_value};

    #[test]
    fn the_table_is_sorted_and_every_default_is_valid() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
        for definition in TOPIC_CONFIGS {
            if let Some(default) = definition.default {
                assert_eq!(validate_value(definition, default), Ok(()));
            }
            assert!(definition.documentation.ends_with('.'), "{}", definition.name);
        }
    }

    #[test]
    fn every_server_name_is_a_broker_config_and_their_defaults_agree() {
        for definition in TOPIC_CONFIGS {
            let defaults: Vec<String> = definition
                .server_names
                .iter()
                .filter_map(|server| {
                    let config = broker_config(server.name).unwrap_or_else(|| panic!("{} is missing", server.name));
                    Some(server.unit.convert(config.default?))
                })
                .collect();
            if !definition.server_names.is_empty() {
                assert_eq!(defaults.first().map(String::as_str), definition.default, "{}", definition.name);
            }
        }
    }
}
