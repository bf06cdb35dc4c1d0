//! A member of the consumer protocol: heartbeats as often as it is told to, and at once when it has given something up.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use kafka_wire::k68_consumer_group_heartbeat::RequestTopicPartitions;
use kafka_wire::{ConsumerGroupHeartbeatRequest, KafkaString};

use super::{NOT_YET, Partition, Task, coordinator};

/// Fenced, or the member is not known any more: it begins anew.
const BEGIN_ANEW: [i16; 2] = [110, 25];

pub async fn live(task: &Task, number: usize) -> Result<()> {
    let mut connection = coordinator(task).await?;
    let member_id = KafkaString::from(format!("member-{number}"));
    let mut owned: BTreeSet<Partition> = BTreeSet::new();
    let mut epoch = 0;
    // Partitions are told when they have changed.
    let mut tell_owned = true;
    loop {
        let is_joining = epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: task.group.as_str().into(),
            member_id: member_id.clone(),
            member_epoch: epoch,
            rebalance_timeout_ms: if is_joining { 60_000 } else { -1 },
            subscribed_topic_names: is_joining.then(|| task.topics.iter().map(|(name, _)| name.clone()).collect()),
            topic_partitions: tell_owned.then(|| told(task, &owned)),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = connection.ask(1, &request).await?;
        if BEGIN_ANEW.contains(&answer.error_code) {
            (epoch, tell_owned) = (0, true);
            owned.clear();
            task.board.put(&task.group, number, &owned);
            continue;
        }
        if matches!(answer.error_code, 14..=16) {
            tokio::time::sleep(NOT_YET).await;
            continue;
        }
        if answer.error_code != 0 {
            bail!("heartbeat: {} {:?}", answer.error_code, answer.error_message);
        }
        epoch = answer.member_epoch;
        tell_owned = false;
        if let Some(assignment) = answer.assignment {
            let topic = |id| task.topics.iter().position(|(_, known)| *known == id);
            let given = assignment.topic_partitions.iter().filter_map(|topics| Some((topic(topics.topic_id)?, topics)));
            owned =
                given.flat_map(|(topic, topics)| topics.partitions.iter().map(move |index| (topic, *index))).collect();
            task.board.put(&task.group, number, &owned);
            // As clients do: a new assignment is acknowledged without waiting for the interval.
            tell_owned = true;
            if !is_joining {
                continue;
            }
        }
        let interval = Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0));
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = task.leave.notified() => {
                task.board.remove(&task.group, number);
                let request = ConsumerGroupHeartbeatRequest {
                    group_id: task.group.as_str().into(),
                    member_id: member_id.clone(),
                    member_epoch: -1,
                    rebalance_timeout_ms: -1,
                    ..ConsumerGroupHeartbeatRequest::default()
                };
                return connection.ask(1, &request).await.map(drop);
            }
        }
    }
}

fn told(task: &Task, owned: &BTreeSet<Partition>) -> Vec<RequestTopicPartitions> {
    let of_topic = |(number, (_, topic_id)): (usize, &(KafkaString, kafka_wire::Uuid))| {
        let partitions: Vec<i32> = owned.range((number, 0)..(number + 1, 0)).map(|(_, index)| *index).collect();
        (!partitions.is_empty()).then_some(RequestTopicPartitions { topic_id: *topic_id, partitions })
    };
    task.topics.iter().enumerate().filter_map(of_topic).collect()
}
