//! Wrong requests get the codes that Apache Kafka gives to the same bytes.
//!
//! The same frames go to both, and what comes back is compared: error codes, and whether the connection was closed. Kafka's
//! answers are kept in `fixtures/bad_input.txt` and `bad_group_input.txt`, so that a change of either side shows; `UPDATE=1`
//! writes the files anew.

#![allow(clippy::disallowed_methods, reason = "end-to-end tests start processes and read files")]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::Bytes;
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic};
use kafka_wire::k02_list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::k03_metadata::MetadataRequestTopic;
use kafka_wire::k19_create_topics::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use kafka_wire::k20_delete_topics::DeleteTopicState;
use kafka_wire::k23_offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_wire::k32_describe_configs::DescribeConfigsResource;
use kafka_wire::k37_create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_wire::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeProducersRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, FetchRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, KafkaString,
    ListConfigResourcesRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    Request, Uuid, decode_response, encode_request, k33_alter_configs, k44_incremental_alter_configs,
    k55_describe_quorum, k61_describe_producers, k75_describe_topic_partitions,
};
use record_batch::{BatchBuilder, Compression, Producer};
use tests_e2e::dev::Dev;
use tests_e2e::oracle::{Kafka, OracleConfig};

#[path = "bad_input/groups.rs"]
mod groups;

const ANSWER_BOUND: Duration = Duration::from_secs(20);

/// One server, and what it said so far: a line for each case.
struct Asked {
    bootstrap: String,
    connection: Option<TcpStream>,
    said: String,
}

impl Asked {
    fn new(bootstrap: String) -> Asked {
        Asked { bootstrap, connection: None, said: String::new() }
    }

    /// The answer to these bytes, without its size. `None`: the connection was closed.
    fn exchange(&mut self, frame: &[u8]) -> Result<Option<Bytes>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(&self.bootstrap)?,
        };
        connection.set_read_timeout(Some(ANSWER_BOUND))?;
        connection.write_all(frame)?;
        let mut size = [0; 4];
        match connection.read(&mut size[..1]) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            read => _ = read.context("no answer in time")?,
        }
        connection.read_exact(&mut size[1..])?;
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        connection.read_exact(&mut answer)?;
        self.connection = Some(connection);
        Ok(Some(answer.into()))
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<Option<R::Response>> {
        let frame = encode_request(7, Some("bad-input".into()), version, request)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?
            .concat();
        let Some(answer) = self.exchange(&frame)? else { return Ok(None) };
        let (id, response) = decode_response::<R>(answer, version)
            .map_err(|error| anyhow::anyhow!("an unreadable answer: {error:?}"))?;
        ensure!(id == 7, "an answer to another request");
        Ok(Some(response))
    }

    /// Asks, and notes the codes that `read` finds in the answer.
    fn case<R: Request>(
        &mut self,
        name: &str,
        version: i16,
        request: &R,
        read: impl Fn(&R::Response) -> Vec<i64>,
    ) -> Result<()> {
        self.note(name, version, request, |response| words(&read(response)))
    }

    /// The same with words of its own.
    fn note<R: Request>(
        &mut self,
        name: &str,
        version: i16,
        request: &R,
        read: impl Fn(&R::Response) -> String,
    ) -> Result<()> {
        let answer = self.ask(version, request).with_context(|| name.to_owned())?;
        let told = answer.map_or("closed".to_owned(), |response| read(&response));
        writeln!(self.said, "{name} v{version}: {told}")?;
        Ok(())
    }
}

fn words(codes: &[i64]) -> String {
    codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Where we answer otherwise on purpose: the case, what we say, and why.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "IncrementalAlterConfigs an unknown operation v1",
        "42",
        "Kafka fails inside and says UNKNOWN_SERVER_ERROR; nothing is wrong with the server",
    ),
    ("Produce an unknown codec v9", "76", "the same: Kafka fails inside"),
    (
        "Produce a claim of LogAppendTime where the broker gives it v9",
        "32",
        "Kafka lists every record of the batch; a list of none says the same",
    ),
    ("Produce numbered a negative epoch v9", "87", "Kafka takes it for an older epoch; it is none at all"),
];

