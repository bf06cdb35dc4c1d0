//! Every client writes with every codec, and every client reads what all of them wrote.
//!
//! One topic with one partition per codec, written by one client after the other, so that a reader meets the batches of every
//! implementation of a codec in one log.

use std::fmt::Write as _;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::clients::{self, Client, Codec, Produce};
use crate::history::{self, Promise};
use crate::oracle;
use crate::record::{Ack, Record};

/// Returns one line for the log: what was done.
pub fn every_client_and_codec(bootstrap: &str, prefix: &str, replicas: u16) -> Result<String> {
    let topics: Vec<(Codec, String)> =
        Codec::ALL.iter().map(|codec| (*codec, format!("{prefix}-{}", codec.name()))).collect();
    create(bootstrap, &topics, replicas)?;

    let mut report = String::new();
    for (codec, topic) in &topics {
        let mut sent: Vec<Record> = Vec::new();
        let mut acks: Vec<Ack> = Vec::new();
        for client in Client::ALL {
            let records = if client.is_exact() { any_records(client, *codec) } else { plain_records(client, *codec) };
            let mut job = Produce::new(bootstrap, topic, *codec);
            // kafkajs says of itself that its idempotence is experimental; the packages scenario covers it.
            job.idempotent = matches!(client, Client::Confluent | Client::Java);
            let answers = client.produce(&job, &records).with_context(|| format!("{client:?} writes {topic}"))?;
            if answers.len() != records.len() {
                bail!("{client:?} got {} answers for {} records of {topic}", answers.len(), records.len());
            }
            acks.extend(answers.into_iter().map(|ack| Ack { n: ack.n + sent.len(), ..ack }));
            sent.extend(records);
        }
        // Readers do not disturb each other.
        thread::scope(|scope| {
            let readers = Client::ALL.map(|client| {
                (
                    client,
                    scope.spawn({
                        let (sent, acks) = (&sent, &acks);
                        move || read_back(client, bootstrap, topic, sent, acks)
                    }),
                )
            });
            readers.into_iter().try_for_each(|(client, reader)| {
                let judged = reader.join().unwrap_or_else(|_| bail!("the reader panicked"));
                judged.with_context(|| format!("{topic}, read by {client:?}"))
            })
        })?;
        write!(report, "{topic}: {} records by {} clients, read by all; ", sent.len(), Client::ALL.len())?;
    }
    Ok(report)
}

fn read_back(client: Client, bootstrap: &str, topic: &str, sent: &[Record], acks: &[Ack]) -> Result<()> {
    let seen = client.consume(bootstrap, topic, &[])?;
    history::judge(sent, acks, &seen, Promise::ExactlyOnce, client.is_exact())?;
    if client.is_exact() { Ok(()) } else { plain_headers(client, sent, &seen) }
}

/// Acks 0 and 1: everything arrives when nothing fails, even if nobody says so.
pub fn weaker_acknowledgements(bootstrap: &str, topic: &str, replicas: u16) -> Result<()> {
    clients::create_topics(bootstrap, &[&format!("{topic}:1:{replicas}")])?;
    let mut sent = Vec::new();
    for client in [Client::Kcat, Client::Confluent, Client::KafkaPython, Client::KafkaJs] {
        for acks in ["0", "1"] {
            let records: Vec<Record> = (0..20)
                .map(|n| Record::text(&format!("{client:?}-{acks}"), &n.to_string()).header("acks", acks))
                .collect();
            client.produce(&Produce::new(bootstrap, topic, Codec::None).acks(acks), &records)?;
            sent.extend(records);
        }
    }
    let acks: Vec<Ack> = (0..sent.len()).map(|n| Ack { n, place: None }).collect();
    let seen = Client::Confluent.consume(bootstrap, topic, &[])?;
    history::judge(&sent, &acks, &seen, Promise::ExactlyOnce, true)
}

/// The first topic with Kafka's own tool, the others with an admin client.
fn create(bootstrap: &str, topics: &[(Codec, String)], replicas: u16) -> Result<()> {
    let [(_, first), others @ ..] = topics else { bail!("no topics") };
    let replication = replicas.to_string();
    let base = ["--bootstrap-server", bootstrap, "--topic", first];
    let create = ["--create", "--partitions", "1", "--replication-factor", &replication];
    oracle::tool("org.apache.kafka.tools.TopicCommand", &[&base[..], &create].concat())?;
    let described = oracle::tool("org.apache.kafka.tools.TopicCommand", &[&base[..], &["--describe"]].concat())?;
    if !described.contains(&format!("ReplicationFactor: {replicas}")) {
        bail!("TopicCommand does not describe what it created:\n{described}");
    }
    let others: Vec<String> = others.iter().map(|(_, topic)| format!("{topic}:1:{replicas}")).collect();
    clients::create_topics(bootstrap, &others.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Text with a header, as kcat and the console tools can carry it.
fn plain_records(client: Client, codec: Codec) -> Vec<Record> {
    let from = format!("{client:?}");
    let record = |n: usize| {
        let value = format!("grüße {n} {}", "0123456789".repeat(n));
        Record::text(&format!("{from}-{}-{}", codec.name(), n % 7), &value).header("from", &from)
    };
    (0..50).map(record).collect()
}

/// The plain ones, and everything else the format allows.
fn any_records(client: Client, codec: Codec) -> Vec<Record> {
    let mut records = plain_records(client, codec);
    let key = format!("{client:?}-{}-any", codec.name());
    let every_byte: Vec<u8> = (0..=255).collect();
    let base = Record::text(&key, "");
    let with_key = |key: Option<&[u8]>| Record {
        key: key.map(<[u8]>::to_vec),
        value: Some(key_of(client, codec)),
        ..Record::default()
    };
    records.push(with_key(None));
    records.push(with_key(Some(b"")));
    records.push(Record { value: None, ..base.clone() });
    records.push(base.clone());
    records.push(Record { value: Some(every_byte.clone()), ..base.clone() });
    records.push(Record { value: Some(noise(100_000)), ..base.clone() });
    records.push(Record { value: Some(vec![b'x'; 300_000]), ..base.clone() });
    records.push(Record { timestamp: Some(1_234_567_890_123), ..base.clone() });
    let mut headers =
        base.clone().header("repeated", "1").header("repeated", "2").header("", "empty name").header("grüße", "");
    headers.headers.push(("bytes".to_owned(), Some(every_byte)));
    // A header without a value is legal, but of these clients only librdkafka can send one.
    if client == Client::Confluent {
        headers.headers.push(("null".to_owned(), None));
    }
    records.push(headers);
    records
}

/// What makes records of different writers differ when key and headers do not.
fn key_of(client: Client, codec: Codec) -> Vec<u8> {
    format!("{client:?} {}", codec.name()).into_bytes()
}

/// Bytes that do not compress, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A client for plain text must at least show the headers of plain records.
fn plain_headers(client: Client, sent: &[Record], seen: &[crate::record::Seen]) -> Result<()> {
    let is_plain =
        |record: &&Record| record.headers.len() == 1 && record.headers.iter().all(|(name, _)| name == "from");
    let expected = sent.iter().filter(is_plain).count();
    let shown = seen.iter().map(|seen| &seen.record).filter(is_plain).count();
    if shown != expected {
        bail!("{client:?} shows the header of {shown} records, not of {expected}");
    }
    Ok(())
}
