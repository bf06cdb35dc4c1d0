//! One session: a task that reads, and a bounded queue to write to.

use std::collections::BTreeMap;

use controller_core::SessionId;
use peer_api::controller::{FromController, Request};
use peer_api::storage::RequestId;
use rpc::{Duplex, Sender};
use service_kit::trace;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Span;

use super::{Input, ServerStream};

/// Traced calls of one session that wait for their answers.
const SPANS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct SessionLink {
    tx: Sender<FromController>,
    reader: JoinHandle<()>,
    greeted: bool,
    /// Of its calls that are traced.
    spans: BTreeMap<RequestId, Span>,
}

impl SessionLink {
    pub(super) fn spawn(session: SessionId, stream: ServerStream, inbox: mpsc::Sender<Input>) -> SessionLink {
        let Duplex { tx, mut rx } = stream;
        let reader = tokio::spawn(async move {
            while let Some((message, traceparent)) = rx.recv_traced().await {
                if inbox.send(Input::Said { session, message, traceparent }).await.is_err() {
                    return;
                }
            }
            // The loop is gone when nobody listens.
            let _ = inbox.send(Input::Ended { session }).await;
        });
        SessionLink { tx, reader, greeted: false, spans: BTreeMap::new() }
    }

    /// `false` when the hello was not the first.
    pub(super) fn greet(&mut self) -> bool {
        !std::mem::replace(&mut self.greeted, true)
    }

    pub(super) fn has_greeted(&self) -> bool {
        self.greeted
    }

    /// Opens the span of a call, which its answer ends. What a session says after too many is not traced.
    pub(super) fn trace(&mut self, id: RequestId, request: &Request, traceparent: &str) {
        if self.spans.len() >= SPANS_MAX {
            return;
        }
        let name = match request {
            Request::RegisterBroker(_) => "RegisterBroker",
            Request::BrokerHeartbeat(_) => "BrokerHeartbeat",
            Request::RegisterGateway(_) => "RegisterGateway",
            Request::GatewayHeartbeat { .. } => "GatewayHeartbeat",
            Request::AlterPartition(_) => "AlterPartition",
            Request::CreateTopics { .. } => "CreateTopics",
            Request::DeleteTopics(_) => "DeleteTopics",
            Request::CreatePartitions { .. } => "CreatePartitions",
            Request::ElectLeaders { .. } => "ElectLeaders",
            Request::Reassign(_) => "Reassign",
            Request::UnregisterBroker { .. } => "UnregisterBroker",
            Request::UpdateFeatures { .. } => "UpdateFeatures",
            Request::AlterConfigs { .. } => "AlterConfigs",
            Request::AllocateProducerIds => "AllocateProducerIds",
            Request::DescribeQuorum => "DescribeQuorum",
        };
        let span = tracing::info_span!(
            target: trace::TARGET,
            parent: None,
            "call",
            otel.name = name,
            otel.kind = "server",
        );
        trace::set_parent(&span, traceparent);
        self.spans.insert(id, span);
    }

    /// `false` when the other side does not keep up or is gone.
    pub(super) fn send(&mut self, message: FromController) -> bool {
        if let FromController::Answer { id, .. } = &message
            && !self.spans.is_empty()
        {
            self.spans.remove(id);
        }
        self.tx.try_send(message).is_ok()
    }
}

impl Drop for SessionLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
