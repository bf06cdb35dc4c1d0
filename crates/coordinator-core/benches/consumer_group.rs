//! What a large group of the consumer protocol costs its coordinator: everyone joins at once, the group settles, then it lives.
//! Prints figures; judges nothing.
//!
//! ```text
//! cargo bench --package coordinator-core --bench consumer_group
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base_types::{Now, PartitionEpoch, PartitionIndex, Random, Tick, Timestamp, TopicId, TopicPartition};
use coordinator_core::{Effect, Effects, Event, GroupCoordinator, LogRecord, RequestKey, Settings};
use peer_api::groups::{
    AssignedTopic, Caller, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, GroupRequest, GroupResponse,
};
use peer_api::metadata::{Image, MetadataOffset, PartitionState, Record};

fn main() {
    for (members, topics, partitions) in [(10, 9, 100), (1_000, 100, 100)] {
        run(members, topics, partitions);
    }
}

struct Bench {
    coordinator: GroupCoordinator,
    image: Image,
    now: u64,
    spent: Duration,
    slowest: Duration,
    heartbeats: u32,
    log: Vec<LogRecord>,
    largest_append: usize,
}

struct Client {
    id: String,
    epoch: i32,
    owned: Vec<AssignedTopic>,
    due: u64,
}

fn run(members: usize, topics: usize, partitions: usize) {
    let mut image = Image::default();
    let names: Vec<String> = (0..topics).map(|number| format!("topic-{number:03}")).collect();
    for (number, name) in names.iter().enumerate() {
        let id = TopicId((number as u128 + 1).to_be_bytes());
        image.apply(&Record::TopicCreated { id, name: name.clone() });
        for index in 0..partitions {
            let partition = TopicPartition { topic: id, partition: PartitionIndex(index as i32) };
            let state = PartitionState { partition_epoch: PartitionEpoch(1), ..PartitionState::default() };
            image.apply(&Record::PartitionChanged { partition, state });
        }
    }
    image.advance(MetadataOffset(1));
    let mut bench = Bench {
        coordinator: GroupCoordinator::new(Settings::default(), Random::new(1)),
        image,
        now: 1,
        spent: Duration::ZERO,
        slowest: Duration::ZERO,
        heartbeats: 0,
        log: Vec::new(),
        largest_append: 0,
    };
    bench.step(Event::LoadFinished);

    // Everyone starts within 100 ms.
    let mut clients: Vec<Client> = (0..members)
        .map(|number| Client {
            id: format!("member-{number:04}"),
            epoch: 0,
            owned: Vec::new(),
            due: 1 + (number * 100 / members) as u64,
        })
        .collect();
    let share = topics * partitions / members;
    let total = topics * partitions;
    let owned = |client: &Client| client.owned.iter().map(|topic| topic.partitions.len()).sum::<usize>();
    while clients.iter().map(owned).sum::<usize>() != total || clients.iter().any(|client| owned(client) < share) {
        bench.next(&mut clients, &names);
    }
    let settled = (bench.now, bench.spent, bench.heartbeats, bench.slowest);
    bench.heartbeats = 0;
    bench.spent = Duration::ZERO;
    while bench.heartbeats < 20_000 {
        bench.next(&mut clients, &names);
    }
    println!(
        "{members:5} members {total:6} partitions: settled after {:5} ms of its time; {:7.1} ms of work for {:5} heartbeats, \
         the slowest {:6.2} ms; {} records, {} KiB, largest append {} KiB; then {:5.1} µs a heartbeat",
        settled.0,
        settled.1.as_secs_f64() * 1e3,
        settled.2,
        settled.3.as_secs_f64() * 1e3,
        bench.log.len(),
        bytes(&bench.log) / 1024,
        bench.largest_append / 1024,
        bench.spent.as_secs_f64() * 1e6 / f64::from(bench.heartbeats),
    );
    let log = std::mem::take(&mut bench.log);
    let start = Instant::now();
    bench.coordinator = GroupCoordinator::new(Settings::default(), Random::new(2));
    bench.step(Event::RecordsLoaded(log));
    bench.step(Event::LoadFinished);
    println!("      its log is loaded in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}

fn bytes(records: &[LogRecord]) -> usize {
    records.iter().map(|record| record.key.len() + record.value.as_ref().map_or(0, |value| value.len())).sum()
}

impl Bench {
    /// The client that is due next heartbeats, and gives up at once what it is told to.
    fn next(&mut self, clients: &mut [Client], names: &[String]) {
        let Some(client) = clients.iter_mut().min_by_key(|client| client.due) else { return };
        self.now = self.now.max(client.due);
        let is_new = client.epoch == 0;
        let heartbeat = ConsumerGroupHeartbeat {
            group_id: "bench".to_owned(),
            member_id: client.id.clone(),
            member_epoch: client.epoch,
            rebalance_timeout_ms: if is_new { 300_000 } else { -1 },
            subscribed_topic_names: is_new.then(|| names.to_vec()),
            topic_partitions: Some(client.owned.clone()),
            requires_member_id: true,
            ..ConsumerGroupHeartbeat::default()
        };
        let request = RequestKey(0);
        let caller = Caller::default();
        let body = GroupRequest::ConsumerGroupHeartbeat(heartbeat);
        let answer = self.step(Event::Requested { request, caller, body }).expect("it is answered");
        self.heartbeats += 1;
        client.epoch = answer.member_epoch;
        client.due = self.now + answer.heartbeat_interval_ms as u64;
        if let Some(assignment) = answer.assignment {
            client.owned = assignment;
            client.due = if is_new { client.due } else { self.now + 1 };
        }
    }

    fn step(&mut self, event: Event) -> Option<ConsumerGroupHeartbeatAnswer> {
        let now = Now { tick: Tick(self.now), wall: Timestamp(1_700_000_000_000 + self.now as i64) };
        let mut effects = Effects::default();
        let mut events = VecDeque::from([event]);
        let mut answer = None;
        let start = Instant::now();
        while let Some(event) = events.pop_front() {
            self.coordinator.step(now, &self.image, event, &mut effects);
            for effect in effects.drain() {
                match effect {
                    Effect::Append { append, records } => {
                        self.largest_append = self.largest_append.max(bytes(&records));
                        self.log.extend(records);
                        events.push_back(Event::AppendCommitted(append));
                    }
                    Effect::Reply { response: Ok(GroupResponse::ConsumerGroupHeartbeat(Ok(told))), .. } => {
                        answer = Some(told);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let took = start.elapsed();
        self.spent += took;
        self.slowest = self.slowest.max(took);
        answer
    }
}
