//! Domain errors to Kafka's codes: the only place where they meet.
//!
//! A code for a produce also says whether the outcome is certain (R17). The rule that clients and checkers may rely on:
//!
//! | code in a Produce answer                                          | outcome                                  |
//! |-------------------------------------------------------------------|------------------------------------------|
//! | `REQUEST_TIMED_OUT`, `NOT_ENOUGH_REPLICAS_AFTER_APPEND`           | indeterminate: may yet be seen           |
//! | every other error                                                 | definite: nothing was appended, ever     |
//!
//! Deviation from Kafka: a leader that loses its leadership before a batch is committed gives `NOT_LEADER_OR_FOLLOWER` there,
//! the same code as one that never took it, and a failed disk gives `KAFKA_STORAGE_ERROR` whether or not bytes were written.
//! Clients such as librdkafka take those for "not persisted", which is wrong half of the time (KAFKA-13574). Here the
//! uncertain half is `REQUEST_TIMED_OUT`, which every client retries and none mistakes.

use base_types::ErrorCode;
use peer_api::controller;
use peer_api::storage::{AppendError, ReadError, TransportError};

pub(crate) fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        AppendError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        AppendError::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
        AppendError::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
        AppendError::TimedOut | AppendError::LeaderChanged { .. } | AppendError::StorageFailed => {
            ErrorCode::RequestTimedOut
        }
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::InvalidTimestamp => ErrorCode::InvalidTimestamp,
        AppendError::InvalidRecord(_) => ErrorCode::InvalidRecord,
        AppendError::Corrupt => ErrorCode::CorruptMessage,
        AppendError::NoSpace => ErrorCode::KafkaStorageError,
    }
}

/// What a person is told, for versions that carry it.
pub(crate) fn append_message(error: &AppendError) -> Option<String> {
    Some(match error {
        AppendError::NotLeader { .. } | AppendError::UnknownPartition => return None,
        AppendError::NotEnoughReplicas => {
            "fewer replicas are in sync than min.insync.replicas demands; nothing was appended".to_owned()
        }
        AppendError::NotEnoughReplicasAfterAppend => {
            "appended, but then fewer replicas were in sync than min.insync.replicas demands".to_owned()
        }
        AppendError::TimedOut => "not confirmed by enough replicas in time; it may yet be".to_owned(),
        AppendError::LeaderChanged { leader_epoch, .. } => {
            format!(
                "the leader changed (epoch {leader_epoch}) before the batch was committed; it may or may not be kept"
            )
        }
        AppendError::OutOfOrderSequence { expected, got } => {
            format!("sequence {got} came where {expected} was expected")
        }
        AppendError::InvalidProducerEpoch { current, got } => {
            format!("producer epoch {got} is older than the current {current}")
        }
        AppendError::MessageTooLarge { size, max } => {
            format!("a batch of {size} bytes is larger than the topic's max.message.bytes of {max}")
        }
        AppendError::InvalidTimestamp => "a timestamp is outside of the bounds that the topic sets".to_owned(),
        AppendError::InvalidRecord(reason) => reason.clone().into_owned(),
        AppendError::Corrupt => "the batch was damaged on its way".to_owned(),
        AppendError::NoSpace => "the disk is nearly full; nothing was appended".to_owned(),
        AppendError::StorageFailed => "the log directory failed during the write; it may or may not be kept".to_owned(),
    })
}

pub(crate) fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        // The gateway knows the partition, so its storage node will; clients ask again after this code and not after others.
        ReadError::UnknownPartition => ErrorCode::NotLeaderOrFollower,
        ReadError::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        ReadError::UnknownLeaderEpoch => ErrorCode::UnknownLeaderEpoch,
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::OffsetNotAvailable => ErrorCode::OffsetNotAvailable,
        ReadError::Corrupt | ReadError::StorageFailed => ErrorCode::KafkaStorageError,
    }
}

/// A read whose stream failed: the leader is elsewhere, or will be soon.
pub(crate) fn unreachable(error: TransportError) -> ErrorCode {
    match error {
        TransportError::NotSent | TransportError::Broken => ErrorCode::NotLeaderOrFollower,
    }
}

pub(crate) fn controller(error: &controller::Error) -> (ErrorCode, String) {
    match error {
        controller::Error::NotActive { .. } => {
            (ErrorCode::NotController, "the controller is changing; nothing was done".to_owned())
        }
        controller::Error::LostLeadership => (
            ErrorCode::RequestTimedOut,
            "the controller changed while the request was being committed; it may or may not have been done".to_owned(),
        ),
        controller::Error::Refused(refusal) => (refusal.code, refusal.message.clone()),
        controller::Error::TimedOut => {
            (ErrorCode::RequestTimedOut, "the controller did not answer; it may or may not have been done".to_owned())
        }
        controller::Error::Unreachable => {
            (ErrorCode::NotController, "no controller can be reached; nothing was done".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerId, LeaderEpoch, ProducerEpoch, Sequence};

    use super::*;

    /// R17: what is told to a client is certain exactly when what the storage node said is.
    #[test]
    fn codes_keep_the_certainty_of_the_errors_they_stand_for() {
        let (leader, leader_epoch) = (BrokerId(1), LeaderEpoch(2));
        let all = [
            AppendError::NotLeader { leader, leader_epoch },
            AppendError::UnknownPartition,
            AppendError::NotEnoughReplicas,
            AppendError::NotEnoughReplicasAfterAppend,
            AppendError::TimedOut,
            AppendError::LeaderChanged { leader, leader_epoch },
            AppendError::OutOfOrderSequence { expected: Sequence(1), got: Sequence(3) },
            AppendError::InvalidProducerEpoch { current: ProducerEpoch(2), got: ProducerEpoch(1) },
            AppendError::MessageTooLarge { size: 2, max: 1 },
            AppendError::InvalidTimestamp,
            AppendError::InvalidRecord("no key".into()),
            AppendError::Corrupt,
            AppendError::NoSpace,
            AppendError::StorageFailed,
        ];
        for error in all {
            let uncertain = [ErrorCode::RequestTimedOut, ErrorCode::NotEnoughReplicasAfterAppend];
            assert_eq!(!uncertain.contains(&append(&error)), error.is_definite(), "{error:?}");
        }
    }
}
