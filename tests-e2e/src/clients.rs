//! The clients that users bring, behind one face: send these records, read this topic.
//!
//! Each is the unchanged client in a process of its own. What a client cannot say (kcat: where a record went; the Java console
//! tools: a null header) is a property of [`Client`], so that a scenario asks instead of knowing.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::record::{Ack, Record, Seen};
use crate::{oracle, place};

/// Text that no record of ours contains: what separates fields where a client knows nothing better.
const RECORD_END: &str = "<|end of record|>\n";
const FIELD_END: &str = "<|end of field|>";
const HEADER_END: &str = "<|end of header|>";
const NULL: &str = "<|null|>";

/// Acknowledgements that may wait between a client and its reader.
const ACKS_WAITING_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    Kcat,
    Java,
    Confluent,
    KafkaPython,
    KafkaJs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// How to send.
#[derive(Clone, Debug)]
pub struct Produce<'a> {
    pub bootstrap: &'a str,
    pub topic: &'a str,
    pub codec: Codec,
    pub acks: &'a str,
    pub idempotent: bool,
}

impl<'a> Produce<'a> {
    /// Acknowledged by all, not idempotent.
    pub fn new(bootstrap: &'a str, topic: &'a str, codec: Codec) -> Self {
        Self { bootstrap, topic, codec, acks: "all", idempotent: false }
    }

    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    pub fn acks(mut self, acks: &'a str) -> Self {
        self.acks = acks;
        self
    }
}

impl Client {
    pub const ALL: [Self; 5] = [Self::Kcat, Self::Java, Self::Confluent, Self::KafkaPython, Self::KafkaJs];

    /// Whether it sends and reads any bytes, null headers and repeated header names; the others are for plain text.
    pub fn is_exact(self) -> bool {
        matches!(self, Self::Confluent | Self::KafkaPython | Self::KafkaJs)
    }

    /// Whether it keeps the order of headers whose names repeat (kafkajs holds them in an object).
    pub fn keeps_header_order(self) -> bool {
        self != Self::KafkaJs
    }

    /// Sends the records in order and returns what was acknowledged. An error of any record is an error.
    pub fn produce(self, job: &Produce<'_>, records: &[Record]) -> Result<Vec<Ack>> {
        match self {
            Self::Kcat => kcat_produce(job, records),
            Self::Java => java_produce(job, records),
            _ => {
                let mut producer = self.start_producer(job)?;
                let feeding = producer.feed(records.iter().map(Record::to_json))?;
                let mut acks = Vec::new();
                while let Ok(answer) = producer.answers.recv() {
                    acks.push(answer?.outcome.map_err(|error| anyhow::anyhow!("{self:?} was refused: {error}"))?);
                }
                drop(feeding);
                producer.finish()?;
                acks.sort_by_key(|ack| ack.n);
                Ok(acks)
            }
        }
    }

    /// Starts a script client that takes records and gives answers while it runs.
    pub fn start_producer(self, job: &Produce<'_>) -> Result<RunningProducer> {
        let mut command = match self {
            Self::Confluent => python_command("confluent_produce.py")?,
            Self::KafkaPython => python_command("kafka_python_produce.py")?,
            Self::KafkaJs => node_command("produce.js")?,
            Self::Kcat | Self::Java => bail!("{self:?} says nothing while it runs"),
        };
        command.args(["--bootstrap", job.bootstrap, "--topic", job.topic]);
        command.args(["--codec", job.codec.name(), "--acks", job.acks]);
        if job.idempotent {
            command.arg("--idempotent");
        }
        RunningProducer::start(self, &mut command)
    }

