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

#[cfg(test)]
mod tests {
    use peer_api::storage::ReplicaSize;

    use super::*;
    use crate::testing::{World, tp};

    fn dir(node: i32, topic: base_types::TopicId) -> Vec<LogDir> {
        vec![LogDir {
            broker: BrokerId(node),
            error: None,
            path: "/data".into(),
            bytes_total: 1000,
            bytes_usable: 400,
            replicas: vec![ReplicaSize { partition: tp(topic, 0), bytes: 70, offset_lag: 3 }],
        }]
    }

    fn ask(world: &mut World, nodes: i32, topic: base_types::TopicId) -> DescribeLogDirsResponse {
        world.send(4, &DescribeLogDirsRequest { topics: None });
        for _ in 0..nodes {
            let (node, call, request) = world.next_request();
            assert!(matches!(request, Request::DescribeLogDirs));
            world.storage_answers(node, call, Response::DescribeLogDirs(dir(node.0, topic)));
        }
        world.answer::<DescribeLogDirsRequest>(4).1
    }

    /// Trap 25.
    #[test]
    fn sizes_are_told_with_the_path_as_it_is_for_one_node() {
        let mut world = World::new(1);
        let topic = world.topic("t", &[1]);
        let response = ask(&mut world, 1, topic);
        let result = &response.results[0];
        assert_eq!((&*result.log_dir, result.total_bytes, result.usable_bytes), ("/data", 1000, 400));
        let partition = &result.topics[0].partitions[0];
        assert_eq!((&*result.topics[0].name, partition.partition_size, partition.offset_lag), ("t", 70, 3));
    }

    #[test]
    fn paths_of_several_nodes_are_told_apart() {
        let mut world = World::new(2);
        let topic = world.topic("t", &[1]);
        let response = ask(&mut world, 2, topic);
        let paths: Vec<&str> = response.results.iter().map(|result| &*result.log_dir).collect();
        assert_eq!(paths, ["node-1:/data", "node-2:/data"]);
    }

    #[test]
    fn only_the_partitions_asked_for_are_told_and_silence_is_an_error() {
        let mut world = World::new(1);
        let topic = world.topic("t", &[1]);
        let wanted =
            kafka_wire::k35_describe_log_dirs::DescribableLogDirTopic { topic: "t".into(), partitions: vec![5] };
        world.send(4, &DescribeLogDirsRequest { topics: Some(vec![wanted]) });
        let (node, call, _) = world.next_request();
        world.storage_answers(node, call, Response::DescribeLogDirs(dir(1, topic)));
        assert_eq!(world.answer::<DescribeLogDirsRequest>(4).1.results[0].topics.len(), 0);
        world.send(4, &DescribeLogDirsRequest { topics: None });
        world.pass(READ_TIMEOUT_MS);
        assert_eq!(world.answer::<DescribeLogDirsRequest>(4).1.error_code, 56);
    }
}
