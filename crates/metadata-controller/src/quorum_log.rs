//! The consensus log on disk: one file of checked frames, replaced by a shorter one at each snapshot.
//!
//! `docs/formats/quorum-log.md` has the layout. This log is the truth of the cluster's metadata and cannot be derived from
//! anything, so it is not kept in the store for derived state, which throws away what is damaged. A write of this log is one
//! frame and one sync, so only the last frame can be torn by a crash; anything else that cannot be read is damage, and the
//! node does not start (C9).
//!
//! Invariants kept: C4 (a write is durable when [`QuorumLog::write`] returns), C9, S6 (the first failed write ends it), S7.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base_types::BrokerId;
use bytes::Bytes;
use controller_core::{Persist, Stored};
use store_api::{DiskError, FileUse, Vfs, VfsFile};

const DIRECTORY: &str = "quorum";
const MAGIC: u32 = 0x5448_5147;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 12;
/// No frame is larger: bounds what a damaged length can make us read.
const FRAME_BYTES_MAX: usize = 1 << 30;
/// A file this much larger than what it holds is rewritten even without a snapshot.
const WASTE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub enum QuorumLogError {
    Disk(DiskError),
    /// Something that was durable cannot be read.
    Damaged {
        file: String,
        position: u64,
        why: &'static str,
    },
    /// The directory was written by another controller.
    OtherNode {
        expected: BrokerId,
        found: BrokerId,
    },
    OtherVersion {
        found: u8,
    },
}

impl fmt::Display for QuorumLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuorumLogError::Disk(error) => write!(f, "the quorum log cannot be used: {error}"),
            QuorumLogError::Damaged { file, position, why } => write!(
                f,
                "the quorum log {file} is damaged at byte {position}: {why}. This controller must not vote with it: move the \
                 data directory away and start it again, while the other controllers run; it catches up before it votes"
            ),
            QuorumLogError::OtherNode { expected, found } => {
                write!(f, "the data directory belongs to controller {found}, and this is controller {expected}")
            }
            QuorumLogError::OtherVersion { found } => {
                write!(f, "the quorum log has format version {found}; this program reads {VERSION}")
            }
        }
    }
}

impl std::error::Error for QuorumLogError {}

impl From<DiskError> for QuorumLogError {
    fn from(error: DiskError) -> QuorumLogError {
        QuorumLogError::Disk(error)
    }
}

/// Writes go in order, from one thread.
pub struct QuorumLog {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn VfsFile>,
    node: BrokerId,
    sequence: u64,
    position: u64,
    state: State,
}

impl fmt::Debug for QuorumLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuorumLog")
            .field("sequence", &self.sequence)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// What the file says, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    hard_state: Option<Bytes>,
    snapshot: Option<Bytes>,
    entries: BTreeMap<u64, Bytes>,
}

impl State {
    fn apply(&mut self, change: &Persist) {
        if let Some(hard_state) = &change.hard_state {
            self.hard_state = Some(hard_state.clone());
        }
        if let Some(snapshot) = &change.snapshot {
            self.snapshot = Some(snapshot.clone());
        }
        if let Some(from) = change.remove_from {
            self.entries.split_off(&from);
        }
        if let Some(below) = change.remove_below {
            self.entries = self.entries.split_off(&below);
        }
        self.entries.extend(change.entries.iter().cloned());
    }

    fn as_change(&self) -> Persist {
        Persist {
            hard_state: self.hard_state.clone(),
            snapshot: self.snapshot.clone(),
            entries: self.entries.iter().map(|(index, bytes)| (*index, bytes.clone())).collect(),
            ..Persist::default()
        }
    }

    fn size(&self) -> u64 {
        let snapshot = self.snapshot.as_ref().map_or(0, Bytes::len);
        (snapshot + self.entries.values().map(Bytes::len).sum::<usize>()) as u64
    }
}

