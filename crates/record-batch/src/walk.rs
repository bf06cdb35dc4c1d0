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
