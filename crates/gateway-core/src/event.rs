//! Everything that can happen to a gateway.

use base_types::BrokerId;
use bytes::Bytes;
use peer_api::controller::FromController;
use peer_api::storage::{FromStorage, RequestId, TransportError};

/// One connection of a client, chosen by the shell, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ConnectionId(pub u64);

/// Marks of the shell's own on a request, given back with the answer. The core ignores them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamp {
    /// When it came; time is measured with it.
    pub received_us: u64,
    pub trace: Trace,
}

/// The shell's name for the trace that a request belongs to, given back with everything that is asked of other services on
/// its behalf. Zero: none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Trace(pub u64);

#[derive(Clone, Debug)]
pub enum Event {
    /// `host` is the client's address as Kafka writes it: a slash and the address.
    ConnectionOpened {
        connection: ConnectionId,
        host: String,
    },
    /// A whole frame, without its length prefix. The shell has compared its length with [`crate::FRAME_SIZE_MAX`] before it
    /// gave it any memory.
    FrameReceived {
        connection: ConnectionId,
        frame: Bytes,
        stamp: Stamp,
    },
    /// So many bytes are held for frames that are not whole or not delivered yet. The shell sees to their bound, and reports
    /// them while memory is short, so that those who hold memory here are held back for them too (W7).
    Receiving {
        bytes: usize,
    },
    /// Bytes of [`crate::Effect::Send`] have left for the client. Until they are reported, a slow reader is given no further
    /// answers once a bound is reached (W7).
    BytesSent {
        connection: ConnectionId,
        bytes: usize,
    },
    ConnectionClosed {
        connection: ConnectionId,
    },
    StorageResponded {
        node: BrokerId,
        message: FromStorage,
    },
    /// These requests get no answer: the stream could not be opened, or broke.
    StorageFailed {
        node: BrokerId,
        ids: Vec<RequestId>,
        error: TransportError,
    },
    /// The session asked for with [`crate::Effect::OpenController`] stands; nothing has been said on it.
    ControllerConnected,
    ControllerMessage(FromController),
    /// The session ended or could not be opened.
    ControllerLost,
    /// This gateway is to stop. It goes on serving until [`crate::Gateway::has_left`], while clients are sent to others.
    ShutdownRequested,
    /// Time has passed; see [`crate::Gateway::next_deadline`].
    Ticked,
}
