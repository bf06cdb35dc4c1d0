//! From batch to batch through stored bytes, by header alone.

use std::ops::Range;

use crate::header::{BatchHeader, HeaderError};

/// Walks consecutive batches. Nothing but headers is read, CRCs are not verified.
///
/// Ends where fewer bytes are left than the next batch needs, since a fetch may cut its last batch anywhere; what is left
/// is told by [`Batches::position`]. A header that cannot be one is an error, after which the walk is over.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, position: 0, failed: false }
}

/// See [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl Batches<'_> {
    /// The end of the last batch that was yielded.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes behind the last batch that was yielded.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<(BatchHeader, Range<usize>), HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = self.bytes.get(self.position..)?;
        match BatchHeader::parse(rest) {
            Ok(header) if header.size() <= rest.len() => {
                let range = self.position..self.position + header.size();
                self.position = range.end;
                Some(Ok((header, range)))
            }
            Ok(_) | Err(HeaderError::Incomplete { .. }) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base_types::{Offset, Timestamp};

    use super::*;
    use crate::{BatchBuilder, Compression};

    #[test]
    fn a_walk_ends_for_good_at_a_header_that_is_none() {
        let batch = BatchBuilder::new(Compression::None).record(None, Some(b"v"), &[], Timestamp(1)).build().unwrap();
        let mut log = batch.repeat(3);
        log[batch.len() + 16] = 9;
        let mut walk = batches(&log);
        assert!(walk.next().unwrap().is_ok());
        assert_eq!(walk.next(), Some(Err(HeaderError::UnknownMagic { magic: 9 })));
        assert_eq!(walk.next(), None);
        assert_eq!((walk.position(), walk.remaining()), (batch.len(), 2 * batch.len()));
    }

    #[test]
    fn offsets_that_would_run_out_are_no_header() {
        let builder = BatchBuilder::new(Compression::None).record(None, None, &[], Timestamp(1));
        let at = |offset| builder.clone().base_offset(Offset(offset)).build().unwrap();
        assert!(batches(&at(i64::MAX - 1)).next().unwrap().is_ok());
        for offset in [i64::MAX, -1] {
            assert!(matches!(batches(&at(offset)).next(), Some(Err(HeaderError::OffsetRange { .. }))));
        }
    }
}
