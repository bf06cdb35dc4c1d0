//! Everything that can happen to a controller.

use base_types::BrokerId;
use bytes::Bytes;
use peer_api::controller::{Request, Role};
use peer_api::metadata::MetadataOffset;
use peer_api::storage::RequestId;
use raft_core::WriteId;

/// One stream from a storage node, gateway or tool. Chosen by the shell, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SessionId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream arrived and said hello.
    SessionOpened {
        session: SessionId,
        role: Role,
        follow_from: Option<MetadataOffset>,
    },
    /// The stream ended. Not reported for sessions the controller closed itself.
    SessionClosed {
        session: SessionId,
    },
    Called {
        session: SessionId,
        id: RequestId,
        request: Request,
    },
    /// A message from another controller.
    RaftReceived {
        bytes: Bytes,
    },
    /// A message to another controller could not be delivered.
    RaftPeerLost {
        peer: BrokerId,
    },
    /// This write and all before it are durable.
    PersistCompleted {
        write: WriteId,
    },
    /// This controller is about to stop: if it is the active one, another voter should be.
    HandoverRequested,
    /// [`crate::Controller::next_deadline`] has come.
    Ticked,
}
