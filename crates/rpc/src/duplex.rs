//! One ordered stream each way, the same over the network and within one process.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;

use crate::status::Ended;

/// A two-way stream: `tx` to the other side, `rx` from it.
///
/// When the other side drops its `tx`, or the connection is lost, `rx` ends after what had arrived. When it drops its `rx`,
/// or the connection is lost, `tx` refuses. Whoever sees either drops the rest: a stream is of no use by halves.
///
/// Who drops both halves at once hangs up: over a connection, what the opener had sent last may then be lost. (What the
/// serving side had sent is delivered.) An opener whose last words matter drops `tx` alone and waits for `rx` to end.
pub struct Duplex<Out, In> {
    pub tx: Sender<Out>,
    pub rx: Receiver<In>,
}

/// The sending half. Bounded: `send` waits while the other side does not keep up.
pub struct Sender<T> {
    queue: mpsc::Sender<Envelope<T>>,
}

/// The receiving half. Dropping a pending `recv` loses nothing.
pub struct Receiver<T> {
    inner: Inner<T>,
}

/// A message and, when its asker traces it, the W3C trace context it belongs to.
#[derive(Debug)]
pub(crate) struct Envelope<T> {
    pub(crate) message: T,
    pub(crate) traceparent: Option<Box<str>>,
}

/// Where a receiver over a connection gets its messages from.
pub(crate) trait Source<T>: Send {
    /// `Ready(None)` for good once the stream has ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Envelope<T>>>;
    fn ended(&self) -> Option<&Ended>;
}

enum Inner<T> {
    Channel(mpsc::Receiver<Envelope<T>>),
    Connection(Box<dyn Source<T>>),
}

/// The other side is gone; here is the message back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// As much is waiting as may.
    Full(T),
    /// The other side is gone.
    Closed(T),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there yet.
    Empty,
    /// Nothing will come any more.
    Ended,
}

impl<Out, In> Duplex<Out, In> {
    /// Both ends of a stream within this process, with room for `capacity` messages each way.
    pub fn pair(capacity: usize) -> (Duplex<Out, In>, Duplex<In, Out>) {
        let (out_tx, out_rx) = mpsc::channel(capacity);
        let (in_tx, in_rx) = mpsc::channel(capacity);
        (
            Duplex { tx: Sender { queue: out_tx }, rx: Receiver { inner: Inner::Channel(in_rx) } },
            Duplex { tx: Sender { queue: in_tx }, rx: Receiver { inner: Inner::Channel(out_rx) } },
        )
    }

    pub(crate) fn over(queue: mpsc::Sender<Envelope<Out>>, source: Box<dyn Source<In>>) -> Duplex<Out, In> {
        Duplex { tx: Sender { queue }, rx: Receiver { inner: Inner::Connection(source) } }
    }
}

impl<T> Sender<T> {
    pub async fn send(&self, message: T) -> Result<(), Closed<T>> {
        self.send_traced(message, None).await
    }

    /// With the W3C trace context of whoever caused it. Give `None` while tracing is off: it costs nothing then.
    pub async fn send_traced(&self, message: T, traceparent: Option<Box<str>>) -> Result<(), Closed<T>> {
        self.queue.send(Envelope { message, traceparent }).await.map_err(|refused| Closed(refused.0.message))
    }

    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.try_send_traced(message, None)
    }

    pub fn try_send_traced(&self, message: T, traceparent: Option<Box<str>>) -> Result<(), TrySendError<T>> {
        self.queue.try_send(Envelope { message, traceparent }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(envelope) => TrySendError::Full(envelope.message),
            mpsc::error::TrySendError::Closed(envelope) => TrySendError::Closed(envelope.message),
        })
    }

    /// Waits until there is room for a message or the stream is closed; a `try_send` right after it does not find it full,
    /// unless another sender was quicker.
    pub async fn ready(&self) {
        drop(self.queue.reserve().await);
    }

    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Waits until the other side is gone.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { queue: self.queue.clone() }
    }
}

impl<T> Receiver<T> {
    /// The next message; `None` once the stream has ended.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// With the trace context it came with, if it came with one.
    pub async fn recv_traced(&mut self) -> Option<(T, Option<Box<str>>)> {
        let envelope = poll_fn(|cx| self.poll_envelope(cx)).await?;
        Some((envelope.message, envelope.traceparent))
    }

    /// What is there already: to take up everything that came in one turn.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        self.try_recv_traced().map(|(message, _)| message)
    }

    pub fn try_recv_traced(&mut self) -> Result<(T, Option<Box<str>>), TryRecvError> {
        let envelope = match &mut self.inner {
            Inner::Channel(queue) => queue.try_recv().map_err(|error| match error {
                mpsc::error::TryRecvError::Empty => TryRecvError::Empty,
                mpsc::error::TryRecvError::Disconnected => TryRecvError::Ended,
            })?,
            // The next `recv` asks to be woken again.
            Inner::Connection(source) => match source.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(envelope)) => envelope,
                Poll::Ready(None) => return Err(TryRecvError::Ended),
                Poll::Pending => return Err(TryRecvError::Empty),
            },
        };
        Ok((envelope.message, envelope.traceparent))
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_envelope(cx).map(|envelope| envelope.map(|envelope| envelope.message))
    }

    /// Why the stream ended, once it has and if it came over a connection.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.inner {
            Inner::Channel(_) => None,
            Inner::Connection(source) => source.ended(),
        }
    }

    fn poll_envelope(&mut self, cx: &mut Context<'_>) -> Poll<Option<Envelope<T>>> {
        match &mut self.inner {
            Inner::Channel(queue) => queue.poll_recv(cx),
            Inner::Connection(source) => source.poll_next(cx),
        }
    }
}

impl<T: Unpin> futures_util::Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.get_mut().poll_recv(cx)
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("room", &self.queue.capacity()).field("closed", &self.is_closed()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ended", &self.ended()).finish_non_exhaustive()
    }
}

impl<Out, In> fmt::Debug for Duplex<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duplex").field("tx", &self.tx).field("rx", &self.rx).finish()
    }
}

// Not derived, so that a message need not be `Debug` (and is not printed with every error).
impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side of the stream is gone")
    }
}

impl<T> std::error::Error for Closed<T> {}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full",
            TrySendError::Closed(_) => "Closed",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "the stream is full",
            TrySendError::Closed(_) => "the other side of the stream is gone",
        })
    }
}

impl<T> std::error::Error for TrySendError<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_after_them() {
        let (a, mut b) = Duplex::<u32, &str>::pair(4);
        a.tx.send(1).await.unwrap();
        a.tx.try_send(2).unwrap();
        assert_eq!(b.rx.recv().await, Some(1));
        assert_eq!(b.rx.try_recv(), Ok(2));
        assert_eq!(b.rx.try_recv(), Err(TryRecvError::Empty));
        a.tx.send_traced(3, Some("trace".into())).await.unwrap();
        drop(a);
        assert_eq!(b.rx.recv_traced().await, Some((3, Some("trace".into()))));
        assert_eq!(b.rx.recv().await, None);
        assert_eq!(b.rx.try_recv(), Err(TryRecvError::Ended));
        assert_eq!(b.tx.send("x").await, Err(Closed("x")));
        assert!(b.tx.is_closed());
    }

    #[tokio::test]
    async fn a_full_stream_refuses_and_gives_the_message_back() {
        let (a, mut b) = Duplex::<u32, ()>::pair(1);
        a.tx.try_send(1).unwrap();
        assert_eq!(a.tx.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(b.rx.recv().await, Some(1));
        a.tx.ready().await;
        a.tx.try_send(2).unwrap();
    }
}
