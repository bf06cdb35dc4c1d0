use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicPartition};
use peer_api::metadata::{BrokerState, ConfigResource, Record};
use peer_api::replication::FromLeader;
use peer_api::storage::Acks;
use record_batch::StampedBatch;
use storage_core::{Event, OnDisk, PeerStream, ReadId};

use crate::host::*;
use crate::trims::trim;

const RATE: usize = 1_000_000;
/// So many go in a second at [`RATE`], or one fewer: a batch has a head.
const BATCH_BYTES: usize = 100_000;

const LEADING: &str = "leader";
const FOLLOWING: &str = "follower";

fn rate(side: &str, rate: impl ToString) -> Record {
    setting(ConfigResource::Broker(ME), &format!("{side}.replication.throttled.rate"), &rate.to_string())
}

fn replicas(side: &str, topic: u8, list: &str) -> Record {
    setting(ConfigResource::Topic(format!("t{topic}")), &format!("{side}.replication.throttled.replicas"), list)
}

fn unset(record: &Record) -> Record {
    let Record::ConfigChanged { resource, name, .. } = record else { unreachable!() };
    Record::ConfigChanged { resource: resource.clone(), name: name.clone(), value: None }
}

fn big(base_offset: i64, leader_epoch: i32) -> StampedBatch {
    StampedBatch::stamp(&produced(BATCH_BYTES), Offset(base_offset), LeaderEpoch(leader_epoch))
}

fn state(id: i32, state: BrokerState) -> Record {
    Record::BrokerStateChanged { broker: BrokerId(id), broker_epoch: BrokerEpoch(5), state }
}

fn of_replication(shown: Vec<String>) -> Vec<String> {
    shown.into_iter().filter(|line| !line.starts_with("controller")).collect()
}

// A leader, with follower 2 that has nothing yet.

/// We lead partitions 0 to `partitions` of topic 1, alone in the ISR.
fn leading(partitions: i32, throttles: &[Record]) -> Host {
    let mut host = Host::registered();
    let mut records = vec![topic(1)];
    records.extend(throttles.iter().cloned());
    records.extend((0..partitions).map(|index| led_with(tp(1, index), &[1], 30)));
    host.updated(records);
    for index in 0..partitions {
        host.opened(tp(1, index), log(40, 2));
    }
    follower_connected(&mut host, 1, 2, 5);
    host
}

/// The disk answers every read at once with the first batch there. Says how many batches of each partition were pushed.
fn answer_reads(host: &mut Host, mut shown: Vec<String>, pushed: &mut [usize]) {
    while let Some(line) = shown.pop() {
        if let Some(read) = line.strip_prefix("read ") {
            let mut words = read.split([' ', '-', ':', '.']);
            let mut number = || words.find(|word| !word.is_empty()).unwrap().parse::<i64>().unwrap();
            let (read, _topic, index, from) = (number(), number(), number(), number());
            let batches = Some(vec![big(from, 2).to_bytes()]);
            let partition = tp(1, index as i32);
            shown.extend(host.step(Event::ReadCompleted { partition, read: ReadId(read as u64), batches }));
            pushed[index as usize] += 1;
        }
    }
}

fn push_for(host: &mut Host, ms: u64, pushed: &mut [usize]) {
    for _ in 0..ms {
        let shown = host.after_ms(1);
        answer_reads(host, shown, pushed);
    }
}

#[test]
fn a_leader_pushes_to_throttled_followers_at_its_rate_and_to_each_in_turn() {
    let mut host = leading(3, &[rate(LEADING, RATE), replicas(LEADING, 1, "*")]);
    let mut pushed = [0; 3];
    for index in 0..3 {
        let shown = follow(&mut host, 1, tp(1, index), 0);
        answer_reads(&mut host, shown, &mut pushed);
    }
    for seconds in 1..=2 {
        push_for(&mut host, 1_000, &mut pushed);
        let (earned, bytes) = (seconds * RATE, pushed.iter().sum::<usize>() * BATCH_BYTES);
        assert!(bytes <= earned + BATCH_BYTES, "{bytes} bytes in {seconds} s");
        assert!(bytes + BATCH_BYTES >= earned, "{bytes} bytes in {seconds} s");
    }
    let (fewest, most) = (pushed.iter().min().unwrap(), pushed.iter().max().unwrap());
    assert!(most - fewest <= 1, "{pushed:?}");
}