/// The same of groups.
const GROUP_DEVIATIONS: &[(&str, &str, &str)] = &[(
    "OffsetFetch nobody with an epoch of a consumer group v9",
    "0 25",
    "Kafka fails inside and says UNKNOWN_SERVER_ERROR; whoever has an epoch is a member, and this one is unknown",
)];

/// What was kept of Kafka, with what we say where that is something else.
fn expected(kept: &str, deviations: &[(&str, &str, &str)]) -> Result<String> {
    let mut lines: Vec<String> = kept.lines().map(str::to_owned).collect();
    for (case, told, why) in deviations {
        let line = lines.iter_mut().find(|line| line.split_once(": ").is_some_and(|(name, _)| name == *case));
        *line.with_context(|| format!("no case {case} ({why})"))? = format!("{case}: {told}");
    }
    Ok(lines.join("\n") + "\n")
}

#[test]
fn wrong_requests_get_the_codes_of_apache_kafka() -> Result<()> {
    compare("bad_input.txt", DEVIATIONS, all_cases)
}

#[test]
fn wrong_requests_to_groups_get_the_codes_of_apache_kafka() -> Result<()> {
    compare("bad_group_input.txt", GROUP_DEVIATIONS, groups::all_cases)
}

fn compare(
    fixture: &str,
    deviations: &[(&str, &str, &str)],
    all_cases: impl Fn(String) -> Result<String>,
) -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let theirs = all_cases(kafka.bootstrap()).context("Apache Kafka")?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &theirs)?;
    }
    let kept = fs::read_to_string(&path)?;
    let ours = all_cases(dev.bootstrap()).context("thalweg")?;
    let difference = |expected: &str, said: &str| -> String {
        let lines = expected.lines().zip(said.lines()).filter(|(expected, said)| expected != said);
        lines.map(|(expected, said)| format!("\n  expected {expected}\n  said     {said}")).collect()
    };
    ensure!(theirs == kept, "Apache Kafka no longer says what was kept:{}", difference(&kept, &theirs));
    let expected = expected(&kept, deviations)?;
    ensure!(ours == expected, "thalweg says otherwise:{}", difference(&expected, &ours));
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

fn all_cases(bootstrap: String) -> Result<String> {
    let mut asked = Asked::new(bootstrap);
    prepare(&mut asked)?;
    versions(&mut asked)?;
    metadata(&mut asked)?;
    creating(&mut asked)?;
    growing_and_deleting(&mut asked)?;
    configs(&mut asked)?;
    producing(&mut asked)?;
    numbered_producing(&mut asked)?;
    fetching(&mut asked)?;
    offsets(&mut asked)?;
    describing(&mut asked)?;
    Ok(asked.said)
}

// - topics -

fn topic(name: &str, partitions: i32, replication: i16, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let config = |(name, value): &(&str, Option<&str>)| CreatableTopicConfig {
        name: (*name).into(),
        value: value.map(KafkaString::from),
    };
    CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replication,
        assignments: Vec::new(),
        configs: configs.iter().map(config).collect(),
    }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(partition, brokers)| CreatableReplicaAssignment {
        partition_index: *partition,
        broker_ids: brokers.to_vec(),
    });
    CreatableTopic { assignments: assignments.collect(), ..topic(name, -1, -1, &[]) }
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 10_000, validate_only: false }
}

/// What the cases need, and Kafka's answer that it is there.
fn prepare(asked: &mut Asked) -> Result<()> {
    let topics = vec![
        topic("plain", 1, 1, &[]),
        topic("compacted", 1, 1, &[("cleanup.policy", Some("compact"))]),
        topic("stamped", 1, 1, &[("message.timestamp.type", Some("LogAppendTime"))]),
        topic("small", 1, 1, &[("max.message.bytes", Some("1000"))]),
        topic("recent", 1, 1, &[("message.timestamp.before.max.ms", Some("1000"))]),
        topic("demanding", 1, 1, &[("min.insync.replicas", Some("2"))]),
        topic("dotted.name", 1, 1, &[]),
        topic("numbered", 1, 1, &[]),
    ];
    let response = asked.ask(7, &create(topics))?.context("closed")?;
    if let Some(refused) = response.topics.iter().find(|topic| topic.error_code != 0) {
        bail!("{refused:?}");
    }
    // A topic is there when it has its leader.
    let names = ["plain", "compacted", "stamped", "small", "recent", "demanding", "numbered"];
    tests_e2e::wait::until("leaders", ANSWER_BOUND, || {
        let response = asked.ask(9, &named(&names))?.context("closed")?;
        let led = response
            .topics
            .iter()
            .all(|topic| topic.error_code == 0 && topic.partitions.iter().all(|partition| partition.leader_id >= 0));
        Ok(led.then_some(()))
    })
}

