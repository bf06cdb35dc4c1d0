//! Reads from positions of its own choice, and, when all is over, everything.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use record_batch::BatchHeader;

use super::{Shared, moment, say};
use crate::random::Random;
use crate::wire::{Fetched, Gateways, Topic};

const ANSWER_BOUND: Duration = Duration::from_secs(5);
const FINISH_BOUND: Duration = Duration::from_secs(90);
const SEEK_BACK_MAX: u64 = 1000;
const WAIT_MS: i32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn run(shared: &Shared, mut random: Random) -> Result<()> {
    let topic = &shared.options.topic;
    let client = shared.next_client();
    let mut gateways = Gateways::new(&shared.options.bootstrap, ANSWER_BOUND);
    let mut positions = vec![0; topic.partitions as usize];
    let mut reached = positions.clone();
    for partition in 0..topic.partitions {
        say(&sought(client, topic, partition, 0));
    }
    let mut bound = None;
    loop {
        let ends = shared.ends.get();
        if ends.is_some_and(|ends| reached.iter().zip(ends).all(|(reached, end)| reached >= end)) {
            return Ok(());
        }
        if let Some(ends) = ends
            && *bound.get_or_insert_with(|| Instant::now() + FINISH_BOUND) < Instant::now()
        {
            shared.complain(&format!("our reader has not caught up: it is at {reached:?} of {ends:?}"));
            return Ok(());
        }
        let partition = random.below(topic.partitions as u64) as i32;
        let place = partition as usize;
        if ends.is_none() && random.chance(1, 30) {
            positions[place] = (reached[place] - random.below(SEEK_BACK_MAX).cast_signed()).max(0);
            say(&sought(client, topic, partition, positions[place]));
        }
        if random.chance(1, 100) {
            gateways.turn();
        }
        let start = moment();
        match gateways.fetch(topic, partition, positions[place], WAIT_MS) {
            Ok(Fetched::Records { records, next, .. }) => {
                if !records.is_empty() {
                    say(&polled(client, start, topic, partition, &records));
                }
                positions[place] = next;
                reached[place] = reached[place].max(next);
            }
            Ok(Fetched::OutOfRange) => {
                shared.complain(&format!("position {} of partition {partition} is out of range", positions[place]));
                shared.stopping.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(_) => {
                gateways.turn();
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Reads every partition from its start to its end, as a journal. To be asked for when the trouble is over.
pub fn read_all(bootstrap: &str, topic: &Topic, client: u32, bound: Duration) -> Result<String> {
    let mut gateways = Gateways::new(bootstrap, ANSWER_BOUND);
    let mut journal = String::new();
    let mut line = |text: String| {
        journal += &text;
        journal.push('\n');
    };
    let give_up = Instant::now() + bound;
    for partition in 0..topic.partitions {
        line(sought(client, topic, partition, 0));
        let asked = moment();
        let end = gateways.ends(topic, bound)?[partition as usize];
        let mut position = 0;
        while position < end {
            if Instant::now() > give_up {
                bail!("partition {partition} ends at {end}, and {position} is as far as one can read in {bound:?}");
            }
            let start = moment();
            match gateways.fetch(topic, partition, position, WAIT_MS) {
                Ok(Fetched::Records { records, batches, next }) => {
                    batches.iter().for_each(|batch| line(remark(topic, partition, batch)));
                    if !records.is_empty() {
                        line(polled(client, start, topic, partition, &records));
                    }
                    position = next;
                }
                Ok(Fetched::OutOfRange) => bail!("position {position} of partition {partition} is out of range"),
                Err(_) => {
                    gateways.turn();
                    thread::sleep(PAUSE);
                }
            }
        }
        line(format!("{client} {asked} {} finished {} {end}", moment(), topic.partition(partition)));
    }
    Ok(journal)
}

/// Who wrote a batch and under which leader: the first that one wants to know of a record that should not be where it is.
fn remark(topic: &Topic, partition: i32, batch: &BatchHeader) -> String {
    format!(
        "# {}@{}..{} leader epoch {} producer {} epoch {} sequence {}",
        topic.partition(partition),
        batch.base_offset,
        batch.last_offset(),
        batch.leader_epoch.0,
        batch.producer_id.0,
        batch.producer_epoch.0,
        batch.base_sequence.0
    )
}

fn sought(client: u32, topic: &Topic, partition: i32, offset: i64) -> String {
    let now = moment();
    format!("{client} {now} {now} sought {} {offset}", topic.partition(partition))
}

fn polled(client: u32, start: u64, topic: &Topic, partition: i32, records: &[(i64, u64)]) -> String {
    let name = topic.partition(partition);
    let mut line = format!("{client} {start} {} polled uncommitted", moment());
    for (offset, value) in records {
        line += &format!(" {name}@{offset}={value}");
    }
    line
}
