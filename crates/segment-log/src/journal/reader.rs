//! Reads the chain of blocks back, and tells its end from damage (S2).

use std::{collections::BTreeMap, sync::Arc};

use base_types::Incarnation;
use bytes::Bytes;
use store_api::{BLOCK_BYTES, DiskError, FileUse, Vfs, VfsFile};

use super::{
    DIRECTORY, JournalPosition,
    block::{Block, BlockHeader, HEADER_BYTES, VERSION},
    path,
};
use crate::{OpenError, slab::SlabPool};

/// Read at a time.
const LOOK_BYTES: usize = 1 << 20;

pub(crate) struct JournalReader {
    files: BTreeMap<u32, FileAtRest>,
    /// Files passed, oldest first, each with the number of the first block behind it.
    pub(crate) passed: Vec<(u32, u64)>,
    pub(crate) next: JournalPosition,
    incarnation: Incarnation,
    /// Whether a block was read: before that, nothing in the first file is needed.
    started: bool,
    /// Whether what lies behind the end was looked at before.
    end_is_known: bool,
    window: Window,
}

/// A stretch of a file, so that small blocks are not read one by one.
#[derive(Default)]
struct Window {
    file: u32,
    position: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `len` bytes at `position`; fewer at the end of the file.
    fn read(&mut self, file: &dyn VfsFile, number: u32, position: u64, len: usize) -> Result<&[u8], DiskError> {
        let end = self.position + self.bytes.len() as u64;
        if self.file != number || position < self.position || position + len as u64 > end {
            self.bytes.resize(len.max(LOOK_BYTES), 0);
            let have = file.read_at(position, &mut self.bytes)?;
            self.bytes.truncate(have);
            (self.file, self.position) = (number, position);
        }
        let start = (position - self.position) as usize;
        let have = len.min(self.bytes.len().saturating_sub(start));
        Ok(&self.bytes[start..start + have])
    }
}

struct FileAtRest {
    file: Arc<dyn VfsFile>,
    size: u64,
}

