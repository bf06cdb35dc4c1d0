//! The stored log as bytes: hard state, entries, snapshot. Each begins with its version; numbers are big-endian.
//!
//! ```text
//!  hard state := 1 or 2, term u64, vote u64, commit u64; 2 for a newcomer, which may not vote yet
//!  entry      := 1, kind u8 (0 normal, 1 and 2 changes of membership), term u64, data
//!  snapshot   := 1, index u64, term u64, four lists of voters (count u16, ids u64), auto leave u8, data
//! ```
//!
//! Assumes: the store gives back what was written or an error; damage is its business to notice (C9).

use std::fmt;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot, SnapshotMetadata};

const VERSION: u8 = 1;
const NEWCOMER: u8 = 2;

/// What a store holds when a node starts. Empty for a new node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub hard_state: Option<Bytes>,
    pub snapshot: Option<Bytes>,
    /// With their index, in order.
    pub entries: Vec<(u64, Bytes)>,
}

/// What is stored cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError(pub &'static str);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stored consensus log is damaged: {}", self.0)
    }
}

impl std::error::Error for FormatError {}

pub(crate) fn encode_hard_state(state: &HardState, is_newcomer: bool) -> Bytes {
    let mut out = vec![if is_newcomer { NEWCOMER } else { VERSION }];
    for number in [state.term, state.vote, state.commit] {
        out.extend(number.to_be_bytes());
    }
    out.into()
}

/// Answers whether it is of a newcomer, too.
pub(crate) fn decode_hard_state(bytes: &Bytes) -> Result<(HardState, bool), FormatError> {
    let mut reader = Reader { bytes, what: "hard state" };
    let is_newcomer = match reader.u8()? {
        VERSION => false,
        NEWCOMER => true,
        _ => return Err(FormatError("unknown version")),
    };
    let state = HardState { term: reader.u64()?, vote: reader.u64()?, commit: reader.u64()? };
    if reader.bytes.is_empty() { Ok((state, is_newcomer)) } else { Err(FormatError("hard state is too long")) }
}

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let mut out = Vec::with_capacity(10 + entry.data.len());
    out.push(VERSION);
    out.push(match entry.get_entry_type() {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    });
    out.extend(entry.term.to_be_bytes());
    out.extend_from_slice(&entry.data);
    out.into()
}

pub(crate) fn decode_entry(index: u64, bytes: &Bytes) -> Result<Entry, FormatError> {
    let mut reader = Reader::new(bytes, "entry")?;
    let kind = match reader.u8()? {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        _ => return Err(FormatError("entry of an unknown kind")),
    };
    let mut entry = Entry { index, term: reader.u64()?, data: reader.bytes.to_vec(), ..Entry::default() };
    entry.set_entry_type(kind);
    Ok(entry)
}

pub(crate) fn encode_snapshot(snapshot: &Snapshot) -> Bytes {
    let meta = snapshot.get_metadata();
    let conf = meta.get_conf_state();
    let mut out = vec![VERSION];
    out.extend(meta.index.to_be_bytes());
    out.extend(meta.term.to_be_bytes());
    for list in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
        out.extend((list.len() as u16).to_be_bytes());
        list.iter().for_each(|id| out.extend(id.to_be_bytes()));
    }
    out.push(conf.auto_leave.into());
    out.extend_from_slice(&snapshot.data);
    out.into()
}

pub(crate) fn decode_snapshot(bytes: &Bytes) -> Result<Snapshot, FormatError> {
    let mut reader = Reader::new(bytes, "snapshot")?;
    let (index, term) = (reader.u64()?, reader.u64()?);
    let mut conf = ConfState::default();
    for list in [&mut conf.voters, &mut conf.learners, &mut conf.voters_outgoing, &mut conf.learners_next] {
        let count = u16::from_be_bytes([reader.u8()?, reader.u8()?]);
        for _ in 0..count {
            list.push(reader.u64()?);
        }
    }
    conf.auto_leave = reader.u8()? == 1;
    let metadata = SnapshotMetadata { conf_state: Some(conf), index, term };
    Ok(Snapshot { data: reader.bytes.to_vec(), metadata: Some(metadata) })
}

struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a Bytes, what: &'static str) -> Result<Reader<'a>, FormatError> {
        let mut reader = Reader { bytes, what };
        if reader.u8()? == VERSION { Ok(reader) } else { Err(FormatError("unknown version")) }
    }

    fn u8(&mut self) -> Result<u8, FormatError> {
        let (&first, rest) = self.bytes.split_first().ok_or(FormatError(self.what))?;
        self.bytes = rest;
        Ok(first)
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(FormatError(self.what))?;
        self.bytes = rest;
        Ok(u64::from_be_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_bytes() {
        let state = HardState { term: 3, vote: 2, commit: 258 };
        let bytes = encode_hard_state(&state, false);
        assert_eq!(hex(&bytes), "01000000000000000300000000000000020000000000000102");
        assert_eq!(decode_hard_state(&bytes), Ok((state.clone(), false)));
        let bytes = encode_hard_state(&state, true);
        assert_eq!(hex(&bytes), "02000000000000000300000000000000020000000000000102");
        assert_eq!(decode_hard_state(&bytes), Ok((state, true)));

        let mut entry = Entry { index: 9, term: 3, data: b"abc".to_vec(), ..Entry::default() };
        let bytes = encode_entry(&entry);
        assert_eq!(hex(&bytes), "01000000000000000003616263");
        assert_eq!(decode_entry(9, &bytes), Ok(entry.clone()));
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        assert_eq!(decode_entry(9, &encode_entry(&entry)), Ok(entry));

        let conf_state = ConfState { voters: vec![1, 2, 3], learners: vec![4], ..ConfState::default() };
        let metadata = SnapshotMetadata { conf_state: Some(conf_state), index: 7, term: 2 };
        let snapshot = Snapshot { data: b"image".to_vec(), metadata: Some(metadata) };
        let bytes = encode_snapshot(&snapshot);
        assert_eq!(
            hex(&bytes),
            "01000000000000000700000000000000020003000000000000000100000000000000020000000000000003\
             000100000000000000040000000000696d616765"
        );
        assert_eq!(decode_snapshot(&bytes), Ok(snapshot));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let whole = encode_hard_state(&HardState { term: 3, vote: 2, commit: 258 }, true);
        for size in 0..whole.len() {
            assert!(decode_hard_state(&whole.slice(..size)).is_err());
        }
        assert!(decode_entry(1, &Bytes::from_static(&[1, 9, 0, 0, 0, 0, 0, 0, 0, 0])).is_err());
        assert!(decode_entry(1, &Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0])).is_err());
        assert!(decode_snapshot(&Bytes::from_static(&[1, 0])).is_err());
    }
}
