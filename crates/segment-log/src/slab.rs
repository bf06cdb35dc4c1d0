//! Memory for journal blocks that is aligned for direct I/O, shared with readers, and used again.
//!
//! A slab is one allocation. Blocks are carved off its front one after the other; each, once written, is frozen and handed
//! out by reference, and the slab is used again when the last reference is gone.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::{Buf, BytesMut};
use store_api::BLOCK_BYTES;

const SLAB_BYTES: usize = 1 << 20;

/// Where blocks come from.
#[derive(Debug)]
pub(crate) struct SlabPool {
    slabs: Mutex<Slabs>,
    retired_max: usize,
}

#[derive(Debug, Default)]
struct Slabs {
    /// What is left of the slab in use.
    current: BytesMut,
    /// Empty handles of slabs whose blocks may still be referenced, oldest first.
    retired: VecDeque<BytesMut>,
    /// The same for blocks that had an allocation of their own.
    large: VecDeque<BytesMut>,
}

impl SlabPool {
    pub(crate) fn new(bytes: u64) -> SlabPool {
        // Blocks leave a part of a slab unused, so the same bytes in cache take more slabs than they would fill.
        SlabPool { slabs: Mutex::default(), retired_max: 2 * (bytes as usize / SLAB_BYTES) + 4 }
    }

    /// An empty buffer with room for `bytes` rounded up to whole blocks, at an aligned address.
    pub(crate) fn carve(&self, bytes: usize) -> BytesMut {
        let wanted = bytes.next_multiple_of(BLOCK_BYTES);
        let mut slabs = self.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > SLAB_BYTES / 2 {
            let size = wanted.next_multiple_of(SLAB_BYTES / 4);
            let mut block = aligned(reuse(&mut slabs.large, size, self.retired_max), size);
            let handle = block.split_off(wanted);
            slabs.large.push_back(handle);
            return block;
        }
        if slabs.current.capacity() < wanted {
            let spent = std::mem::take(&mut slabs.current);
            slabs.retired.push_back(spent);
            let reused = reuse(&mut slabs.retired, SLAB_BYTES, self.retired_max);
            slabs.current = aligned(reused, SLAB_BYTES);
        }
        let rest = slabs.current.split_off(wanted);
        std::mem::replace(&mut slabs.current, rest)
    }
}

/// The oldest allocation when nobody reads it any more, else an empty buffer. The oldest is free first, unless a slow reader
/// has it; such ones are given up when there are too many, and are freed when that reader is done.
fn reuse(retired: &mut VecDeque<BytesMut>, bytes: usize, retired_max: usize) -> BytesMut {
    while let Some(mut oldest) = retired.pop_front() {
        if oldest.try_reclaim(bytes + BLOCK_BYTES) {
            return oldest;
        }
        if retired.len() < retired_max {
            retired.push_front(oldest);
            break;
        }
    }
    BytesMut::new()
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
    fn memory_is_used_again_once_nobody_reads_it() {
        let pool = SlabPool::new(4 << 20);
        let mut addresses = std::collections::BTreeSet::new();
        let mut kept = VecDeque::new();
        for i in 0..1000 {
            let block = fill(pool.carve((i % 4 + 1) << 18), 256 << 10, 1);
            addresses.insert(block.as_ptr() as usize >> 20);
            // As the tail cache does: the newest are kept for a while.
            kept.push_back(block);
            if kept.len() > 8 {
                kept.pop_front();
            }
        }
        assert!(addresses.len() <= 32, "{} different MiB were touched", addresses.len());
    }
}
