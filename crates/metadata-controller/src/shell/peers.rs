//! Streams to the other controllers: one task each, which connects, sends, and connects again.

use std::time::Duration;

use base_types::BrokerId;
use peer_api::controller::{ActiveController, RaftMessage};
use rpc::Duplex;
use tokio::sync::mpsc;

use super::Input;

/// Messages waiting for one peer. Raft sends again what is dropped.
const QUEUE_MAX: usize = 512;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct PeerLink {
    queue: mpsc::Sender<RaftMessage>,
}

impl PeerLink {
    pub(super) fn spawn(me: BrokerId, peer: ActiveController, inbox: mpsc::Sender<Input>) -> PeerLink {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(serve(me, peer, messages, inbox));
        PeerLink { queue }
    }

    pub(super) fn send(&self, message: RaftMessage) {
        // A full queue is a lost message.
        let _ = self.queue.try_send(message);
    }
}

async fn serve(
    me: BrokerId,
    peer: ActiveController,
    mut messages: mpsc::Receiver<RaftMessage>,
    inbox: mpsc::Sender<Input>,
) {
    let mut pause = PAUSE_MIN;
    while !messages.is_closed() {
        match rpc::raft::connect(&peer.address, me).await {
            Ok(stream) => {
                tracing::info!(peer = peer.id.0, address = peer.address, "connected to another controller");
                pause = PAUSE_MIN;
                if forward(stream, &mut messages).await {
                    return;
                }
                tracing::info!(peer = peer.id.0, "lost the connection to another controller");
            }
            Err(error) => tracing::debug!(peer = peer.id.0, %error, "could not connect to another controller"),
        }
        // What waited is old by now, and Raft repeats itself.
        while messages.try_recv().is_ok() {}
        if inbox.send(Input::PeerLost(peer.id)).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// `true` when there is nothing more to send, ever; `false` when the stream ended.
async fn forward(stream: Duplex<RaftMessage, RaftMessage>, messages: &mut mpsc::Receiver<RaftMessage>) -> bool {
    let Duplex { tx, mut rx } = stream;
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                None => return true,
                Some(message) => {
                    if tx.send(message).await.is_err() {
                        return false;
                    }
                }
            },
            // The other side says nothing on this stream; that it ends is what there is to hear.
            said = rx.recv() => if said.is_none() {
                return false;
            },
        }
    }
}
