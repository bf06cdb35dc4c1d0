//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Format;

/// Thalweg: Kafka-compatible event streaming.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all three services in this process
    Dev(Dev),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Send records read from standard input, one a line
    Produce(Produce),
    /// Print records of a topic
    Consume(Consume),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// Describe and alter configs of topics, brokers and the cluster
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Move replicas, and choose leaders
    #[command(subcommand)]
    Partitions(PartitionsCommand),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Look inside files
    #[command(subcommand)]
    Debug(DebugCommand),
}

#[derive(Debug, Args)]
pub struct Dev {
    /// Where the data is kept; what is there is served again
    #[arg(long, default_value = "thalweg-data")]
    pub data_dir: PathBuf,
    /// Where clients connect to
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub listen: String,
    /// Metrics and health; nowhere unless given
    #[arg(long)]
    pub http: Option<String>,
    /// Create this topic at the start, as name or name:partitions; may be given again
    #[arg(long, value_parser = parse_topic)]
    pub topic: Vec<(String, i32)>,
    /// error, warn, info, debug or trace, or a filter such as `storage_core=debug,info`
    #[arg(long, default_value = "warn")]
    pub log: String,
    /// Send traces to this OTLP collector over gRPC, as http://host:port; none are made unless given
    #[arg(long)]
    pub otlp_endpoint: Option<String>,
    /// Which part of the requests is traced, 0 to 1
    #[arg(long, default_value_t = 1.0)]
    pub trace_ratio: f64,
}

