//! Reads one client's frames.
//!
//! A buffer exists only while there are bytes: an idle connection holds none. It grows with the bytes received, of this frame or
//! of the one before, never with the length a frame claims (W8), and frames are split off it without a copy. All of it is on the
//! account of [`Memory`](super::memory::Memory) before it is allocated: when memory is short the socket is not read.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gateway_core::{ConnectionId, Event, FRAME_SIZE_MIN, Stamp};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::Inbound;
use super::memory::{FREE, Share};

/// What small frames are read in; never more than a connection gets without asking.
const READ_SIZE: usize = FREE;
/// From this length on a frame has a buffer of its own.
const LARGE_FRAME: usize = 16 * 1024;
const PREFIX: usize = 4;
/// The most that is expected of a frame because the one before it was large.
const EXPECTED_MAX: usize = 4 * 1024 * 1024;

pub(crate) async fn read(mut frames: Frames, stream: Arc<TcpStream>, mut paused: watch::Receiver<bool>) {
    let connection = frames.connection;
    // When the shell drops the other end it has closed this connection.
    let mut closing = paused.clone();
    let closed = async move { while closing.changed().await.is_ok() {} };
    let by_shell = tokio::select! {
        result = frames.pass_on(&stream, &mut paused) => {
            if let Err(error) = result {
                tracing::debug!(connection = connection.0, %error, "connection ends");
            }
            false
        }
        () = closed => true,
    };
    let Frames { inbox, share, .. } = frames;
    // Given back before the loop hears of it, so that it sees who may go on.
    drop(share);
    if !by_shell {
        let _ = inbox.send(Inbound::Event(Event::ConnectionClosed { connection })).await;
    }
}

/// The frames of one connection and where they go.
pub(crate) struct Frames {
    pub connection: ConnectionId,
    pub inbox: mpsc::Sender<Inbound>,
    pub started: Instant,
    pub size_max: usize,
    pub share: Share,
    /// How long a sender may be silent while others wait for the rest of its frame.
    pub stalled: Duration,
}

impl Frames {
    async fn pass_on(&mut self, stream: &TcpStream, paused: &mut watch::Receiver<bool>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        let mut last_frame = 0;
        loop {
            // Who has the pass finishes its frame first: others wait for that, so nothing may wait for them.
            if *paused.borrow_and_update() && !self.share.has_pass() {
                if paused.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            self.readable(stream).await?;
            // Room for a frame that is only expected is not worth waiting for.
            let expected = if self.share.is_memory_short() { 0 } else { last_frame };
            let size = size(&buffer, expected);
            self.share.grow(size).await;
            reserve(&mut buffer, size);
            let room = size - buffer.len();
            match stream.try_read_buf(&mut (&mut buffer).limit(room)) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    release(&mut buffer);
                    self.share.settle(buffer.capacity());
                    continue;
                }
                Err(error) => return Err(error),
            }
            while let Some(frame) = split(&mut buffer, self.size_max)? {
                last_frame = frame.len();
                let received_us = self.started.elapsed().as_micros() as u64;
                let stamp = Stamp { received_us, ..Stamp::default() };
                // Until there is room in the inbox the frame counts as ours, for it ends with us.
                let Ok(permit) = self.inbox.reserve().await else { return Ok(()) };
                release(&mut buffer);
                self.share.pass_on(frame.len(), buffer.capacity());
                permit.send(Inbound::Event(Event::FrameReceived { connection: self.connection, frame, stamp }));
            }
            self.share.settle(buffer.capacity());
        }
    }

    async fn readable(&self, stream: &TcpStream) -> io::Result<()> {
        if !self.share.has_pass() {
            return stream.readable().await;
        }
        match tokio::time::timeout(self.stalled, stream.readable()).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "a frame stays unfinished while memory is short")),
        }
    }
}

/// How large the buffer is to be for the next read. Small frames are read many at once. A large one is read without what follows
/// it, for that would be moved to the next buffer; and since senders send frames of like sizes, the one after it is expected to be
/// as large. Room is made as far as bytes already received justify it.
fn size(buffer: &BytesMut, last_frame: usize) -> usize {
    let expected = (last_frame + PREFIX).min(EXPECTED_MAX);
    let wanted = match length(buffer) {
        Some(length) if length >= LARGE_FRAME => length + PREFIX,
        None if last_frame >= LARGE_FRAME => expected,
        _ => READ_SIZE,
    };
    let earned = (2 * buffer.len()).max(expected).max(READ_SIZE);
    wanted.min(earned).max(buffer.len() + 1)
}

/// Exactly that large: a vector's own growth would go beyond what was asked for.
fn reserve(buffer: &mut BytesMut, size: usize) {
    if size > buffer.capacity() {
        let mut larger = BytesMut::with_capacity(size);
        larger.extend_from_slice(buffer);
        *buffer = larger;
    }
}

