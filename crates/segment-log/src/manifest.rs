//! What is durable in segments, and from where on the journal must be read: the root of a data directory.
//!
//! Written whole, beside the old one, and moved into its place. Journal files are used again only when the manifest that no
//! longer needs them is durable, name included (S7). There is a copy of it: without it nothing in the directory could be found, and
//! one that is older than its copy is not believed. `docs/formats/journal.md`.

use base_types::{Incarnation, LeaderEpoch, Offset, TopicPartition};
use bytes::{BufMut, BytesMut};
use store_api::{DiskError, FileUse, Vfs};

use crate::{
    OpenError,
    codec::{Fields, put_partition},
    crc::crc32c,
    journal::{
        JournalPosition,
        entry::{SegmentExtent, epochs, extents, put_epochs, put_extents},
    },
    options::ReplicaOptions,
};

const PATH: &str = "manifest";
/// Each with the name under which it is written first.
const PATHS: [(&str, &str); 2] = [(PATH, "manifest.next"), ("manifest.copy", "manifest.copy.next")];
const MAGIC: u32 = 0x5477_4d31; // "TwM1"
/// Of what is written. Version 1, which has no copy and knows nothing of the journal's extent, is still read.
const VERSION: u16 = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    /// The last stop was orderly: everything is in segments and nothing happened since (S12).
    pub(crate) clean: bool,
    /// The life that wrote it.
    pub(crate) incarnation: Incarnation,
    pub(crate) replay_from: JournalPosition,
    /// One more than that of the manifest before.
    pub(crate) generation: u64,
    /// This block of the journal was durable, and all before it. With its own CRC; number 0 for none.
    pub(crate) last_block: JournalPosition,
    /// Who wrote the blocks from `replay_from` on, and from which block on.
    pub(crate) lives: Vec<(u64, Incarnation)>,
    /// The files of the journal, and how long each is at the least.
    pub(crate) journal_files: Vec<(u32, u64)>,
    pub(crate) replicas: Vec<ReplicaRecord>,
}

