//! Appends blocks, and knows which files are full, spare or still needed.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use base_types::{Incarnation, planted};
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
    spare: Vec<SpareFile>,
    /// The files that the manifest names. The loss of such a file is noticed, so no block goes to another.
    named: BTreeSet<u32>,
    /// The number of the file that [`Filling`] is at.
    filling: Option<u32>,
    /// Where the next block goes.
    next: JournalPosition,
    /// The block before, with its own CRC.
    last: JournalPosition,
    marks: VecDeque<JournalPosition>,
    /// Written since blocks were last released.
    unreleased_bytes: u64,
}

struct JournalFile {
    number: u32,
    file: Arc<dyn VfsFile>,
    /// The number of the first block that is not in it any more; `next.seq` for the last file.
    end_seq: u64,
    is_full: bool,
}

struct SpareFile {
    number: u32,
    file: Arc<dyn VfsFile>,
    /// Written from end to end at some time, so that a commit never pays for allocation.
    is_full: bool,
}

/// A spare file on its way to being full. It takes long, so it is done without the writer: take it from
/// [`JournalWriter::begin_filling`], `run` it, and give it back to [`JournalWriter::end_filling`].
pub(crate) struct Filling {
    vfs: Arc<dyn Vfs>,
    file_bytes: u64,
    number: u32,
    /// `None`: still to be made.
    file: Option<Arc<dyn VfsFile>>,
}

impl Filling {
    pub(crate) fn run(&mut self) -> Result<(), DiskError> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(make(self.vfs.as_ref(), self.number, self.file_bytes)?),
        };
        let zeros = vec![0; ZEROS_BYTES];
        let mut position = 0;
        while position < self.file_bytes {
            let step = (self.file_bytes - position).min(ZEROS_BYTES as u64);
            file.write_at(position, &[&zeros[..step as usize]])?;
            position += step;
        }
        file.sync_data()
    }
}