fn creating(asked: &mut Asked) -> Result<()> {
    let long = "x".repeat(250);
    let cases = [
        ("a topic that exists", vec![topic("plain", 1, 1, &[])]),
        ("a name that collides", vec![topic("dotted_name", 1, 1, &[])]),
        ("an empty name", vec![topic("", 1, 1, &[])]),
        ("the name .", vec![topic(".", 1, 1, &[])]),
        ("the name ..", vec![topic("..", 1, 1, &[])]),
        ("a name with a blank", vec![topic("a b", 1, 1, &[])]),
        ("a name of 250 letters", vec![topic(&long, 1, 1, &[])]),
        ("more replicas than brokers", vec![topic("new", 1, 3, &[])]),
        ("no replicas", vec![topic("new", 1, 0, &[])]),
        ("replicas -2", vec![topic("new", 1, -2, &[])]),
        ("no partitions", vec![topic("new", 0, 1, &[])]),
        ("partitions -2", vec![topic("new", -2, 1, &[])]),
        ("an unknown config", vec![topic("new", 1, 1, &[("no.such.config", Some("1"))])]),
        ("a config that is no number", vec![topic("new", 1, 1, &[("retention.ms", Some("soon"))])]),
        ("a config out of bounds", vec![topic("new", 1, 1, &[("min.insync.replicas", Some("0"))])]),
        ("a config that is no choice", vec![topic("new", 1, 1, &[("cleanup.policy", Some("burn"))])]),
        ("a config that is null", vec![topic("new", 1, 1, &[("retention.ms", None)])]),
        ("a broker that does not exist", vec![assigned("new", &[(0, &[77])])]),
        ("a broker twice", vec![assigned("new", &[(0, &[1, 1])])]),
        ("an assignment without partition 0", vec![assigned("new", &[(1, &[1])])]),
        ("a partition twice", vec![assigned("new", &[(0, &[1]), (0, &[1])])]),
        ("an assignment to nobody", vec![assigned("new", &[(0, &[])])]),
        ("an assignment and a count", vec![CreatableTopic { num_partitions: 2, ..assigned("new", &[(0, &[1])]) }]),
        ("the same topic twice", vec![topic("new", 1, 1, &[]), topic("new", 1, 1, &[])]),
    ];
    for (name, topics) in cases {
        asked.case(&format!("CreateTopics {name}"), 7, &create(topics), |response| {
            response.topics.iter().map(|topic| topic.error_code.into()).collect()
        })?;
    }
    Ok(())
}