#[test]
fn only_one_read_is_under_way_for_all_throttled_followers_so_no_more_than_one_goes_too_far() {
    let mut host = leading(2, &[rate(LEADING, RATE), replicas(LEADING, 1, "*")]);
    host.after_ms(500);
    assert_eq!(follow(&mut host, 1, tp(1, 0), 0)[1..], ["read 1 1-0: 0..40"]);
    let second = follow(&mut host, 1, tp(1, 1), 0);
    assert!(!second.iter().any(|line| line.starts_with("read")), "{second:?}");
    let batches = Some(vec![big(0, 2).to_bytes()]);
    let shown = host.step(Event::ReadCompleted { partition: tp(1, 0), read: ReadId(1), batches });
    assert_eq!(
        shown,
        ["follower 1: push 1-0 1 at 0, high watermark 40", "read 1 1-1: 0..40"],
        "half a second was saved"
    );
}

#[test]
fn a_leader_holds_back_nothing_from_members_of_the_isr_and_from_replicas_that_are_not_listed() {
    let is_read = |shown: Vec<String>| shown.iter().any(|line| line.starts_with("read"));
    // Partition 1 of ours; the other is another broker's.
    let mut host = leading(3, &[rate(LEADING, 0), replicas(LEADING, 1, "1:1,2:2")]);
    assert!(is_read(follow(&mut host, 1, tp(1, 0), 0)));
    assert!(!is_read(follow(&mut host, 1, tp(1, 1), 0)));
    assert!(is_read(follow(&mut host, 1, tp(1, 2), 0)));

    let mut host = leading(2, &[rate(LEADING, 0), replicas(LEADING, 1, "*")]);
    host.updated(vec![led_with(tp(1, 0), &[1, 2], 31)]);
    assert!(is_read(follow(&mut host, 1, tp(1, 0), 0)));
    assert!(!is_read(follow(&mut host, 1, tp(1, 1), 0)));

    // Without a rate, whoever is listed; and the other way.
    let mut host = leading(1, &[replicas(LEADING, 1, "*"), rate(FOLLOWING, 0)]);
    assert!(is_read(follow(&mut host, 1, tp(1, 0), 0)));
    let mut host = leading(1, &[replicas(FOLLOWING, 1, "*"), rate(LEADING, 0)]);
    assert!(is_read(follow(&mut host, 1, tp(1, 0), 0)));
}

#[test]
fn a_read_that_waits_goes_at_once_when_its_throttle_does() {
    let (at_rate, listed) = (rate(LEADING, 0), replicas(LEADING, 1, "*"));
    let read = "read 1 1-0: 0..40".to_owned();
    let gone = [
        unset(&at_rate),
        unset(&listed),
        replicas(LEADING, 1, "5:1"),
        rate(LEADING, i64::MAX),
        led_with(tp(1, 0), &[1, 2], 31),
    ];
    for gone in gone {
        let mut host = leading(1, &[at_rate.clone(), listed.clone()]);
        follow(&mut host, 1, tp(1, 0), 0);
        assert!(of_replication(host.after_ms(1_000)).is_empty(), "at rate zero nothing goes");
        assert!(host.updated(vec![gone.clone()]).contains(&read), "{gone:?}");
    }
    let mut host = leading(1, &[at_rate, listed]);
    follow(&mut host, 1, tp(1, 0), 0);
    assert!(host.updated(vec![rate(LEADING, 1)]).is_empty());
    assert_eq!(host.after_ms(1), [read], "a greater rate starts anew");
}

