//! Spans of the requests that are traced, from their frame to their answer.
//!
//! A request that is not traced has the trace 0 and costs a comparison here and there.

use std::collections::BTreeMap;

use base_types::TopicPartition;
use gateway_core::{ConnectionId, Trace};
use kafka_wire::ApiKey;
use peer_api::metadata::Image;
use peer_api::storage::Request;
use service_kit::trace::{self, Sampler};
use tracing::Span;
use tracing::field::Empty;

pub(super) struct Traces {
    sampler: Sampler,
    last: u64,
    open: BTreeMap<Trace, (ConnectionId, Span)>,
}

impl Traces {
    pub(super) fn new(sampler: Sampler) -> Traces {
        Traces { sampler, last: 0, open: BTreeMap::new() }
    }

    /// What a frame's request is known as from now on.
    pub(super) fn begin(&mut self, connection: ConnectionId, frame: &[u8]) -> Trace {
        if !self.sampler.takes_next() {
            return Trace::default();
        }
        let Some(&[k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk() else { return Trace::default() };
        let Ok(key) = ApiKey::try_from(i16::from_be_bytes([k0, k1])) else { return Trace::default() };
        let span = tracing::info_span!(
            target: trace::TARGET,
            parent: None,
            "request",
            otel.name = ?key,
            otel.kind = "server",
            api_version = i16::from_be_bytes([v0, v1]),
            correlation_id = i32::from_be_bytes([c0, c1, c2, c3]),
            topic = Empty,
            partition = Empty,
            partitions = Empty,
        );
        self.last += 1;
        let trace = Trace(self.last);
        self.open.insert(trace, (connection, span));
        trace
    }

    /// The context to send with what is asked of a storage node. Writes down which partitions it is about.
    pub(super) fn asks_storage(&self, trace: Trace, request: &Request, image: &Image) -> Option<Box<str>> {
        let (_, span) = self.open.get(&trace)?;
        let (first, count) = match request {
            Request::Append(append) => (append.partitions.first().map(|part| part.partition), append.partitions.len()),
            Request::Fetch(fetch) => (fetch.partitions.first().map(|part| part.partition), fetch.partitions.len()),
            Request::ListOffsets(parts) => (parts.first().map(|part| part.partition), parts.len()),
            Request::EpochEnds(parts) => (parts.first().map(|part| part.partition), parts.len()),
            Request::Trim(trim) => (trim.partitions.first().map(|part| part.partition), trim.partitions.len()),
            Request::DescribeProducers(parts) => (parts.first().copied(), parts.len()),
            Request::CancelFetch(_) | Request::DescribeLogDirs | Request::Coordinate(_) => (None, 0),
        };
        if let Some(TopicPartition { topic, partition }) = first {
            span.record("topic", image.topic(topic).map_or("", |topic| topic.name.as_str()));
            span.record("partition", partition.0);
            span.record("partitions", count);
        }
        trace::traceparent(span)
    }

    pub(super) fn asks_controller(&self, trace: Trace) -> Option<Box<str>> {
        trace::traceparent(&self.open.get(&trace)?.1)
    }

    /// The request has its answer.
    pub(super) fn end(&mut self, trace: Trace) {
        if trace != Trace::default() {
            self.open.remove(&trace);
        }
    }

    /// What this connection still asked for will not be answered.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.open.retain(|_, (of, _)| *of != connection);
    }
}
