//! Leader and follower.

use base_types::{LeaderEpoch, Offset};
use bytes::Bytes;
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;

use super::{each, from_code, from_partition, to_partition};
use crate::proto::replication::v1 as proto;
use crate::wire::{Malformed, Payload, Pieces, Wire};

impl Wire for FromFollower {
    type Header = proto::FromFollower;

    fn encode(self, traceparent: String, _payload: &mut Pieces) -> proto::FromFollower {
        use proto::from_follower::Message as Out;
        let partition = to_partition(self.partition());
        let (leader_epoch, message) = match self {
            FromFollower::Follow { partition: _, leader_epoch, log_start, log_end, last_epoch } => {
                let follow = proto::Follow { log_start: log_start.0, log_end: log_end.0, last_epoch: last_epoch.0 };
                (leader_epoch, Out::Follow(follow))
            }
            FromFollower::Durable { partition: _, leader_epoch, log_start, log_end } => {
                (leader_epoch, Out::Durable(proto::Durable { log_start: log_start.0, log_end: log_end.0 }))
            }
            FromFollower::Confirmed { partition: _, leader_epoch, round } => {
                (leader_epoch, Out::Confirmed(proto::Confirmed { round }))
            }
        };
        proto::FromFollower { partition, leader_epoch: leader_epoch.0, message: Some(message), traceparent }
    }

    fn decode(header: proto::FromFollower, payload: Payload) -> Result<(FromFollower, String), Malformed> {
        use proto::from_follower::Message as In;
        payload.finish()?;
        let partition = from_partition(header.partition)?;
        let leader_epoch = LeaderEpoch(header.leader_epoch);
        let message = match header.message.ok_or(Malformed::Missing("message"))? {
            In::Follow(follow) => FromFollower::Follow {
                partition,
                leader_epoch,
                log_start: Offset(follow.log_start),
                log_end: Offset(follow.log_end),
                last_epoch: LeaderEpoch(follow.last_epoch),
            },
            In::Durable(durable) => FromFollower::Durable {
                partition,
                leader_epoch,
                log_start: Offset(durable.log_start),
                log_end: Offset(durable.log_end),
            },
            In::Confirmed(confirmed) => FromFollower::Confirmed { partition, leader_epoch, round: confirmed.round },
        };
        Ok((message, header.traceparent))
    }
}

impl Wire for FromLeader {
    type Header = proto::FromLeader;

    fn encode(self, traceparent: String, payload: &mut Pieces) -> proto::FromLeader {
        use proto::from_leader::Message as Out;
        let partition = to_partition(self.partition());
        let (leader_epoch, message) = match self {
            FromLeader::Push { partition: _, leader_epoch, base_offset, batches, high_watermark, log_start } => {
                let lengths = batches.iter().map(|batch| batch.size() as u32).collect();
                for batch in &batches {
                    let (head, body) = batch.pieces();
                    payload.push(Bytes::copy_from_slice(head));
                    payload.push(body.clone());
                }
                let push = proto::Push {
                    base_offset: base_offset.0,
                    high_watermark: high_watermark.0,
                    log_start: log_start.0,
                    lengths,
                };
                (leader_epoch, Out::Push(push))
            }
            FromLeader::Diverged { partition: _, leader_epoch, epoch, end_offset } => {
                (leader_epoch, Out::Diverged(proto::Diverged { epoch: epoch.0, end_offset: end_offset.0 }))
            }
            FromLeader::StartOver { partition: _, leader_epoch, log_start } => {
                (leader_epoch, Out::StartOver(proto::StartOver { log_start: log_start.0 }))
            }
            FromLeader::Advanced { partition: _, leader_epoch, high_watermark, log_start } => {
                let advanced = proto::Advanced { high_watermark: high_watermark.0, log_start: log_start.0 };
                (leader_epoch, Out::Advanced(advanced))
            }
            FromLeader::Confirm { partition: _, leader_epoch, round } => {
                (leader_epoch, Out::Confirm(proto::Confirm { round }))
            }
            FromLeader::Refused { partition: _, leader_epoch, code } => {
                (leader_epoch, Out::Refused(proto::Refused { code: code.code().into() }))
            }
        };
        proto::FromLeader {
            partition,
            leader_epoch: leader_epoch.0,
            message: Some(message),
            traceparent,
            payload: Bytes::new(),
        }
    }

    /// A batch whose CRC does not hold ends the stream: the follower asks again from its log end, and gets it whole.
    fn decode(header: proto::FromLeader, mut payload: Payload) -> Result<(FromLeader, String), Malformed> {
        use proto::from_leader::Message as In;
        let partition = from_partition(header.partition)?;
        let leader_epoch = LeaderEpoch(header.leader_epoch);
        let message = match header.message.ok_or(Malformed::Missing("message"))? {
            In::Push(push) => FromLeader::Push {
                partition,
                leader_epoch,
                base_offset: Offset(push.base_offset),
                batches: each(push.lengths, |length| {
                    StampedBatch::from_stored(payload.take(length)?).map_err(Malformed::Batch)
                })?,
                high_watermark: Offset(push.high_watermark),
                log_start: Offset(push.log_start),
            },
            In::Diverged(diverged) => FromLeader::Diverged {
                partition,
                leader_epoch,
                epoch: LeaderEpoch(diverged.epoch),
                end_offset: Offset(diverged.end_offset),
            },
            In::StartOver(start) => {
                FromLeader::StartOver { partition, leader_epoch, log_start: Offset(start.log_start) }
            }
            In::Advanced(advanced) => FromLeader::Advanced {
                partition,
                leader_epoch,
                high_watermark: Offset(advanced.high_watermark),
                log_start: Offset(advanced.log_start),
            },
            In::Confirm(confirm) => FromLeader::Confirm { partition, leader_epoch, round: confirm.round },
            In::Refused(refused) => FromLeader::Refused { partition, leader_epoch, code: from_code(refused.code)? },
        };
        payload.finish()?;
        Ok((message, header.traceparent))
    }
}