#[test]
fn what_waits_for_a_stream_that_ended_is_not_read() {
    let reads =
        |shown: Vec<String>| -> Vec<String> { shown.into_iter().filter(|line| line.starts_with("read")).collect() };
    let (at_rate, listed) = (rate(LEADING, 0), replicas(LEADING, 1, "*"));
    // Of a leader that leads no more.
    let mut host = leading(1, &[at_rate.clone(), listed.clone()]);
    follow(&mut host, 1, tp(1, 0), 0);
    host.updated(vec![partition(tp(1, 0), 2, 4, &[1, 2])]);
    assert!(reads(host.updated(vec![unset(&at_rate)])).is_empty());
    // Of one that leads again, in another epoch, and has not heard of its follower yet.
    let mut host = leading(1, &[at_rate.clone(), listed.clone()]);
    follow(&mut host, 1, tp(1, 0), 0);
    host.updated(vec![partition(tp(1, 0), 1, 4, &[1, 2])]);
    assert!(reads(host.updated(vec![unset(&at_rate)])).is_empty());
    // Of a follower that is gone, and of one that came again.
    let mut host = leading(1, &[at_rate.clone(), listed.clone()]);
    follow(&mut host, 1, tp(1, 0), 0);
    host.step(Event::FollowerLost { stream: PeerStream(1) });
    assert!(reads(host.updated(vec![rate(LEADING, 1)])).is_empty());
    assert!(reads(host.after_ms(10)).is_empty());
    follower_connected(&mut host, 2, 2, 5);
    assert_eq!(reads(follow(&mut host, 2, tp(1, 0), 0)), ["read 2 1-0: 0..40"]);
}

#[test]
fn a_replica_that_goes_in_the_middle_of_its_read_leaves_the_turn_to_others() {
    let mut host = leading(1, &[rate(LEADING, RATE), replicas(LEADING, 1, "*"), replicas(LEADING, 2, "*")]);
    host.updated(vec![topic(2), led_with(tp(2, 0), &[1], 30)]);
    host.opened(tp(2, 0), log(40, 2));
    host.after_ms(1);
    assert_eq!(follow(&mut host, 1, tp(1, 0), 0)[1..], ["read 1 1-0: 0..40"]);
    follow(&mut host, 1, tp(2, 0), 0);
    assert_eq!(host.updated(vec![deleted(1)]), ["delete 1-0", "read 1 2-0: 0..40"]);
}

#[test]
fn a_follower_that_may_be_in_sync_by_now_is_not_held_back() {
    // It lacks what is not committed, and cannot be asked for while its broker is fenced.
    let min_isr = setting(ConfigResource::Topic("t1".to_owned()), "min.insync.replicas", "2");
    let mut host = leading(1, &[rate(LEADING, 0), replicas(LEADING, 1, "*"), min_isr]);
    host.updated(vec![state(2, BrokerState::Fenced)]);
    host.asked(1, 7, append(Acks::Leader, 3, &[tp(1, 0)]));
    host.written(tp(1, 0), 1);
    let message = peer_api::replication::FromFollower::Follow {
        partition: tp(1, 0),
        leader_epoch: LeaderEpoch(3),
        log_start: Offset::ZERO,
        log_end: Offset(40),
        last_epoch: LeaderEpoch(2),
    };
    let shown = host.step(Event::FollowerSaid { stream: PeerStream(1), message });
    assert_eq!(shown, ["follower 1: advanced 1-0 to 40"], "its read waits");
    let shown = host.updated(vec![state(2, BrokerState::Active)]);
    assert!(shown.iter().any(|line| line.ends_with("isr 1-0 [1, 2]")), "{shown:?}");
    assert!(shown.contains(&"read 1 1-0: 40..41".to_owned()), "{shown:?}");
}

// A follower of broker 2.

fn following(partitions: i32, throttles: &[Record]) -> Host {
    let mut host = Host::registered();
    let mut records = vec![topic(1)];
    records.extend(throttles.iter().cloned());
    records.extend((0..partitions).map(|index| followed(tp(1, index), &[2], 30)));
    host.updated(records);
    for index in 0..partitions {
        host.opened(tp(1, index), empty());
    }
    host.step(Event::LeaderConnected { leader: BrokerId(2) });
    host
}

/// Batch number `n`, of a leader that has committed everything below `high_watermark`.
fn push(partition: TopicPartition, n: i64, high_watermark: i64) -> FromLeader {
    FromLeader::Push {
        partition,
        leader_epoch: LeaderEpoch(3),
        base_offset: Offset(n),
        batches: vec![big(n, 3)],
        high_watermark: Offset(high_watermark),
        log_start: Offset::ZERO,
    }
}

