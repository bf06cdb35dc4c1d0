//! The sending half of a stream, which never waits: what the stream has no room for is kept here, in order.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use rpc::{Sender, TrySendError};

pub(crate) struct Outlet<T> {
    tx: Sender<T>,
    /// Each with the trace context it goes with.
    kept: VecDeque<(T, Option<Box<str>>)>,
    /// Resolves when there is room again.
    room: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// The other side is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl<T: Send + 'static> Outlet<T> {
    pub fn new(tx: Sender<T>) -> Outlet<T> {
        Outlet { tx, kept: VecDeque::new(), room: None }
    }

    pub fn push(&mut self, message: T, traceparent: Option<Box<str>>) {
        self.kept.push_back((message, traceparent));
    }

    /// Hands over as much as there is room for; `sent` is told of each. Wakes the task when there is room for more.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, mut sent: impl FnMut(&T)) -> Result<(), Gone> {
        while let Some((message, traceparent)) = self.kept.pop_front() {
            sent(&message);
            match self.tx.try_send_traced(message, traceparent.clone()) {
                Ok(()) => {}
                Err(TrySendError::Closed(message)) => {
                    self.kept.push_front((message, traceparent));
                    return Err(Gone);
                }
                Err(TrySendError::Full(message)) => {
                    self.kept.push_front((message, traceparent));
                    let tx = self.tx.clone();
                    let room = self.room.get_or_insert_with(|| Box::pin(async move { tx.ready().await }));
                    match room.as_mut().poll(cx) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(()) => self.room = None,
                    }
                }
            }
        }
        Ok(())
    }

    /// What was never handed over.
    pub fn into_kept(self) -> impl Iterator<Item = T> {
        self.kept.into_iter().map(|(message, _)| message)
    }
}
