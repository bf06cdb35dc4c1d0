//! Leader and follower: push replication over one ordered stream per pair of nodes (architecture decision 7).
//!
//! A follower opens with [`FromFollower::Follow`]. The leader answers with a divergence point, a refusal, or batches, and then
//! pushes whatever is appended. The follower acknowledges *durable* ends only. A partition where nothing happens sends
//! nothing. Nothing relies on order between streams: every message names its leader epoch and its position.

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, TopicPartition};
use record_batch::StampedBatch;

/// Opens the stream from a follower's node to a leader's node; everything after it is [`FromFollower`] one way and
/// [`FromLeader`] the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub follower: BrokerId,
    /// The follower's registration; a leader proposes it for an ISR only under this epoch (KIP-903).
    pub broker_epoch: BrokerEpoch,
}

#[derive(Clone, PartialEq, Hash, Debug)]
pub enum FromFollower {
    /// "I follow you in `leader_epoch` and hold durably what lies in `log_start..log_end`, the last of it of `last_epoch`."
    Follow {
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        log_start: Offset,
        log_end: Offset,
        /// Epoch of the last batch; [`LeaderEpoch::UNKNOWN`] for an empty log.
        last_epoch: LeaderEpoch,
    },
    /// Everything below `log_end` is durable here, and what lay below `log_start` is gone for good.
    Durable { partition: TopicPartition, leader_epoch: LeaderEpoch, log_start: Offset, log_end: Offset },
    /// The answer to [`FromLeader::Confirm`]: "When I was asked I had taken up no later epoch."
    Confirmed { partition: TopicPartition, leader_epoch: LeaderEpoch, round: u64 },
}

#[derive(Clone, PartialEq, Hash, Debug)]
pub enum FromLeader {
    /// Batches that continue the follower's log at `base_offset`.
    Push {
        partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        base_offset: Offset,
        batches: Vec<StampedBatch>,
        high_watermark: Offset,
        log_start: Offset,
    },
    /// The logs part ways: the leader's largest epoch not above the follower's `last_epoch`, and where it ends (KIP-101, KIP-279).
    Diverged { partition: TopicPartition, leader_epoch: LeaderEpoch, epoch: LeaderEpoch, end_offset: Offset },
    /// The follower's log end lies below the leader's log start: drop everything and begin at `log_start`.
    StartOver { partition: TopicPartition, leader_epoch: LeaderEpoch, log_start: Offset },
    /// The high watermark or the log start moved while nothing was pushed.
    Advanced { partition: TopicPartition, leader_epoch: LeaderEpoch, high_watermark: Offset, log_start: Offset },
    /// "Am I still your leader?" A follower that has taken up a later epoch does not answer. Rounds count up within the epoch.
    Confirm { partition: TopicPartition, leader_epoch: LeaderEpoch, round: u64 },
    /// Not the leader in that epoch. The follower waits for newer metadata and tries again.
    Refused { partition: TopicPartition, leader_epoch: LeaderEpoch, code: ErrorCode },
}

impl FromFollower {
    pub fn partition(&self) -> TopicPartition {
        match self {
            FromFollower::Follow { partition, .. }
            | FromFollower::Durable { partition, .. }
            | FromFollower::Confirmed { partition, .. } => *partition,
        }
    }
}

impl FromLeader {
    pub fn partition(&self) -> TopicPartition {
        match self {
            FromLeader::Push { partition, .. }
            | FromLeader::Diverged { partition, .. }
            | FromLeader::StartOver { partition, .. }
            | FromLeader::Advanced { partition, .. }
            | FromLeader::Confirm { partition, .. }
            | FromLeader::Refused { partition, .. } => *partition,
        }
    }
}