impl QuorumLog {
    /// Reads what is there; makes an empty log where there is none.
    pub fn open(vfs: Arc<dyn Vfs>, node: BrokerId) -> Result<(QuorumLog, Stored), QuorumLogError> {
        vfs.create_dir(DIRECTORY)?;
        vfs.sync_dir("")?;
        let names = vfs.list(DIRECTORY)?;
        let mut sequences: Vec<u64> = names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
        sequences.sort_unstable();
        let log = match sequences.last() {
            None => {
                let state = State::default();
                let (file, position) = begin(&*vfs, node, 1, &state)?;
                QuorumLog { vfs, file, node, sequence: 1, position, state }
            }
            Some(&sequence) => {
                let name = file_name(sequence);
                let file = vfs.open(&name, FileUse::Buffered)?;
                let (state, position) = read(&*file, &name, node)?;
                if file.size()? > position {
                    file.set_size(position)?;
                }
                // What was read may be in the page cache only, and so may the name: a process that was killed got no answer
                // from its last write. From here on both count as durable (C4), and files that this one replaced go.
                file.sync_data()?;
                vfs.sync_dir(DIRECTORY)?;
                QuorumLog { vfs, file, node, sequence, position, state }
            }
        };
        for name in log.vfs.list(DIRECTORY)?.iter().filter(|name| **name != format!("{:020}.log", log.sequence)) {
            log.vfs.remove(&format!("{DIRECTORY}/{name}"))?;
        }
        let stored = Stored {
            hard_state: log.state.hard_state.clone(),
            snapshot: log.state.snapshot.clone(),
            entries: log.state.entries.iter().map(|(index, bytes)| (*index, bytes.clone())).collect(),
        };
        Ok((log, stored))
    }

    /// Makes these changes durable, all of them or none. After an error the log must not be written again.
    pub fn write(&mut self, changes: &[Persist]) -> Result<(), QuorumLogError> {
        changes.iter().for_each(|change| self.state.apply(change));
        let shrinks = changes.iter().any(|change| change.snapshot.is_some());
        if shrinks || self.position > self.state.size() + WASTE_BYTES_MAX {
            let (file, position) = begin(&*self.vfs, self.node, self.sequence + 1, &self.state)?;
            self.vfs.remove(&file_name(self.sequence))?;
            self.file = file;
            self.position = position;
            self.sequence += 1;
            return Ok(());
        }
        let frame = frame(&encode_changes(changes));
        self.file.write_at(self.position, &[&frame])?;
        self.file.sync_data()?;
        self.position += frame.len() as u64;
        Ok(())
    }
}

fn file_name(sequence: u64) -> String {
    format!("{DIRECTORY}/{sequence:020}.log")
}

/// A file that holds `state`, durable under its name.
fn begin(
    vfs: &dyn Vfs,
    node: BrokerId,
    sequence: u64,
    state: &State,
) -> Result<(Arc<dyn VfsFile>, u64), QuorumLogError> {
    let name = file_name(sequence);
    let unfinished = format!("{name}.new");
    let mut identity = vec![0, VERSION];
    identity.extend(node.0.to_be_bytes());
    let mut bytes = frame(&identity);
    bytes.extend(frame(&encode_changes(&[state.as_change()])));
    {
        let file = vfs.create(&unfinished, FileUse::Buffered)?;
        file.write_at(0, &[&bytes])?;
        file.sync_data()?;
    }
    vfs.rename(&unfinished, &name)?;
    vfs.sync_dir(DIRECTORY)?;
    Ok((vfs.open(&name, FileUse::Buffered)?, bytes.len() as u64))
}