impl JournalReader {
    /// Reads from `start` on. `incarnation` is of the life that wrote the manifest.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        start: JournalPosition,
        incarnation: Incarnation,
    ) -> Result<JournalReader, OpenError> {
        let mut files = BTreeMap::new();
        for name in vfs.list(DIRECTORY)? {
            let Ok(number) = name.parse() else { continue };
            let file = vfs.open(&path(number), FileUse::Journal)?;
            let size = file.size()?;
            files.insert(number, FileAtRest { file, size });
        }
        let window = Window::default();
        Ok(JournalReader {
            files,
            passed: Vec::new(),
            next: start,
            incarnation,
            started: false,
            end_is_known: false,
            window,
        })
    }

    /// For a second reading of the same journal.
    #[must_use]
    pub(crate) fn with_known_end(self) -> JournalReader {
        JournalReader { end_is_known: true, ..self }
    }

    /// Makes durable what was read. A process that was killed in the midst of its last write leaves blocks of which nothing was
    /// said, and they may be in the page cache only.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        let read = self.passed.iter().map(|(number, _)| *number).chain([self.next.file]);
        for FileAtRest { file, .. } in read.filter_map(|number| self.files.get(&number)) {
            file.sync_data()?;
        }
        Ok(())
    }

    /// All files there are.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.files.keys().copied()
    }

    /// Files whose length is not `file_bytes`: never finished, or of another configuration.
    pub(crate) fn misfits(&self, file_bytes: u64) -> Vec<u32> {
        self.files.iter().filter(|(_, file)| file.size != file_bytes).map(|(number, _)| *number).collect()
    }

    /// Whether the next block would be in a file that exists.
    pub(crate) fn at_file(&self) -> bool {
        self.files.contains_key(&self.next.file)
    }

    /// The next block, or `None` where the chain ends as a chain may.
    pub(crate) fn next_block(&mut self, pool: &SlabPool) -> Result<Option<Block>, OpenError> {
        if let Some(block) = self.block_at(self.next, pool)? {
            return self.advance(block).map(Some);
        }
        // The next block did not fit this file: it is the first of another one.
        let others: Vec<u32> = self.files.keys().copied().filter(|number| *number != self.next.file).collect();
        for file in others {
            let start = JournalPosition { file, position: 0, ..self.next };
            if !self.may_continue(start)? {
                continue;
            }
            if let Some(block) = self.block_at(start, pool)? {
                // A file from which nothing was needed may have been used again already, even for a later part of the chain.
                if self.started {
                    self.passed.push((self.next.file, self.next.seq));
                }
                self.next = start;
                return self.advance(block).map(Some);
            }
        }
        if !self.end_is_known {
            self.check_end()?;
        }
        Ok(None)
    }

    /// Whether the header at `place` is that of the block that continues the chain. Reads no more than that.
    fn may_continue(&self, place: JournalPosition) -> Result<bool, OpenError> {
        let Some(FileAtRest { file, .. }) = self.files.get(&place.file) else { return Ok(false) };
        let mut head = [0; HEADER_BYTES];
        let whole = file.read_at(place.position, &mut head)? == HEADER_BYTES;
        Ok(whole && BlockHeader::parse(&head).is_some_and(|header| header.seq == place.seq))
    }

    fn advance(&mut self, (header, bytes): (BlockHeader, Bytes)) -> Result<Block, OpenError> {
        if header.version > VERSION {
            return Err(OpenError::VersionUnknown { file: "journal", version: header.version });
        }
        let Some(block) = Block::parse(header, &bytes) else {
            return Err(OpenError::JournalDamaged {
                file: path(self.next.file),
                position: self.next.position,
                missing_block: header.seq,
                later_block: header.seq,
            });
        };
        self.next.position += header.size();
        self.next.seq = header.seq + 1;
        self.next.previous_crc = header.crc;
        self.incarnation = header.incarnation;
        self.started = true;
        Ok(block)
    }

    /// The block that continues the chain at `place`, when there is one and it is whole.
    fn block_at(&mut self, place: JournalPosition, pool: &SlabPool) -> Result<Option<(BlockHeader, Bytes)>, OpenError> {
        let Some(FileAtRest { file, size }) = self.files.get(&place.file) else { return Ok(None) };
        let head = self.window.read(file.as_ref(), place.file, place.position, HEADER_BYTES)?;
        let Some(header) = BlockHeader::parse(head) else { return Ok(None) };
        let continues = header.seq == place.seq && header.previous_crc == place.previous_crc;
        if !continues || place.position + header.size() > *size {
            return Ok(None);
        }
        let block = self.window.read(file.as_ref(), place.file, place.position, header.size() as usize)?;
        if block.len() as u64 != header.size() || !header.matches(block) {
            return Ok(None);
        }
        let mut bytes = pool.carve(block.len());
        bytes.extend_from_slice(block);
        Ok(Some((header, bytes.freeze())))
    }

    /// A good block with a later number, written by the same life as the last good one, proves that the missing one was durable.
    ///
    /// Blocks are recognised by the incarnation too, which no client knows: a record that looks like a block proves nothing.
    fn check_end(&self) -> Result<(), OpenError> {
        for (&number, FileAtRest { file, size }) in &self.files {
            // In other files the first block says enough: they are begun in order.
            let (from, to) = if number == self.next.file { (self.next.position, *size) } else { (0, 1) };
            let mut at = from;
            let mut chunk = vec![0; if to == 1 { BLOCK_BYTES } else { LOOK_BYTES.min((to - from) as usize) }];
            while at < to {
                let have = file.read_at(at, &mut chunk)?;
                for start in (0..have).step_by(BLOCK_BYTES) {
                    let Some(header) = BlockHeader::parse(&chunk[start..have]) else { continue };
                    let suspect = header.seq > self.next.seq && header.incarnation == self.incarnation;
                    if suspect && self.is_whole(file.as_ref(), *size, at + start as u64, &header)? {
                        return Err(OpenError::JournalDamaged {
                            file: path(self.next.file),
                            position: self.next.position,
                            missing_block: self.next.seq,
                            later_block: header.seq,
                        });
                    }
                }
                if have < chunk.len() {
                    break;
                }
                at += have as u64;
            }
        }
        Ok(())
    }

    fn is_whole(&self, file: &dyn VfsFile, size: u64, position: u64, header: &BlockHeader) -> Result<bool, OpenError> {
        if position + header.size() > size {
            return Ok(false);
        }
        let mut bytes = vec![0; header.size() as usize];
        Ok(file.read_at(position, &mut bytes)? == bytes.len() && header.matches(&bytes))
    }
}