fn growing_and_deleting(asked: &mut Asked) -> Result<()> {
    let grown = |name: &str, count, assignments: Option<&[&[i32]]>| CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: assignments
            .map(|all| all.iter().map(|brokers| CreatePartitionsAssignment { broker_ids: brokers.to_vec() }).collect()),
    };
    let cases = [
        ("an unknown topic", vec![grown("nowhere", 2, None)]),
        ("as many as there are", vec![grown("plain", 1, None)]),
        ("fewer than there are", vec![grown("plain", 0, None)]),
        ("minus one", vec![grown("plain", -1, None)]),
        ("too few assignments", vec![grown("plain", 3, Some(&[&[1]]))]),
        ("an unknown broker", vec![grown("plain", 2, Some(&[&[77]]))]),
        ("another replication factor", vec![grown("plain", 2, Some(&[&[1, 2]]))]),
        ("the same topic twice", vec![grown("plain", 2, None), grown("plain", 3, None)]),
    ];
    for (name, topics) in cases {
        let request = CreatePartitionsRequest { topics, timeout_ms: 10_000, validate_only: true };
        asked.case(&format!("CreatePartitions {name}"), 3, &request, |response| {
            response.results.iter().map(|topic| topic.error_code.into()).collect()
        })?;
    }
    let named = |name: &str| DeleteTopicState { name: Some(name.into()), ..Default::default() };
    let unknown = DeleteTopicState { name: None, topic_id: Uuid([9; 16]) };
    let cases = [
        ("an unknown name", vec![named("nowhere")]),
        ("an unknown id", vec![unknown.clone()]),
        ("a name and an id", vec![DeleteTopicState { name: Some("plain".into()), ..unknown }]),
        ("neither", vec![DeleteTopicState::default()]),
        ("the same topic twice", vec![named("nowhere"), named("nowhere")]),
    ];
    for (name, topics) in cases {
        let request = DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        asked.case(&format!("DeleteTopics {name}"), 6, &request, |response| {
            response.responses.iter().map(|topic| topic.error_code.into()).collect()
        })?;
    }
    Ok(())
}

// - cluster -

fn named(names: &[&str]) -> MetadataRequest {
    let topics =
        names.iter().map(|name| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() }).collect();
    MetadataRequest { topics: Some(topics), allow_auto_topic_creation: false, ..Default::default() }
}

fn metadata(asked: &mut Asked) -> Result<()> {
    let codes = |response: &kafka_wire::MetadataResponse| {
        response.topics.iter().map(|topic| topic.error_code.into()).collect::<Vec<i64>>()
    };
    for version in [4, 9, 13] {
        asked.case("Metadata an unknown topic", version, &named(&["nowhere"]), codes)?;
        asked.case("Metadata a bad name", version, &named(&["a b"]), codes)?;
    }
    let by_id = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id: Uuid([9; 16]), name: None }]),
        ..Default::default()
    };
    asked.case("Metadata an unknown id", 12, &by_id, codes)?;
    asked.case("Metadata an id before its time", 10, &by_id, codes)
}

