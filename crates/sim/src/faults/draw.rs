//! The faults of a seed.

use base_types::Random;
use store_api::{DiskOperation, Survivors};

use super::{Fault, Kind, List, Loss, Operation};
use crate::cluster::Shape;
use crate::world::{ProcessId, Time};

/// How many faults there are, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub until_ms: u64,
    pub count: u64,
}

/// A member of a group, and what may happen to it besides.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    pub process: ProcessId,
    /// Started in its place while it stands still: it bears the same instance id.
    pub stand_in: Option<ProcessId>,
    /// It may die for good.
    pub is_mortal: bool,
}

/// Of restarts, where disks are wiped at all.
const WIPES_PER_MILLE: u64 = 200;
/// Of losses of power: disks stand still before.
const DISKS_FIRST_PER_MILLE: u64 = 700;
/// A disk that is so many times slower stands still, as far as the next second goes.
const STANDSTILL: u64 = 1_000;

/// Faults in order of time. Every one has its end; after `shape.trouble_ms` everything is well.
pub fn draw(random: &mut Random, shape: &Shape) -> List {
    let kinds: Vec<Kind> = shape.swarm.kinds().filter(|kind| *kind != Kind::Wipe).collect();
    let mut drawing = Drawing { random, shape, servers: shape.servers(), faults: Vec::new() };
    for number in 0..if kinds.is_empty() { 0 } else { shape.faults } {
        let at = drawing.random.between(1_000, shape.trouble_ms.saturating_sub(3_000).max(1_001));
        let kind = kinds[drawing.random.below(kinds.len() as u64) as usize];
        drawing.draw(kind, at, number);
    }
    let Drawing { servers, mut faults, .. } = drawing;
    // What a fault begins late may end after the trouble; then it ends with it.
    let end = Time(shape.trouble_ms * 1000);
    faults.retain(|&(at, _)| at < end);
    faults.push((end, Fault::Heal));
    for process in servers {
        faults.push((end, Fault::MendDisk { process }));
        faults.push((end, Fault::Drift { process, per_mille: 1000 }));
        faults.push((end, Fault::Resume { process }));
        faults.push((end, Fault::Restart { process }));
    }
    faults.sort_by_key(|&(at, _)| at);
    faults
}

fn has_disk(process: ProcessId) -> bool {
    matches!(process, ProcessId::Controller(_) | ProcessId::Storage(_))
}

struct Drawing<'a> {
    random: &'a mut Random,
    shape: &'a Shape,
    servers: Vec<ProcessId>,
    faults: List,
}

