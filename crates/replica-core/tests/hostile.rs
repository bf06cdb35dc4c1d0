//! What no honest peer, disk or controller says. A replica may refuse, wait or ask again; it must neither stop nor believe it.

#[path = "cluster/batch.rs"]
mod batch;

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Now, Offset, PartitionEpoch, Tick, Timestamp, TopicPartition,
};
use peer_api::metadata::PartitionState;
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;
use replica_core::{
    Assignment, Effect, Effects, Event, OnDisk, ReadId, Replica, RequestKey, Settings, WriteFailure, WriteId,
};

const PARTITION: TopicPartition =
    TopicPartition { topic: base_types::TopicId::ZERO, partition: base_types::PartitionIndex(0) };
const ME: BrokerId = BrokerId(1);
const OTHER: BrokerId = BrokerId(2);
const EPOCH: LeaderEpoch = LeaderEpoch(5);

struct Alone {
    replica: Replica,
    now: u64,
}

impl Alone {
    /// One of two replicas, in epoch 5.
    fn new(leader: BrokerId) -> Alone {
        let settings = Settings { min_insync_replicas: 2, ..Settings::default() };
        let mut alone = Alone { replica: Replica::new(ME, PARTITION, settings, OnDisk::default()), now: 1_000 };
        alone.step(Event::MetadataChanged(Assignment {
            leader_epoch: EPOCH,
            partition_epoch: PartitionEpoch(9),
            leader: Some(leader),
            replicas: vec![ME, OTHER],
            isr: vec![ME, OTHER],
            broker_epochs: vec![(ME, BrokerEpoch(11)), (OTHER, BrokerEpoch(12))],
            unclean_since: None,
        }));
        alone
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Effects::default();
        self.replica.step(Now { tick: Tick(self.now), wall: Timestamp(1_000) }, event, &mut effects);
        effects.drain().collect()
    }

    fn at(&mut self, now: u64, event: Event) -> Vec<Effect> {
        self.now = now;
        self.step(event)
    }

    fn hears(&mut self, message: FromLeader) -> Vec<Effect> {
        self.step(Event::LeaderSaid(message))
    }

    fn is_told(&mut self, message: FromFollower) -> Vec<Effect> {
        self.step(Event::FollowerSaid { follower: OTHER, broker_epoch: BrokerEpoch(12), message })
    }
}

fn batch(base_offset: i64, leader_epoch: i32) -> StampedBatch {
    let spec = batch::Spec { value: base_offset as u32, records: 1, producer: None };
    StampedBatch::stamp(&batch::produced(spec), Offset(base_offset), LeaderEpoch(leader_epoch))
}

fn push(base_offset: i64, batches: Vec<StampedBatch>) -> FromLeader {
    FromLeader::Push {
        partition: PARTITION,
        leader_epoch: EPOCH,
        base_offset: Offset(base_offset),
        batches,
        high_watermark: Offset(1_000),
        log_start: Offset::ZERO,
    }
}

#[test]
fn a_push_with_a_hole_or_of_an_impossible_epoch_is_taken_up_to_there_and_asked_for_again() {
    for wrong in [batch(2, 5), batch(1, 6), batch(1, 3)] {
        let mut follower = Alone::new(OTHER);
        let effects = follower.hears(push(0, vec![batch(0, 4), wrong, batch(2, 5)]));
        assert!(matches!(effects[..], [Effect::Write { .. }, Effect::HighWatermarkAdvanced]), "{effects:?}");
        assert_eq!(follower.replica.log_end(), Offset(1));
        assert_eq!(follower.replica.high_watermark(), Offset(1), "no more than it holds");
        assert_eq!(follower.replica.next_deadline(), Some(Tick(1_200)));
    }
}

#[test]
fn a_gap_between_pushes_is_asked_for_once() {
    let mut follower = Alone::new(OTHER);
    assert_eq!(follower.hears(push(3, vec![batch(3, 5)])), [], "an echo: the answer to the question is still to come");
    follower.hears(push(0, vec![batch(0, 5)]));
    follower.step(Event::WriteCompleted { write: WriteId(1), result: Ok(()) });
    let effects = follower.hears(push(3, vec![batch(3, 5)]));
    assert!(matches!(effects[..], [Effect::ToLeader { message: FromFollower::Follow { .. }, .. }]), "{effects:?}");
    assert_eq!(follower.hears(push(4, vec![batch(4, 5)])), []);
}

