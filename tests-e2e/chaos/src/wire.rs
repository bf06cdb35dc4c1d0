//! A Kafka client that does exactly what it is told: one blocking connection, and what is asked of a cluster over it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base_types::ErrorCode;
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic};
use kafka_wire::k02_list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::k03_metadata::{MetadataRequestTopic, MetadataResponsePartition};
use kafka_wire::k19_create_topics::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::k43_elect_leaders::TopicPartitions;
use kafka_wire::k44_incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kafka_wire::k45_alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use kafka_wire::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, ElectLeadersRequest, FetchRequest,
    IncrementalAlterConfigsRequest, KafkaString, ListOffsetsRequest, MetadataRequest, Request, decode_response,
    encode_request,
};
use record_batch::{BatchHeader, StampedBatch, batches};

const CONNECT_BOUND: Duration = Duration::from_secs(2);
/// Before the next address is asked.
const PAUSE: Duration = Duration::from_millis(50);
const CALL_MS: i32 = 10_000;
const FRAME_BYTES_MAX: u32 = 64 << 20;
const TOPIC_RESOURCE: i8 = 2;
const SET: i8 = 0;
const LATEST: i64 = -1;

/// A topic under test.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
}

impl Topic {
    /// The name of a partition, as histories have it.
    pub fn partition(&self, number: i32) -> String {
        format!("{}-{number}", self.name)
    }

    fn text(&self) -> KafkaString {
        KafkaString::from(self.name.as_str())
    }
}

pub struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub fn open(address: &str, answer_bound: Duration) -> Result<Connection> {
        let address: SocketAddr = address.parse().with_context(|| format!("`{address}` is no address"))?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_BOUND)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(answer_bound))?;
        stream.set_write_timeout(Some(answer_bound))?;
        Ok(Connection { stream, correlation: 0 })
    }

    /// Sends without waiting; answers come in the order of requests.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        self.correlation += 1;
        let frame = encode_request(self.correlation, Some("chaos".into()), version, request);
        let frame = frame.map_err(|error| anyhow::anyhow!("a request that cannot be written: {error:?}"))?;
        self.stream.write_all(&frame.concat())?;
        Ok(self.correlation)
    }

    pub fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> Result<R::Response> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size);
        ensure!(size <= FRAME_BYTES_MAX, "an answer of {size} bytes");
        let mut answer = vec![0; size as usize];
        self.stream.read_exact(&mut answer)?;
        let (id, response) = decode_response::<R>(answer.into(), version)
            .map_err(|error| anyhow::anyhow!("an unreadable answer: {error:?}"))?;
        ensure!(id == correlation, "an answer to another request");
        Ok(response)
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let correlation = self.send(version, request)?;
        self.receive::<R>(version, correlation)
    }
}

/// Whichever gateway answers.
pub struct Gateways {
    addresses: Vec<String>,
    next: usize,
    answer_bound: Duration,
    open: Option<Connection>,
}

impl Gateways {
    pub fn new(bootstrap: &str, answer_bound: Duration) -> Gateways {
        let addresses = bootstrap.split(',').map(str::to_owned).collect();
        Gateways { addresses, next: 0, answer_bound, open: None }
    }

    /// From the next gateway on, over a new connection.
    pub fn turn(&mut self) {
        self.open = None;
        self.next = (self.next + 1) % self.addresses.len();
    }

    pub fn connection(&mut self) -> Result<&mut Connection> {
        if self.open.is_none() {
            let opened = Connection::open(&self.addresses[self.next], self.answer_bound);
            if opened.is_err() {
                self.turn();
            }
            self.open = Some(opened?);
        }
        self.open.as_mut().context("just opened")
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let answer = self.connection()?.ask(version, request);
        if answer.is_err() {
            self.turn();
        }
        answer
    }