fn versions(asked: &mut Asked) -> Result<()> {
    let header = |key: i16, version: i16| {
        let mut frame = vec![0, 0, 0, 10];
        for word in [key, version, 0, 7, -1] {
            frame.extend(word.to_be_bytes());
        }
        frame
    };
    let cases = [
        ("ApiVersions 99", header(18, 99)),
        ("ApiVersions 99 with the header of its time", [&[0, 0, 0, 11], &header(18, 99)[4..], &[0]].concat()),
        ("Metadata 99", header(3, 99)),
        ("Metadata -1", header(3, -1)),
        ("Produce 2", header(0, 2)),
        ("Produce 99", header(0, 99)),
        ("Fetch 3", header(1, 3)),
        ("ListOffsets 0", header(2, 0)),
        ("CreateTopics 1", header(19, 1)),
        ("LeaderAndIsr 0", header(4, 0)),
        ("an unknown key", header(999, 0)),
        ("a negative size", vec![0xff; 4]),
        ("an empty frame", vec![0; 4]),
        ("a frame that ends in its header", vec![0, 0, 0, 3, 0, 3, 0]),
        ("a Metadata request without its body", header(3, 4)),
    ];
    for (name, frame) in cases {
        let told = match asked.exchange(&frame)? {
            None => "closed".to_owned(),
            // Correlation id, then the code: an ApiVersions answer of version 0.
            Some(answer) => answer
                .get(4..6)
                .map_or("short".to_owned(), |code| i16::from_be_bytes(code.try_into().unwrap_or_default()).to_string()),
        };
        writeln!(asked.said, "version {name}: {told}")?;
    }
    for (name, software) in [("an empty name", ""), ("a name with blanks", "a b")] {
        let request = ApiVersionsRequest { client_software_name: software.into(), client_software_version: "1".into() };
        asked.case(&format!("ApiVersions {name}"), 4, &request, |response| vec![response.error_code.into()])?;
    }
    Ok(())
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn configs(asked: &mut Asked) -> Result<()> {
    for (name, resource_type, resource_name) in [
        ("an unknown topic", TOPIC, "nowhere"),
        ("a bad name", TOPIC, "a b"),
        ("an empty name", TOPIC, ""),
        ("a broker that is no number", BROKER, "one"),
        ("a broker that does not exist", BROKER, "77"),
        ("an unknown kind", 99, "x"),
    ] {
        let resources = vec![DescribeConfigsResource {
            resource_type,
            resource_name: resource_name.into(),
            configuration_keys: None,
        }];
        let request = DescribeConfigsRequest { resources, ..Default::default() };
        asked.case(&format!("DescribeConfigs {name}"), 4, &request, |response| {
            response.results.iter().map(|result| result.error_code.into()).collect()
        })?;
    }
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    // Config, operation, value.
    type Change = (&'static str, i8, Option<&'static str>);
    let cases: [(&str, i8, &str, &[Change]); 17] = [
        ("an unknown topic", TOPIC, "nowhere", &[("retention.ms", SET, Some("1"))]),
        ("a bad name", TOPIC, "a b", &[("retention.ms", SET, Some("1"))]),
        ("an unknown config", TOPIC, "plain", &[("no.such.config", SET, Some("1"))]),
        ("a config that is no number", TOPIC, "plain", &[("retention.ms", SET, Some("soon"))]),
        ("a config out of bounds", TOPIC, "plain", &[("segment.bytes", SET, Some("1"))]),
        ("a config without a value", TOPIC, "plain", &[("retention.ms", SET, None)]),
        ("appending to what is no list", TOPIC, "plain", &[("retention.ms", APPEND, Some("1"))]),
        ("an unknown operation", TOPIC, "plain", &[("retention.ms", 9, Some("1"))]),
        ("a config twice", TOPIC, "plain", &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)]),
        ("a broker that is no number", BROKER, "one", &[("log.retention.ms", SET, Some("1"))]),
        ("a broker that does not exist", BROKER, "77", &[("log.retention.ms", SET, Some("1"))]),
        ("a broker config that is fixed", BROKER, "1", &[("node.id", SET, Some("1"))]),
        ("a broker config that is no number", BROKER, "1", &[("log.retention.ms", SET, Some("soon"))]),
        ("a cluster config that is fixed", BROKER, "", &[("num.partitions", SET, Some("2"))]),
        ("the cluster's last minimum", BROKER, "", &[("min.insync.replicas", DELETE, None)]),
        ("a broker's own minimum", BROKER, "1", &[("min.insync.replicas", SET, Some("2"))]),
        ("an unknown kind", 99, "x", &[("retention.ms", SET, Some("1"))]),
    ];
    for (name, resource_type, resource_name, changes) in cases {
        let configs = changes.iter().map(|(name, operation, value)| k44_incremental_alter_configs::AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(KafkaString::from),
        });
        let resource = k44_incremental_alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: resource_name.into(),
            configs: configs.collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: true };
        asked.case(&format!("IncrementalAlterConfigs {name}"), 1, &request, |response| {
            response.responses.iter().map(|result| result.error_code.into()).collect()
        })?;
    }
    for (name, resource_name, config, value) in [
        ("an unknown topic", "nowhere", "retention.ms", Some("1")),
        ("an unknown config", "plain", "no.such.config", Some("1")),
        ("a config that is no number", "plain", "retention.ms", Some("soon")),
        ("a config without a value", "plain", "retention.ms", None),
    ] {
        let configs =
            vec![k33_alter_configs::AlterableConfig { name: config.into(), value: value.map(KafkaString::from) }];
        let resource = k33_alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: resource_name.into(),
            configs,
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: true };
        asked.case(&format!("AlterConfigs {name}"), 2, &request, |response| {
            response.responses.iter().map(|result| result.error_code.into()).collect()
        })?;
    }
    Ok(())
}

// - records -

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn builder() -> BatchBuilder {
    BatchBuilder::new(Compression::None)
}

fn one(builder: BatchBuilder) -> Result<Bytes> {
    Ok(builder.record(Some(b"k"), Some(b"v"), &[], NOW).build()?)
}

