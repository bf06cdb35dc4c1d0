//! Producers, idempotent and plain.

use std::collections::BTreeMap;

use base_types::{Random, Sequence, TopicPartition};
use peer_api::storage::AppendError;

use crate::value::Value;
use crate::world::World;

#[derive(Default)]
pub struct Clients {
    last_number: u32,
    producers: BTreeMap<(TopicPartition, i64), Producer>,
}

/// An idempotent client: at most five batches without an answer, retried until there is one.
#[derive(Default)]
struct Producer {
    epoch: i16,
    next: i32,
    unanswered: Vec<Value>,
    answered: Vec<Value>,
}

/// Of each partition. The second one's sequences wrap.
const PRODUCERS: [(i64, i32); 2] = [(7, 0), (8, i32::MAX - 10)];

impl Clients {
    pub fn next_value(&mut self, random: &mut Random, partition: TopicPartition, misbehave: u64) -> Value {
        self.last_number += 1;
        let plain = Value { partition, number: self.last_number, records: random.between(1, 3) as i32, producer: None };
        if random.chance(200) {
            return plain;
        }
        let (id, first) = PRODUCERS[random.below(2) as usize];
        let new = || Producer { next: first, ..Producer::default() };
        let producer = self.producers.entry((partition, id)).or_insert_with(new);
        let numbered = |epoch: i16, sequence: i32| {
            if epoch < 0 { plain } else { Value { producer: Some((id, epoch, sequence)), ..plain } }
        };
        let which = random.next_u64() as usize;
        if random.chance(misbehave) {
            return match random.below(3) {
                // A gap.
                0 => numbered(producer.epoch, Sequence(producer.next).plus(1).0),
                // An instance that was fenced.
                1 => numbered(producer.epoch - 1, producer.next),
                // A retry that is late.
                _ => producer.answered.get(which % producer.answered.len().max(1)).copied().unwrap_or(plain),
            };
        }
        let (waiting, retries) = (producer.unanswered.len(), random.chance(250));
        if waiting >= 5 || (retries && waiting > 0) {
            // The first: whoever gets no answer sends everything again.
            return producer.unanswered[if random.chance(300) { which % waiting } else { 0 }];
        }
        let value = numbered(producer.epoch, producer.next);
        producer.next = Sequence(producer.next).plus(plain.records).0;
        producer.unanswered.push(value);
        value
    }

    pub fn hear(&mut self, world: &mut World) {
        for (request, result) in world.replies.drain(..) {
            let Some((id, epoch, _)) = request.value.producer else { continue };
            let Some(producer) = self.producers.get_mut(&(request.value.partition, id)) else { continue };
            let known = producer.unanswered.iter().position(|value| *value == request.value);
            match (result, known) {
                (Ok(_), Some(at)) => producer.answered.push(producer.unanswered.remove(at)),
                // Its batches are too far apart by now: begin anew under the next epoch.
                (Err(AppendError::OutOfOrderSequence { .. }), Some(_)) if epoch == producer.epoch => {
                    *producer = Producer { epoch: epoch + 1, ..Producer::default() };
                }
                _ => {}
            }
        }
    }
}
