//! Memory for journal blocks that is aligned for direct I/O, shared with readers, and used again.
//!
//! A slab is one allocation. Blocks are carved off its front one after the other; each, once written, is frozen and handed
//! out by reference, and the slab is used again when the last reference is gone. Memory that is used again has its pages: fresh
//! pages are zeroed by the kernel first, which costs as much as filling them does.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::{Buf, BytesMut};
use store_api::BLOCK_BYTES;

/// Of slabs for small blocks, and for large ones. No block fills more than half of its slab.
const SMALL_SLAB_BYTES: usize = 1 << 20;
const LARGE_SLAB_BYTES: usize = 8 << 20;

/// Where blocks come from.
#[derive(Debug)]
pub(crate) struct SlabPool {
    small: Mutex<Slabs>,
    large: Mutex<Slabs>,
    passing: Mutex<BytesMut>,
}

#[derive(Debug)]
struct Slabs {
    slab_bytes: usize,
    /// What is left of the slab in use.
    current: BytesMut,
    /// Empty handles of slabs whose blocks may still be referenced, oldest first.
    retired: VecDeque<BytesMut>,
    retired_max: usize,
}

impl SlabPool {
    /// `bytes`: how much of what it hands out is kept for a while.
    pub(crate) fn new(bytes: u64) -> SlabPool {
        let slabs = |slab_bytes| Mutex::new(Slabs::new(slab_bytes, bytes as usize));
        SlabPool { small: slabs(SMALL_SLAB_BYTES), large: slabs(LARGE_SLAB_BYTES), passing: Mutex::default() }
    }

    /// An empty buffer with room for `bytes` rounded up to whole blocks, at an aligned address.
    pub(crate) fn carve(&self, bytes: usize) -> BytesMut {
        let wanted = bytes.next_multiple_of(BLOCK_BYTES);
        let slabs = match wanted {
            _ if wanted <= SMALL_SLAB_BYTES / 2 => &self.small,
            _ if wanted <= LARGE_SLAB_BYTES / 2 => &self.large,
            _ => return aligned(BytesMut::new(), wanted),
        };
        slabs.lock().unwrap_or_else(PoisonError::into_inner).carve(wanted)
    }

    /// The same for a block that is dropped when it is written: the next such one has its memory.
    pub(crate) fn carve_passing(&self, bytes: usize) -> BytesMut {
        let wanted = bytes.next_multiple_of(BLOCK_BYTES);
        let mut last = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        let room = wanted.max(LARGE_SLAB_BYTES / 2);
        let reused = if last.try_reclaim(room + BLOCK_BYTES) { std::mem::take(&mut *last) } else { BytesMut::new() };
        let mut block = aligned(reused, room);
        *last = block.split_off(wanted);
        block
    }
}

impl Slabs {
    fn new(slab_bytes: usize, bytes_kept: usize) -> Slabs {
        // Blocks leave a part of a slab unused, so the same bytes in cache take more slabs than they would fill.
        let retired_max = 2 * (bytes_kept / slab_bytes) + 4;
        Slabs { slab_bytes, current: BytesMut::new(), retired: VecDeque::new(), retired_max }
    }

    fn carve(&mut self, wanted: usize) -> BytesMut {
        if self.current.capacity() < wanted {
            let spent = std::mem::take(&mut self.current);
            self.retired.push_back(spent);
            self.current = aligned(self.reuse(), self.slab_bytes);
        }
        let rest = self.current.split_off(wanted);
        std::mem::replace(&mut self.current, rest)
    }

    /// The oldest slab when nobody reads it any more, else an empty buffer. The oldest is free first, unless a slow reader
    /// has it; such ones are given up when there are too many, and are freed when that reader is done.
    fn reuse(&mut self) -> BytesMut {
        while let Some(mut oldest) = self.retired.pop_front() {
            if oldest.try_reclaim(self.slab_bytes + BLOCK_BYTES) {
                return oldest;
            }
            if self.retired.len() < self.retired_max {
                self.retired.push_front(oldest);
                break;
            }
        }
        BytesMut::new()
    }
}

/// Makes room for `bytes` in an empty buffer, at an aligned address.
fn aligned(mut buffer: BytesMut, bytes: usize) -> BytesMut {
    buffer.reserve(bytes + BLOCK_BYTES);
    let skip = buffer.spare_capacity_mut().as_ptr().align_offset(BLOCK_BYTES);
    buffer.resize(skip, 0);
    buffer.advance(skip);
    buffer
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn fill(mut block: BytesMut, bytes: usize, value: u8) -> Bytes {
        assert!(block.is_empty() && block.capacity() >= bytes);
        block.resize(bytes, value);
        block.freeze()
    }

    #[test]
    fn blocks_are_aligned_and_do_not_overlap() {
        let pool = SlabPool::new(4 << 20);
        let mut blocks = Vec::new();
        for i in 0..2000_usize {
            let bytes = 1 + (i * 7919) % 50_000;
            let block = fill(pool.carve(bytes), bytes, i as u8);
            assert_eq!(block.as_ptr().align_offset(BLOCK_BYTES), 0);
            blocks.push((i as u8, block));
            if i % 3 == 0 {
                blocks.remove(0);
            }
        }
        assert!(blocks.iter().all(|(value, block)| block.iter().all(|byte| byte == value)));
        assert_eq!(pool.carve(3 << 20).spare_capacity_mut().as_ptr().align_offset(BLOCK_BYTES), 0);
    }

    #[test]
    fn a_passing_block_has_the_memory_of_the_one_before_unless_that_is_still_there() {
        let pool = SlabPool::new(4 << 20);
        let first = fill(pool.carve_passing(3 << 20), 3 << 20, 1);
        let at = first.as_ptr();
        let second = fill(pool.carve_passing(100), 100, 2);
        assert!(first.iter().all(|byte| *byte == 1));
        drop(first);
        let other = second.as_ptr();
        drop(second);
        for bytes in [1, 5000, 3 << 20, 4 << 20] {
            let block = fill(pool.carve_passing(bytes), bytes, 3);
            assert_eq!(block.as_ptr(), other, "{bytes} bytes");
            assert_ne!(block.as_ptr(), at);
        }
        assert!(pool.carve_passing(9 << 20).capacity() >= 9 << 20);
    }

    #[test]
    fn memory_is_used_again_once_nobody_reads_it() {
        let pool = SlabPool::new(4 << 20);
        let mut addresses = std::collections::BTreeSet::new();
        let mut kept = VecDeque::new();
        for i in 0..1000 {
            let block = fill(pool.carve((i % 12 + 1) << 18), 256 << 10, 1);
            addresses.insert(block.as_ptr() as usize >> 20);
            // As the tail cache does: the newest are kept for a while.
            kept.push_back(block);
            if kept.len() > 8 {
                kept.pop_front();
            }
        }
        assert!(addresses.len() <= 48, "{} different MiB were touched", addresses.len());
    }
}
