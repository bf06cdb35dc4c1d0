//! `thalweg consume`, alone. In a group: [`member`].

mod member;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use bytes::Bytes;
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic};
use kafka_wire::k03_metadata::MetadataResponseTopic;
use kafka_wire::{FetchRequest, MetadataResponse};
use record_batch::{Record, StampedBatch, batches};
use serde_json::{Value, json};

use super::topic::{EARLIEST, LATEST, offset_of};
use crate::cli::{Consume, Position};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Format;

const FETCH_VERSION: i16 = 12;
const WAIT_MS: i32 = 500;
const PARTITION_BYTES: i32 = 1 << 20;
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

/// Where each partition stands, and where to stop.
struct Progress {
    next: i64,
    stop_at: Option<i64>,
}

impl Progress {
    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|stop| self.next >= stop)
    }
}

pub fn run(options: &Consume) -> Result<(), Failure> {
    match &options.group {
        None => alone(options),
        Some(group) => member::run(options, group),
    }
}

fn alone(options: &Consume) -> Result<(), Failure> {
    let mut client = Client::connect(&options.target.bootstrap)?;
    let (mut metadata, mut topic) = client.topic(&options.topic)?;
    let mut progress = BTreeMap::new();
    for partition in chosen(options, &topic) {
        progress.insert(partition, begin(&mut client, options, &metadata, &topic, partition)?);
    }
    let mut printer = Printer::new(options);
    loop {
        progress.retain(|_, progress| !progress.is_done());
        if progress.is_empty() || printer.left == Some(0) {
            return printer.flush();
        }
        let mut moved = false;
        for leader in leaders(&topic, &progress) {
            moved |= !fetch(&mut client, &metadata, &topic, leader, &mut progress, &mut printer)?;
        }
        printer.flush()?;
        if moved {
            (metadata, topic) = client.topic(&options.topic)?;
        }
    }
}

fn begin(
    client: &mut Client,
    options: &Consume,
    metadata: &MetadataResponse,
    topic: &MetadataResponseTopic,
    partition: i32,
) -> Result<Progress, Failure> {
    let mut at = |spec| offset_of(client, metadata, topic, partition, spec);
    let next = match options.offset {
        Position::Beginning => at(EARLIEST)?,
        Position::End => at(LATEST)?,
        Position::Offset(offset) => offset,
    };
    let stop_at = if options.exit { Some(at(LATEST)?) } else { None };
    Ok(Progress { next, stop_at })
}

fn chosen(options: &Consume, topic: &MetadataResponseTopic) -> Vec<i32> {
    if options.partition.is_empty() {
        topic.partitions.iter().map(|partition| partition.partition_index).collect()
    } else {
        options.partition.clone()
    }
}

fn leaders(topic: &MetadataResponseTopic, progress: &BTreeMap<i32, Progress>) -> Vec<i32> {
    let wanted = topic.partitions.iter().filter(|partition| progress.contains_key(&partition.partition_index));
    let mut leaders: Vec<i32> = wanted.map(|partition| partition.leader_id).collect();
    leaders.sort_unstable();
    leaders.dedup();
    leaders
}