/// A manifest as it was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) manifest: Manifest,
    /// It was not there twice, as it should be.
    pub(crate) is_single: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReplicaRecord {
    pub(crate) tp: TopicPartition,
    pub(crate) options: ReplicaOptions,
    /// Entries of journal blocks up to this one are reflected here and must not be applied again.
    pub(crate) as_of: u64,
    /// The block of the last truncation or reset. Derived state of another value is of another history (S4).
    pub(crate) cut: u64,
    pub(crate) unjournaled: bool,
    /// A block of the journal that cannot be read held, or may have held, what comes behind `placed_end`; 0 for none.
    pub(crate) lost_block: u64,
    pub(crate) log_start: Offset,
    /// The end of what is durable in segments.
    pub(crate) placed_end: Offset,
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    pub(crate) segments: Vec<SegmentExtent>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        bytes.put_u32(MAGIC);
        bytes.put_u16(VERSION);
        bytes.put_u16(u16::from(self.clean));
        bytes.put_slice(&self.incarnation.0);
        put_position(&mut bytes, self.replay_from);
        bytes.put_u64(self.generation);
        put_position(&mut bytes, self.last_block);
        bytes.put_u32(self.lives.len() as u32);
        for (from, life) in &self.lives {
            bytes.put_u64(*from);
            bytes.put_slice(&life.0);
        }
        bytes.put_u32(self.journal_files.len() as u32);
        for (number, size) in &self.journal_files {
            bytes.put_u32(*number);
            bytes.put_u64(*size);
        }
        bytes.put_u32(self.replicas.len() as u32);
        for replica in &self.replicas {
            put_partition(&mut bytes, replica.tp);
            bytes.put_u32(replica.options.segment_bytes);
            bytes.put_u64(replica.as_of);
            bytes.put_u64(replica.cut);
            bytes.put_u8(u8::from(replica.unjournaled));
            bytes.put_u64(replica.lost_block);
            bytes.put_i64(replica.log_start.0);
            bytes.put_i64(replica.placed_end.0);
            put_epochs(&mut bytes, &replica.epochs);
            put_extents(&mut bytes, &replica.segments);
        }
        let crc = crc32c(&[&bytes]);
        bytes.put_u32(crc);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, OpenError> {
        let damaged = |reason| OpenError::ManifestDamaged { reason };
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(damaged("it is too short"))?;
        let mut fields = Fields(body);
        if fields.u32() != Some(MAGIC) {
            return Err(damaged("it does not start as a manifest does"));
        }
        if crc32c(&[body]) != u32::from_be_bytes(*crc) {
            return Err(damaged("its checksum does not match"));
        }
        let version = fields.u16().unwrap_or(0);
        if !(1..=VERSION).contains(&version) {
            return Err(OpenError::VersionUnknown { file: PATH, version });
        }
        Self::body(&mut fields, version).ok_or(damaged("its fields do not fit its length"))
    }

    fn body(fields: &mut Fields<'_>, version: u16) -> Option<Manifest> {
        let clean = fields.u16()? & 1 == 1;
        let incarnation = Incarnation(fields.id()?);
        let replay_from = position(fields)?;
        let (generation, last_block, lives, journal_files) = match version {
            1 => (0, JournalPosition::NONE, vec![(replay_from.seq, incarnation)], Vec::new()),
            _ => (
                fields.u64()?,
                position(fields)?,
                fields.list(24, |fields| Some((fields.u64()?, Incarnation(fields.id()?))))?,
                fields.list(12, |fields| Some((fields.u32()?, fields.u64()?)))?,
            ),
        };
        let replicas = fields.list(65, |fields| {
            Some(ReplicaRecord {
                tp: fields.partition()?,
                options: ReplicaOptions { segment_bytes: fields.u32()? },
                as_of: fields.u64()?,
                cut: fields.u64()?,
                unjournaled: fields.u8()? == 1,
                lost_block: if version == 1 { 0 } else { fields.u64()? },
                log_start: fields.offset()?,
                placed_end: fields.offset()?,
                epochs: epochs(fields)?,
                segments: extents(fields)?,
            })
        })?;
        fields.end()?;
        Some(Manifest { clean, incarnation, replay_from, generation, last_block, lives, journal_files, replicas })
    }

    /// Replaces the manifest and its copy. Durable when this returns.
    pub(crate) fn store(&self, vfs: &dyn Vfs) -> Result<(), DiskError> {
        let bytes = self.encode();
        for (_, draft) in PATHS {
            let file = vfs.create(draft, FileUse::Buffered)?;
            file.write_at(0, &[&bytes])?;
            file.sync_data()?;
        }
        for (path, draft) in PATHS {
            vfs.rename(draft, path)?;
        }
        vfs.sync_dir("")
    }

    /// The newer of the manifest and its copy. `None` when there is neither. Its name may not be durable yet.
    pub(crate) fn load(vfs: &dyn Vfs) -> Result<Option<Loaded>, OpenError> {
        let mut found: Vec<Manifest> = Vec::new();
        let mut damage = None;
        for (path, _) in PATHS {
            match Self::load_one(vfs, path) {
                Ok(manifest) => found.extend(manifest),
                Err(error @ OpenError::ManifestDamaged { .. }) => damage = Some(error),
                Err(other) => return Err(other),
            }
        }
        let generations: Vec<u64> = found.iter().map(|manifest| manifest.generation).collect();
        let Some(manifest) = found.into_iter().max_by_key(|manifest| manifest.generation) else {
            return damage.map_or(Ok(None), Err);
        };
        // Power may have been lost when one had its name and the other had not.
        let are_both = generations.len() == PATHS.len() && generations.iter().all(|at| at + 1 >= manifest.generation);
        let is_single = manifest.generation > 0 && !are_both;
        Ok(Some(Loaded { manifest, is_single }))
    }

    fn load_one(vfs: &dyn Vfs, path: &str) -> Result<Option<Manifest>, OpenError> {
        let file = match vfs.open(path, FileUse::Buffered) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = vec![0; file.size()? as usize];
        let have = file.read_at(0, &mut bytes)?;
        Manifest::decode(&bytes[..have]).map(Some)
    }
}

