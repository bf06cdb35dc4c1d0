//! Which clients a run has beside its groups: of mixed kinds, drawn from the seed.
//!
//! The first three are always there: an idempotent producer, a plain one that waits for all, and a reader. When all is well again a final reader
//! reads everything, and then the history of all of them is judged, once.

use std::cell::RefCell;
use std::rc::Rc;

use base_types::Random;

use super::Shape;
use crate::process::client::adversary::{self, Adversary};
use crate::process::client::book::{Book, Shared, Tally};
use crate::process::client::operator::{self, Operator};
use crate::process::client::producer::{self, Producer};
use crate::process::client::reader::{self, Reader};
use crate::world::{ProcessId, World};

const FINAL: ProcessId = ProcessId::Client(900);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Idempotent,
    Plain { acks: i16 },
    Reader,
    Operator,
    Adversary,
}

pub(super) struct Clients {
    book: Shared,
    shape: Shape,
    min_insync_replicas: Option<u8>,
    kinds: Vec<Kind>,
}

impl Clients {
    pub fn new(shape: Shape, seed: u64, min_insync_replicas: Option<u8>) -> Clients {
        let mut random = Random::new(seed).fork(8);
        let kinds = (1..=shape.clients).map(|id| match id {
            1 => Kind::Idempotent,
            2 => Kind::Plain { acks: -1 },
            3 => Kind::Reader,
            _ => match random.below(10) {
                0..=2 => Kind::Idempotent,
                3 => Kind::Plain { acks: -1 },
                4 => Kind::Plain { acks: random.below(2) as i16 },
                5 | 6 => Kind::Reader,
                7 | 8 => Kind::Adversary,
                _ => Kind::Operator,
            },
        });
        let kinds = kinds.collect();
        Clients { book: Rc::new(RefCell::new(Book::default())), shape, min_insync_replicas, kinds }
    }

    pub fn start(&self, world: &mut World, seed: u64) {
        let mut random = Random::new(seed).fork(9);
        for (place, &kind) in self.kinds.iter().enumerate() {
            let (id, random) = (1 + place as i32, &mut random.fork(place as u64));
            let process = ProcessId::Client(id);
            match kind {
                Kind::Idempotent | Kind::Plain { .. } => {
                    world.start(process, Producer::new(self.producer(id, kind, random), &self.book));
                }
                Kind::Reader => world.start(process, Reader::new(self.reader(id, random), &self.book)),
                Kind::Operator => world.start(process, Operator::new(self.operator(id), &self.book)),
                Kind::Adversary => {
                    let Shape { gateways, pace_ms, trouble_ms: stop_ms, .. } = self.shape;
                    let settings = adversary::Settings { id, gateways, pace_ms, stop_ms };
                    world.start(process, Adversary::new(settings, &self.book));
                }
            }
        }
    }

    /// The first answer that cannot be.
    pub fn judged(&self) -> Result<(), String> {
        self.book.borrow().complaint().map_or(Ok(()), |complaint| Err(complaint.clone()))
    }

    /// Every batch that is to be acknowledged is.
    pub fn are_settled(&self, world: &World) -> Result<(), String> {
        for id in 1..=self.shape.clients {
            let process = ProcessId::Client(id);
            let is_settled = match self.kinds[id as usize - 1] {
                Kind::Adversary => world.process::<Adversary>(process).is_none_or(Adversary::is_settled),
                _ => world.process::<Producer>(process).is_none_or(Producer::is_settled),
            };
            if !is_settled {
                return Err(format!("L: client {id} has batches that nobody takes after the trouble is over"));
            }
        }
        Ok(())
    }

    /// Starts the final reader when it is not there; then whether it has read everything.
    pub fn has_read_all(&self, world: &mut World) -> bool {
        match world.process::<Reader>(FINAL) {
            Some(reader) => reader.is_done(),
            None => {
                let Shape { gateways, .. } = self.shape;
                let settings =
                    reader::Settings { id: 0, gateways, version: 16, sessions: false, is_final: true, pace_ms: 0 };
                world.start(FINAL, Reader::new(settings, &self.book));
                false
            }
        }
    }

    /// The verdict on the run.
    pub fn judge(&self, world: &World) -> Result<(), String> {
        match world.process::<Reader>(FINAL) {
            Some(reader) if reader.is_done() => self.book.borrow_mut().judge(),
            Some(reader) => Err(format!("L: not everything could be read in the end: {}", reader.lacks())),
            None => Err("L: nobody has read everything in the end".to_owned()),
        }
    }

    pub fn tally(&self) -> Tally {
        self.book.borrow().tally
    }

    fn producer(&self, id: i32, kind: Kind, random: &mut Random) -> producer::Settings {
        let Shape { gateways, pace_ms, trouble_ms, .. } = self.shape;
        let acks = if let Kind::Plain { acks } = kind { acks } else { -1 };
        producer::Settings {
            id,
            gateways,
            acks,
            idempotent: kind == Kind::Idempotent,
            requests_in_flight_max: random.between(1, 5) as usize,
            partitions_per_request_max: random.between(1, 3) as usize,
            // With acks=0 a topic that is gone closes the connection.
            version: if random.chance(500) && acks != 0 { 13 } else { random.between(3, 12) as i16 },
            min_insync_replicas: self.min_insync_replicas.filter(|_| id == 1),
            pace_ms,
            stop_ms: trouble_ms,
        }
    }

    fn reader(&self, id: i32, random: &mut Random) -> reader::Settings {
        let version = if random.chance(700) { random.between(13, 17) } else { random.between(4, 12) } as i16;
        let sessions = version >= 7 && random.chance(500);
        let Shape { gateways, pace_ms, .. } = self.shape;
        reader::Settings { id, gateways, version, sessions, is_final: false, pace_ms }
    }

    fn operator(&self, id: i32) -> operator::Settings {
        let Shape { gateways, storage_nodes, pace_ms, trouble_ms, .. } = self.shape;
        let replication_factor = storage_nodes.min(3) as i16;
        operator::Settings { id, gateways, replication_factor, pace_ms: 2 * pace_ms + 100, stop_ms: trouble_ms }
    }
}