/// The folded state, and where the next frame goes.
fn read(file: &dyn VfsFile, name: &str, node: BrokerId) -> Result<(State, u64), QuorumLogError> {
    let size = usize::try_from(file.size()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    let bytes = Bytes::from(bytes);

    let damaged =
        |position: usize, why| QuorumLogError::Damaged { file: name.to_owned(), position: position as u64, why };
    let mut state = State::default();
    let mut position = 0;
    let mut frames = 0;
    while let Some(payload) = frame_at(&bytes, position) {
        let why = "a frame that is whole and cannot be understood";
        match frames {
            0 => match payload[..] {
                [0, VERSION, a, b, c, d] => {
                    let found = BrokerId(i32::from_be_bytes([a, b, c, d]));
                    if found != node {
                        return Err(QuorumLogError::OtherNode { expected: node, found });
                    }
                }
                [0, found, ..] => return Err(QuorumLogError::OtherVersion { found }),
                _ => return Err(damaged(position, why)),
            },
            _ => {
                let changes = decode_changes(&payload).ok_or_else(|| damaged(position, why))?;
                changes.iter().for_each(|change| state.apply(change));
            }
        }
        frames += 1;
        position += HEADER_BYTES + payload.len();
    }
    // The first two frames were durable before the file had its name.
    if frames < 2 {
        return Err(damaged(position, "the beginning cannot be read"));
    }
    let torn = (position + 1..bytes.len().saturating_sub(HEADER_BYTES)).any(|at| frame_at(&bytes, at).is_some());
    if torn {
        return Err(damaged(position, "a frame cannot be read, and whole ones follow"));
    }
    Ok((state, position as u64))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend(MAGIC.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(checksum(payload).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn checksum(payload: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, payload) as u32
}

/// The payload of a whole frame at `position`.
fn frame_at(bytes: &Bytes, position: usize) -> Option<Bytes> {
    let mut reader = Reader { bytes: bytes.get(position..)? };
    if reader.u32()? != MAGIC {
        return None;
    }
    let length = reader.u32()? as usize;
    let expected = reader.u32()?;
    if length > FRAME_BYTES_MAX || length > reader.bytes.len() || checksum(&reader.bytes[..length]) != expected {
        return None;
    }
    let start = position + HEADER_BYTES;
    Some(bytes.slice(start..start + length))
}

fn encode_changes(changes: &[Persist]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend((changes.len() as u32).to_be_bytes());
    for change in changes {
        let flags = [
            change.hard_state.is_some(),
            change.snapshot.is_some(),
            change.remove_below.is_some(),
            change.remove_from.is_some(),
        ];
        out.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        for blob in change.hard_state.iter().chain(&change.snapshot) {
            put_blob(&mut out, blob);
        }
        for number in change.remove_below.iter().chain(&change.remove_from) {
            out.extend(number.to_be_bytes());
        }
        out.extend((change.entries.len() as u32).to_be_bytes());
        for (index, entry) in &change.entries {
            out.extend(index.to_be_bytes());
            put_blob(&mut out, entry);
        }
    }
    out
}

fn put_blob(out: &mut Vec<u8>, blob: &[u8]) {
    out.extend((blob.len() as u32).to_be_bytes());
    out.extend_from_slice(blob);
}

fn decode_changes(payload: &Bytes) -> Option<Vec<Persist>> {
    let mut reader = Reader { bytes: payload };
    if reader.u8()? != 1 {
        return None;
    }
    let count = reader.u32()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let flags = reader.u8()?;
        let mut change = Persist::default();
        if flags & 1 != 0 {
            change.hard_state = Some(reader.blob()?);
        }
        if flags & 2 != 0 {
            change.snapshot = Some(reader.blob()?);
        }
        if flags & 4 != 0 {
            change.remove_below = Some(reader.u64()?);
        }
        if flags & 8 != 0 {
            change.remove_from = Some(reader.u64()?);
        }
        for _ in 0..reader.u32()? {
            change.entries.push((reader.u64()?, reader.blob()?));
        }
        changes.push(change);
    }
    reader.bytes.is_empty().then_some(changes)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u32::from_be_bytes(*head))
    }

    fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(u64::from_be_bytes(*head))
    }

    fn blob(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        let (head, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(Bytes::copy_from_slice(head))
    }
}

#[cfg(test)]
mod tests {
    use base_types::Random;
    use store_api::{MemVfs, Survivors};

    use super::*;

    const NODE: BrokerId = BrokerId(1);

    fn entry(index: u64, text: &str) -> Persist {
        Persist { entries: vec![(index, Bytes::copy_from_slice(text.as_bytes()))], ..Persist::default() }
    }

    fn open(vfs: &Arc<MemVfs>) -> Result<(QuorumLog, Stored), QuorumLogError> {
        QuorumLog::open(vfs.clone(), NODE)
    }