fn put_position(bytes: &mut BytesMut, at: JournalPosition) {
    bytes.put_u32(at.file);
    bytes.put_u64(at.position);
    bytes.put_u64(at.seq);
    bytes.put_u32(at.previous_crc);
}

fn position(fields: &mut Fields<'_>) -> Option<JournalPosition> {
    Some(JournalPosition {
        file: fields.u32()?,
        position: fields.u64()?,
        seq: fields.u64()?,
        previous_crc: fields.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, Timestamp, TopicId};
    use store_api::MemVfs;

    use super::*;

    fn manifest() -> Manifest {
        let extent = SegmentExtent { base: Offset(5), len: 9, next_offset: Offset(7), max_timestamp: Timestamp(1) };
        Manifest {
            clean: true,
            incarnation: Incarnation([9; 16]),
            replay_from: JournalPosition { file: 3, position: 4096, seq: 77, previous_crc: 5 },
            generation: 12,
            last_block: JournalPosition { file: 3, position: 8192, seq: 90, previous_crc: 6 },
            lives: vec![(70, Incarnation([8; 16])), (80, Incarnation([9; 16]))],
            journal_files: vec![(3, 64 << 10), (4, 0)],
            replicas: vec![ReplicaRecord {
                tp: TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(2) },
                options: ReplicaOptions { segment_bytes: 1 << 20 },
                as_of: 70,
                cut: 60,
                unjournaled: true,
                lost_block: 6,
                log_start: Offset(5),
                placed_end: Offset(7),
                epochs: vec![(LeaderEpoch(1), Offset(5))],
                segments: vec![extent],
            }],
        }
    }

    #[test]
    fn a_manifest_reads_back_and_no_damage_passes() {
        let vfs = MemVfs::new();
        assert!(Manifest::load(&vfs).unwrap().is_none());
        manifest().store(&vfs).unwrap();
        let loaded = Manifest::load(&vfs).unwrap().unwrap();
        assert!(loaded.manifest == manifest() && !loaded.is_single);
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(Manifest::decode(&damaged).is_err());
            assert!(Manifest::decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn the_newer_of_both_counts_and_one_is_enough() {
        let older = |path: &str| {
            let vfs = MemVfs::new();
            manifest().store(&vfs).unwrap();
            let old = vfs.bytes_of(path).unwrap();
            let now = Manifest { generation: 14, clean: false, ..manifest() };
            now.store(&vfs).unwrap();
            let file = vfs.create(path, FileUse::Buffered).unwrap();
            file.write_at(0, &[&old]).unwrap();
            (vfs, now)
        };
        for (path, other) in [("manifest", "manifest.copy"), ("manifest.copy", "manifest")] {
            let (vfs, now) = older(path);
            let loaded = Manifest::load(&vfs).unwrap().unwrap();
            assert!(loaded.manifest == now && loaded.is_single, "an old {path}");
            vfs.corrupt(path, 9, 1).unwrap();
            let loaded = Manifest::load(&vfs).unwrap().unwrap();
            assert!(loaded.manifest == now && loaded.is_single, "a damaged {path}");
            vfs.remove(path).unwrap();
            assert_eq!(Manifest::load(&vfs).unwrap().unwrap().manifest, now);
            vfs.corrupt(other, 9, 1).unwrap();
            assert!(matches!(Manifest::load(&vfs), Err(OpenError::ManifestDamaged { .. })));
        }
    }
}