/// The bytes with `at` changed, and the CRC made right again.
fn patched(batch: &Bytes, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

fn produce(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: partition, records: Some(records) }];
    let topic_data = vec![TopicProduceData { name: topic.into(), topic_id: Uuid([9; 16]), partition_data }];
    ProduceRequest { transactional_id: None, acks, timeout_ms: 5_000, topic_data }
}

/// The code, and the records named by it.
fn produced(response: &kafka_wire::ProduceResponse) -> Vec<i64> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions
        .flat_map(|partition| {
            let records = partition.record_errors.iter().map(|record| record.batch_index.into());
            std::iter::once(partition.error_code.into()).chain(records)
        })
        .collect()
}

fn producing(asked: &mut Asked) -> Result<()> {
    let good = one(builder())?;
    let two = [&good[..], &good[..]].concat();
    let mut torn = good.to_vec();
    torn[68] ^= 1;
    let mut old = good.to_vec();
    old[16] = 1;
    let keyless = builder().record(Some(b"k"), None, &[], NOW).record(None, Some(b"v"), &[], NOW).build()?;
    let late =
        builder().record(None, None, &[], NOW).record(None, None, &[], Timestamp(NOW.0 + 1_000_000_000_000)).build()?;
    let early = builder().record(None, None, &[], NOW).record(None, None, &[], NOW).build()?;
    let timeless = builder().record(Some(b"k"), None, &[], Timestamp::NONE).build()?;
    let large = builder().record(None, Some(&[0; 2_000]), &[], NOW).build()?;
    let transactional = one(builder().transactional().producer(numbered(0, 0)))?;
    let control = one(builder().control())?;
    let cases: Vec<(&str, &str, i32, i16, Vec<u8>)> = vec![
        ("an unknown topic", "nowhere", 0, -1, good.to_vec()),
        ("an unknown partition", "plain", 5, -1, good.to_vec()),
        ("a negative partition", "plain", -1, -1, good.to_vec()),
        ("acks 2", "plain", 0, 2, good.to_vec()),
        ("acks -2", "plain", 0, -2, good.to_vec()),
        ("acks 2 to an unknown topic", "nowhere", 0, 2, good.to_vec()),
        ("a wrong CRC", "plain", 0, -1, torn),
        ("magic 1", "plain", 0, -1, old),
        ("magic 3", "plain", 0, -1, patched(&good, 16, &[3])),
        ("no bytes", "plain", 0, -1, Vec::new()),
        ("half a batch", "plain", 0, -1, good[..40].to_vec()),
        ("two batches", "plain", 0, -1, two),
        ("a control batch", "plain", 0, -1, control.to_vec()),
        ("a base offset of 5", "plain", 0, -1, one(builder().base_offset(Offset(5)))?.to_vec()),
        ("more records claimed than there are", "plain", 0, -1, patched(&good, 57, &2i32.to_be_bytes())),
        ("no records", "plain", 0, -1, patched(&good, 57, &0i32.to_be_bytes())),
        ("an unknown codec", "plain", 0, -1, patched(&good, 21, &[0, 7])),
        ("a claim of LogAppendTime", "plain", 0, -1, patched(&good, 21, &[0, 8])),
        ("a claim of LogAppendTime where the broker gives it", "stamped", 0, -1, patched(&good, 21, &[0, 8])),
        ("a record without key", "compacted", 0, -1, keyless.to_vec()),
        ("a time far ahead", "plain", 0, -1, late.to_vec()),
        ("a time far ahead where the broker gives it", "stamped", 0, -1, late.to_vec()),
        ("a time long past", "recent", 0, -1, early.to_vec()),
        ("no time", "recent", 0, -1, timeless.to_vec()),
        ("a batch that is too large", "small", 0, -1, large.to_vec()),
        ("fewer replicas than min.insync.replicas", "demanding", 0, -1, good.to_vec()),
        ("a transactional batch without transactional id", "plain", 0, -1, transactional.to_vec()),
    ];
    for (name, topic, partition, acks, records) in cases {
        let request = produce(topic, partition, acks, records.into());
        asked.case(&format!("Produce {name}"), 9, &request, produced)?;
    }
    // Not asked: null for records, to which Apache Kafka gives no answer at all.
    // Not asked: a transactional id that nobody holds. Kafka's first answer depends on how far its coordinator has come.
    asked.case("Produce an unknown id", 13, &produce("", 0, -1, good.clone()), produced)?;
    let zstd = one(BatchBuilder::new(Compression::Zstd))?;
    asked.case("Produce zstd too early", 6, &produce("plain", 0, -1, zstd), produced)?;
    asked.case("Produce acks 0 to an unknown topic", 9, &produce("nowhere", 0, 0, good), produced)
}

