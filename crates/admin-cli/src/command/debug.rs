//! `thalweg debug`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use record_batch::{StampedBatch, batches};
use segment_log::{Finding, LogStore};
use serde_json::json;
use store_api::{KvStore, MemKv};
use store_os::{DirectIo, OsVfs, RocksKv};

use super::consume::text_or_base64;
use crate::cli::DebugCommand;
use crate::failure::Failure;
use crate::output::{self, Format, Table};

/// A compressed batch may grow to so much.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

pub fn run(command: DebugCommand) -> Result<(), Failure> {
    match command {
        DebugCommand::DumpLog { file, records, output } => dump_log(&file, records, output),
        DebugCommand::Verify { directory, output } => verify(&directory, output),
    }
}

/// Nothing is changed. What cannot be read at all is a failure of the command; what is wrong is a failure too, after all of it is told.
fn verify(directory: &Path, format: Format) -> Result<(), Failure> {
    let (log, derived) = (directory.join("log"), directory.join("derived"));
    if !log.join("journal").is_dir() {
        let text = format!("{} is no data directory of a storage node: it has no log/journal", directory.display());
        return Err(Failure::Usage(text));
    }
    let chain = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    let vfs = OsVfs::open(&log, DirectIo::Never).map_err(|error| Failure::Failed(chain(&error)))?;
    let mut derived_error = None;
    let kv: Arc<dyn KvStore> = match RocksKv::open_read_only(&derived) {
        Ok(kv) => Arc::new(kv),
        Err(error) => {
            derived_error = derived.is_dir().then(|| error.to_string());
            Arc::new(MemKv::new())
        }
    };
    let report = LogStore::verify(Arc::new(vfs), kv).map_err(|error| Failure::Failed(chain(&error)))?;
    let mut findings = report.findings;
    if let Some(what) = derived_error {
        findings.push(Finding { file: "../derived".to_owned(), position: 0, what, is_derived: true });
    }
    let mut table = Table::new(&["file", "position", "what", "heals_itself"]);
    for finding in &findings {
        table.row(vec![
            json!(finding.file),
            json!(finding.position),
            json!(finding.what),
            json!(if finding.is_derived { "yes" } else { "no" }),
        ]);
    }
    let summary = format!(
        "{} replicas, {} segments with {} batches in {} bytes, {} journal blocks: {} findings\n",
        report.replicas,
        report.segments,
        report.batches,
        report.bytes,
        report.journal_blocks,
        findings.len()
    );
    let asides: String = report.asides.iter().map(|name| format!("set aside or left over: {name}\n")).collect();
    let rows = if findings.is_empty() { String::new() } else { table.to_string() };
    output::print(format, &format!("{rows}{asides}{summary}"), || {
        json!({
            "replicas": report.replicas,
            "segments": report.segments,
            "batches": report.batches,
            "bytes": report.bytes,
            "journal_blocks": report.journal_blocks,
            "findings": table.to_json(),
            "asides": report.asides,
        })
    });
    match findings.iter().filter(|finding| !finding.is_derived).count() {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("{count} findings that do not heal by themselves"))),
    }
}

fn dump_log(file: &Path, with_records: bool, output: Format) -> Result<(), Failure> {
    let bytes = Bytes::from(std::fs::read(file).map_err(Failure::io(format!("reading {}", file.display())))?);
    let mut table = Table::new(&[
        "position",
        "base_offset",
        "last_offset",
        "count",
        "leader_epoch",
        "size",
        "codec",
        "producer_id",
        "producer_epoch",
        "base_sequence",
        "max_timestamp",
        "crc",
    ]);
    let mut records = Table::new(&["offset", "timestamp", "key", "value"]);
    let mut walk = batches(&bytes);
    let mut damaged = None;
    while let Some(next) = walk.next() {
        let Ok((header, range)) = next else {
            damaged = Some(walk.position());
            break;
        };
        let position = range.start;
        let stored = StampedBatch::from_stored(bytes.slice(range));
        let codec =
            header.attributes.compression().map_or_else(|unknown| unknown.to_string(), |known| known.name().to_owned());
        table.row(vec![
            json!(position),
            json!(header.base_offset.0),
            json!(header.last_offset().0),
            json!(header.record_count),
            json!(header.leader_epoch.0),
            json!(header.size()),
            json!(codec),
            json!(header.producer_id.0),
            json!(header.producer_epoch.0),
            json!(header.base_sequence.0),
            json!(header.max_timestamp.0),
            json!(if stored.is_ok() { "good" } else { "BAD" }),
        ]);
        if let (true, Ok(batch)) = (with_records, &stored) {
            let read = batch.records(DECOMPRESSED_BYTES_MAX);
            for record in read.into_iter().flatten().flatten() {
                records.row(vec![
                    json!(record.offset.0),
                    json!(record.timestamp.0),
                    text_or_base64(record.key.as_deref()),
                    text_or_base64(record.value.as_deref()),
                ]);
            }
        }
    }
    if with_records {
        output::print(
            output,
            &format!("{table}{records}"),
            || json!({ "batches": table.to_json(), "records": records.to_json() }),
        );
    } else {
        table.print(output);
    }
    if let Some(journal) = journal_ahead_of(file) {
        eprintln!(
            "thalweg: newer records of this partition may still be only in the journal, {}; a node that stops in order moves them here",
            journal.display()
        );
    }
    match damaged {
        // Segment files are preallocated: zeros after the last batch are no damage.
        Some(position) if bytes[position..].iter().any(|&byte| byte != 0) => Err(Failure::Failed(format!(
            "no batch at position {position}: the file is damaged or was not written further"
        ))),
        _ => Ok(()),
    }
}

/// The journal of the data directory, when `file` is the newest segment of its partition there: records are durable in the journal
/// first, and go to segments later (`docs/formats/journal.md`). What belongs into older segments is in them.
fn journal_ahead_of(file: &Path) -> Option<PathBuf> {
    let file = file.canonicalize().ok()?;
    let partition = file.parent()?;
    let journal = partition.parent()?.parent()?.join("journal");
    let names = std::fs::read_dir(partition).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    // Names are offsets with all their digits, so they are in order.
    let newest = names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "log")).max();
    (newest.as_deref() == file.file_name() && journal.is_dir()).then_some(journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_behind_the_newest_segment_of_a_data_directory_may_there_be_more() {
        let root = std::env::temp_dir().join(format!("thalweg-debug-{}", std::process::id()));
        let partition = root.join("partitions/topic-0");
        std::fs::create_dir_all(&partition).expect("a temporary folder");
        let segment = |base: u64| partition.join(format!("{base:020}.log"));
        for base in [0, 900, 1000] {
            std::fs::write(segment(base), b"").expect("writable");
        }
        assert_eq!(journal_ahead_of(&segment(1000)), None, "a copy, without its data directory");
        std::fs::create_dir(root.join("journal")).expect("a journal");
        let journal = root.canonicalize().expect("it is there").join("journal");
        assert_eq!(journal_ahead_of(&segment(1000)), Some(journal));
        assert_eq!((journal_ahead_of(&segment(900)), journal_ahead_of(&segment(0))), (None, None));
        std::fs::remove_dir_all(&root).expect("cleared");
    }
}