/// Makes a file of its final size and name.
fn make(vfs: &dyn Vfs, number: u32, bytes: u64) -> Result<Arc<dyn VfsFile>, DiskError> {
    let path = path(number);
    let file = vfs.create(&path, FileUse::Journal)?;
    let made = file.preallocate(bytes).and_then(|()| file.sync_data()).and_then(|()| vfs.sync_dir(DIRECTORY));
    if let Err(error) = made {
        // A file that is not whole must not be found by the next attempt; it holds nothing.
        drop(file);
        let _ = vfs.remove(&path);
        return Err(error);
    }
    Ok(file)
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
            named: BTreeSet::new(),
            filling: None,
            next,
            last: JournalPosition::NONE,
            marks: VecDeque::from([start]),
            unreleased_bytes: 0,
        };
        for &(number, end_seq) in live {
            let file = writer.vfs.open(&path(number), FileUse::Journal)?;
            writer.live.push_back(JournalFile { number, file, end_seq, is_full: true });
        }
        for &number in spare {
            let file = writer.vfs.open(&path(number), FileUse::Journal)?;
            // A process that was killed may have made it and no more. A manifest will say how long it is.
            file.sync_data()?;
            writer.spare.push(SpareFile { number, file, is_full: true });
        }
        Ok(writer)
    }

    /// All files, and how long each is: those that are still needed may be longer than today's setting.
    pub(crate) fn files(&self) -> Result<Vec<(u32, u64)>, DiskError> {
        let live = self.live.iter().map(|file| (file.number, &file.file));
        let spare = self.spare.iter().map(|file| (file.number, &file.file));
        let mut files: Vec<(u32, u64)> =
            live.chain(spare).map(|(number, file)| Ok((number, file.size()?))).collect::<Result<_, DiskError>>()?;
        files.sort_unstable();
        Ok(files)
    }

    /// Whether there is a file that no manifest names yet.
    pub(crate) fn has_unnamed(&self) -> bool {
        let spare = self.spare.iter().map(|file| file.number);
        self.live.iter().map(|file| file.number).chain(spare).any(|number| !self.named.contains(&number))
    }

    /// A manifest that names these is durable.
    pub(crate) fn set_named(&mut self, files: impl Iterator<Item = u32>) {
        self.named = files.collect();
    }

    /// Takes up the block before the first one of this life.
    pub(crate) fn with_last(self, last: JournalPosition) -> JournalWriter {
        JournalWriter { last, ..self }
    }

    /// The last block that was written, with its own CRC.
    pub(crate) fn last(&self) -> JournalPosition {
        self.last
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
            Some(_) if !self.has_better_spare() => self.file_bytes.saturating_sub(self.next.position),
            _ => 0,
        };
        // A block does not straddle files, so the end of each may be wasted.
        let per_file = self.file_bytes.saturating_sub(block_bytes_max).max(1);
        left = left.saturating_sub(block_bytes_max);
        let mut spare = self.spare.len() as u64;
        while left + spare * per_file < block_bytes {
            if self.live.len() + self.spare.len() >= self.files_max {
                return Ok(false);
            }
            let number = self.unused_number();
            let file = make(self.vfs.as_ref(), number, self.file_bytes)?;
            self.spare.push(SpareFile { number, file, is_full: false });
            spare += 1;
        }
        Ok(true)
    }

    /// Begins to make a spare file ahead of need, written full of zeros. `None` when there is one, or when one is being made.
    pub(crate) fn begin_filling(&mut self) -> Option<Filling> {
        if self.filling.is_some() || self.spare.iter().any(|spare| spare.is_full) {
            return None;
        }
        let (number, file) = match self.spare.pop() {
            Some(spare) => (spare.number, Some(spare.file)),
            None if self.live.len() >= self.files_max => return None,
            None => (self.unused_number(), None),
        };
        self.filling = Some(number);
        Some(Filling { vfs: Arc::clone(&self.vfs), file_bytes: self.file_bytes, number, file })
    }

    /// Takes the file back, whatever became of it.
    pub(crate) fn end_filling(&mut self, filling: Filling, is_full: bool) {
        self.filling = None;
        if let Some(file) = filling.file {
            self.spare.push(SpareFile { number: filling.number, file, is_full });
        }
    }

    fn unused_number(&self) -> u32 {
        let live = self.live.iter().map(|file| file.number);
        let spare = self.spare.iter().map(|file| file.number);
        live.chain(spare).chain(self.filling).max().unwrap_or(0) + 1
    }

    /// A file that was never written to its end is left as soon as there is a better one.
    fn has_better_spare(&self) -> bool {
        self.live.back().is_some_and(|file| !file.is_full) && self.spare.iter().any(|spare| spare.is_full)
    }

    fn take_spare(&mut self) -> Option<SpareFile> {
        let best = self.spare.iter().position(|spare| spare.is_full);
        best.map(|index| self.spare.swap_remove(index)).or_else(|| self.spare.pop())
    }

    /// Writes one block. When this returns it is durable. `ensure_room` must have said yes.
    pub(crate) fn append(&mut self, builder: BlockBuilder) -> Result<(u64, Bytes), DiskError> {
        let seq = self.next.seq;
        let (bytes, crc) = builder.finish(seq, self.incarnation, self.next.previous_crc);
        let size = bytes.len() as u64;
        assert!(size <= self.file_bytes, "a block of {size} bytes in journal files of {}", self.file_bytes);
        if self.live.is_empty() || self.next.position + size > self.file_bytes || self.has_better_spare() {
            let Some(SpareFile { number, file, is_full }) = self.take_spare() else {
                unreachable!("room was made before the block was built");
            };
            if let Some(last) = self.live.back_mut() {
                last.end_seq = seq;
            }
            self.live.push_back(JournalFile { number, file, end_seq: u64::MAX, is_full });
            self.next = JournalPosition { file: number, position: 0, ..self.next };
            self.marks.push_back(self.next);
        } else if self.marks.back().is_none_or(|mark| self.next.position >= mark.position + MARK_BYTES) {
            self.marks.push_back(self.next);
        }
        if let Some(current) = self.live.back() {
            let written = if planted!(JournalNotSynced) {
                current.file.write_at(self.next.position, &[&bytes])
            } else {
                current.file.write_durable(self.next.position, &[&bytes])
            };
            if !planted!(FailedWriteIgnored) {
                written?;
            }
        }
        self.unreleased_bytes += size;
        self.last = JournalPosition { previous_crc: crc, ..self.next };
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
                // One that was left early stays what it is until it is filled.
                let JournalFile { number, file, is_full, .. } = file;
                self.spare.push(SpareFile { number, file, is_full });
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

#[cfg(test)]
mod tests {
    use store_api::{BLOCK_BYTES, MemVfs};

    use super::*;

    fn writer() -> JournalWriter {
        let vfs = MemVfs::new();
        vfs.create_dir(DIRECTORY).unwrap();
        let start = JournalPosition::START;
        JournalWriter::open(Arc::new(vfs), Incarnation([1; 16]), (64 << 10, 4), (start, start), &[], &[]).unwrap()
    }

    fn append(writer: &mut JournalWriter) -> u32 {
        let block = BLOCK_BYTES as u64;
        assert!(writer.ensure_room(block, block).unwrap());
        writer.append(BlockBuilder::new(bytes::BytesMut::new())).unwrap();
        writer.next.file
    }

    #[test]
    fn commits_go_on_while_a_file_is_filled_and_move_to_it_when_it_is_full() {
        let mut writer = writer();
        assert_eq!(append(&mut writer), 1);
        let mut filling = writer.begin_filling().unwrap();
        assert!(writer.begin_filling().is_none(), "one at a time");
        assert_eq!(append(&mut writer), 1);
        filling.run().unwrap();
        writer.end_filling(filling, true);
        assert_eq!(append(&mut writer), 2, "file 1 was never written to its end");
        // Now the first file is spare, and becomes as good as the second.
        assert_eq!(writer.release(writer.next), 1);
        let mut filling = writer.begin_filling().unwrap();
        assert_eq!(filling.number, 1);
        filling.run().unwrap();
        writer.end_filling(filling, true);
        assert_eq!(append(&mut writer), 2, "a full file is left when it is used up");
        assert!(writer.begin_filling().is_none());
    }

    #[test]
    fn a_file_that_could_not_be_filled_serves_as_it_is() {
        let mut writer = writer();
        append(&mut writer);
        let mut filling = writer.begin_filling().unwrap();
        filling.run().unwrap();
        writer.end_filling(filling, false);
        assert_eq!(append(&mut writer), 1);
        assert!(writer.begin_filling().is_some(), "it is tried again");
    }
}
