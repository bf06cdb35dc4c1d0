//! Everything a gateway can ask for.
//!
//! Effects are performed in order. The core only pushes, the shell only drains.

use base_types::BrokerId;
use bytes::Bytes;
use kafka_wire::ApiKey;
use peer_api::controller::{ActiveController, ToController};
use peer_api::storage::ToStorage;

use crate::event::{ConnectionId, Stamp, Trace};

#[derive(Clone, Debug)]
pub enum Effect {
    /// A whole frame, length prefix included, in slices for a vectored write. The shell reports its bytes with
    /// [`crate::Event::BytesSent`] when they have left.
    Send {
        connection: ConnectionId,
        segments: Vec<Bytes>,
        request: RequestInfo,
    },
    /// A request that is answered with nothing (`acks = 0`) is done.
    Complete {
        connection: ConnectionId,
        request: RequestInfo,
    },
    /// What was sent before is flushed, then the connection ends. No event of it is expected any more.
    Close {
        connection: ConnectionId,
        reason: CloseReason,
    },
    /// Take no bytes from this socket until [`Effect::ResumeReading`]. Frames already taken may still be delivered.
    PauseReading {
        connection: ConnectionId,
    },
    ResumeReading {
        connection: ConnectionId,
    },
    /// Where a storage node is found; `None` when it is gone from the metadata. Comes before the first message to it, and again when it
    /// is no longer fenced. The stream to it may be opened at once.
    LocateStorage {
        node: BrokerId,
        address: Option<String>,
    },
    /// End the stream there may be to that node, and report what was on it as if it had broken: the node is fenced, and one that
    /// stands still or is cut off would never answer.
    LeaveStorage {
        node: BrokerId,
    },
    /// On the ordered stream to that node, which the shell opens when there is none. A request that cannot be handed over is
    /// reported with [`crate::Event::StorageFailed`]; each one is either answered or reported, once.
    ToStorage {
        node: BrokerId,
        message: ToStorage,
        trace: Trace,
    },
    /// End the session there may be, and open one to this controller, or to the next in the shell's list.
    OpenController {
        active: Option<ActiveController>,
    },
    ToController {
        message: ToController,
        trace: Trace,
    },
}

/// What a finished request was, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestInfo {
    pub key: ApiKey,
    pub version: i16,
    pub stamp: Stamp,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CloseReason {
    /// Not a Kafka request, or one whose body is not of the version it claims.
    Malformed,
    /// An API or a version that is not served.
    NotServed,
    /// A produce with `acks = 0` failed; Kafka tells the client so.
    ProduceWithoutAckFailed,
    /// It names more things than one request may.
    TooMany,
    /// This gateway stops, and the client was told.
    GatewayStopped,
    /// An answer could not be put into the version asked for. Our fault.
    Unanswerable,
}

/// What one step asks for.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