/// It arrives and is written at once.
fn pushed(host: &mut Host, partition: TopicPartition, n: i64, high_watermark: i64) -> Vec<String> {
    let message = push(partition, n, high_watermark);
    let mut shown = host.step(Event::LeaderSaid { leader: BrokerId(2), message });
    assert!(shown.remove(0).starts_with("write"), "{shown:?}");
    shown.extend(host.written(partition, n as u64 + 1));
    shown
}

#[test]
fn a_throttled_follower_receives_at_its_rate_beyond_one_window_of_each_partition() {
    const WINDOW: i64 = 4;
    let mut host = following(2, &[rate(FOLLOWING, RATE), replicas(FOLLOWING, 1, "*")]);
    // What was pushed and what was reported of each partition.
    let mut at = [(0, 0); 2];
    let hear = |at: &mut [(i64, i64); 2], shown: Vec<String>| {
        for line in shown {
            if let Some((index, end)) = line.strip_prefix("leader 2: durable 1-").and_then(|it| it.split_once(" to ")) {
                at[index.parse::<usize>().unwrap()].1 = end.parse().unwrap();
            }
        }
    };
    let start = host.now_ms;
    while host.now_ms < start + 2_000 {
        for index in 0..2 {
            while at[index].0 < at[index].1 + WINDOW {
                let shown = pushed(&mut host, tp(1, index as i32), at[index].0, 1_000);
                at[index].0 += 1;
                hear(&mut at, shown);
                let earned = RATE as i64 * (host.now_ms - start) as i64 / 1_000;
                let received = (at[0].0 + at[1].0) * BATCH_BYTES as i64;
                let beyond = 3 * WINDOW * BATCH_BYTES as i64;
                assert!(received <= earned + beyond, "{received} bytes after {} ms", host.now_ms - start);
            }
        }
        let shown = host.after_ms(1);
        hear(&mut at, shown);
    }
    let received = (at[0].0 + at[1].0) as usize * BATCH_BYTES;
    assert!(received >= 2 * RATE, "{received} bytes");
    assert!((at[0].0 - at[1].0).abs() <= WINDOW, "{at:?}");
}

#[test]
fn a_report_that_the_leader_may_wait_for_is_not_held_back() {
    let throttled = [rate(FOLLOWING, 0), replicas(FOLLOWING, 1, "*")];
    let mut host = following(1, &throttled);
    assert!(pushed(&mut host, tp(1, 0), 0, 3).is_empty());
    assert!(pushed(&mut host, tp(1, 0), 1, 3).is_empty());
    assert_eq!(pushed(&mut host, tp(1, 0), 2, 3), ["leader 2: durable 1-0 to 3"], "it may join with that");
    assert!(pushed(&mut host, tp(1, 0), 3, 5).is_empty());
    // A member of the ISR.
    let mut host = following(1, &throttled);
    host.updated(vec![followed(tp(1, 0), &[2, 1], 31)]);
    assert_eq!(pushed(&mut host, tp(1, 0), 0, 3), ["leader 2: durable 1-0 to 1"]);
    // Who is not listed: a broker, a partition; and without a rate.
    for list in ["0:2", "1:1"] {
        let mut host = following(1, &[rate(FOLLOWING, 0), replicas(FOLLOWING, 1, list)]);
        assert_eq!(pushed(&mut host, tp(1, 0), 0, 3), ["leader 2: durable 1-0 to 1"], "{list}");
    }
    let mut host = following(1, &[rate(LEADING, 0), replicas(FOLLOWING, 1, "*"), replicas(LEADING, 1, "*")]);
    assert_eq!(pushed(&mut host, tp(1, 0), 0, 3), ["leader 2: durable 1-0 to 1"]);
}

#[test]
fn a_report_that_waits_goes_at_once_when_its_throttle_does() {
    let (at_rate, listed) = (rate(FOLLOWING, 0), replicas(FOLLOWING, 1, "0:1"));
    let report = "leader 2: durable 1-0 to 2".to_owned();
    let gone = [unset(&at_rate), unset(&listed), rate(FOLLOWING, i64::MAX), followed(tp(1, 0), &[2, 1], 31)];
    for gone in gone {
        let mut host = following(1, &[at_rate.clone(), listed.clone()]);
        pushed(&mut host, tp(1, 0), 0, 9);
        pushed(&mut host, tp(1, 0), 1, 9);
        assert!(of_replication(host.after_ms(1_000)).is_empty(), "at rate zero nothing goes");
        assert_eq!(host.updated(vec![gone.clone()]), std::slice::from_ref(&report), "{gone:?}");
    }
    let mut host = following(1, &[at_rate, listed]);
    pushed(&mut host, tp(1, 0), 0, 9);
    pushed(&mut host, tp(1, 0), 1, 9);
    assert!(host.updated(vec![rate(FOLLOWING, 1)]).is_empty());
    assert_eq!(host.after_ms(1), [report], "a greater rate starts anew");
}