#[test]
fn a_leader_that_only_ever_objects_is_not_asked_in_a_hurry() {
    let mut follower = Alone::new(OTHER);
    let message =
        FromLeader::Diverged { partition: PARTITION, leader_epoch: EPOCH, epoch: EPOCH, end_offset: Offset(70) };
    assert_eq!(follower.hears(message), []);
    assert_eq!(follower.replica.next_deadline(), Some(Tick(1_200)));
}

/// After a failover a follower may know of it before the new leader does: what producers wait for is one message away.
#[test]
fn a_leader_that_does_not_know_yet_that_it_leads_is_asked_again_soon_and_then_less_often() {
    let refused = |epoch| FromLeader::Refused {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(epoch),
        code: ErrorCode::NotLeaderOrFollower,
    };
    let mut follower = Alone::new(OTHER);
    for due in [1_010, 1_030, 1_070, 1_150, 1_310, 1_510, 1_710] {
        assert_eq!(follower.hears(refused(EPOCH.0 - 1)), []);
        assert_eq!(follower.replica.next_deadline(), Some(Tick(due)));
        let effects = follower.at(due, Event::Ticked);
        assert!(matches!(effects[..], [Effect::ToLeader { message: FromFollower::Follow { .. }, .. }]), "{effects:?}");
    }
    // One that knows of more than we do tells us nothing by being asked.
    follower.hears(refused(EPOCH.0 + 1));
    assert_eq!(follower.replica.next_deadline(), Some(Tick(1_910)));
}

#[test]
fn words_of_other_epochs_change_nothing() {
    for leader_epoch in [LeaderEpoch(4), LeaderEpoch(6)] {
        let (partition, log_start, high_watermark) = (PARTITION, Offset(50), Offset(50));
        let mut follower = Alone::new(OTHER);
        let before = format!("{:?}", follower.replica);
        for message in [
            FromLeader::Push {
                partition,
                leader_epoch,
                base_offset: Offset::ZERO,
                batches: vec![batch(0, 4)],
                high_watermark,
                log_start,
            },
            FromLeader::Advanced { partition, leader_epoch, high_watermark, log_start },
            FromLeader::Diverged { partition, leader_epoch, epoch: LeaderEpoch(1), end_offset: Offset::ZERO },
            FromLeader::StartOver { partition, leader_epoch, log_start },
        ] {
            assert_eq!(follower.hears(message), []);
            assert_eq!(format!("{:?}", follower.replica), before);
        }
        let mut leader = Alone::new(ME);
        let before = format!("{:?}", leader.replica);
        assert_eq!(
            leader.is_told(FromFollower::Durable { partition, leader_epoch, log_start, log_end: Offset(9) }),
            []
        );
        assert_eq!(format!("{:?}", leader.replica), before);
    }
}

#[test]
fn older_metadata_changes_nothing() {
    let mut follower = Alone::new(OTHER);
    let before = format!("{:?}", follower.replica);
    for (leader_epoch, partition_epoch) in [(4, 8), (4, 10), (5, 8)] {
        let assignment = Assignment {
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch: PartitionEpoch(partition_epoch),
            leader: Some(ME),
            replicas: vec![ME, OTHER],
            isr: vec![ME],
            broker_epochs: vec![],
            unclean_since: None,
        };
        assert_eq!(follower.step(Event::MetadataChanged(assignment)), []);
        assert_eq!(format!("{:?}", follower.replica), before);
    }
}

#[test]
fn a_follower_that_claims_more_than_it_was_sent_commits_nothing() {
    let mut leader = Alone::new(ME);
    let follow = |log_end, last_epoch| FromFollower::Follow {
        partition: PARTITION,
        leader_epoch: EPOCH,
        log_start: Offset::ZERO,
        log_end: Offset(log_end),
        last_epoch: LeaderEpoch(last_epoch),
    };
    for impossible in [follow(70, 5), follow(70, -1), follow(70, i32::MAX), follow(70, 0)] {
        let effects = leader.is_told(impossible);
        let objects = matches!(
            effects[..],
            [Effect::ToFollower { message: FromLeader::StartOver { .. } | FromLeader::Diverged { .. }, .. }]
        );
        assert!(objects, "{effects:?}");
    }
    leader.is_told(follow(0, -1));
    let claim = FromFollower::Durable {
        partition: PARTITION,
        leader_epoch: EPOCH,
        log_start: Offset::ZERO,
        log_end: Offset(i64::MAX),
    };
    assert_eq!(leader.is_told(claim), []);
    assert_eq!(leader.replica.high_watermark(), Offset::ZERO);
}