    /// Reads from the beginning to the high watermark, without a group. The Java client reads one partition a process.
    pub fn consume(self, bootstrap: &str, topic: &str, partitions: &[i32]) -> Result<Vec<Seen>> {
        let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
        let chosen = numbers.iter().flat_map(|number| ["--partition", number.as_str()]);
        let place = ["--bootstrap", bootstrap, "--topic", topic];
        let mut command = match self {
            Self::Kcat => return kcat_consume(bootstrap, topic, partitions),
            Self::Java => return java_consume(bootstrap, topic, partitions),
            Self::Confluent => python_command("confluent_consume.py")?,
            Self::KafkaPython => python_command("kafka_python_consume.py")?,
            Self::KafkaJs => node_command("consume.js")?,
        };
        let output = checked(command.args(place).args(chosen), &format!("{self:?} reading {topic}"), None)?;
        String::from_utf8(output.stdout)?.lines().map(Seen::from_json).collect()
    }
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What a client said about one record, and when.
pub struct Answer {
    pub at: Instant,
    /// Acknowledged, or refused with these words.
    pub outcome: Result<Ack, String>,
}

/// A client script at work: records go in, answers come out.
pub struct RunningProducer {
    client: Client,
    child: Child,
    /// One entry per line: an answer, or what the client said instead. Disconnected when the client has ended.
    pub answers: Receiver<Result<Answer>>,
}

impl RunningProducer {
    fn start(client: Client, command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let stdout = child.stdout.take().context("its output is ours")?;
        let (sender, answers) = sync_channel(ACKS_WAITING_MAX);
        thread::Builder::new().name(format!("answers of {client:?}")).spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let at = Instant::now();
                let outcome = line.map_err(anyhow::Error::from).and_then(|line| Ack::from_json(&line));
                let answer = outcome.map(|outcome| Answer { at, outcome });
                if sender.send(answer).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { client, child, answers })
    }

    /// Writes the lines from a thread of its own (the client may be slower than we are), then closes its input.
    pub fn feed(&mut self, lines: impl Iterator<Item = String>) -> Result<thread::JoinHandle<()>> {
        self.feed_over(Duration::ZERO, lines)
    }

    /// The same, spread evenly over so long: a load that is still there when something dies.
    pub fn feed_over(&mut self, over: Duration, lines: impl Iterator<Item = String>) -> Result<thread::JoinHandle<()>> {
        let mut stdin = self.child.stdin.take().context("it was fed already")?;
        let lines: Vec<String> = lines.collect();
        let (began, count) = (Instant::now(), lines.len().max(1));
        let feed = move || {
            for (n, line) in lines.into_iter().enumerate() {
                let due = began + over.mul_f64(n as f64 / count as f64);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // A client that has gone says so by its exit code.
                if writeln!(stdin, "{line}").is_err() {
                    return;
                }
            }
        };
        Ok(thread::Builder::new().name(format!("input of {:?}", self.client)).spawn(feed)?)
    }

    /// Waits for its end; anything but exit code 0 is an error.
    pub fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("{:?} ended with {status}", self.client);
        }
        Ok(())
    }
}

