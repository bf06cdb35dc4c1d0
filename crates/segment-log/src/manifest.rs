//! What is durable in segments, and from where on the journal must be read: the root of a data directory.
//!
//! Written whole, beside the old one, and moved into its place. Journal files are used again only when the manifest that no
//! longer needs them is durable, name included (S7). `docs/formats/journal.md`.

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
const NEXT_PATH: &str = "manifest.next";
const MAGIC: u32 = 0x5477_4d31; // "TwM1"
const VERSION: u16 = 1;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    /// The last stop was orderly: everything is in segments and nothing happened since (S12).
    pub(crate) clean: bool,
    /// The life that wrote it.
    pub(crate) incarnation: Incarnation,
    pub(crate) replay_from: JournalPosition,
    pub(crate) replicas: Vec<ReplicaRecord>,
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
        bytes.put_u32(self.replay_from.file);
        bytes.put_u64(self.replay_from.position);
        bytes.put_u64(self.replay_from.seq);
        bytes.put_u32(self.replay_from.previous_crc);
        bytes.put_u32(self.replicas.len() as u32);
        for replica in &self.replicas {
            put_partition(&mut bytes, replica.tp);
            bytes.put_u32(replica.options.segment_bytes);
            bytes.put_u64(replica.as_of);
            bytes.put_u64(replica.cut);
            bytes.put_u8(u8::from(replica.unjournaled));
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
        match fields.u16() {
            Some(VERSION) => {}
            version => return Err(OpenError::VersionUnknown { file: PATH, version: version.unwrap_or(0) }),
        }
        Self::body(&mut fields).ok_or(damaged("its fields do not fit its length"))
    }

    fn body(fields: &mut Fields<'_>) -> Option<Manifest> {
        let clean = fields.u16()? & 1 == 1;
        let incarnation = Incarnation(fields.id()?);
        let replay_from = JournalPosition {
            file: fields.u32()?,
            position: fields.u64()?,
            seq: fields.u64()?,
            previous_crc: fields.u32()?,
        };
        let replicas = fields.list(65, |fields| {
            Some(ReplicaRecord {
                tp: fields.partition()?,
                options: ReplicaOptions { segment_bytes: fields.u32()? },
                as_of: fields.u64()?,
                cut: fields.u64()?,
                unjournaled: fields.u8()? == 1,
                log_start: fields.offset()?,
                placed_end: fields.offset()?,
                epochs: epochs(fields)?,
                segments: extents(fields)?,
            })
        })?;
        fields.end()?;
        Some(Manifest { clean, incarnation, replay_from, replicas })
    }

    /// Replaces the manifest. Durable when this returns.
    pub(crate) fn store(&self, vfs: &dyn Vfs) -> Result<(), DiskError> {
        let file = vfs.create(NEXT_PATH, FileUse::Buffered)?;
        file.write_at(0, &[&self.encode()])?;
        file.sync_data()?;
        vfs.rename(NEXT_PATH, PATH)?;
        vfs.sync_dir("")
    }

    /// The manifest, durable under its name.
    pub(crate) fn load(vfs: &dyn Vfs) -> Result<Option<Manifest>, OpenError> {
        let file = match vfs.open(PATH, FileUse::Buffered) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = vec![0; file.size()? as usize];
        let have = file.read_at(0, &mut bytes)?;
        let manifest = Manifest::decode(&bytes[..have])?;
        // A process that was killed may have moved it here and no more. What the one before it needs of the journal is
        // overwritten on the strength of this one (S7).
        vfs.sync_dir("")?;
        Ok(Some(manifest))
    }
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
            replicas: vec![ReplicaRecord {
                tp: TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(2) },
                options: ReplicaOptions { segment_bytes: 1 << 20 },
                as_of: 70,
                cut: 60,
                unjournaled: true,
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
        assert_eq!(Manifest::load(&vfs).unwrap(), Some(manifest()));
        let bytes = manifest().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(Manifest::decode(&damaged).is_err());
            assert!(Manifest::decode(&bytes[..at]).is_err());
        }
    }
}