#[test]
fn a_stranger_is_refused() {
    let mut leader = Alone::new(ME);
    let message = FromFollower::Follow {
        partition: PARTITION,
        leader_epoch: EPOCH,
        log_start: Offset::ZERO,
        log_end: Offset::ZERO,
        last_epoch: LeaderEpoch::UNKNOWN,
    };
    let effects = leader.step(Event::FollowerSaid { follower: BrokerId(77), broker_epoch: BrokerEpoch(1), message });
    let code = ErrorCode::UnknownTopicOrPartition;
    let refused = FromLeader::Refused { partition: PARTITION, leader_epoch: EPOCH, code };
    assert_eq!(effects, [Effect::ToFollower { follower: BrokerId(77), message: refused }]);
}

#[test]
fn completions_of_what_was_never_asked_say_nothing() {
    let mut follower = Alone::new(OTHER);
    follower.hears(push(0, vec![batch(0, 5)]));
    let before = format!("{:?}", follower.replica);
    for event in [
        Event::WriteCompleted { write: WriteId(77), result: Ok(()) },
        Event::WriteCompleted { write: WriteId(77), result: Err(WriteFailure::NoSpace) },
        Event::LogChanged { write: WriteId(1), result: Ok(OnDisk::default()) },
        Event::LogChanged { write: WriteId(1), result: Err(WriteFailure::Corrupt) },
        Event::ReadCompleted { read: ReadId(3), batches: None },
        Event::IsrDecided(Ok(PartitionState::default())),
        Event::IsrDecided(Err(Some(ErrorCode::InvalidUpdateVersion))),
        Event::FollowerLost { follower: OTHER },
    ] {
        assert_eq!(follower.step(event), []);
        assert_eq!(format!("{:?}", follower.replica), before);
    }
}

#[test]
fn who_confirms_what_it_was_not_asked_confirms_nothing() {
    let mut leader = Alone::new(ME);
    let confirmed = |leader_epoch, round| FromFollower::Confirmed { partition: PARTITION, leader_epoch, round };
    let opens = FromFollower::Follow {
        partition: PARTITION,
        leader_epoch: EPOCH,
        log_start: Offset::ZERO,
        log_end: Offset::ZERO,
        last_epoch: LeaderEpoch::UNKNOWN,
    };
    leader.is_told(opens);
    leader.is_told(confirmed(EPOCH, 1));
    let asked = leader.step(Event::ConfirmationRequested { request: RequestKey(7), deadline: Tick(9_000) });
    assert!(
        matches!(asked[..], [Effect::ToFollower { message: FromLeader::Confirm { round: 1, .. }, .. }]),
        "{asked:?}"
    );
    assert_eq!(leader.is_told(confirmed(LeaderEpoch(4), 1)), [], "asked by the leader of another epoch");
    assert_eq!(leader.is_told(confirmed(EPOCH, 0)), [], "asked before");
    let message = confirmed(EPOCH, 1);
    let of_earlier_life = Event::FollowerSaid { follower: OTHER, broker_epoch: BrokerEpoch(11), message };
    assert_eq!(leader.step(of_earlier_life), [], "said by a life that has ended");
    let answers = leader.is_told(confirmed(EPOCH, 1));
    assert_eq!(answers, [Effect::Confirmed { request: RequestKey(7), result: Ok(Offset::ZERO) }]);
}

#[test]
fn a_follower_confirms_the_leader_of_its_epoch_only() {
    let mut follower = Alone::new(OTHER);
    let confirm = |leader_epoch| FromLeader::Confirm { partition: PARTITION, leader_epoch, round: 3 };
    assert_eq!(follower.hears(confirm(LeaderEpoch(4))), []);
    assert_eq!(follower.hears(confirm(LeaderEpoch(6))), []);
    let message = FromFollower::Confirmed { partition: PARTITION, leader_epoch: EPOCH, round: 3 };
    assert_eq!(follower.hears(confirm(EPOCH)), [Effect::ToLeader { leader: OTHER, message }]);
}
