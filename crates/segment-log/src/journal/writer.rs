//! Appends blocks, and knows which files are full, spare or still needed.

use std::{collections::VecDeque, sync::Arc};

use base_types::Incarnation;
use bytes::Bytes;
use store_api::{DiskError, FileUse, Vfs, VfsFile};

use super::{DIRECTORY, JournalPosition, block::BlockBuilder, path};

/// Distance of the places from which a replay can start.
const MARK_BYTES: u64 = 1 << 20;
const ZEROS_BYTES: usize = 1 << 20;

pub(crate) struct JournalWriter {
    vfs: Arc<dyn Vfs>,
    incarnation: Incarnation,
    file_bytes: u64,
    files_max: usize,
    /// Files that hold blocks still needed, oldest first. The last one is written.
    live: VecDeque<JournalFile>,
    /// Files whose blocks are needed no more.
    spare: Vec<(u32, Arc<dyn VfsFile>)>,
    /// Where the next block goes.
    next: JournalPosition,
    marks: VecDeque<JournalPosition>,
    /// Written since blocks were last released.
    unreleased_bytes: u64,
}

struct JournalFile {
    number: u32,
    file: Arc<dyn VfsFile>,
    /// The number of the first block that is not in it any more; `next.seq` for the last file.
    end_seq: u64,
}

impl JournalWriter {
    /// Goes on at `next`, in the last of the `live` files; all are `(number, first block behind the file)`, oldest first.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        incarnation: Incarnation,
        (file_bytes, files_max): (u64, usize),
        (start, next): (JournalPosition, JournalPosition),
        live: &[(u32, u64)],
        spare: &[u32],
    ) -> Result<JournalWriter, DiskError> {
        let mut writer = JournalWriter {
            vfs,
            incarnation,
            file_bytes,
            files_max,
            live: VecDeque::new(),
            spare: Vec::new(),
            next,
            marks: VecDeque::from([start]),
            unreleased_bytes: 0,
        };
        for &(number, end_seq) in live {
            let file = writer.vfs.open(&path(number), FileUse::Journal)?;
            writer.live.push_back(JournalFile { number, file, end_seq });
        }
        for &number in spare {
            let file = writer.vfs.open(&path(number), FileUse::Journal)?;
            writer.spare.push((number, file));
        }
        Ok(writer)
    }

    /// The number of the last block that was written.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next.seq - 1
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        let full = self.live.len().saturating_sub(1) as u64 * self.file_bytes;
        full + self.next.position
    }

    pub(crate) fn unreleased_bytes(&self) -> u64 {
        self.unreleased_bytes
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.files_max as u64 * self.file_bytes
    }

    /// Whether blocks of these sizes fit, making a file when that is what it takes. `false` when all files are in use.
    pub(crate) fn ensure_room(&mut self, block_bytes: u64, block_bytes_max: u64) -> Result<bool, DiskError> {
        let mut left = match self.live.back() {
            Some(_) => self.file_bytes.saturating_sub(self.next.position),
            None => 0,
        };
        // A block does not straddle files, so the end of each may be wasted.
        let per_file = self.file_bytes.saturating_sub(block_bytes_max).max(1);
        left = left.saturating_sub(block_bytes_max);
        let mut spare = self.spare.len() as u64;
        while left + spare * per_file < block_bytes {
            if self.live.len() + self.spare.len() >= self.files_max {
                return Ok(false);
            }
            self.make_spare(false)?;
            spare += 1;
        }
        Ok(true)
    }

    /// Makes a file ahead of need, written full of zeros so that commits never pay for allocation. `false` when there is one.
    pub(crate) fn prepare_spare(&mut self) -> Result<bool, DiskError> {
        if !self.spare.is_empty() || self.live.len() >= self.files_max {
            return Ok(false);
        }
        self.make_spare(true)?;
        Ok(true)
    }

    fn make_spare(&mut self, full: bool) -> Result<(), DiskError> {
        let used = self.live.iter().map(|file| file.number).chain(self.spare.iter().map(|(number, _)| *number));
        let number = used.max().unwrap_or(0) + 1;
        let path = path(number);
        let file = self.vfs.create(&path, FileUse::Journal)?;
        let made = (|| {
            file.preallocate(self.file_bytes)?;
            if full {
                let zeros = vec![0; ZEROS_BYTES];
                let mut position = 0;
                while position < self.file_bytes {
                    let step = (self.file_bytes - position).min(ZEROS_BYTES as u64);
                    file.write_at(position, &[&zeros[..step as usize]])?;
                    position += step;
                }
            }
            file.sync_data()?;
            self.vfs.sync_dir(DIRECTORY)
        })();
        if let Err(error) = made {
            // A file that is not whole must not be found by the next attempt; it holds nothing.
            drop(file);
            let _ = self.vfs.remove(&path);
            return Err(error);
        }
        self.spare.push((number, file));
        Ok(())
    }

    /// Writes one block. When this returns it is durable. `ensure_room` must have said yes.
    pub(crate) fn append(&mut self, builder: BlockBuilder) -> Result<(u64, Bytes), DiskError> {
        let seq = self.next.seq;
        let (bytes, crc) = builder.finish(seq, self.incarnation, self.next.previous_crc);
        let size = bytes.len() as u64;
        assert!(size <= self.file_bytes, "a block of {size} bytes in journal files of {}", self.file_bytes);
        if self.live.is_empty() || self.next.position + size > self.file_bytes {
            let Some((number, file)) = self.spare.pop() else {
                unreachable!("room was made before the block was built");
            };
            if let Some(last) = self.live.back_mut() {
                last.end_seq = seq;
            }
            self.live.push_back(JournalFile { number, file, end_seq: u64::MAX });
            self.next = JournalPosition { file: number, position: 0, ..self.next };
            self.marks.push_back(self.next);
        } else if self.marks.back().is_none_or(|mark| self.next.position >= mark.position + MARK_BYTES) {
            self.marks.push_back(self.next);
        }
        if let Some(current) = self.live.back() {
            current.file.write_durable(self.next.position, &bytes)?;
        }
        self.unreleased_bytes += size;
        self.next.position += size;
        self.next.seq += 1;
        self.next.previous_crc = crc;
        Ok((seq, bytes))
    }

    /// The last place from which a replay meets every block from `seq` on.
    pub(crate) fn replay_start(&self, seq: u64) -> JournalPosition {
        if seq >= self.next.seq {
            return self.next;
        }
        let before = self.marks.partition_point(|mark| mark.seq <= seq);
        self.marks[before.saturating_sub(1)]
    }

    /// Blocks before `start` are not needed any more: their files become spare. Returns how many.
    pub(crate) fn release(&mut self, start: JournalPosition) -> usize {
        self.unreleased_bytes = 0;
        let mut released = 0;
        while self.live.len() > 1 && self.live[0].end_seq <= start.seq {
            if let Some(file) = self.live.pop_front() {
                self.spare.push((file.number, file.file));
                released += 1;
            }
        }
        // No later replay may start before this one: the blocks there may be overwritten from now on.
        while self.marks.front().is_some_and(|mark| mark.seq <= start.seq) {
            self.marks.pop_front();
        }
        self.marks.push_front(start);
        released
    }
}
