//! Spans of traced requests, and of what followers are pushed because of them.
//!
//! ```text
//!   request with a context ─► span ─── its writes: (partition, offset) ─── a push that holds the offset carries the span's
//!                              │                                           context; the follower's span ends with the
//!                              └─ ends with the answer                     acknowledgement of the push's last offset
//! ```
//!
//! The core knows nothing of it: messages name partitions and offsets, and those are enough to tell what belongs together.
//! While nothing is traced all of this is empty, and asking costs a comparison.

use std::collections::BTreeMap;

use base_types::{BrokerId, Offset, TopicPartition};
use peer_api::metadata::Image;
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{Request, RequestId, ToStorage};
use service_kit::trace;
use storage_core::{Event, GatewayStream};
use tracing::Span;

/// Spans open at once, of each kind. More are not begun: a follower that acknowledges nothing must not fill the memory.
const OPEN_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Traces {
    requests: BTreeMap<(GatewayStream, RequestId), Asked>,
    /// The request whose step it is.
    current: Option<(GatewayStream, RequestId)>,
    pushed: Vec<Pushed>,
}

struct Asked {
    span: Span,
    writes: Vec<(TopicPartition, Offset)>,
}

/// What a leader has pushed to us and we have not acknowledged.
struct Pushed {
    leader: BrokerId,
    partition: TopicPartition,
    end: Offset,
    _span: Span,
}

impl Traces {
    /// An event that came with a context, before it is stepped.
    pub(super) fn begin(&mut self, event: &Event, traceparent: &str, image: &Image) {
        match event {
            Event::GatewayAsked { stream, message } if self.requests.len() < OPEN_MAX => {
                if let Some(span) = asked(message, traceparent, image) {
                    let key = (*stream, message.id);
                    self.requests.insert(key, Asked { span, writes: Vec::new() });
                    self.current = Some(key);
                }
            }
            Event::LeaderSaid { leader, message: FromLeader::Push { partition, base_offset, batches, .. } }
                if self.pushed.len() < OPEN_MAX =>
            {
                let Some(last) = batches.last() else { return };
                let span = tracing::info_span!(
                    target: trace::TARGET,
                    parent: None,
                    "Replicate",
                    otel.kind = "server",
                    topic = topic_name(image, *partition),
                    partition = partition.partition.0,
                    base_offset = base_offset.0,
                    leader = leader.0,
                );
                trace::set_parent(&span, traceparent);
                let end = last.header().next_offset();
                self.pushed.push(Pushed { leader: *leader, partition: *partition, end, _span: span });
            }
            _ => {}
        }
    }

    /// The step of that event is over.
    pub(super) fn stepped(&mut self) {
        self.current = None;
    }

    pub(super) fn wrote(&mut self, partition: TopicPartition, base_offset: Offset) {
        if let Some(key) = self.current
            && let Some(asked) = self.requests.get_mut(&key)
        {
            asked.writes.push((partition, base_offset));
        }
    }

    pub(super) fn answered(&mut self, stream: GatewayStream, id: RequestId) {
        if !self.requests.is_empty() {
            self.requests.remove(&(stream, id));
        }
    }

    /// The context to push with: that of the first request of which the message holds anything.
    pub(super) fn pushes(&self, message: &FromLeader) -> Option<Box<str>> {
        if self.requests.is_empty() {
            return None;
        }
        let FromLeader::Push { partition, base_offset, batches, .. } = message else { return None };
        let end = batches.last()?.header().next_offset();
        let holds =
            |&(of, offset): &(TopicPartition, Offset)| of == *partition && (*base_offset..end).contains(&offset);
        let asked = self.requests.values().find(|asked| asked.writes.iter().any(holds))?;
        trace::traceparent(&asked.span)
    }

    pub(super) fn acknowledges(&mut self, leader: BrokerId, message: &FromFollower) {
        if let FromFollower::Durable { partition, log_end, .. } = message
            && !self.pushed.is_empty()
        {
            let done =
                |pushed: &Pushed| (pushed.leader, pushed.partition) == (leader, *partition) && pushed.end <= *log_end;
            self.pushed.retain(|pushed| !done(pushed));
        }
    }

    pub(super) fn gateway_lost(&mut self, gateway: GatewayStream) {
        self.requests.retain(|(stream, _), _| *stream != gateway);
    }

    pub(super) fn leader_lost(&mut self, leader: BrokerId) {
        self.pushed.retain(|pushed| pushed.leader != leader);
    }
}

/// The span of a request; none for one that gets no answer.
fn asked(message: &ToStorage, traceparent: &str, image: &Image) -> Option<Span> {
    let (name, first, count) = match &message.request {
        Request::Append(append) => {
            ("Append", append.partitions.first().map(|part| part.partition), append.partitions.len())
        }
        Request::Fetch(fetch) => ("Fetch", fetch.partitions.first().map(|part| part.partition), fetch.partitions.len()),
        Request::ListOffsets(parts) => ("ListOffsets", parts.first().map(|part| part.partition), parts.len()),
        Request::EpochEnds(parts) => ("OffsetForLeaderEpoch", parts.first().map(|part| part.partition), parts.len()),
        Request::Trim(trim) => {
            ("DeleteRecords", trim.partitions.first().map(|part| part.partition), trim.partitions.len())
        }
        Request::DescribeProducers(parts) => ("DescribeProducers", parts.first().copied(), parts.len()),
        Request::DescribeLogDirs => ("DescribeLogDirs", None, 0),
        Request::Coordinate(_) => ("Coordinate", None, 0),
        Request::CancelFetch(_) => return None,
    };
    let span = tracing::info_span!(
        target: trace::TARGET,
        parent: None,
        "request",
        otel.name = name,
        otel.kind = "server",
        topic = first.map(|partition| topic_name(image, partition)),
        partition = first.map(|partition| partition.partition.0),
        partitions = count,
    );
    trace::set_parent(&span, traceparent);
    Some(span)
}

fn topic_name(image: &Image, partition: TopicPartition) -> &str {
    image.topic(partition.topic).map_or("", |topic| topic.name.as_str())
}