fn numbered(epoch: i16, sequence: i32) -> Producer {
    Producer { id: ProducerId(4_000), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence) }
}

/// One producer's life: each case goes on from the last.
fn numbered_producing(asked: &mut Asked) -> Result<()> {
    let mut case = |name: &str, epoch, sequence| -> Result<()> {
        let batch = one(builder().producer(numbered(epoch, sequence)))?;
        asked.case(&format!("Produce numbered {name}"), 9, &produce("numbered", 0, -1, batch), produced)
    };
    case("the first sequence seen is 3", 1, 3)?;
    for sequence in 4..10 {
        case("the next", 1, sequence)?;
    }
    case("a duplicate", 1, 9)?;
    case("a duplicate that is forgotten", 1, 3)?;
    case("a gap", 1, 12)?;
    case("an older epoch", 0, 10)?;
    case("a newer epoch that does not begin at 0", 2, 5)?;
    case("a newer epoch", 2, 0)?;
    case("no sequence", 2, -1)?;
    case("a negative epoch", -1, 0)
}

fn fetch(topic: &str, id: Uuid, partition: FetchPartition) -> FetchRequest {
    let partition = FetchPartition { partition_max_bytes: 1_000, log_start_offset: -1, ..partition };
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 10_000,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.into(), topic_id: id, partitions: vec![partition] }],
        ..Default::default()
    }
}

fn fetching(asked: &mut Asked) -> Result<()> {
    let codes = |response: &kafka_wire::FetchResponse| {
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        std::iter::once(response.error_code.into()).chain(partitions.map(|p| p.error_code.into())).collect::<Vec<i64>>()
    };
    let at = |partition, fetch_offset, current_leader_epoch| FetchPartition {
        partition,
        fetch_offset,
        current_leader_epoch,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    for version in [4, 12] {
        let cases = [
            ("an unknown topic", "nowhere", at(0, 0, -1)),
            ("an unknown partition", "plain", at(5, 0, -1)),
            ("an offset beyond the end", "plain", at(0, 1_000_000, -1)),
            ("a negative offset", "plain", at(0, -5, -1)),
        ];
        for (name, topic, partition) in cases {
            asked.case(&format!("Fetch {name}"), version, &fetch(topic, Uuid::ZERO, partition), codes)?;
        }
    }
    asked.case("Fetch an epoch to come", 12, &fetch("plain", Uuid::ZERO, at(0, 0, 1_000)), codes)?;
    asked.case("Fetch an unknown id", 13, &fetch("", Uuid([9; 16]), at(0, 0, -1)), codes)?;
    asked.case("Fetch no id", 13, &fetch("", Uuid::ZERO, at(0, 0, -1)), codes)?;
    let session = FetchRequest { session_id: 77, session_epoch: 3, ..fetch("plain", Uuid::ZERO, at(0, 0, -1)) };
    asked.case("Fetch an unknown session", 12, &session, codes)
}

fn offsets(asked: &mut Asked) -> Result<()> {
    let list = |topic: &str, partition_index, current_leader_epoch, timestamp| {
        let partitions = vec![ListOffsetsPartition { partition_index, current_leader_epoch, timestamp }];
        let topics = vec![ListOffsetsTopic { name: topic.into(), partitions }];
        ListOffsetsRequest { replica_id: -1, topics, timeout_ms: 5_000, ..Default::default() }
    };
    let told = |response: &kafka_wire::ListOffsetsResponse| {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.error_code.into()).collect::<Vec<i64>>()
    };
    asked.case("ListOffsets an unknown topic", 9, &list("nowhere", 0, -1, -1), told)?;
    asked.case("ListOffsets an unknown partition", 9, &list("plain", 5, -1, -1), told)?;
    asked.case("ListOffsets an epoch to come", 9, &list("plain", 0, 1_000, -1), told)?;
    asked.case("ListOffsets a time below all special ones", 9, &list("plain", 0, -1, -99), told)?;
    asked.case("ListOffsets a special time before its version", 5, &list("plain", 0, -1, -3), told)?;
    let mut twice = list("plain", 0, -1, -1);
    twice.topics[0].partitions.extend(list("plain", 0, -1, -1).topics.remove(0).partitions);
    asked.case("ListOffsets a partition twice in a topic", 9, &twice, told)?;
    let mut twice = list("plain", 0, -1, -1);
    twice.topics.extend(list("plain", 0, -1, -1).topics);
    asked.case("ListOffsets a partition twice", 9, &twice, told)?;

    let of = |topic: &str, partition, current_leader_epoch, leader_epoch| {
        let partitions = vec![OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch }];
        OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic { topic: topic.into(), partitions }],
        }
    };
    let told = |response: &kafka_wire::OffsetForLeaderEpochResponse| {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.error_code.into()).collect::<Vec<i64>>()
    };
    asked.case("OffsetForLeaderEpoch an unknown topic", 4, &of("nowhere", 0, -1, 0), told)?;
    asked.case("OffsetForLeaderEpoch an unknown partition", 4, &of("plain", 5, -1, 0), told)?;
    asked.case("OffsetForLeaderEpoch an epoch to come", 4, &of("plain", 0, 1_000, 0), told)
}

