//! Messages to HTTP/2 data frames and back.
//!
//! Outwards: whatever is waiting in the sender goes into one frame of about 32 KiB per turn; a large payload piece becomes a
//! frame of its own, by reference. That is one system call for many acknowledgements, and none of the bytes of a large batch
//! is touched. Inwards: the reader decodes in its own task straight from the received frames, so that flow control reaches
//! back to the sender: what is not read is not sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http_body::{Body, Frame};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::chunks::Chunks;
use crate::duplex::{Envelope, Source};
use crate::limits;
use crate::status::{Code, Ended};
use crate::wire::{self, Pieces, Sink, Wire};

/// Resolves when this process stops taking part. A client's streams have none.
#[derive(Clone, Default)]
pub(crate) struct Stop(Option<Shared<BoxFuture<'static, ()>>>);

impl Stop {
    pub(crate) fn when(stopped: impl Future<Output = ()> + Send + 'static) -> Stop {
        Stop(Some(stopped.boxed().shared()))
    }

    pub(crate) async fn stopped(self) {
        match self.0 {
            Some(stopped) => stopped.await,
            None => std::future::pending().await,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let stopped = self.0.as_mut().is_some_and(|stopped| stopped.poll_unpin(cx).is_ready());
        if stopped {
            self.0 = None;
        }
        stopped
    }
}

/// Which stream it is, for the one log line that a broken one gets.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) service: &'static str,
    pub(crate) peer: Arc<str>,
}

/// What a stream sends, as the body of a request or an answer.
pub(crate) struct Outgoing<T> {
    queue: mpsc::Receiver<Envelope<T>>,
    frames: Frames,
    pieces: Pieces,
    label: Label,
    side: Side,
    /// Set when the reading half finds that the stream must end.
    told_to_end: Option<oneshot::Receiver<Ended>>,
    stop: Stop,
    end: Option<Ended>,
    finished: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    /// Ends with trailers that say why.
    Server,
}

/// What a stream receives, decoded as it is read.
pub(crate) struct Incoming<T, B> {
    body: Option<B>,
    received: Chunks,
    label: Label,
    /// Which side reads.
    side: Side,
    tell_to_end: Option<oneshot::Sender<Ended>>,
    stop: Stop,
    ended: Option<Ended>,
    message: std::marker::PhantomData<fn() -> T>,
}

/// Both halves of one stream, which end together when what is received makes no sense.
pub(crate) fn halves<T: Wire, U: Wire, B>(
    queue: mpsc::Receiver<Envelope<T>>,
    label: Label,
    side: Side,
    stop: Stop,
) -> (Outgoing<T>, impl FnOnce(B) -> Incoming<U, B>) {
    let (tell_to_end, told_to_end) = oneshot::channel();
    let outgoing = Outgoing {
        queue,
        frames: Frames::default(),
        pieces: Pieces::default(),
        label: label.clone(),
        side,
        told_to_end: Some(told_to_end),
        stop: stop.clone(),
        end: None,
        finished: false,
    };
    let incoming = move |body| Incoming {
        body: Some(body),
        received: Chunks::default(),
        label,
        side,
        tell_to_end: Some(tell_to_end),
        stop,
        ended: None,
        message: std::marker::PhantomData,
    };
    (outgoing, incoming)
}

#[derive(Default)]
struct Frames {
    ready: VecDeque<Bytes>,
    gathered: BytesMut,
}

impl Frames {
    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            self.ready.push_back(self.gathered.split().freeze());
        }
    }
}

impl Sink for Frames {
    fn buffer(&mut self, len: usize) -> &mut BytesMut {
        if self.gathered.capacity() - self.gathered.len() < len {
            self.gathered.reserve(len.max(limits::COALESCE_BYTES_MAX));
        }
        &mut self.gathered
    }

    fn piece(&mut self, piece: Bytes) {
        if piece.len() >= limits::REFERENCE_BYTES_MIN {
            self.flush();
            self.ready.push_back(piece);
        } else {
            if self.gathered.len() + piece.len() > limits::COALESCE_BYTES_MAX {
                self.flush();
            }
            self.buffer(piece.len()).extend_from_slice(&piece);
        }
    }
}

