//! Received bytes that may lie in several pieces.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes in the order received. Cutting it apart copies nothing; only [`Chunks::into_bytes`] does, where it must.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunks {
    /// Not empty while anything remains, so that the usual case of one piece needs no allocation.
    front: Bytes,
    rest: VecDeque<Bytes>,
    rest_len: usize,
}

impl Chunks {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
        } else if self.front.is_empty() {
            self.front = piece;
        } else {
            self.rest_len += piece.len();
            self.rest.push_back(piece);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.front.len() + self.rest_len
    }

    /// Cuts off the first `len` bytes; `None` when there are fewer.
    pub(crate) fn cut(&mut self, len: usize) -> Option<Chunks> {
        if len > self.len() {
            return None;
        }
        let mut taken = Chunks::default();
        let mut wanted = len;
        while wanted > 0 {
            let piece = self.front.split_to(wanted.min(self.front.len()));
            wanted -= piece.len();
            taken.push(piece);
            self.refill();
        }
        Some(taken)
    }

    /// The first `N` bytes, which stay.
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        if let Some(first) = self.front.first_chunk() {
            return Some(*first);
        }
        let mut first = [0; N];
        let mut bytes = self.front.iter().chain(self.rest.iter().flatten());
        for byte in &mut first {
            *byte = *bytes.next()?;
        }
        Some(first)
    }

    /// In one piece: a copy only when it came in several.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.front;
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.front);
        self.rest.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }

    fn refill(&mut self) {
        if self.front.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.rest_len -= next.len();
            self.front = next;
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.front
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        while count > 0 {
            let step = count.min(self.front.len());
            self.front.advance(step);
            count -= step;
            self.refill();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunks(pieces: &[Vec<u8>]) -> Chunks {
        let mut chunks = Chunks::default();
        pieces.iter().for_each(|piece| chunks.push(Bytes::copy_from_slice(piece)));
        chunks
    }

    #[test]
    fn one_piece_is_cut_without_a_copy() {
        let whole = Bytes::from(vec![7; 100]);
        let mut chunks = Chunks::default();
        chunks.push(whole.clone());
        chunks.advance(10);
        let cut = chunks.cut(50).unwrap().into_bytes();
        assert_eq!(cut.as_ptr(), whole[10..].as_ptr());
        assert_eq!(chunks.len(), 40);
        assert!(chunks.cut(41).is_none());
    }

    proptest! {
        #[test]
        fn chunks_behave_as_the_whole_does(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            cuts in prop::collection::vec((any::<bool>(), 0_usize..20), 0..9),
        ) {
            let mut whole: Vec<u8> = pieces.concat();
            let mut chunks = chunks(&pieces);
            for (advance, count) in cuts {
                prop_assert_eq!(chunks.peek::<5>().map(|b| b.to_vec()), whole.get(..5).map(<[u8]>::to_vec));
                if advance {
                    let count = count.min(whole.len());
                    chunks.advance(count);
                    whole.drain(..count);
                } else if count <= whole.len() {
                    let cut: Vec<u8> = whole.drain(..count).collect();
                    prop_assert_eq!(&chunks.cut(count).unwrap().into_bytes()[..], &cut[..]);
                } else {
                    prop_assert!(chunks.cut(count).is_none());
                }
                prop_assert_eq!(chunks.len(), whole.len());
                prop_assert_eq!(chunks.chunk().is_empty(), whole.is_empty());
            }
            prop_assert_eq!(&chunks.into_bytes()[..], &whole[..]);
        }
    }
}