impl Drawing<'_> {
    fn put(&mut self, at_ms: u64, fault: Fault) {
        self.faults.push((Time(at_ms * 1000), fault));
    }

    fn anyone(&mut self) -> ProcessId {
        self.servers[self.random.below(self.servers.len() as u64) as usize]
    }

    fn other_than(&mut self, one: ProcessId) -> ProcessId {
        loop {
            let other = self.anyone();
            if other != one {
                return other;
            }
        }
    }

    fn storage_node(&mut self) -> ProcessId {
        ProcessId::Storage(self.random.between(1, self.shape.storage_nodes as u64) as i32)
    }

    fn disk_owner(&mut self) -> ProcessId {
        loop {
            let process = self.anyone();
            if has_disk(process) {
                return process;
            }
        }
    }

    fn loss(&mut self) -> Loss {
        // Torn writes at four of five losses of power.
        let survivors = match self.random.below(10) {
            0..=3 => Survivors::TornPrefix,
            4..=7 => Survivors::TornSubset,
            _ => Survivors::ALL[self.random.below(Survivors::ALL.len() as u64) as usize],
        };
        Loss { survivors, seed: self.random.next_u64() }
    }

    /// The process comes back, at times with an empty disk; then it often takes so long that the controllers do without it before.
    fn restart(&mut self, down_ms: u64, process: ProcessId) {
        let mut restart_ms = down_ms + self.random.between(50, 5_000);
        if self.shape.swarm.has(Kind::Wipe)
            && matches!(process, ProcessId::Storage(_))
            && self.random.chance(WIPES_PER_MILLE)
        {
            restart_ms += self.random.between(0, 20_000);
            self.put(restart_ms - 1, Fault::Wipe { process });
        }
        self.put(restart_ms, Fault::Restart { process });
    }

    /// Power is lost at `at`, often by these machines' disks first: a shelf of disks dies at once, while a machine lives on for as long as
    /// its supply does. Until then nothing becomes durable, and all else goes on.
    fn disks_first(&mut self, at: u64, processes: &[ProcessId]) {
        if self.random.chance(DISKS_FIRST_PER_MILLE) {
            let stopped_at = at.saturating_sub(self.random.between(1, 1_000));
            for &process in processes.iter().filter(|process| has_disk(**process)) {
                self.put(stopped_at, Fault::SlowDisk { process, times: STANDSTILL });
            }
        }
    }

    fn draw(&mut self, kind: Kind, at: u64, number: u64) {
        match kind {
            Kind::Kill => {
                let process = self.anyone();
                self.put(at, Fault::Kill { process });
                self.restart(at, process);
            }
            Kind::PowerLoss => {
                let (process, loss) = (self.anyone(), self.loss());
                self.disks_first(at, &[process]);
                self.put(at, Fault::PowerLoss { process, loss });
                self.restart(at, process);
            }
            Kind::TornWrite => {
                let (process, changes, loss) = (self.storage_node(), self.random.below(60), self.loss());
                self.put(at, Fault::PowerLossAtChange { process, changes, loss });
                self.restart(at + 2_000, process);
            }
            Kind::PowerLossOfAll => {
                let loss = self.loss();
                // Two circuits: disks of the one may go first, and power comes back to one after the other.
                let (one, other): (Vec<ProcessId>, Vec<ProcessId>) =
                    self.servers.clone().into_iter().partition(|_| self.random.chance(500));
                self.disks_first(at, &one);
                self.put(at, Fault::PowerLossOfAll { loss });
                for circuit in [one, other] {
                    let back_ms = at + self.random.between(50, 4_500);
                    for process in circuit {
                        let restart_ms = back_ms + self.random.below(500);
                        self.put(restart_ms, Fault::Restart { process });
                    }
                }
            }
            // Comes with a restart.
            Kind::Wipe => {}
            Kind::RollingRestart => {
                let pace_ms = self.random.between(500, 4_000);
                for (place, process) in self.servers.clone().into_iter().enumerate() {
                    let stop_ms = at + place as u64 * pace_ms;
                    self.put(stop_ms, Fault::Stop { process });
                    let restart_ms = stop_ms + pace_ms / 2;
                    self.put(restart_ms, Fault::Restart { process });
                }
            }
            Kind::Pause => {
                let process = self.anyone();
                let ends = at + self.random.between(50, 5_000);
                self.put(at, Fault::Pause { process });
                self.put(ends, Fault::Resume { process });
            }
            Kind::LongPause => {
                let process = self.anyone();
                let ends = at + self.random.between(5_000, 60_000);
                self.put(at, Fault::Pause { process });
                self.put(ends, Fault::Resume { process });
            }
            Kind::Cut => {
                let from = self.anyone();
                let to = self.other_than(from);
                let ends = at + self.random.between(50, 10_000);
                self.put(at, Fault::Cut { from, to });
                if self.random.chance(500) {
                    self.put(at, Fault::Cut { from: to, to: from });
                    self.put(ends, Fault::Mend { from: to, to: from });
                }
                self.put(ends, Fault::Mend { from, to });
            }
            Kind::Isolation => {
                let process = self.anyone();
                let ends = at + self.random.between(50, 10_000);
                let (hears, is_heard) = (self.random.chance(300), self.random.chance(300));
                for other in self.servers.clone().into_iter().filter(|other| *other != process) {
                    for (from, to, flows) in [(other, process, hears), (process, other, is_heard && !hears)] {
                        if !flows {
                            self.put(at, Fault::Cut { from, to });
                            self.put(ends, Fault::Mend { from, to });
                        }
                    }
                }
            }
            Kind::Reset => {
                for _ in 0..self.random.between(1, 20) {
                    let a = self.anyone();
                    let b = self.other_than(a);
                    let at = at + self.random.below(1_000);
                    self.put(at, Fault::Reset { a, b });
                }
            }
            Kind::ClockJump => {
                let (process, ms) = (self.anyone(), self.random.between(0, 7_200_000) as i64 - 3_600_000);
                self.put(at, Fault::Jump { process, ms });
            }
            Kind::ClockDrift => {
                let (process, per_mille) = (self.anyone(), self.random.between(900, 1_100));
                self.put(at, Fault::Drift { process, per_mille });
            }
            Kind::ReadError => self.fail_disk(at, DiskOperation::Read),
            Kind::WriteError => self.fail_disk(at, DiskOperation::Write),
            Kind::SyncError => {
                let operation =
                    if self.random.chance(700) { DiskOperation::Sync } else { DiskOperation::SyncDirectory };
                self.fail_disk(at, operation);
            }
            Kind::FullDisk => {
                let (process, bytes) = (self.storage_node(), self.random.below(64 << 10));
                let ends = at + self.random.between(500, 10_000);
                self.put(at, Fault::FillDisk { process, bytes });
                self.put(ends, Fault::MendDisk { process });
            }
            Kind::SlowDisk => {
                let (process, times) = (self.disk_owner(), self.random.between(10, 100));
                let ends = at + self.random.between(500, 10_000);
                self.put(at, Fault::SlowDisk { process, times });
                self.put(ends, Fault::MendDisk { process });
            }
            Kind::Configure | Kind::Reassign | Kind::Elect | Kind::Recreate => self.operate(kind, at, number),
        }
    }

    fn fail_disk(&mut self, at: u64, operation: DiskOperation) {
        let (process, skip, times) = (self.storage_node(), self.random.below(30), self.random.between(1, 3));
        self.put(at, Fault::FailDisk { process, operation, skip, times });
    }

    fn operate(&mut self, kind: Kind, at: u64, number: u64) {
        let topics = self.shape.topics();
        let index = self.random.below(topics.len() as u64) as usize;
        let topic = topics[index];
        let partition = self.random.below(topic.partitions as u64) as i32;
        let operation = match kind {
            Kind::Configure => {
                let (name, value) = match self.random.below(3) {
                    0 => ("segment.bytes", self.random.between(64 << 10, 1 << 20)),
                    1 => ("max.message.bytes", self.random.between(100 << 10, 1 << 20)),
                    _ => {
                        // Where disks are lost no topic is asked to live on a single one.
                        let least = if self.shape.swarm.has(Kind::Wipe) { 2 } else { 1 };
                        let most = topic.replication_factor as u64;
                        ("min.insync.replicas", self.random.between(least.min(most), most))
                    }
                };
                let value =
                    Some(value.to_string()).filter(|_| name == "min.insync.replicas" || self.random.chance(700));
                Operation::Configure { topic: index, name: name.to_owned(), value }
            }
            Kind::Reassign if self.random.chance(200) => Operation::CancelReassignment { topic: index, partition },
            Kind::Reassign => {
                let mut nodes: Vec<i32> = (1..=self.shape.storage_nodes).collect();
                let draw = |_| nodes.remove(self.random.below(nodes.len() as u64) as usize);
                let replicas = (0..topic.replication_factor).map(draw).collect();
                Operation::Reassign { topic: index, partition, replicas }
            }
            Kind::Elect => Operation::Elect { topic: index, partition },
            _ => {
                let name = format!("again-{}", number % 2);
                let replication_factor = self.random.between(1, self.shape.storage_nodes as u64) as i16;
                let create = Operation::Create { name: name.clone(), partitions: 2, replication_factor };
                let pause_ms = self.random.between(100, 5_000);
                self.put(at, Fault::Operate(create.clone()));
                self.put(at + pause_ms, Fault::Operate(Operation::Delete { name }));
                create
            }
        };
        let later_ms = if kind == Kind::Recreate { self.random.between(5_000, 6_000) } else { 0 };
        self.put(at + later_ms, Fault::Operate(operation));
    }
}

