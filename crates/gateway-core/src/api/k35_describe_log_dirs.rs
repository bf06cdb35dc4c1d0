//! DescribeLogDirs (35): sizes of replicas on disk, which every UI asks for (trap 25).
//!
//! Versions 1–5. v2: flexible. v3: an error of the whole. v4: size of the volume (KIP-827). v5: cordoned directories
//! (KIP-1066), of which there are none.
//!
//! The request means one broker and does not name it. It is answered for every storage node that this gateway stands for in
//! Metadata. Where those are several, each path begins with `node-N:`, since clients key what they learn by path.
//!
//! Deviation from Kafka: a tool that asks three brokers through one gateway is given all three brokers' directories three times.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::k35_describe_log_dirs::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic};
use kafka_wire::{DescribeLogDirsRequest, DescribeLogDirsResponse, KafkaString};
use peer_api::storage::{LogDir, Request, RequestId, Response, TransportError};

use crate::limits::READ_TIMEOUT_MS;
use crate::operation::{Begun, Context, Operation, Progress};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 1..=5;

struct LogDirs {
    /// `None`: all.
    wanted: Option<BTreeSet<(KafkaString, i32)>>,
    nodes: Vec<BrokerId>,
    calls: BTreeMap<RequestId, BrokerId>,
    found: BTreeMap<BrokerId, Vec<LogDir>>,
}

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeLogDirsRequest) -> Begun {
    let wanted = request.topics.map(|topics| {
        topics
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic.clone(), index)))
            .collect()
    });
    let nodes = route::nodes_of(cx.image, cx.shared.controller.gateway());
    Begun::settle(LogDirs { wanted, nodes, calls: BTreeMap::new(), found: BTreeMap::new() }, cx)
}

impl Operation for LogDirs {
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        for &node in &self.nodes {
            let id = cx.ask_storage(node, Request::DescribeLogDirs);
            self.calls.insert(id, node);
        }
        cx.wake_at(cx.now.tick.plus_ms(READ_TIMEOUT_MS));
        if self.calls.is_empty() { self.finish(cx) } else { Progress::Pending }
    }

    fn storage_answered(
        &mut self,
        cx: &mut Context<'_>,
        call: RequestId,
        result: Result<Response, TransportError>,
    ) -> Progress {
        let Some(node) = self.calls.remove(&call) else { return Progress::Pending };
        if let Ok(Response::DescribeLogDirs(dirs)) = result {
            self.found.insert(node, dirs);
        }
        if self.calls.is_empty() { self.finish(cx) } else { Progress::Pending }
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.finish(cx)
    }
}

impl LogDirs {
    fn finish(&mut self, cx: &mut Context<'_>) -> Progress {
        let mut response = DescribeLogDirsResponse::default();
        let several = self.nodes.len() > 1;
        for (node, dirs) in std::mem::take(&mut self.found) {
            for dir in dirs {
                let log_dir = if several { format!("node-{node}:{}", dir.path) } else { dir.path.clone() };
                response.results.push(self.result(cx, log_dir, &dir));
            }
        }
        if response.results.is_empty() && !self.nodes.is_empty() {
            response.error_code = cx.code(ErrorCode::KafkaStorageError);
        }
        cx.respond(&response).into()
    }

    fn result(&self, cx: &mut Context<'_>, log_dir: String, dir: &LogDir) -> DescribeLogDirsResult {
        let error_code = cx.code(dir.error.unwrap_or(ErrorCode::None));
        let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
        for replica in &dir.replicas {
            let Some(topic) = cx.image.topic(replica.partition.topic) else { continue };
            let partition_index = replica.partition.partition.0;
            if let Some(wanted) = &self.wanted
                && !wanted.contains(&(KafkaString::from(&topic.name), partition_index))
            {
                continue;
            }
            topics.entry(&topic.name).or_default().push(DescribeLogDirsPartition {
                partition_index,
                partition_size: i64::try_from(replica.bytes).unwrap_or(i64::MAX),
                offset_lag: replica.offset_lag,
                is_future_key: false,
            });
        }
        DescribeLogDirsResult {
            error_code,
            log_dir: log_dir.into(),
            topics: topics
                .into_iter()
                .map(|(name, partitions)| DescribeLogDirsTopic { name: name.into(), partitions })
                .collect(),
            total_bytes: i64::try_from(dir.bytes_total).unwrap_or(i64::MAX),
            usable_bytes: i64::try_from(dir.bytes_usable).unwrap_or(i64::MAX),
            is_cordoned: false,
        }
    }
}