#[test]
fn a_report_that_waits_is_forgotten_with_its_stream_its_leader_and_its_replica() {
    let (at_rate, listed) = (rate(FOLLOWING, 0), replicas(FOLLOWING, 1, "*"));
    let held = || {
        let mut host = following(1, &[at_rate.clone(), listed.clone()]);
        assert!(pushed(&mut host, tp(1, 0), 0, 9).is_empty());
        host
    };
    let mut host = held();
    host.step(Event::LeaderLost { leader: BrokerId(2) });
    let connected = host.step(Event::LeaderConnected { leader: BrokerId(2) });
    assert_eq!(connected, ["leader 2: follow 1-0 in 3 from 1"]);
    assert!(host.updated(vec![unset(&at_rate)]).is_empty(), "the opening said it");

    let mut host = held();
    let elsewhere = partition(tp(1, 0), 3, 4, &[3, 2]);
    let Record::PartitionChanged { partition, mut state } = elsewhere else { unreachable!() };
    state.replicas.push(ME);
    host.updated(vec![Record::PartitionChanged { partition, state }]);
    assert!(host.updated(vec![unset(&at_rate)]).is_empty());

    // The same leader in another epoch, with which it opens when all is written.
    let mut host = held();
    let message = push(tp(1, 0), 1, 9);
    host.step(Event::LeaderSaid { leader: BrokerId(2), message });
    let Record::PartitionChanged { partition, mut state } = followed(tp(1, 0), &[2], 40) else { unreachable!() };
    state.leader_epoch = LeaderEpoch(4);
    assert!(host.updated(vec![Record::PartitionChanged { partition, state }]).is_empty());
    assert!(host.updated(vec![unset(&at_rate)]).is_empty());

    let mut host = held();
    assert_eq!(host.updated(vec![deleted(1)]), ["delete 1-0", "disconnect from 2"]);
    assert!(host.updated(vec![unset(&at_rate)]).is_empty());
}

#[test]
fn an_opening_takes_what_was_saved() {
    let mut host = following(2, &[rate(FOLLOWING, BATCH_BYTES), replicas(FOLLOWING, 1, "*")]);
    assert!(pushed(&mut host, tp(1, 0), 0, 9).is_empty());
    host.step(Event::LeaderLost { leader: BrokerId(2) });
    host.now_ms += 1_000;
    assert_eq!(host.step(Event::LeaderConnected { leader: BrokerId(2) })[0], "leader 2: follow 1-0 in 3 from 1");
    assert!(pushed(&mut host, tp(1, 1), 0, 9).is_empty(), "a second's worth is gone");
    assert_eq!(of_replication(host.after_ms(1)), ["leader 2: durable 1-1 to 1"]);
}

#[test]
fn what_had_its_turn_is_paid_for_in_full() {
    const SLOW: usize = RATE / 25;
    const PAID_AFTER_MS: u64 = 2_500;
    let mut host = leading(1, &[rate(LEADING, SLOW), replicas(LEADING, 1, "*")]);
    follow(&mut host, 1, tp(1, 0), 0);
    let mut pushed_of = [0];
    push_for(&mut host, 1, &mut pushed_of);
    push_for(&mut host, PAID_AFTER_MS - 1, &mut pushed_of);
    assert_eq!(pushed_of, [1]);
    push_for(&mut host, 10, &mut pushed_of);
    assert_eq!(pushed_of, [2]);

    let mut host = following(2, &[rate(FOLLOWING, SLOW), replicas(FOLLOWING, 1, "*")]);
    pushed(&mut host, tp(1, 0), 0, 9);
    assert_eq!(of_replication(host.after_ms(1)), ["leader 2: durable 1-0 to 1"]);
    pushed(&mut host, tp(1, 1), 0, 9);
    for second in 1..=2 {
        assert_eq!(of_replication(host.after_ms(1_000)), [""; 0], "second {second}");
    }
    assert_eq!(of_replication(host.after_ms(510)), ["leader 2: durable 1-1 to 1"]);
}