/// Faults of members, in order of time. Who does not die for good is there after `until_ms`.
pub fn draw_for_members(random: &mut Random, seats: &[Seat], gateways: i32, plan: Plan) -> List {
    let mut faults = Vec::new();
    let mut dead = Vec::new();
    for _ in 0..plan.count {
        let at = random.between(2_000, plan.until_ms);
        let ends = (at + random.between(100, 5_000)).min(plan.until_ms);
        let Seat { process, stand_in, is_mortal } = seats[random.below(seats.len() as u64) as usize];
        let mut put = |at: u64, fault| faults.push((Time(at * 1000), fault));
        match random.below(10) {
            0..=2 => {
                put(at, Fault::Kill { process });
                put(ends, Fault::Restart { process });
            }
            3 | 4 if is_mortal => {
                put(at, Fault::Kill { process });
                dead.push(process);
            }
            3..=7 => {
                put(at, Fault::Pause { process });
                if let Some(stand_in) = stand_in {
                    put(random.between(at, ends), Fault::Restart { process: stand_in });
                }
                put(ends, Fault::Resume { process });
            }
            _ => {
                let gateway = ProcessId::Gateway(random.between(1, gateways as u64) as i32);
                put(at, Fault::Cut { from: process, to: gateway });
                put(ends, Fault::Mend { from: process, to: gateway });
            }
        }
    }
    for process in seats.iter().map(|seat| seat.process) {
        faults.push((Time(plan.until_ms * 1000), Fault::Resume { process }));
        faults.push((Time(plan.until_ms * 1000), Fault::Restart { process }));
    }
    let is_of_the_dead = |fault: &Fault| matches!(fault, Fault::Restart { process } if dead.contains(process));
    faults.retain(|(_, fault)| !is_of_the_dead(fault));
    faults.sort_by_key(|&(at, _)| at);
    faults
}