    /// Asks until `judge` is content; an error tells the last reason why it was not.
    pub fn until<R: Request, T>(
        &mut self,
        what: &str,
        bound: Duration,
        version: i16,
        request: &R,
        mut judge: impl FnMut(R::Response) -> Result<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            match self.ask(version, request).and_then(&mut judge) {
                Ok(found) => return Ok(found),
                Err(error) if start.elapsed() > bound => {
                    return Err(error.context(format!("waited {bound:?} in vain: {what}")));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    pub fn create(&mut self, topic: &Topic, configs: &[(&str, &str)], bound: Duration) -> Result<()> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: KafkaString::from(*name),
            value: Some(KafkaString::from(*value)),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.text(),
                num_partitions: topic.partitions,
                replication_factor: 3,
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: CALL_MS,
            ..CreateTopicsRequest::default()
        };
        self.until("the topic to be made", bound, 7, &request, |answer| {
            let code = answer.topics.first().map(|made| made.error_code).context("no answer for the topic")?;
            if code == ErrorCode::TopicAlreadyExists.code() { Ok(()) } else { check("making the topic", code) }
        })
    }

    /// Leaders, replicas and those in sync, of each partition in order.
    pub fn partitions(&mut self, topic: &Topic) -> Result<Vec<MetadataResponsePartition>> {
        let wanted = MetadataRequestTopic { name: Some(topic.text()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest { topics: Some(vec![wanted]), ..MetadataRequest::default() };
        let found = self.ask(12, &request)?.topics.into_iter().next().context("no answer for the topic")?;
        check("looking for the topic", found.error_code)?;
        let mut partitions = found.partitions;
        ensure!(partitions.len() == topic.partitions as usize, "{} partitions", partitions.len());
        partitions.sort_by_key(|partition| partition.partition_index);
        Ok(partitions)
    }

    /// Everything is led, and every replica is in sync.
    pub fn is_whole(&mut self, topic: &Topic) -> Result<()> {
        for partition in self.partitions(topic)? {
            let MetadataResponsePartition { partition_index, leader_id, replica_nodes, isr_nodes, .. } = &partition;
            let whole = *leader_id >= 0 && isr_nodes.len() == replica_nodes.len() && replica_nodes.len() == 3;
            ensure!(
                whole,
                "partition {partition_index}: leader {leader_id}, in sync {isr_nodes:?} of {replica_nodes:?}"
            );
        }
        Ok(())
    }

    pub fn wait_whole(&mut self, topic: &Topic, bound: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.is_whole(topic) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > bound => {
                    return Err(error.context(format!("not every replica is in sync after {bound:?}")));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    pub fn ends(&mut self, topic: &Topic, bound: Duration) -> Result<Vec<i64>> {
        let latest =
            |partition_index| ListOffsetsPartition { partition_index, timestamp: LATEST, current_leader_epoch: -1 };
        let partitions: Vec<_> = (0..topic.partitions).map(latest).collect();
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: topic.text(), partitions }],
            timeout_ms: CALL_MS,
            ..ListOffsetsRequest::default()
        };
        self.until("the ends of the partitions", bound, 7, &request, |answer| {
            let mut ends = vec![None; topic.partitions as usize];
            for found in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                check("looking for the end", found.error_code)?;
                *ends.get_mut(found.partition_index as usize).context("an unknown partition")? = Some(found.offset);
            }
            ends.into_iter().collect::<Option<Vec<i64>>>().context("not every partition was told")
        })
    }

    /// What lies from `position` on: the offsets and values there, and where to go on. Nothing if there is nothing yet.
    pub fn fetch(&mut self, topic: &Topic, partition: i32, position: i64, wait_ms: i32) -> Result<Fetched> {
        let wanted = FetchPartition {
            partition,
            fetch_offset: position,
            partition_max_bytes: 256 << 10,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            ..FetchPartition::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic { topic: topic.text(), partitions: vec![wanted], ..FetchTopic::default() }],
            ..FetchRequest::default()
        };
        let answer = self.ask(12, &request)?;
        check("fetching", answer.error_code)?;
        let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let found = found.context("no answer for the partition")?;
        if found.error_code == ErrorCode::OffsetOutOfRange.code() {
            return Ok(Fetched::OutOfRange);
        }
        check("fetching", found.error_code)?;
        let bytes = found.records.map(kafka_wire::Records::into_contiguous).unwrap_or_default();
        let (mut records, mut headers) = (Vec::new(), Vec::new());
        let mut next = position;
        for (header, range) in batches(&bytes).map_while(Result::ok) {
            let batch = StampedBatch::from_stored(bytes.slice(range))
                .map_err(|error| anyhow::anyhow!("a damaged batch at {:?}: {error:?}", header.base_offset))?;
            for record in batch.records(1 << 30).map_err(|error| anyhow::anyhow!("unreadable records: {error:?}"))? {
                let record = record.map_err(|error| anyhow::anyhow!("an unreadable record: {error:?}"))?;
                if record.offset.0 >= position {
                    let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default())?;
                    records.push((record.offset.0, text.parse().context("a value that is no number")?));
                }
            }
            next = next.max(header.next_offset().0);
            headers.push(header);
        }
        Ok(Fetched::Records { records, batches: headers, next })
    }

    /// Hands leadership back to each partition's first replica.
    pub fn elect_preferred(&mut self, topic: &Topic) -> Result<()> {
        let all = TopicPartitions { topic: topic.text(), partitions: (0..topic.partitions).collect() };
        let request = ElectLeadersRequest { election_type: 0, topic_partitions: Some(vec![all]), timeout_ms: CALL_MS };
        let answer = self.ask(2, &request)?;
        check("electing leaders", answer.error_code)
    }

    /// Asks for other replicas; they are in place some time later.
    pub fn reassign(&mut self, topic: &Topic, wanted: Vec<(i32, Vec<i32>)>) -> Result<()> {
        let partitions = wanted
            .into_iter()
            .map(|(partition_index, replicas)| ReassignablePartition { partition_index, replicas: Some(replicas) });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: CALL_MS,
            topics: vec![ReassignableTopic { name: topic.text(), partitions: partitions.collect() }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = self.ask(0, &request)?;
        check("reassigning", answer.error_code)?;
        for part in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            check("reassigning a partition", part.error_code)?;
        }
        Ok(())
    }

    pub fn set_config(&mut self, topic: &Topic, name: &str, value: &str) -> Result<()> {
        let config = AlterableConfig {
            name: KafkaString::from(name),
            config_operation: SET,
            value: Some(KafkaString::from(value)),
        };
        let resource =
            AlterConfigsResource { resource_type: TOPIC_RESOURCE, resource_name: topic.text(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = self.ask(1, &request)?;
        answer.responses.iter().try_for_each(|part| check("changing a config", part.error_code))
    }
}

/// What a fetch brought.
#[derive(Debug)]
pub enum Fetched {
    /// Offsets with values, the batches they came in, and the position behind them.
    Records {
        records: Vec<(i64, u64)>,
        batches: Vec<BatchHeader>,
        next: i64,
    },
    OutOfRange,
}

pub fn check(what: &str, code: i16) -> Result<()> {
    if code != 0 {
        bail!("{what}: {:?} ({code})", ErrorCode::from_code(code));
    }
    Ok(())
}
