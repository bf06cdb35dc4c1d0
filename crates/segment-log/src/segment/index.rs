//! A sparse index: where, about, in a segment an offset or a time is. Derived, and made anew on any doubt (S5).

use base_types::{Offset, Timestamp};

/// The batch with base offset `base + relative_offset` begins at `position`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
    /// The largest timestamp of the batches before it in the segment.
    pub(crate) max_timestamp_before: Timestamp,
}

/// Where to begin to look in a segment, and what must be found there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) position: u64,
    /// The base offset of the batch there, or of the segment. No checksum covers a base offset, so the index vouches for it.
    pub(crate) base: Offset,
    /// The batch there begins with exactly that offset.
    pub(crate) is_exact: bool,
}

impl Place {
    pub(crate) fn start_of(segment: Offset) -> Place {
        Place { position: 0, base: segment, is_exact: false }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Index {
    pub(crate) entries: Vec<IndexEntry>,
    /// Batches below this position were considered; one beyond it has no entry.
    pub(crate) covered: u64,
    /// Of the batches considered.
    pub(crate) max_timestamp: Timestamp,
}

impl Default for Index {
    fn default() -> Index {
        Index { entries: Vec::new(), covered: 0, max_timestamp: Timestamp::NONE }
    }
}

impl Index {
    /// Considers the batch at `covered`.
    pub(crate) fn push(&mut self, base: Offset, batch: Offset, size: u64, max_timestamp: Timestamp, interval: u32) {
        let due = match self.entries.last() {
            Some(last) => self.covered - u64::from(last.position) >= u64::from(interval),
            None => true,
        };
        if let (true, Ok(relative_offset), Ok(position)) =
            (due, u32::try_from(batch.since(base)), u32::try_from(self.covered))
        {
            let max_timestamp_before = self.max_timestamp;
            self.entries.push(IndexEntry { relative_offset, position, max_timestamp_before });
        }
        self.covered += size;
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// Where to start looking for the batch that holds `offset`.
    pub(crate) fn floor_offset(&self, base: Offset, offset: Offset) -> Place {
        let wanted = offset.since(base);
        let after = self.entries.partition_point(|entry| i64::from(entry.relative_offset) <= wanted);
        self.place_before(base, after)
    }

    /// Where to start looking for the first batch with a timestamp of at least `timestamp`.
    pub(crate) fn floor_timestamp(&self, base: Offset, timestamp: Timestamp) -> Place {
        let after = self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp);
        self.place_before(base, after)
    }

    fn place_before(&self, base: Offset, after: usize) -> Place {
        let Some(entry) = after.checked_sub(1).map(|i| &self.entries[i]) else { return Place::start_of(base) };
        let base = base.plus(i64::from(entry.relative_offset));
        Place { position: u64::from(entry.position), base, is_exact: true }
    }

    /// Forgets what lies at or behind `len`.
    pub(crate) fn truncate(&mut self, len: u64) {
        self.entries.retain(|entry| u64::from(entry.position) < len);
        self.covered = self.covered.min(len);
        // The largest timestamp of what is left is not known; a larger one only makes later searches start earlier.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_at_or_before_what_is_looked_for() {
        let mut index = Index::default();
        let base = Offset(1000);
        // Ten offsets and 300 bytes each; time goes back now and then.
        let time = |i: i64| Timestamp(i * 10 - if i % 7 == 0 { 500 } else { 0 });
        for i in 0..100 {
            index.push(base, base.plus(i * 10), 300, time(i), 1000);
        }
        assert!(index.entries.len() > 20 && index.entries.len() < 30);
        for offset in 1000..2000 {
            let batch = (offset - 1000) / 10;
            let floor = index.floor_offset(base, Offset(offset)).position;
            assert!(floor <= batch as u64 * 300 && floor + 1500 > batch as u64 * 300);
        }
        for timestamp in -600..1000 {
            let first = (0..100).find(|i| time(*i) >= Timestamp(timestamp));
            if let Some(first) = first {
                assert!(index.floor_timestamp(base, Timestamp(timestamp)).position <= first as u64 * 300);
            }
        }
        index.truncate(3000);
        assert_eq!(index.covered, 3000);
        assert!(index.entries.iter().all(|entry| entry.position < 3000));
    }
}
