//! The metadata quorum as one ordered log of commands: `controller-core` decides on everything proposed, nodes hear of what is
//! committed, and a fail-over forgets what was proposed and not committed.

use std::collections::VecDeque;
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, ErrorCode, Incarnation, TopicPartition};
use peer_api::metadata::{BrokerState, Image, PartitionState, Record};

/// Who is told when a command is committed, and what.
#[derive(Clone, Debug)]
pub enum Answer {
    Registered { broker: BrokerId, life: u64, epoch: BrokerEpoch },
    IsrDecided { leader: BrokerId, life: u64, partition: TopicPartition, result: Result<PartitionState, ErrorCode> },
}

#[derive(Clone, Debug)]
pub struct Metadata {
    /// Commands committed so far; [`Metadata::said`] ends there.
    committed_at: usize,
    /// The last images that were committed: as many as the slowest node has yet to hear of, and the one it has heard.
    said: VecDeque<Arc<Image>>,
    /// Proposed, not yet committed.
    in_flight: VecDeque<(Arc<Image>, Vec<Answer>)>,
}

impl Metadata {
    pub fn new() -> Metadata {
        Metadata { committed_at: 0, said: VecDeque::from([Arc::default()]), in_flight: VecDeque::new() }
    }

    /// What decisions are made on: everything that was proposed.
    pub fn pending(&self) -> &Arc<Image> {
        self.in_flight.back().map_or(self.committed(), |(image, _)| image)
    }

    pub fn committed(&self) -> &Arc<Image> {
        self.said.back().expect("at least the empty image")
    }

    pub fn committed_at(&self) -> usize {
        self.committed_at
    }

    /// The image after so many commands.
    pub fn at(&self, position: usize) -> &Arc<Image> {
        &self.said[position + self.said.len() - 1 - self.committed_at]
    }

    /// Nobody will ask for an image before this one.
    pub fn forget_before(&mut self, position: usize) {
        while self.committed_at + 1 - self.said.len() < position {
            self.said.pop_front();
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The epoch of a broker that registers with the next command: its place in the log.
    pub fn next_broker_epoch(&self) -> BrokerEpoch {
        BrokerEpoch((self.committed_at + self.in_flight.len()) as i64 + 1)
    }

    /// What can be answered at once: when nothing is proposed and nothing in flight.
    pub fn propose(&mut self, records: &[Record], answer: Option<Answer>) -> Option<(usize, Answer)> {
        if records.is_empty() {
            return match self.in_flight.back_mut() {
                Some((_, answers)) => {
                    answers.extend(answer);
                    None
                }
                None => answer.map(|answer| (self.committed_at, answer)),
            };
        }
        let mut image = Image::clone(self.pending());
        records.iter().for_each(|record| image.apply(record));
        self.in_flight.push_back((Arc::new(image), answer.into_iter().collect()));
        None
    }

    /// Answers, with the position in the log that they were given at.
    pub fn commit_one(&mut self) -> Vec<(usize, Answer)> {
        let Some((image, answers)) = self.in_flight.pop_front() else { return Vec::new() };
        self.committed_at += 1;
        self.said.push_back(image);
        answers.into_iter().map(|answer| (self.committed_at, answer)).collect()
    }

    /// Another controller goes on from what is committed. What became of the rest nobody is told.
    pub fn fail_over(&mut self) {
        self.in_flight.clear();
    }
}

pub fn incarnation(life: u64) -> Incarnation {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&life.to_be_bytes());
    Incarnation(bytes)
}

/// The life under which the broker is registered.
pub fn life_of(image: &Image, broker: BrokerId) -> Option<u64> {
    let incarnation = image.broker(broker)?.incarnation;
    Some(u64::from_be_bytes(incarnation.0[..8].try_into().expect("eight bytes")))
}

pub fn is_active(image: &Image, broker: BrokerId) -> bool {
    image.broker(broker).is_some_and(|broker| broker.state == BrokerState::Active)
}