impl Drop for RunningProducer {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script of `clients/python` to its end and returns what it printed.
pub fn python(script: &str, arguments: &[&str]) -> Result<String> {
    let output = checked(python_command(script)?.args(arguments), script, None)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// The same with kafka-python 2.x and aiokafka installed.
pub fn python_2(script: &str, arguments: &[&str]) -> Result<String> {
    let mut command = python_command_of("python-2", script)?;
    let output = checked(command.args(arguments), script, None)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs an application of `clients/go` to its end and returns what it printed.
pub fn go(application: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(installed("go/clients")?);
    let output = checked(command.arg(application).args(arguments), application, None)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a single-file program of `clients/java` with Kafka's jars to its end and returns what it printed.
pub fn java(program: &str, arguments: &[&str]) -> Result<String> {
    let source = place::manifests().join("clients/java").join(program);
    let mut command = oracle::java(&source.display().to_string(), 256)?;
    let output = checked(command.args(arguments), program, None)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a script of `clients/node` to its end and returns what it printed.
pub fn node(script: &str, arguments: &[&str]) -> Result<String> {
    let output = checked(node_command(script)?.args(arguments), script, None)?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs kcat to its end and returns what it printed.
pub fn kcat(arguments: &[&str], stdin: Option<&[u8]>) -> Result<Vec<u8>> {
    Ok(checked(Command::new("kcat").args(arguments), "kcat", stdin)?.stdout)
}

/// Creates topics, each as `name:partitions:replicas[:config=value,...]`.
pub fn create_topics(bootstrap: &str, topics: &[&str]) -> Result<()> {
    python("create_topics.py", &[&["--bootstrap", bootstrap][..], topics].concat()).map(drop)
}

fn python_command(script: &str) -> Result<Command> {
    python_command_of("python", script)
}

fn python_command_of(environment: &str, script: &str) -> Result<Command> {
    let mut command = Command::new(installed(Path::new(environment).join("bin/python"))?);
    // Scripts are read from the checkout; nothing is left there.
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(place::manifests().join("clients/python").join(script));
    Ok(command)
}

/// A script of `clients/node` that the caller starts and talks to.
pub fn node_command(script: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node/node_modules")?).env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
    command.arg(place::manifests().join("clients/node").join(script));
    Ok(command)
}

fn installed(path: impl AsRef<Path>) -> Result<std::path::PathBuf> {
    let found = place::cache()?.join(path);
    if !found.exists() {
        bail!("{} is missing: `cargo xtask setup test` installs it", found.display());
    }
    Ok(found)
}

/// One kcat per run of records with the same headers and partition: both are arguments.
fn kcat_produce(job: &Produce<'_>, records: &[Record]) -> Result<Vec<Ack>> {
    let idempotent = format!("enable.idempotence={}", job.idempotent);
    for run in records.chunk_by(|a, b| a.headers == b.headers && a.partition == b.partition) {
        let first = run.first().context("a run has a record")?;
        let mut arguments: Vec<String> =
            ["-P", "-b", job.bootstrap, "-t", job.topic, "-z", job.codec.name()].map(str::to_owned).into();
        arguments.extend(["-X".to_owned(), idempotent.clone(), "-X".to_owned(), format!("acks={}", job.acks)]);
        arguments.extend(["-X".to_owned(), "topic.partitioner=murmur2_random".to_owned()]);
        arguments.extend(["-K".to_owned(), FIELD_END.to_owned(), "-D".to_owned(), RECORD_END.to_owned()]);
        if let Some(partition) = first.partition {
            arguments.extend(["-p".to_owned(), partition.to_string()]);
        }
        for (name, value) in &first.headers {
            let value = String::from_utf8(value.clone().context("kcat knows no null header")?)?;
            arguments.extend(["-H".to_owned(), format!("{name}={value}")]);
        }
        let mut input = Vec::new();
        for record in run {
            input.extend(record.key.as_deref().context("a plain record has a key")?);
            input.extend(FIELD_END.as_bytes());
            input.extend(record.value.as_deref().context("a plain record has a value")?);
            input.extend(RECORD_END.as_bytes());
        }
        kcat(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), Some(&input))?;
    }
    // Its exit code says that every record was delivered.
    Ok((0..records.len()).map(|n| Ack { n, place: None }).collect())
}

fn kcat_consume(bootstrap: &str, topic: &str, partitions: &[i32]) -> Result<Vec<Seen>> {
    // Lengths first, so that keys and values may hold anything.
    let format = format!("%p %o %T %K %S %h\n%k%s{RECORD_END}");
    let base =
        ["-C", "-b", bootstrap, "-t", topic, "-o", "beginning", "-e", "-q", "-X", "check.crcs=true", "-f", &format];
    let mut seen = Vec::new();
    if partitions.is_empty() {
        kcat_records(&kcat(&base, None)?, &mut seen)?;
    }
    for partition in partitions {
        kcat_records(&kcat(&[&base[..], &["-p", &partition.to_string()]].concat(), None)?, &mut seen)?;
    }
    Ok(seen)
}

fn kcat_records(mut output: &[u8], seen: &mut Vec<Seen>) -> Result<()> {
    while !output.is_empty() {
        let line_end = output.iter().position(|byte| *byte == b'\n').context("a line")?;
        let line = std::str::from_utf8(&output[..line_end])?;
        output = &output[line_end + 1..];
        let mut words = line.splitn(6, ' ');
        let mut number = || -> Result<i64> { Ok(words.next().context("five numbers")?.parse()?) };
        let (partition, offset, timestamp, key_length, value_length) =
            (number()?, number()?, number()?, number()?, number()?);
        let headers = words.next().unwrap_or_default().split(',').filter_map(|pair| pair.split_once('='));
        let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec()))).collect();
        let mut take = |length: i64| -> Result<Option<Vec<u8>>> {
            let Ok(length) = usize::try_from(length) else { return Ok(None) };
            let (bytes, rest) = output.split_at_checked(length).context("the output ends within a record")?;
            output = rest;
            Ok(Some(bytes.to_vec()))
        };
        let (key, value) = (take(key_length)?, take(value_length)?);
        output = output.strip_prefix(RECORD_END.as_bytes()).context("no end of record where one is due")?;
        let partition = i32::try_from(partition)?;
        let record = Record { key, value, headers, timestamp: Some(timestamp), partition: Some(partition) };
        seen.push(Seen { partition, offset, record });
    }
    Ok(())
}

fn java_produce(job: &Produce<'_>, records: &[Record]) -> Result<Vec<Ack>> {
    let mut command = oracle::java("org.apache.kafka.tools.ConsoleProducer", 512)?;
    command.args(["--bootstrap-server", job.bootstrap, "--topic", job.topic, "--compression-codec", job.codec.name()]);
    command.args(["--producer-property", &format!("acks={}", job.acks)]);
    command.args(["--producer-property", &format!("enable.idempotence={}", job.idempotent)]);
    for property in [
        "parse.key=true".to_owned(),
        "parse.headers=true".to_owned(),
        format!("headers.delimiter={FIELD_END}"),
        format!("headers.separator={HEADER_END}"),
        format!("key.separator={FIELD_END}"),
    ] {
        command.args(["--property", &property]);
    }
    let mut input = String::new();
    for record in records {
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8(bytes.clone().context("plain records hold no null")?).map_err(anyhow::Error::from)
        };
        let headers = record.headers.iter().map(|(name, value)| Ok(format!("{name}:{}", text(value)?)));
        let headers = headers.collect::<Result<Vec<_>>>()?.join(HEADER_END);
        let value = text(&record.value)?;
        if value.contains('\n') || headers.is_empty() {
            bail!("the console producer takes one line a record, with headers in it");
        }
        input += &format!("{headers}{FIELD_END}{}{FIELD_END}{value}\n", text(&record.key)?);
    }
    let output = checked(&mut command, "the Java console producer", Some(input.as_bytes()))?;
    // It ends with 0 even when a record was refused.
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("ERROR") || words.contains("Exception") {
        bail!("the Java console producer was refused:\n{words}");
    }
    Ok((0..records.len()).map(|n| Ack { n, place: None }).collect())
}

fn java_consume(bootstrap: &str, topic: &str, partitions: &[i32]) -> Result<Vec<Seen>> {
    let ends = oracle::tool(
        "org.apache.kafka.tools.GetOffsetShell",
        &["--bootstrap-server", bootstrap, "--topic", topic, "--time", "-1"],
    )?;
    let mut seen = Vec::new();
    for line in ends.lines() {
        // topic:partition:end offset
        let mut fields = line.rsplit(':');
        let (Some(end), Some(partition)) = (fields.next(), fields.next()) else { continue };
        let number: i32 = partition.parse().with_context(|| format!("not a line of GetOffsetShell: {line}"))?;
        if end == "0" || !(partitions.is_empty() || partitions.contains(&number)) {
            continue;
        }
        let mut command = oracle::java("org.apache.kafka.tools.consumer.ConsoleConsumer", 512)?;
        command.args([
            "--bootstrap-server",
            bootstrap,
            "--topic",
            topic,
            "--partition",
            partition,
            "--offset",
            "earliest",
        ]);
        command.args(["--max-messages", end, "--timeout-ms", "20000"]);
        for property in [
            "print.timestamp=true",
            "print.partition=true",
            "print.offset=true",
            "print.headers=true",
            "print.key=true",
            &format!("key.separator={FIELD_END}"),
            &format!("headers.separator={HEADER_END}"),
            &format!("line.separator={RECORD_END}"),
            &format!("null.literal={NULL}"),
        ] {
            command.args(["--property", property]);
        }
        let output = checked(&mut command, "the Java console consumer", None)?;
        let mut records = split(&output.stdout, RECORD_END.as_bytes());
        // Each record is ended, not separated: nothing follows the last one.
        records.pop();
        for record in records {
            seen.push(java_record(record)?);
        }
    }
    Ok(seen)
}

fn java_record(bytes: &[u8]) -> Result<Seen> {
    let fields = split(bytes, FIELD_END.as_bytes());
    let [timestamp, partition, offset, headers, key, value] = fields[..] else {
        bail!("six fields, not {}: {}", fields.len(), String::from_utf8_lossy(bytes));
    };
    let number = |field: &[u8]| -> Result<i64> {
        let text = std::str::from_utf8(field)?;
        text.rsplit(':').next().unwrap_or_default().parse().with_context(|| format!("no number in `{text}`"))
    };
    let bytes_of = |field: &[u8]| (field != NULL.as_bytes()).then(|| field.to_vec());
    let headers = if headers == b"NO_HEADERS" { &[][..] } else { headers };
    let headers = split(headers, HEADER_END.as_bytes()).into_iter().filter_map(|header| {
        let colon = header.iter().position(|byte| *byte == b':')?;
        Some((String::from_utf8_lossy(&header[..colon]).into_owned(), bytes_of(&header[colon + 1..])))
    });
    let partition = i32::try_from(number(partition)?)?;
    let record = Record {
        key: bytes_of(key),
        value: bytes_of(value),
        headers: headers.collect(),
        timestamp: Some(number(timestamp)?),
        partition: Some(partition),
    };
    Ok(Seen { partition, offset: number(offset)?, record })
}

/// The parts between separators, empty ones too.
fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(bytes, separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn checked(command: &mut Command, what: &str, stdin: Option<&[u8]>) -> Result<Output> {
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what} ({})", OsStr::to_string_lossy(command.get_program())))?;
    let output = thread::scope(|scope| {
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), stdin) {
            // It may answer before it has read everything, so both go on at once; if it ends early its exit code says so.
            scope.spawn(move || pipe.write_all(bytes));
        }
        child.wait_with_output()
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{what} ended with {}:\n{words}", output.status);
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kcat_output_with_anything_in_key_and_value_is_read() {
        let mut output = b"2 7 1000 3 5 a=1,b=2\nk\nyv\n \0v".to_vec();
        output.extend(RECORD_END.as_bytes());
        output.extend(b"2 8 1001 -1 0 \n");
        output.extend(RECORD_END.as_bytes());
        let mut seen = Vec::new();
        kcat_records(&output, &mut seen).expect("well-formed");
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].record.key.as_deref(), Some(&b"k\ny"[..]));
        assert_eq!(seen[0].record.value.as_deref(), Some(&b"v\n \0v"[..]));
        assert_eq!(seen[0].record.headers.len(), 2);
        assert_eq!((seen[1].record.key.clone(), seen[1].record.value.clone()), (None, Some(Vec::new())));
    }

    #[test]
    fn splitting_keeps_empty_parts() {
        assert_eq!(split(b"a--b----c", b"--"), [&b"a"[..], b"b", b"", b"c"]);
        assert_eq!(split(b"a--", b"--"), [&b"a"[..], b""]);
    }
}