#[derive(Clone, Debug, Args)]
pub struct Target {
    /// Where to reach the cluster: host:port, several separated by commas
    #[arg(long, short, env = "THALWEG_BOOTSTRAP", default_value = "127.0.0.1:9092", global = true)]
    pub bootstrap: String,
    /// How to print results
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create {
        name: String,
        /// -1: the cluster's default
        #[arg(long, short, default_value_t = -1, allow_negative_numbers = true)]
        partitions: i32,
        /// -1: the cluster's default
        #[arg(long, short, default_value_t = -1, allow_negative_numbers = true)]
        replication_factor: i16,
        /// name=value; may be given again
        #[arg(long, short, value_parser = parse_config)]
        config: Vec<(String, String)>,
        #[command(flatten)]
        target: Target,
    },
    /// List topics
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        target: Target,
    },
    /// Show partitions, leaders, in-sync replicas, offsets and configs of a topic
    Describe {
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Change configs, or add partitions
    Alter {
        name: String,
        /// name=value; may be given again
        #[arg(long, short, value_parser = parse_config)]
        config: Vec<(String, String)>,
        /// Back to the default; may be given again
        #[arg(long)]
        unset: Vec<String>,
        /// The new number of partitions
        #[arg(long, short)]
        partitions: Option<i32>,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a topic and all its records
    Delete {
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete the oldest records, for good
    Trim {
        name: String,
        /// Only these partitions; may be given again
        #[arg(long, short)]
        partition: Vec<i32>,
        /// Everything below this offset goes: an offset, or end
        #[arg(long, value_parser = parse_bound)]
        before: Bound,
        /// Print what would be deleted
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Give a topic more partitions
    AddPartitions {
        name: String,
        /// How many it is to have in all
        #[arg(long)]
        total: i32,
        /// Only ask whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// Up to where records are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    End,
    Offset(i64),
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        target: Target,
    },
    /// Show where a group stands: committed offsets, lag, and who reads what
    Describe {
        name: String,
        /// Show the members instead
        #[arg(long)]
        members: bool,
        /// Print again every so many seconds, until interrupted
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
        watch: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
    /// Commit other offsets for a group without members
    Reset(Reset),
    /// Delete a group without members, and all that it committed
    Delete {
        name: String,
        /// Print what would be deleted
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Delete what a group committed for a topic it does not read
    DeleteOffsets {
        name: String,
        /// A topic, or some of its partitions: name or name:0,1; may be given again
        #[arg(long, short, required = true, value_parser = parse_partitions)]
        topic: Vec<Partitions>,
        /// Print what would be deleted
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true))]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct Reset {
    pub name: String,
    /// A topic, or some of its partitions: name or name:0,1; may be given again
    #[arg(long, short, group = "which", value_parser = parse_partitions)]
    pub topic: Vec<Partitions>,
    /// Every topic that the group has committed offsets for
    #[arg(long, group = "which", conflicts_with = "topic")]
    pub all_topics: bool,
    /// To the oldest record
    #[arg(long, group = "where")]
    pub to_earliest: bool,
    /// To what comes next
    #[arg(long, group = "where")]
    pub to_latest: bool,
    /// To this offset, or the nearest there is
    #[arg(long, group = "where")]
    pub to_offset: Option<i64>,
    /// To the first record of that time or later: milliseconds since 1970, or 2026-11-21T16:00:00Z
    #[arg(long, group = "where", value_parser = parse_time)]
    pub to_timestamp: Option<i64>,
    /// By so many records, forward or (negative) back
    #[arg(long, group = "where", allow_negative_numbers = true)]
    pub shift_by: Option<i64>,
    /// Print the offsets and commit nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub target: Target,
}

/// A topic and, unless all of them are meant, some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    pub topic: String,
    pub indexes: Option<Vec<i32>>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show configs: topic:NAME, broker:ID, or cluster for the defaults of all brokers
    Describe {
        #[arg(value_parser = parse_resource)]
        resource: Resource,
        /// Also those that nobody has set
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Change configs of topic:NAME, broker:ID or cluster
    Alter {
        #[arg(value_parser = parse_resource)]
        resource: Resource,
        /// name=value; may be given again
        #[arg(long, short, value_parser = parse_config)]
        set: Vec<(String, String)>,
        /// Back to the default; may be given again
        #[arg(long)]
        unset: Vec<String>,
        /// Add to a list, as name=value; may be given again
        #[arg(long, value_parser = parse_config)]
        append: Vec<(String, String)>,
        /// Take out of a list, as name=value; may be given again
        #[arg(long, value_parser = parse_config)]
        subtract: Vec<(String, String)>,
        /// Only ask whether it could be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Topic(String),
    Broker(i32),
    Cluster,
}

#[derive(Debug, Subcommand)]
pub enum PartitionsCommand {
    /// Move partitions to other brokers, or undo a move
    #[command(group = clap::ArgGroup::new("end").required(true))]
    Move {
        topic: String,
        /// Only these partitions; may be given again
        #[arg(long, short)]
        partition: Vec<i32>,
        /// The brokers that are to have the replicas, separated by commas; each partition begins with the next one
        #[arg(long, group = "end", value_delimiter = ',')]
        to: Vec<i32>,
        /// Back to where the replicas were before the move that is under way
        #[arg(long, group = "end")]
        cancel: bool,
        /// Print the moves and begin none
        #[arg(long)]
        dry_run: bool,
        /// Return when all is moved
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List the partitions that are being moved
    Moves {
        #[command(flatten)]
        target: Target,
    },
    /// Have the preferred replicas lead again
    Elect {
        /// Every topic, unless given
        topic: Option<String>,
        /// Only these partitions; may be given again
        #[arg(long, short, requires = "topic")]
        partition: Vec<i32>,
        /// Give leaders to partitions that have none, from whatever replica is alive. What was committed may be lost
        #[arg(long)]
        unclean: bool,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub struct Produce {
    pub topic: String,
    /// Send all to this partition instead of choosing by key
    #[arg(long, short)]
    pub partition: Option<i32>,
    /// What stands between key and value on a line; without it a line is a value
    #[arg(long, short = 'K')]
    pub key_delimiter: Option<String>,
    /// name=value, on every record; may be given again
    #[arg(long, short = 'H', value_parser = parse_config)]
    pub header: Vec<(String, String)>,
    /// Each line is an object with key, value, headers, partition and timestamp
    #[arg(long)]
    pub json: bool,
    #[arg(long, short = 'z', value_enum, default_value_t = Codec::None)]
    pub compression: Codec,
    /// 0, 1 or all
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    pub acks: i16,
    /// Records sent together at most
    #[arg(long, default_value_t = 1000)]
    pub batch_records: usize,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Args)]
pub struct Consume {
    pub topic: String,
    /// Only these partitions; may be given again
    #[arg(long, short)]
    pub partition: Vec<i32>,
    /// beginning, end, or an offset; in a group, for partitions without a committed offset
    #[arg(long, short, default_value = "beginning", value_parser = parse_position)]
    pub offset: Position,
    /// Stop after so many records
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
    /// Stop at what is the end of the topic now, instead of waiting for more
    #[arg(long, short)]
    pub exit: bool,
    /// As a member of this group: partitions are shared with its other members, and what was printed is committed
    #[arg(long, short, conflicts_with = "partition")]
    pub group: Option<String>,
    /// Short for --output json: one JSON object a line with partition, offset, timestamp, key, value and headers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub target: Target,
}

impl Consume {
    /// How records are printed: as JSON, or their values alone.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.target.output }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Beginning,
    End,
    Offset(i64),
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Brokers, controller, quorum, and partitions that need attention
    Status {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Print the batches of a segment file
    DumpLog {
        file: PathBuf,
        /// Print the records too
        #[arg(long)]
        records: bool,
        #[arg(long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Check every file of a storage node's data directory; the node must not be running
    Verify {
        /// The node's `data_dir`
        directory: PathBuf,
        #[arg(long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

fn parse_config(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_topic(text: &str) -> Result<(String, i32), String> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), -1)),
        Some((name, partitions)) => match partitions.parse() {
            Ok(partitions) if partitions > 0 => Ok((name.to_owned(), partitions)),
            _ => Err(format!("`{partitions}` is not a number of partitions")),
        },
    }
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("acks is 0, 1 or all".to_owned()),
    }
}

fn parse_position(text: &str) -> Result<Position, String> {
    match text {
        "beginning" => Ok(Position::Beginning),
        "end" => Ok(Position::End),
        _ => text.parse().map(Position::Offset).map_err(|_| "an offset is beginning, end or a number".to_owned()),
    }
}

fn parse_bound(text: &str) -> Result<Bound, String> {
    match text {
        "end" => Ok(Bound::End),
        _ => match text.parse() {
            Ok(offset) if offset >= 0 => Ok(Bound::Offset(offset)),
            _ => Err("a bound is end or an offset".to_owned()),
        },
    }
}

fn parse_partitions(text: &str) -> Result<Partitions, String> {
    let Some((topic, list)) = text.split_once(':') else {
        return Ok(Partitions { topic: text.to_owned(), indexes: None });
    };
    let indexes: Result<Vec<i32>, _> = list.split(',').map(str::parse).collect();
    let indexes = indexes.map_err(|_| format!("`{list}` is not a list of partitions such as 0,1"))?;
    Ok(Partitions { topic: topic.to_owned(), indexes: Some(indexes) })
}

fn parse_resource(text: &str) -> Result<Resource, String> {
    match text.split_once(':') {
        Some(("topic", name)) if !name.is_empty() => Ok(Resource::Topic(name.to_owned())),
        Some(("broker", id)) => {
            id.parse().map(Resource::Broker).map_err(|_| format!("`{id}` is not the id of a broker"))
        }
        None if text == "cluster" => Ok(Resource::Cluster),
        _ => Err("a resource is topic:NAME, broker:ID or cluster".to_owned()),
    }
}

/// Milliseconds since 1970, as a number or as a date and a time in UTC.
fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    date_and_time(text)
        .ok_or_else(|| "a time is a number of milliseconds since 1970, or 2026-11-21T16:00:00Z".to_owned())
}

fn date_and_time(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z').unwrap_or(text).split_once('T')?;
    let numbers = |text: &str, by: char| text.split(by).map(|part| part.parse().ok()).collect::<Option<Vec<i64>>>();
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let ([year, month @ 1..=12, day @ 1..=31], [hour @ 0..=23, minute @ 0..=59, second @ 0..=60]) =
        (&date[..], &time[..])
    else {
        return None;
    };
    let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // Years begin in March, so that the odd day is at the end; eras have 400 years.
    let year = if *month <= 2 { year - 1 } else { *year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn records_are_printed_as_json_by_either_flag() {
        let format = |flags: &str| {
            let line = format!("thalweg consume t {flags}");
            match Cli::try_parse_from(line.split_whitespace()).expect("it is sound").command {
                Command::Consume(options) => options.format(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((format(""), format("--output table")), (Format::Table, Format::Table));
        assert_eq!((format("--json"), format("--output json")), (Format::Json, Format::Json));
    }

    #[test]
    fn topics_and_groups_are_listed_by_two_names() {
        let parsed = |line: &str| Cli::try_parse_from(line.split_whitespace()).expect("it is sound").command;
        for verb in ["ls", "list"] {
            let topics = parsed(&format!("thalweg topic {verb}"));
            assert!(matches!(topics, Command::Topic(TopicCommand::Ls { .. })), "{topics:?}");
            let groups = parsed(&format!("thalweg group {verb}"));
            assert!(matches!(groups, Command::Group(GroupCommand::Ls { .. })), "{groups:?}");
        }
    }

    #[test]
    fn times_are_milliseconds_or_dates() {
        assert_eq!(parse_time("1700000000123"), Ok(1_700_000_000_123));
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse_time("2000-02-29T12:00:00.5"), Ok(951_825_600_500));
        assert_eq!(parse_time("2026-11-21T16:00:00Z"), Ok(1_795_276_800_000));
        assert!(
            ["soon", "2026-13-01T00:00:00", "2026-11-21", "2026-11-21T25:00:00"]
                .iter()
                .all(|text| parse_time(text).is_err())
        );
    }

    #[test]
    fn partitions_and_resources_are_named_with_colons() {
        let some = Partitions { topic: "t".to_owned(), indexes: Some(vec![0, 2]) };
        assert_eq!(parse_partitions("t:0,2"), Ok(some));
        assert_eq!(parse_partitions("t"), Ok(Partitions { topic: "t".to_owned(), indexes: None }));
        assert!(parse_partitions("t:x").is_err());
        assert_eq!(parse_resource("topic:t"), Ok(Resource::Topic("t".to_owned())));
        assert_eq!(parse_resource("broker:3"), Ok(Resource::Broker(3)));
        assert_eq!(parse_resource("cluster"), Ok(Resource::Cluster));
        assert!(["topic:", "broker:x", "t", "group:g"].iter().all(|text| parse_resource(text).is_err()));
    }
}
