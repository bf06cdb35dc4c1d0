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
    /// beginning, end, or an offset
    #[arg(long, short, default_value = "beginning", value_parser = parse_position)]
    pub offset: Position,
    /// Stop after so many records
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
    /// Stop at what is the end of the topic now, instead of waiting for more
    #[arg(long, short)]
    pub exit: bool,
    /// One JSON object a line with partition, offset, timestamp, key, value and headers
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
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
