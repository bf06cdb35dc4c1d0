//! Everything a controller can ask for.

use std::collections::VecDeque;

use base_types::BrokerId;
use bytes::Bytes;
use peer_api::controller::FromController;
use raft_core::{Persist, Role, WriteId};

use crate::event::SessionId;

/// Performed in order. Every call gets exactly one answer, unless its session ends first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Done in the order asked for, each reported with `PersistCompleted`. A failure ends the process.
    Persist(Persist),
    /// Goes out once the write `after` and all before it are durable (C4). May be lost.
    SendRaft {
        to: BrokerId,
        bytes: Bytes,
        after: Option<WriteId>,
    },
    SendSession {
        session: SessionId,
        message: FromController,
    },
    /// After what was sent to it has left.
    CloseSession {
        session: SessionId,
    },
    /// For logs and metrics.
    RoleChanged(Role),
}

/// The controller pushes, its shell drains.
#[derive(Debug, Default)]
pub struct Effects {
    queue: VecDeque<Effect>,
}

impl Effects {
    pub fn pop(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    pub(crate) fn send(&mut self, session: SessionId, message: FromController) {
        self.push(Effect::SendSession { session, message });
    }
}
