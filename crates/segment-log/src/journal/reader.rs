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

/// What comes next in the chain.
pub(crate) enum Next {
    Block(Block),
    /// The blocks from `first` on to the one before `next` cannot be read, and were durable: a later one is there (S2).
    Lost {
        first: u64,
        next: u64,
    },
}

pub(crate) struct JournalReader {
    files: BTreeMap<u32, FileAtRest>,
    /// Files passed, oldest first, each with the number of the first block behind it.
    pub(crate) passed: Vec<(u32, u64)>,
    pub(crate) next: JournalPosition,
    /// The last block that was read, with its own CRC.
    pub(crate) last: JournalPosition,
    /// Those whose blocks are known to be ours. No client knows them: a record that looks like a block proves nothing.
    pub(crate) lives: Vec<Incarnation>,
    /// Whether a block was read: before that, nothing in the first file is needed.
    started: bool,
    /// The block before is lost or damaged, so that the next one may name a CRC that is not known.
    is_link_broken: bool,
    /// Where an earlier reading found the end.
    end: Option<u64>,
    /// The first good block behind a number, as it was found last.
    later: Option<(u64, Option<JournalPosition>)>,
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
    /// Reads from `start` on. `lives` are those whose blocks may be there.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        start: JournalPosition,
        lives: Vec<Incarnation>,
    ) -> Result<JournalReader, OpenError> {
        let mut files = BTreeMap::new();
        for name in vfs.list(DIRECTORY)? {
            let Ok(number) = name.parse() else { continue };
            let file = vfs.open(&path(number), FileUse::Journal)?;
            let size = file.size()?;
            files.insert(number, FileAtRest { file, size });
        }
        Ok(JournalReader {
            files,
            passed: Vec::new(),
            next: start,
            last: JournalPosition::NONE,
            lives,
            started: false,
            is_link_broken: false,
            end: None,
            later: None,
            window: Window::default(),
        })
    }

    /// For a second reading of the same journal, which ends before block `end`.
    #[must_use]
    pub(crate) fn with_known_end(self, end: u64) -> JournalReader {
        JournalReader { end: Some(end), ..self }
    }

    /// Whether all of these files are there, at least as long as said.
    pub(crate) fn has_all(&self, files: &[(u32, u64)]) -> bool {
        files.iter().all(|(number, bytes)| self.files.get(number).is_some_and(|file| file.size >= *bytes))
    }

    /// Whether this block is where it was, to judge by its header.
    pub(crate) fn has_block(&self, block: JournalPosition) -> Result<bool, DiskError> {
        if block.seq == 0 {
            return Ok(true);
        }
        let Some(FileAtRest { file, .. }) = self.files.get(&block.file) else { return Ok(false) };
        let mut head = [0; HEADER_BYTES];
        let have = file.read_at(block.position, &mut head)?;
        let header = BlockHeader::parse(&head[..have]);
        Ok(header.is_some_and(|header| header.seq == block.seq && header.crc == block.previous_crc))
    }

    /// Copies all files to a directory beside the journal, durably.
    pub(crate) fn copy_to(&self, vfs: &dyn Vfs, directory: &str) -> Result<(), DiskError> {
        vfs.create_dir(directory)?;
        let mut chunk = vec![0; LOOK_BYTES];
        for (number, FileAtRest { file, .. }) in &self.files {
            let copy = vfs.create(&format!("{directory}/{number:08}"), FileUse::Buffered)?;
            let mut position = 0;
            loop {
                let have = file.read_at(position, &mut chunk)?;
                if have == 0 {
                    break;
                }
                copy.write_at(position, &[&chunk[..have]])?;
                position += have as u64;
            }
            copy.sync_data()?;
        }
        vfs.sync_dir(directory)?;
        vfs.sync_dir("")
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

    /// What comes next, or `None` where the chain ends as a chain may.
    pub(crate) fn next(&mut self, pool: &SlabPool) -> Result<Option<Next>, OpenError> {
        if self.end == Some(self.next.seq) {
            return Ok(None);
        }
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
                self.move_to(start);
                return self.advance(block).map(Some);
            }
        }
        let first = self.next.seq;
        let Some(later) = self.find_later(first)? else { return Ok(None) };
        self.move_to(later);
        self.started = true;
        self.is_link_broken = true;
        Ok(Some(Next::Lost { first, next: later.seq }))
    }

    fn move_to(&mut self, place: JournalPosition) {
        // A file from which nothing was needed may have been used again already, even for a later part of the chain.
        if self.started && place.file != self.next.file {
            self.passed.push((self.next.file, place.seq));
        }
        self.next = place;
    }

    /// Whether the header at `place` is that of the block that continues the chain. Reads no more than that.
    fn may_continue(&self, place: JournalPosition) -> Result<bool, OpenError> {
        let Some(FileAtRest { file, .. }) = self.files.get(&place.file) else { return Ok(false) };
        let mut head = [0; HEADER_BYTES];
        let whole = file.read_at(place.position, &mut head)? == HEADER_BYTES;
        Ok(whole && BlockHeader::parse(&head).is_some_and(|header| header.seq == place.seq))
    }

    fn advance(&mut self, (header, bytes, is_whole): (BlockHeader, Bytes, bool)) -> Result<Next, OpenError> {
        if header.version > VERSION {
            return Err(OpenError::VersionUnknown { file: "journal", version: header.version });
        }
        self.last = JournalPosition { previous_crc: header.crc, ..self.next };
        self.next.position += header.size();
        self.next.seq = header.seq + 1;
        self.next.previous_crc = header.crc;
        if !self.lives.contains(&header.incarnation) {
            self.lives.push(header.incarnation);
        }
        self.started = true;
        self.is_link_broken = !is_whole;
        let lost = Next::Lost { first: header.seq, next: header.seq + 1 };
        Ok(Block::parse(header, &bytes, is_whole).map_or(lost, Next::Block))
    }

    /// The block that continues the chain at `place`, when there is one, and whether it is whole. One whose payload is not is
    /// there when a later one proves that it once was.
    fn block_at(
        &mut self,
        place: JournalPosition,
        pool: &SlabPool,
    ) -> Result<Option<(BlockHeader, Bytes, bool)>, OpenError> {
        let Some(FileAtRest { file, size }) = self.files.get(&place.file) else { return Ok(None) };
        let head = self.window.read(file.as_ref(), place.file, place.position, HEADER_BYTES)?;
        let Some(header) = BlockHeader::parse(head) else { return Ok(None) };
        let is_linked = header.previous_crc == place.previous_crc
            || self.is_link_broken && self.lives.contains(&header.incarnation);
        if header.seq != place.seq || !is_linked || place.position + header.size() > *size {
            return Ok(None);
        }
        let block = self.window.read(file.as_ref(), place.file, place.position, header.size() as usize)?;
        if block.len() as u64 != header.size() {
            return Ok(None);
        }
        let is_whole = header.matches(block);
        if !is_whole && !header.matches_head(block) {
            return Ok(None);
        }
        let mut bytes = pool.carve(block.len());
        bytes.extend_from_slice(block);
        if !is_whole && self.find_later(header.seq)?.is_none() {
            return Ok(None);
        }
        Ok(Some((header, bytes.freeze(), is_whole)))
    }

    /// The first good block behind number `seq`. It proves that those before it were durable.
    fn find_later(&mut self, seq: u64) -> Result<Option<JournalPosition>, OpenError> {
        if let Some((_, found)) = self.later.filter(|(asked, _)| *asked == seq) {
            return Ok(found);
        }
        let mut first: Option<JournalPosition> = None;
        for &number in self.files.keys() {
            let found = self.find_later_in(number, seq)?;
            first = first.into_iter().chain(found).min_by_key(|place| place.seq);
        }
        self.later = Some((seq, first));
        Ok(first)
    }

    fn find_later_in(&self, number: u32, seq: u64) -> Result<Option<JournalPosition>, OpenError> {
        let Some(FileAtRest { file, size }) = self.files.get(&number) else { return Ok(None) };
        let mut at = if number == self.next.file { self.next.position } else { 0 };
        let mut chunk = vec![0; LOOK_BYTES];
        while at < *size {
            let have = file.read_at(at, &mut chunk)?;
            for start in (0..have).step_by(BLOCK_BYTES) {
                let Some(header) = BlockHeader::parse(&chunk[start..have]) else { continue };
                let position = at + start as u64;
                let is_later = header.seq > seq && self.lives.contains(&header.incarnation);
                let is_older = header.seq <= seq && position == 0 && number != self.next.file;
                if !(is_later || is_older) || !self.is_whole(file.as_ref(), *size, position, &header)? {
                    continue;
                }
                if is_older {
                    // Begun before the missing block, and the chain has left it: there is no later one in it.
                    return Ok(None);
                }
                // Blocks of a file are in order, and behind them are older ones.
                let BlockHeader { seq, previous_crc, .. } = header;
                return Ok(Some(JournalPosition { file: number, position, seq, previous_crc }));
            }
            if have < chunk.len() {
                break;
            }
            at += have as u64;
        }
        Ok(None)
    }

    fn is_whole(&self, file: &dyn VfsFile, size: u64, position: u64, header: &BlockHeader) -> Result<bool, OpenError> {
        if position + header.size() > size {
            return Ok(false);
        }
        let mut bytes = vec![0; header.size() as usize];
        Ok(file.read_at(position, &mut bytes)? == bytes.len() && header.matches(&bytes))
    }
}
