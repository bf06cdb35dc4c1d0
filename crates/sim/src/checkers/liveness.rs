//! L: what must come right again once the trouble is over.

use base_types::TopicPartition;
use peer_api::metadata::{Image, PartitionState};

/// Every partition has a leader, everybody in sync, and no move under way.
pub fn partitions(image: &Image) -> Result<(), String> {
    image.partitions().try_for_each(|(partition, state)| is_whole(partition, state))
}

fn is_whole(partition: TopicPartition, state: &PartitionState) -> Result<(), String> {
    if state.leader.is_none() {
        return Err(format!("L: {partition} has no leader: {state:?}"));
    }
    if state.isr.len() < state.replicas.len() {
        return Err(format!("L: {partition} is not in sync: {state:?}"));
    }
    if state.is_moving() {
        return Err(format!("L: {partition} is still moved: {state:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerId, PartitionIndex, TopicId};

    use super::*;

    #[test]
    fn a_partition_that_is_led_and_in_sync_is_whole_and_no_other() {
        let partition = TopicPartition { topic: TopicId::default(), partition: PartitionIndex(0) };
        let nodes = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let whole = PartitionState {
            replicas: nodes(&[1, 2]),
            isr: nodes(&[1, 2]),
            leader: Some(BrokerId(1)),
            ..PartitionState::default()
        };
        assert_eq!(is_whole(partition, &whole), Ok(()));
        let headless = PartitionState { leader: None, ..whole.clone() };
        let lagging = PartitionState { isr: nodes(&[1]), ..whole.clone() };
        let moving = PartitionState { removing: nodes(&[2]), ..whole.clone() };
        for (state, why) in [(headless, "no leader"), (lagging, "not in sync"), (moving, "still moved")] {
            assert!(is_whole(partition, &state).unwrap_err().contains(why));
        }
    }
}