#[test]
fn what_is_pushed_from_memory_does_not_keep_reads_waiting_for_long() {
    // Broker 2 cannot be asked for while it is fenced, and hears of every batch.
    let mut host = Host::registered();
    host.updated(vec![topic(1), rate(LEADING, 100), replicas(LEADING, 1, "*")]);
    host.updated(vec![led_with(tp(1, 0), &[1], 30), led_with(tp(1, 1), &[1], 30), state(2, BrokerState::Fenced)]);
    host.opened(tp(1, 0), OnDisk { high_watermark: Offset(0), ..log(0, 2) });
    host.opened(tp(1, 1), log(40, 2));
    follower_connected(&mut host, 1, 2, 5);
    follow(&mut host, 1, tp(1, 0), 0);
    // More in each millisecond than is earned in it.
    let push = |host: &mut Host, n: u64| {
        let pushed = host.asked(1, 7 + n, append(Acks::Leader, 3, &[tp(1, 0)]));
        assert!(pushed.iter().any(|line| line.starts_with("follower 1: push 1-0")), "{pushed:?}");
        host.written(tp(1, 0), 1 + n);
    };
    for n in 0..40 {
        push(&mut host, n);
        host.after_ms(1);
    }
    push(&mut host, 40);
    let read = "read 1 1-1: 0..40".to_owned();
    assert!(!follow(&mut host, 1, tp(1, 1), 0).contains(&read), "what was saved is gone");
    push(&mut host, 41);
    assert!(host.after_ms(1).contains(&read));
}

#[test]
fn a_read_of_what_has_been_deleted_meanwhile_does_not_wait() {
    let mut host = leading(1, &[rate(LEADING, 0), replicas(LEADING, 1, "*")]);
    follow(&mut host, 1, tp(1, 0), 0);
    let shown = host.asked(1, 7, trim(&[(tp(1, 0), Some(40))]));
    assert!(!shown.iter().any(|line| line.starts_with("read")), "{shown:?}");
    let completed =
        Event::TrimCompleted { partition: tp(1, 0), write: storage_core::WriteId(1), result: Ok(Offset(40)) };
    let shown = host.step(completed);
    assert!(shown.contains(&"read 1 1-0: 0..40".to_owned()), "{shown:?}");
}

#[test]
fn what_the_cluster_is_set_to_holds_for_a_broker_without_its_own() {
    let of_cluster = setting(ConfigResource::Cluster, "leader.replication.throttled.rate", "0");
    let mut host = leading(1, &[of_cluster.clone(), replicas(LEADING, 1, "*")]);
    follow(&mut host, 1, tp(1, 0), 0);
    host.updated(vec![setting(ConfigResource::Broker(BrokerId(2)), "leader.replication.throttled.rate", "1000")]);
    assert!(of_replication(host.after_ms(100)).is_empty(), "that is another broker's");
    assert_eq!(host.updated(vec![unset(&of_cluster)]), ["read 1 1-0: 0..40"]);
}

#[test]
fn nothing_waits_at_the_end_of_the_log() {
    let on_disk = OnDisk { high_watermark: Offset(0), ..log(0, 2) };
    let mut host = Host::registered();
    host.updated(vec![topic(1), rate(LEADING, 0), replicas(LEADING, 1, "*"), led_with(tp(1, 0), &[1], 30)]);
    host.updated(vec![state(2, BrokerState::Fenced)]);
    host.opened(tp(1, 0), on_disk);
    follower_connected(&mut host, 1, 2, 5);
    follow(&mut host, 1, tp(1, 0), 0);
    let shown = host.asked(1, 7, append(Acks::Leader, 3, &[tp(1, 0)]));
    assert!(shown.contains(&"follower 1: push 1-0 1 at 0, high watermark 0".to_owned()), "{shown:?}");
    host.written(tp(1, 0), 1);
    assert_eq!(of_replication(host.after_ms(20)), ["follower 1: advanced 1-0 to 1"]);
}
