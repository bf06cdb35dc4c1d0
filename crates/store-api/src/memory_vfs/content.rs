//! Bytes of a file in pages that copies share, so that an image of a whole disk is cheap.

use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

/// Holes read as zeros and take no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Vec<Option<Arc<[u8; PAGE_BYTES]>>>,
    len: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, position: u64, into: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(position).min(into.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let (page, within, step) = split(position + done as u64, count - done);
            match &self.pages[page] {
                Some(bytes) => into[done..done + step].copy_from_slice(&bytes[within..within + step]),
                None => into[done..done + step].fill(0),
            }
            done += step;
        }
        count
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        if end > self.len {
            self.set_len(end);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, within, step) = split(position + done as u64, bytes.len() - done);
            let slot = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(slot)[within..within + step].copy_from_slice(&bytes[done..done + step]);
            done += step;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.pages.resize(len.div_ceil(PAGE_BYTES as u64) as usize, None);
        if len < self.len && !len.is_multiple_of(PAGE_BYTES as u64) {
            // What is cut off must read as zeros should the file grow again.
            let within = (len % PAGE_BYTES as u64) as usize;
            if let Some(Some(page)) = self.pages.last_mut() {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

fn split(position: u64, left: usize) -> (usize, usize, usize) {
    let within = (position % PAGE_BYTES as u64) as usize;
    ((position / PAGE_BYTES as u64) as usize, within, left.min(PAGE_BYTES - within))
}

#[cfg(test)]
mod tests {
    use base_types::Random;

    use super::*;

    #[test]
    fn pages_behave_like_one_vector_of_bytes() {
        let (mut content, mut twin, mut random) = (Content::default(), Vec::new(), Random::new(3));
        for _ in 0..500 {
            if random.chance(200) {
                let len = random.below(20_000);
                content.set_len(len);
                twin.resize(len as usize, 0);
            } else {
                let position = random.below(20_000) as usize;
                let bytes = vec![random.below(256) as u8; random.below(9_000) as usize + 1];
                content.write(position as u64, &bytes);
                twin.resize(twin.len().max(position + bytes.len()), 0);
                twin[position..position + bytes.len()].copy_from_slice(&bytes);
            }
            let mut read = vec![1; twin.len() + 10];
            assert_eq!(content.read(0, &mut read), twin.len());
            assert_eq!(read[..twin.len()], twin);
        }
    }
}