/// An empty buffer is given back.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

fn length(buffer: &BytesMut) -> Option<usize> {
    let prefix = buffer.first_chunk()?;
    usize::try_from(i32::from_be_bytes(*prefix)).ok()
}

/// The next whole frame, without its prefix.
fn split(buffer: &mut BytesMut, size_max: usize) -> io::Result<Option<Bytes>> {
    let Some(prefix) = buffer.first_chunk() else { return Ok(None) };
    let claimed = i32::from_be_bytes(*prefix);
    let length = usize::try_from(claimed).unwrap_or(usize::MAX);
    if !(FRAME_SIZE_MIN..=size_max).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame claims {claimed} bytes")));
    }
    if buffer.len() < length + 4 {
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use gateway_core::FRAME_SIZE_MAX;

    use super::*;

    fn framed(bytes: &[u8]) -> BytesMut {
        let mut framed = BytesMut::from(&(bytes.len() as i32).to_be_bytes()[..]);
        framed.extend_from_slice(bytes);
        framed
    }

    #[test]
    fn frames_are_split_without_a_copy() {
        let mut buffer = framed(b"first one");
        buffer.extend_from_slice(&framed(b"second one"));
        let at = buffer.as_ptr() as usize;
        let first = split(&mut buffer, FRAME_SIZE_MAX).unwrap().unwrap();
        assert_eq!((&first[..], first.as_ptr() as usize), (&b"first one"[..], at + 4));
        assert_eq!(split(&mut buffer, FRAME_SIZE_MAX).unwrap().unwrap(), &b"second one"[..]);
        assert_eq!(split(&mut buffer, FRAME_SIZE_MAX).unwrap(), None);
        release(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn a_claim_that_cannot_be_right_ends_the_connection() {
        for claim in [-1i32, 0, 7, i32::MIN, i32::MAX, FRAME_SIZE_MAX as i32 + 1] {
            let mut buffer = BytesMut::from(&claim.to_be_bytes()[..]);
            assert!(split(&mut buffer, FRAME_SIZE_MAX).is_err(), "{claim}");
        }
        assert_eq!(split(&mut framed(&[7; 50]), 50).unwrap().map(|frame| frame.len()), Some(50));
        assert!(split(&mut framed(&[7; 51]), 50).is_err());
    }

    /// W8: a claim of 100 MiB with four bytes behind it costs one read buffer.
    #[test]
    fn memory_grows_with_bytes_received_and_not_with_bytes_claimed() {
        let mut buffer = BytesMut::from(&(FRAME_SIZE_MAX as i32).to_be_bytes()[..]);
        assert_eq!(size(&buffer, 0), READ_SIZE);
        buffer.resize(1 << 20, 0);
        assert_eq!(size(&buffer, 0), 2 << 20);
        reserve(&mut buffer, 2 << 20);
        assert_eq!((buffer.len(), buffer.capacity()), (1 << 20, 2 << 20));
    }

    /// Feeds `bytes` as a socket with `at_once` bytes in it would, and counts how often bytes were moved to another buffer.
    fn feed(bytes: &[u8], at_once: usize, mut last_frame: usize) -> (usize, usize) {
        let (mut rest, mut frames, mut moves, mut buffer) = (bytes, 0, 0, BytesMut::new());
        while !rest.is_empty() {
            let at = buffer.as_ptr();
            let size = size(&buffer, last_frame);
            let room = size - buffer.len();
            reserve(&mut buffer, size);
            moves += usize::from(!buffer.is_empty() && buffer.as_ptr() != at);
            let (now, later) = rest.split_at(room.min(at_once).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            while let Some(frame) = split(&mut buffer, FRAME_SIZE_MAX).unwrap() {
                (last_frame, frames) = (frame.len(), frames + 1);
            }
            release(&mut buffer);
        }
        (frames, moves)
    }

    #[test]
    fn frames_like_the_last_one_are_read_without_moving_bytes() {
        let stream = framed(&[7; 300_000]).repeat(5);
        for at_once in [1 << 20, 65_536, 50_001, 300_004] {
            assert_eq!(feed(&stream, at_once, 300_000), (5, 0), "{at_once}");
        }
        assert_eq!(feed(&stream, 1 << 20, 0).0, 5);
        let mut mixed = framed(&[1; 10]).repeat(1000);
        mixed.extend_from_slice(&framed(&[2; 100_000]));
        mixed.extend_from_slice(&framed(&[3; 10]).repeat(1000));
        let (frames, moves) = feed(&mixed, 1 << 20, 100_000);
        assert!(frames == 2001 && moves <= 4, "{frames} {moves}");
    }
}
