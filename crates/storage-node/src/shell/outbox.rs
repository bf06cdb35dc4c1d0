//! Messages to one stream, in order, without ever making the shell wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rpc::{Sender, TrySendError};

/// Sends at once while the stream keeps up; else queues, and a task drains the queue as the stream takes more. The queue is
/// bounded by what the other side asked for: one answer for each request, and eight MiB of pushes for each follower.
pub(super) struct Outbox<T> {
    sender: Sender<T>,
    queue: Rc<RefCell<Queue<T>>>,
}

/// Each message with the trace context it goes with.
type Queue<T> = VecDeque<(T, Option<Box<str>>)>;

impl<T: 'static> Outbox<T> {
    pub(super) fn new(sender: Sender<T>) -> Outbox<T> {
        Outbox { sender, queue: Rc::default() }
    }

    /// A stream that is gone swallows the message; its reader reports the loss.
    pub(super) fn send(&self, message: T) {
        self.send_traced(None, message);
    }

    pub(super) fn send_traced(&self, traceparent: Option<Box<str>>, message: T) {
        let mut queue = self.queue.borrow_mut();
        if !queue.is_empty() {
            return queue.push_back((message, traceparent));
        }
        if let Err(TrySendError::Full(message)) = self.sender.try_send_traced(message, traceparent.clone()) {
            queue.push_back((message, traceparent));
            tokio::task::spawn_local(drain(self.sender.clone(), Rc::clone(&self.queue)));
        }
    }
}

/// The message being sent stays at the front until it is sent, so that later ones queue behind it.
async fn drain<T>(sender: Sender<T>, queue: Rc<RefCell<Queue<T>>>) {
    loop {
        sender.ready().await;
        loop {
            let Some((message, traceparent)) = queue.borrow_mut().pop_front() else { return };
            match sender.try_send_traced(message, traceparent.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    queue.borrow_mut().push_front((message, traceparent));
                    break;
                }
                Err(TrySendError::Closed(_)) => return queue.borrow_mut().clear(),
            }
        }
    }
}
