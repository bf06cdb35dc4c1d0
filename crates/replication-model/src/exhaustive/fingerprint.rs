//! Which states are the same. Two states that differ in nothing but the time of day, or in how writes, reads and streams are
//! numbered, lead to the same futures, and count as one.
//!
//! - A moment is hashed as what it is to the clock of its node: long past, past, or how soon. Between two moments of one class
//!   nothing that the cores can do differs: the only timers that are pending together on a node are of different classes, or were set at the same moment.
//! - A number is hashed as the place where it is named first, in the order of the state.
//! - Positions in the metadata log are hashed as distances from its end.
//!
//! Which is which, the hasher sees by size: clocks and numbers begin so high that they do not meet anything else that is counted.
//! A state is 64 bits then: with a million states, one that is taken for another has a chance of one in thirty million.

use std::hash::{Hash, Hasher};

use base_types::Tick;
use peer_api::metadata::Image;
use replica_core::{Names, ReadId, WriteId};

use super::steps::{LAG_MS, State};

/// Clocks begin here.
pub const CLOCK: Tick = Tick(1 << 40);
/// Writes, reads and streams are numbered from here.
pub const NAMES: Names = Names { write: WriteId(1 << 20), read: ReadId(1 << 21) };
pub const STREAMS: u64 = 1 << 22;

/// Spans of time that a replica remembers only to wait twice as long the next time.
const SPANS: std::ops::RangeInclusive<u64> = 10..=200;

impl State {
    pub fn fingerprint(&self) -> u64 {
        let world = &self.world;
        let mut hasher = Fingerprint::default();
        self.spent.hash(&mut hasher);
        let newest = world.metadata.committed_at();
        let mut oldest = newest;
        for node in world.nodes.values() {
            hasher.clock = node.clock.0;
            hasher.names.clear();
            (node.up, node.life, node.broker_epoch, node.directory).hash(&mut hasher);
            (node.lost_in, node.doubted_in).hash(&mut hasher);
            (newest - if node.up { node.heard } else { newest }).hash(&mut hasher);
            if node.up {
                oldest = oldest.min(node.heard);
            }
            for slot in node.slots.values() {
                slot.replica.hash(&mut hasher);
                slot.disk.hash(&mut hasher);
                slot.log.hash(&mut hasher);
            }
        }
        hasher.names.clear();
        (oldest..=newest).for_each(|position| hash_image(world.metadata.at(position), &mut hasher));
        self.held.hash(&mut hasher);
        world.streams.hash(&mut hasher);
        world.letters.hash(&mut hasher);
        world.proposals.hash(&mut hasher);
        world.requests.hash(&mut hasher);
        world.judge.hash(&mut hasher);
        hasher.finish()
    }
}

/// What of it changes in a search.
fn hash_image(image: &Image, hasher: &mut Fingerprint) {
    for broker in image.brokers() {
        (broker.id, broker.epoch, broker.incarnation, broker.state).hash(hasher);
        image.directory_epoch(broker.id).hash(hasher);
    }
    image.partitions().for_each(|(_, state)| state.hash(hasher));
}

#[derive(Default)]
struct Fingerprint {
    hash: u64,
    clock: u64,
    /// In the order in which they came.
    names: Vec<u64>,
}

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        // Multiply and fold: each bit of the product depends on every lower bit of both.
        let product = u128::from(self.hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xe703_7ed1_a0b4_28db_u128;
        self.hash = (product as u64) ^ ((product >> 64) as u64);
    }

    /// How far a moment lies from now, as far as anybody can tell.
    fn moment(&self, at: u64) -> u64 {
        match at.checked_sub(self.clock) {
            None | Some(0) if self.clock - at >= LAG_MS => 0,
            None | Some(0) => 1,
            Some(1..=20) => 2,
            Some(21..=1_000) => 3,
            Some(1_001..LAG_MS) => 4,
            Some(_) => 5,
        }
    }

    fn name(&mut self, name: u64) -> u64 {
        let known = self.names.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        }) as u64
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        let mut last = Fingerprint { hash: self.hash, ..Fingerprint::default() };
        last.mix(0);
        last.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let canonical = match value {
            u64::MAX => u64::MAX,
            _ if value >= CLOCK.0 => self.moment(value),
            _ if value >= NAMES.write.0 => self.name(value),
            _ if SPANS.contains(&value) => *SPANS.start(),
            _ => value,
        };
        self.mix(canonical);
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}
