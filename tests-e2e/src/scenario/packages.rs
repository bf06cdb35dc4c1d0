//! Real input: the package index of a Debian machine, one record per package, key = name, a header with its section.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::clients::{self, Client, Codec, Produce};
use crate::history::{self, Promise};
use crate::lane;
use crate::record::Record;

/// How many packages `make test` sends; `make test-long` lifts the limit.
pub const LIMIT: usize = 2_000;

/// The limit in force.
pub fn limit() -> usize {
    if lane::is_long() { usize::MAX } else { LIMIT }
}

/// The index as records, at most `limit`, in the order of `apt-cache dumpavail`.
pub fn records(limit: usize) -> Result<Vec<Record>> {
    let output = Command::new("apt-cache").arg("dumpavail").output().context("cannot start apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let stanzas = text.split("\n\n").filter(|stanza| !stanza.trim().is_empty());
    let records: Vec<Record> = stanzas.take(limit).map(record).collect::<Result<_>>()?;
    if records.is_empty() {
        bail!("the package index is empty: `apt-get update` fills it");
    }
    Ok(records)
}

fn record(stanza: &str) -> Result<Record> {
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let package = field("Package").with_context(|| format!("a stanza without Package: {stanza}"))?;
    Ok(Record::text(package, stanza.trim_end()).header("section", field("Section").unwrap_or("none")))
}

/// One write of the index: by whom and how.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub client: Client,
    pub codec: Codec,
    pub idempotent: bool,
}

/// kcat with each codec, and each other client with the one it is most used with.
pub fn passes() -> Vec<Pass> {
    let kcat = Codec::ALL.iter().map(|codec| Pass { client: Client::Kcat, codec: *codec, idempotent: false });
    let others = [
        Pass { client: Client::Confluent, codec: Codec::Lz4, idempotent: true },
        Pass { client: Client::KafkaJs, codec: Codec::Gzip, idempotent: false },
        Pass { client: Client::KafkaPython, codec: Codec::Zstd, idempotent: false },
        Pass { client: Client::Java, codec: Codec::Snappy, idempotent: true },
    ];
    kcat.chain(others).collect()
}

/// Where to, and with what topics.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub bootstrap: &'a str,
    /// Topic names begin with it.
    pub prefix: &'a str,
    pub partitions: u16,
    pub replicas: u16,
    /// Topic configs, as `name=value,...`.
    pub config: &'a str,
}

/// Writes the index once per pass, each into a topic of its own, and reads it back with every reader that needs no group.
pub fn through_topics(target: &Target<'_>, passes: &[Pass], limit: usize) -> Result<String> {
    let records = records(limit)?;
    let mut report = String::new();
    let Target { bootstrap, prefix, partitions, replicas, config } = *target;
    for pass in passes {
        let topic = format!("{prefix}-{:?}-{}", pass.client, pass.codec.name()).to_lowercase();
        let spec = format!("{topic}:{partitions}:{replicas}{}{config}", if config.is_empty() { "" } else { ":" });
        clients::create_topics(bootstrap, &[&spec])?;
        let input = suited(pass.client, &records);
        let job = Produce { idempotent: pass.idempotent, ..Produce::new(bootstrap, &topic, pass.codec) };
        let acks = pass.client.produce(&job, &input).with_context(|| format!("writing {topic}"))?;
        if acks.len() != input.len() {
            bail!("{topic}: {} of {} records were acknowledged", acks.len(), input.len());
        }
        for reader in [Client::Kcat, Client::Confluent, Client::KafkaPython, Client::Java] {
            // One JVM per partition: the Java consumer reads what its own producer and one other wrote.
            if reader == Client::Java && !matches!(pass.client, Client::Java | Client::Confluent) {
                continue;
            }
            let seen = reader.consume(bootstrap, &topic, &[]).with_context(|| format!("{reader:?} reading {topic}"))?;
            let judged = history::judge(&input, &acks, &seen, Promise::ExactlyOnce, true);
            judged.with_context(|| format!("{topic}, read by {reader:?}"))?;
        }
        write!(report, "{topic}: {} records; ", input.len())?;
    }
    Ok(report)
}

/// The console producer takes one line a record; kcat one run per section.
fn suited(client: Client, records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    match client {
        Client::Java => {
            for record in &mut records {
                let value = record.value.take().map(|value| String::from_utf8_lossy(&value).replace('\n', "\u{2424}"));
                record.value = value.map(String::into_bytes);
            }
        }
        Client::Kcat => records.sort_by(|a, b| a.headers.cmp(&b.headers)),
        _ => {}
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_becomes_a_record() {
        let record = record("Package: kcat\nSection: net\nDescription: a\n long text\n").expect("well-formed");
        assert_eq!(record.key.as_deref(), Some(&b"kcat"[..]));
        assert_eq!(record.headers, [("section".to_owned(), Some(b"net".to_vec()))]);
        assert!(record.value.expect("the stanza").ends_with(b"long text"));
    }

    #[test]
    fn a_stanza_without_a_name_is_refused() {
        assert!(record("Section: net").is_err());
    }
}
