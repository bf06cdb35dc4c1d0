//! Controllers among themselves.

use base_types::BrokerId;
use bytes::Bytes;
use peer_api::controller::RaftMessage;

use crate::proto::raft::v1 as proto;
use crate::wire::{Malformed, Payload, Pieces, Wire};

impl Wire for RaftMessage {
    type Header = proto::RaftMessage;

    fn encode(self, traceparent: String, payload: &mut Pieces) -> proto::RaftMessage {
        payload.push(self.bytes);
        proto::RaftMessage { from: self.from.0, to: self.to.0, traceparent, payload: Bytes::new() }
    }

    fn decode(header: proto::RaftMessage, mut payload: Payload) -> Result<(RaftMessage, String), Malformed> {
        let message = RaftMessage { from: BrokerId(header.from), to: BrokerId(header.to), bytes: payload.take_rest() };
        Ok((message, header.traceparent))
    }
}