fn describing(asked: &mut Asked) -> Result<()> {
    let init = |transactional_id: Option<&str>, producer_id, producer_epoch| InitProducerIdRequest {
        transactional_id: transactional_id.map(KafkaString::from),
        transaction_timeout_ms: 60_000,
        producer_id,
        producer_epoch,
        ..Default::default()
    };
    let told = |response: &kafka_wire::InitProducerIdResponse| vec![i64::from(response.error_code)];
    asked.case("InitProducerId an empty transactional id", 4, &init(Some(""), -1, -1), told)?;
    asked.case("InitProducerId an id without an epoch", 4, &init(None, 5, -1), told)?;
    asked.case("InitProducerId an epoch without an id", 4, &init(None, -1, 5), told)?;

    for (name, endpoint_type) in [("controllers", 2), ("an unknown kind", 9)] {
        let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
        asked.case(&format!("DescribeCluster {name}"), 1, &request, |r| vec![r.error_code.into()])?;
    }
    for (name, topic, partition) in
        [("an unknown topic", "nowhere", 0), ("an unknown partition", "plain", 5), ("a bad name", "a b", 0)]
    {
        let topics =
            vec![k61_describe_producers::TopicRequest { name: topic.into(), partition_indexes: vec![partition] }];
        asked.case(&format!("DescribeProducers {name}"), 0, &DescribeProducersRequest { topics }, |response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code.into()).collect()
        })?;
    }
    for (name, topic) in [("an unknown topic", "nowhere"), ("a bad name", "a b")] {
        let request = DescribeTopicPartitionsRequest {
            topics: vec![k75_describe_topic_partitions::TopicRequest { name: topic.into() }],
            response_partition_limit: 10,
            cursor: None,
        };
        asked.case(&format!("DescribeTopicPartitions {name}"), 0, &request, |response| {
            response.topics.iter().map(|topic| topic.error_code.into()).collect()
        })?;
    }
    for (name, topic, partition_index) in
        [("another topic", "plain", 0), ("another partition", "__cluster_metadata", 1)]
    {
        let partitions = vec![k55_describe_quorum::RequestPartitionData { partition_index }];
        let topics = vec![k55_describe_quorum::RequestTopicData { topic_name: topic.into(), partitions }];
        asked.case(&format!("DescribeQuorum {name}"), 2, &DescribeQuorumRequest { topics }, |response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            std::iter::once(response.error_code.into()).chain(partitions.map(|p| p.error_code.into())).collect()
        })?;
    }
    let request = ListConfigResourcesRequest { resource_types: vec![99] };
    asked.case("ListConfigResources an unknown kind", 1, &request, |response| vec![response.error_code.into()])
}
