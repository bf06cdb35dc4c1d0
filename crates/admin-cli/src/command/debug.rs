//! `thalweg debug`.

use std::path::Path;

use bytes::Bytes;
use record_batch::{StampedBatch, batches};
use serde_json::json;

use super::consume::text_or_base64;
use crate::cli::DebugCommand;
use crate::failure::Failure;
use crate::output::{Format, Table};

/// A compressed batch may grow to so much.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

pub fn run(command: DebugCommand) -> Result<(), Failure> {
    match command {
        DebugCommand::DumpLog { file, records, output } => dump_log(&file, records, output),
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
    table.print(output);
    if with_records {
        records.print(output);
    }
    match damaged {
        // Segment files are preallocated: zeros after the last batch are no damage.
        Some(position) if bytes[position..].iter().any(|&byte| byte != 0) => Err(Failure::Failed(format!(
            "no batch at position {position}: the file is damaged or was not written further"
        ))),
        _ => Ok(()),
    }
}
