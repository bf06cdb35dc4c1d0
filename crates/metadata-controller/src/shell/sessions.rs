//! One session: a task that reads, and a bounded queue to write to.

use controller_core::SessionId;
use peer_api::controller::FromController;
use rpc::{Duplex, Sender};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Input, ServerStream};

#[derive(Debug)]
pub(super) struct SessionLink {
    tx: Sender<FromController>,
    reader: JoinHandle<()>,
    greeted: bool,
}

impl SessionLink {
    pub(super) fn spawn(session: SessionId, stream: ServerStream, inbox: mpsc::Sender<Input>) -> SessionLink {
        let Duplex { tx, mut rx } = stream;
        let reader = tokio::spawn(async move {
            while let Some(message) = rx.recv().await {
                if inbox.send(Input::Said { session, message }).await.is_err() {
                    return;
                }
            }
            // The loop is gone when nobody listens.
            let _ = inbox.send(Input::Ended { session }).await;
        });
        SessionLink { tx, reader, greeted: false }
    }

    /// `false` when the hello was not the first.
    pub(super) fn greet(&mut self) -> bool {
        !std::mem::replace(&mut self.greeted, true)
    }

    pub(super) fn has_greeted(&self) -> bool {
        self.greeted
    }

    /// `false` when the other side does not keep up or is gone.
    pub(super) fn send(&self, message: FromController) -> bool {
        self.tx.try_send(message).is_ok()
    }
}

impl Drop for SessionLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