/// Fetches once from one leader; `false` when the metadata has to be looked up again.
fn fetch(
    client: &mut Client,
    metadata: &MetadataResponse,
    topic: &MetadataResponseTopic,
    leader: i32,
    progress: &mut BTreeMap<i32, Progress>,
    printer: &mut Printer<impl Write>,
) -> Result<bool, Failure> {
    let led = topic.partitions.iter().filter(|partition| partition.leader_id == leader);
    let ask = |index: i32| {
        let fetch_offset = progress.get(&index).filter(|progress| !progress.is_done())?.next;
        let partition_max_bytes = PARTITION_BYTES;
        Some(FetchPartition { partition: index, fetch_offset, partition_max_bytes, ..FetchPartition::default() })
    };
    let partitions: Vec<FetchPartition> = led.filter_map(|partition| ask(partition.partition_index)).collect();
    if partitions.is_empty() {
        return Ok(true);
    }
    let request = FetchRequest {
        max_wait_ms: WAIT_MS,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic { topic: topic.name.clone().unwrap_or_default(), partitions, ..FetchTopic::default() }],
        ..FetchRequest::default()
    };
    let response = client.call_broker(metadata, leader, FETCH_VERSION, &request)?;
    Failure::check("fetching", response.error_code, None)?;
    let mut known = true;
    for answer in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        let what = format!("fetching partition {}", answer.partition_index);
        let code = base_types::ErrorCode::from_code(answer.error_code);
        if code.is_some_and(base_types::ErrorCode::is_retriable) {
            known = false;
            continue;
        }
        Failure::check(&what, answer.error_code, None)?;
        let Some(progress) = progress.get_mut(&answer.partition_index) else { continue };
        let bytes = answer.records.map(kafka_wire::Records::into_contiguous).unwrap_or_default();
        printer.print(answer.partition_index, &bytes, progress)?;
    }
    Ok(known)
}

struct Printer<W: Write> {
    out: BufWriter<W>,
    format: Format,
    left: Option<u64>,
}

impl Printer<std::io::StdoutLock<'static>> {
    fn new(options: &Consume) -> Self {
        Printer { out: BufWriter::new(std::io::stdout().lock()), format: options.format(), left: options.count }
    }
}

impl<W: Write> Printer<W> {
    /// Prints what was not printed yet, and moves on as far as it got.
    fn print(&mut self, partition: i32, bytes: &Bytes, progress: &mut Progress) -> Result<(), Failure> {
        for (header, range) in batches(bytes).map_while(Result::ok) {
            let damaged = |error: &dyn std::fmt::Display| {
                Failure::Failed(format!("partition {partition}, batch at offset {}: {error}", header.base_offset))
            };
            let batch = StampedBatch::from_stored(bytes.slice(range)).map_err(|error| damaged(&error))?;
            if !header.attributes.is_control() {
                for record in batch.records(DECOMPRESSED_BYTES_MAX).map_err(|error| damaged(&error))? {
                    let record = record.map_err(|error| damaged(&error))?;
                    // A batch is given whole: what lies before the position was not asked for.
                    if record.offset.0 < progress.next {
                        continue;
                    }
                    if self.left == Some(0) {
                        return Ok(());
                    }
                    self.record(partition, &record)?;
                    self.left = self.left.map(|left| left - 1);
                    progress.next = record.offset.0 + 1;
                }
            }
            progress.next = progress.next.max(header.next_offset().0);
        }
        Ok(())
    }

    fn record(&mut self, partition: i32, record: &Record) -> Result<(), Failure> {
        let written = if self.format == Format::Json {
            let header = |header: &record_batch::RecordHeader| {
                json!([String::from_utf8_lossy(&header.key), text_or_base64(header.value.as_deref())])
            };
            let line = json!({
                "partition": partition,
                "offset": record.offset.0,
                "timestamp": record.timestamp.0,
                "key": text_or_base64(record.key.as_deref()),
                "value": text_or_base64(record.value.as_deref()),
                "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
            });
            writeln!(self.out, "{line}")
        } else {
            self.out.write_all(record.value.as_deref().unwrap_or_default()).and_then(|()| self.out.write_all(b"\n"))
        };
        written.map_err(Failure::io("writing to standard output"))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::io("writing to standard output"))
    }
}

/// Text as it is; other bytes as `{"base64": "..."}`; null as null.
pub fn text_or_base64(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => json!(text),
        Some(Err(_)) => json!({ "base64": base64(bytes.unwrap_or_default()) }),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = group >> (18 - 6 * place) & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_to_whole_groups() {
        let encoded: Vec<String> = ["", "f", "fo", "foo", "foob"].iter().map(|text| base64(text.as_bytes())).collect();
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        assert_eq!(text_or_base64(Some(&[0xff])), json!({ "base64": "/w==" }));
        assert_eq!(text_or_base64(Some(b"plain")), json!("plain"));
        assert_eq!(text_or_base64(None), Value::Null);
    }
}
