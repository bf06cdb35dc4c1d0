//! Everything a replica can ask for.

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch};
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{AppendError, Appended, TrimError};
use record_batch::StampedBatch;

use crate::event::{ReadId, RequestKey, WriteId};

/// The contract with the shell:
///
/// 1. Effects are performed in order; writes, truncations and start-overs of one replica reach the disk in that order. A trim may
///    come later than writes that were asked for after it.
/// 2. A replica never announces a position that is not durable: nothing here needs to wait for a write, because what needs a
///    write is asked for only after its completion.
/// 3. Every [`RequestKey`] gets exactly one `Reply`, `Trimmed` or `Confirmed`.
/// 4. One step yields a bounded number of effects: a few for each follower and for each request that it settles.
/// 5. Messages of a stream arrive in order, or the stream ends. Those of an ended stream may come late, or never.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Append `batch` to the log. Answered by `WriteCompleted`. A write that does not continue the log on the disk, because one
    /// before it found no space, finds none either.
    Write {
        write: WriteId,
        batch: StampedBatch,
    },
    /// Cut the log at `to`. Answered by `LogChanged`.
    Truncate {
        write: WriteId,
        to: Offset,
    },
    /// What was committed between `to` and `from` goes with the cut that is asked for next, because the controller elected a leader
    /// without it; `last_epoch` is that of our last record. Told again if the node stops before the cut is durable.
    HighWatermarkLowered {
        from: Offset,
        to: Offset,
        last_epoch: LeaderEpoch,
        unclean_since: LeaderEpoch,
    },
    /// Drop everything and begin again at `at`. Answered by `LogChanged`.
    StartOver {
        write: WriteId,
        at: Offset,
    },
    /// What lies below `to` is gone for readers from now on, for good. Answered by `TrimCompleted`.
    Trim {
        write: WriteId,
        to: Offset,
    },
    /// Read whole batches in `from..below`, for a follower that lags. Answered by `ReadCompleted` whenever it suits the owner, or never
    /// once [`crate::Replica::awaits`] says that nothing would come of it.
    Read {
        follower: BrokerId,
        read: ReadId,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    },
    ToFollower {
        follower: BrokerId,
        message: FromLeader,
    },
    ToLeader {
        leader: BrokerId,
        message: FromFollower,
    },
    /// Ask the controller for this ISR. Answered by `IsrDecided`, or overtaken by `MetadataChanged`; asked again until then.
    ///
    /// Assumes: what the controller takes up moves the partition epoch, even if the ISR stays as it is. That is how a leader
    /// withdraws an earlier proposal whose fate it does not know.
    ProposeIsr {
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        isr: Vec<(BrokerId, BrokerEpoch)>,
    },
    Reply {
        request: RequestKey,
        result: Result<Appended, AppendError>,
    },
    /// One for each trim that was requested; says where the log begins on every live replica, at the least.
    Trimmed {
        request: RequestKey,
        result: Result<Offset, TrimError>,
    },
    /// One for each confirmation that was requested. `Ok`: when it was requested, nothing at or above this offset was committed,
    /// here or by a leader that this one has not heard of.
    Confirmed {
        request: RequestKey,
        result: Result<Offset, AppendError>,
    },
    /// The readable end moved: fetches that wait may go on.
    HighWatermarkAdvanced,
    /// This replica leads no more, or under another epoch: fetches that wait must look again.
    RoleChanged,
}

/// The replica can only push, its owner only drain.
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
