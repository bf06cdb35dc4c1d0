//! Reads one client's frames.
//!
//! A buffer exists only while there are bytes: an idle connection holds none. It grows with the bytes received, never with
//! the length a frame claims (W8), and frames are split off it without a copy.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use gateway_core::{ConnectionId, Event, FRAME_SIZE_MAX, FRAME_SIZE_MIN, Stamp};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::Inbound;

const READ_SIZE: usize = 64 * 1024;
/// The most that a large frame's buffer grows at once.
const GROWTH_MAX: usize = 4 * 1024 * 1024;

pub(crate) async fn read(
    connection: ConnectionId,
    stream: Arc<TcpStream>,
    mut paused: watch::Receiver<bool>,
    inbox: mpsc::Sender<Inbound>,
    started: Instant,
) {
    let frames = Frames { connection, inbox: &inbox, started };
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
    if !by_shell {
        let _ = inbox.send(Inbound::Event(Event::ConnectionClosed { connection })).await;
    }
}

struct Frames<'a> {
    connection: ConnectionId,
    inbox: &'a mpsc::Sender<Inbound>,
    started: Instant,
}

impl Frames<'_> {
    async fn pass_on(&self, stream: &TcpStream, paused: &mut watch::Receiver<bool>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            if *paused.borrow_and_update() {
                if paused.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            stream.readable().await?;
            reserve(&mut buffer);
            match stream.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    release(&mut buffer);
                    continue;
                }
                Err(error) => return Err(error),
            }
            while let Some(frame) = split(&mut buffer)? {
                let stamp = Stamp(self.started.elapsed().as_micros() as u64);
                let event = Event::FrameReceived { connection: self.connection, frame, stamp };
                if self.inbox.send(Inbound::Event(event)).await.is_err() {
                    return Ok(());
                }
            }
            release(&mut buffer);
        }
    }
}

/// Room for the next read: what is missing of the frame at hand, as far as the bytes already received justify it.
fn reserve(buffer: &mut BytesMut) {
    let missing = length(buffer).map_or(0, |length| (length + 4).saturating_sub(buffer.len()));
    let earned = buffer.len().clamp(READ_SIZE, GROWTH_MAX);
    buffer.reserve(missing.clamp(READ_SIZE.min(earned), earned));
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
fn split(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(prefix) = buffer.first_chunk() else { return Ok(None) };
    let claimed = i32::from_be_bytes(*prefix);
    let length = usize::try_from(claimed).unwrap_or(usize::MAX);
    if !(FRAME_SIZE_MIN..=FRAME_SIZE_MAX).contains(&length) {
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
        let first = split(&mut buffer).unwrap().unwrap();
        assert_eq!((&first[..], first.as_ptr() as usize), (&b"first one"[..], at + 4));
        assert_eq!(split(&mut buffer).unwrap().unwrap(), &b"second one"[..]);
        assert_eq!(split(&mut buffer).unwrap(), None);
        release(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    fn a_claim_that_cannot_be_right_ends_the_connection() {
        for claim in [-1i32, 0, 7, i32::MIN, i32::MAX, FRAME_SIZE_MAX as i32 + 1] {
            let mut buffer = BytesMut::from(&claim.to_be_bytes()[..]);
            assert!(split(&mut buffer).is_err(), "{claim}");
        }
    }

    /// W8: a claim of 100 MiB with four bytes behind it costs one read buffer.
    #[test]
    fn memory_grows_with_bytes_received_and_not_with_bytes_claimed() {
        let mut buffer = BytesMut::from(&(FRAME_SIZE_MAX as i32).to_be_bytes()[..]);
        reserve(&mut buffer);
        assert!(buffer.capacity() <= 2 * READ_SIZE, "{}", buffer.capacity());
        buffer.resize(1 << 20, 0);
        reserve(&mut buffer);
        assert!(buffer.capacity() <= 4 << 20, "{}", buffer.capacity());
    }
}