impl<T: Wire> Outgoing<T> {
    /// Encodes what is waiting until there is a frame's worth of it.
    fn gather(&mut self, cx: &mut Context<'_>) {
        while self.end.is_none()
            && self.frames.ready.is_empty()
            && self.frames.gathered.len() < limits::COALESCE_BYTES_MAX
        {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(Envelope { message, traceparent })) => {
                    if let Err(error) = wire::encode(message, traceparent, &mut self.pieces, &mut self.frames) {
                        let Label { service, peer } = &self.label;
                        tracing::error!(service, %peer, %error, "stream ended: message cannot be sent");
                        self.end = Some(Ended::new(Code::TooMuch, error.to_string()));
                    }
                }
                Poll::Ready(None) => self.end = Some(Ended::new(Code::Ok, "")),
                Poll::Pending => {
                    if let Some(told) = &mut self.told_to_end
                        && let Poll::Ready(told) = told.poll_unpin(cx)
                    {
                        self.told_to_end = None;
                        self.end = told.ok();
                    }
                    if self.end.is_none() && self.stop.poll(cx) {
                        self.end = Some(Ended::new(Code::Unavailable, "stopping"));
                    }
                    break;
                }
            }
        }
        self.frames.flush();
    }
}

impl<T: Wire> Body for Outgoing<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.frames.ready.is_empty() {
            this.gather(cx);
        }
        if let Some(frame) = this.frames.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        let Some(end) = &this.end else { return Poll::Pending };
        if std::mem::replace(&mut this.finished, true) {
            return Poll::Ready(None);
        }
        match (this.side, end.code) {
            (Side::Client, Code::Ok) => Poll::Ready(None),
            (Side::Client, _) => Poll::Ready(Some(Err(end.to_status()))),
            (Side::Server, _) => {
                let mut trailers = http::HeaderMap::new();
                // Only a status whose text is no header could fail, and ours are escaped.
                drop(end.to_status().add_header(&mut trailers));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }
}

// Nothing in it is pinned.
impl<T> Unpin for Outgoing<T> {}

/// What the other side has to say comes in its trailers; an error of the body is the connection's.
fn lost(status: &Status) -> Ended {
    match Code::from_grpc(status.code()) {
        Code::Cancelled => Ended::from_status(status),
        _ => Ended::new(Code::Unavailable, format!("connection lost: {}", status.message())),
    }
}

impl<T: Wire, B> Incoming<T, B> {
    /// A client just ends; a server that does so without a word has not ended well.
    fn good_end(&self) -> Ended {
        match self.side {
            Side::Server => Ended::new(Code::Ok, ""),
            Side::Client => Ended::new(Code::Unavailable, "the stream was cut off"),
        }
    }

    fn end(&mut self, ended: Ended) {
        self.body = None;
        self.received = Chunks::default();
        self.ended = Some(ended);
    }
}

impl<T, B> Source<T> for Incoming<T, B>
where
    T: Wire,
    B: Body<Data = Bytes, Error = Status> + Send + Unpin,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Envelope<T>>> {
        loop {
            match wire::decode(&mut self.received) {
                Ok(Some((message, traceparent))) => {
                    let traceparent = (!traceparent.is_empty()).then(|| traceparent.into_boxed_str());
                    return Poll::Ready(Some(Envelope { message, traceparent }));
                }
                Ok(None) => {}
                Err(error) => {
                    let Label { service, peer } = &self.label;
                    tracing::warn!(service, %peer, %error, "stream ended: malformed message");
                    let ended = Ended::new(Code::Malformed, error.to_string());
                    if let Some(tell) = self.tell_to_end.take() {
                        drop(tell.send(ended.clone()));
                    }
                    self.end(ended);
                }
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.received.push(data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let status = Status::from_header_map(&trailers);
                        self.end(status.map_or_else(|| self.good_end(), |status| Ended::from_status(&status)));
                    }
                },
                Poll::Ready(Some(Err(status))) => self.end(lost(&status)),
                Poll::Ready(None) => self.end(self.good_end()),
                Poll::Pending => {
                    if !self.stop.poll(cx) {
                        return Poll::Pending;
                    }
                    self.end(Ended::new(Code::Unavailable, "stopping"));
                }
            }
        }
    }

    fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }
}