    #[test]
    fn golden_bytes_of_version_1() {
        let change = Persist {
            hard_state: Some(Bytes::from_static(b"hs")),
            snapshot: Some(Bytes::from_static(b"s")),
            remove_below: Some(3),
            remove_from: Some(9),
            entries: vec![(9, Bytes::from_static(b"e"))],
            ..Persist::default()
        };
        let hex: String =
            frame(&encode_changes(std::slice::from_ref(&change))).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "54485147000000320baf075b01000000010f0000000268730000000173000000000000000300000000000000090000000100000000000000\
             090000000165"
        );
        assert_eq!(decode_changes(&encode_changes(std::slice::from_ref(&change)).into()), Some(vec![change]));
    }

    #[test]
    fn what_was_written_is_found_again() {
        let vfs = Arc::new(MemVfs::new());
        let (mut log, stored) = open(&vfs).unwrap();
        assert_eq!(stored, Stored::default());
        log.write(&[entry(1, "a"), entry(2, "b")]).unwrap();
        log.write(&[Persist { remove_from: Some(2), ..entry(2, "c") }, entry(3, "d")]).unwrap();
        drop(log);
        let (mut log, stored) = open(&vfs).unwrap();
        let texts: Vec<_> = stored.entries.iter().map(|(index, bytes)| (*index, &bytes[..])).collect();
        assert_eq!(texts, [(1, &b"a"[..]), (2, b"c"), (3, b"d")]);
        log.write(&[Persist {
            snapshot: Some(Bytes::from_static(b"image")),
            remove_below: Some(3),
            ..Persist::default()
        }])
        .unwrap();
        log.write(&[entry(4, "e")]).unwrap();
        drop(log);
        let (log, stored) = open(&vfs).unwrap();
        assert_eq!(stored.snapshot.as_deref(), Some(&b"image"[..]));
        assert_eq!(stored.entries.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(log.sequence, 2);
        assert_eq!(vfs.list(DIRECTORY).unwrap().len(), 1, "the older file is gone");
    }

    #[test]
    fn another_nodes_directory_and_damage_are_refused() {
        let vfs = Arc::new(MemVfs::new());
        let (mut log, _) = open(&vfs).unwrap();
        log.write(&[entry(1, "first")]).unwrap();
        let middle = log.position - 3;
        log.write(&[entry(2, "second")]).unwrap();
        let file = log.file.clone();
        let end = log.position;
        drop(log);
        assert!(matches!(QuorumLog::open(vfs.clone(), BrokerId(2)), Err(QuorumLogError::OtherNode { .. })));
        // A torn last frame is what a crash leaves.
        file.set_size(end - 2).unwrap();
        assert_eq!(open(&vfs).unwrap().1.entries.len(), 1);
        // A frame in the middle is not.
        let (mut log, _) = open(&vfs).unwrap();
        log.write(&[entry(2, "second")]).unwrap();
        drop(log);
        file.write_at(middle, &[b"\xff"]).unwrap();
        assert!(matches!(open(&vfs), Err(QuorumLogError::Damaged { .. })));
    }

    /// Writes of all kinds.
    fn trace() -> Vec<Vec<Persist>> {
        (1..40u64)
            .map(|index| match index % 7 {
                0 => vec![Persist {
                    snapshot: Some(Bytes::from(vec![index as u8; 700])),
                    remove_below: Some(index - 2),
                    ..Persist::default()
                }],
                _ => vec![Persist {
                    hard_state: Some(Bytes::from(vec![index as u8; 25])),
                    remove_from: (index % 5 == 0).then_some(index),
                    ..entry(index, &"x".repeat(90 * index as usize))
                }],
            })
            .collect()
    }

    /// A disk that stopped at its change number `point`, and the states that were asked for until then. Of all but the last one
    /// it was said that they are durable.
    fn interrupted_at(point: u64) -> (Arc<MemVfs>, Vec<State>) {
        let vfs = Arc::new(MemVfs::new());
        vfs.crash_after(point);
        let mut states = vec![State::default()];
        if let Ok((mut log, _)) = open(&vfs) {
            for changes in trace() {
                let mut next = states.last().cloned().unwrap_or_default();
                changes.iter().for_each(|change| next.apply(change));
                states.push(next);
                if log.write(&changes).is_err() {
                    break;
                }
            }
        }
        (vfs, states)
    }

    /// After a power loss at any operation everything acknowledged is there, and of the rest all or nothing of one write (C4).
    #[test]
    fn every_crash_leaves_what_was_acknowledged() {
        let mut random = Random::new(5);
        let mut crashes = 0;
        for point in 0.. {
            let (vfs, states) = interrupted_at(point);
            if !vfs.is_crashed() {
                break;
            }
            for &survivors in Survivors::ALL {
                crashes += 1;
                let after = Arc::new(vfs.after_crash(survivors, &mut random));
                let (log, _) = open(&after).unwrap_or_else(|error| panic!("crash at {point}: {error}"));
                let acknowledged = states.len().saturating_sub(2);
                assert!(
                    states[acknowledged..].contains(&log.state),
                    "crash at {point}: {:?}",
                    log.state.entries.keys()
                );
            }
        }
        assert!(crashes > 900, "{crashes}");
    }

    /// The process is killed at any operation and the page cache outlives it: what the next process finds there it votes by,
    /// so that this must outlive a power loss.
    #[test]
    fn what_is_found_after_a_kill_is_durable() {
        let mut random = Random::new(6);
        let mut kills = 0;
        for point in 0.. {
            let (vfs, states) = interrupted_at(point);
            if !vfs.is_crashed() {
                break;
            }
            kills += 1;
            let killed = Arc::new(vfs.after_kill());
            let (log, _) = open(&killed).unwrap_or_else(|error| panic!("killed at {point}: {error}"));
            let acknowledged = states.len().saturating_sub(2);
            assert!(states[acknowledged..].contains(&log.state), "killed at {point}");
            for &survivors in Survivors::ALL.iter().cycle().take(4 * Survivors::ALL.len()) {
                let after = Arc::new(killed.after_crash(survivors, &mut random));
                match open(&after) {
                    Ok((found, _)) => assert!(found.state == log.state, "killed at {point}, then {survivors:?}"),
                    Err(error) => panic!("killed at {point}, then {survivors:?}: {error}"),
                }
            }
        }
        assert!(kills > 100, "{kills}");
    }
}
