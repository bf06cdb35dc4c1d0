//! A whole cluster in one thread: who is in it, what goes wrong, and whether everything held.

mod clients;
mod groups;
mod shape;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use base_types::{Incarnation, Now, Random, Tick, Timestamp};
use store_api::{MemKv, MemVfs};

use crate::checkers;
use crate::faults::{self, Fault, List, Loss, Plan, Struck};
use crate::process::controller::{self, Controller};
use crate::process::gateway::Gateway;
use crate::process::storage::{Disk, Storage};
use crate::world::{ProcessId, Time, World};
use clients::Clients;
use groups::Groups;

pub use shape::{Shape, TOPICS_MAX, Topic, topic_name};

/// How a run went.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub trace_hash: u64,
    pub inputs: u64,
    pub simulated_ms: u64,
    pub acknowledged: usize,
    pub unknown: usize,
    /// Records, by all readers.
    pub read: usize,
    pub commits: usize,
    /// Generations and member epochs that groups went through.
    pub generations: usize,
    /// Faults that found something to strike.
    pub struck: Struck,
    /// What did not hold, and the last lines of the trace.
    pub failure: Option<(String, Vec<String>)>,
}

pub struct Cluster {
    pub world: World,
    shape: Shape,
    random: Random,
    disks: BTreeMap<i32, Disk>,
    stores: BTreeMap<i32, controller::Store>,
    clients: Clients,
    groups: Groups,
    struck: Struck,
    epochs: checkers::Epochs,
    /// How many inputs there had been when everything was looked at.
    checked: u64,
}

/// How often the checkers look at everything.
const CHECK_EVERY_INPUTS: u64 = 500;

/// Runs one seed to its end, with the faults that it draws.
pub fn run(seed: u64, shape: Shape, verbose: bool) -> Report {
    replay(seed, shape, Cluster::faults(seed, &shape), verbose)
}

/// Runs one seed to its end, with these faults. A process that panics is a failure of the run, as any other.
pub fn replay(seed: u64, shape: Shape, faults: List, verbose: bool) -> Report {
    let mut cluster = Cluster::with_faults(seed, shape, faults);
    cluster.world.trace.verbose = verbose;
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| cluster.run()));
    let outcome = outcome.unwrap_or_else(|payload| Err(panic_message(payload.as_ref())));
    let tally = cluster.clients.tally();
    Report {
        seed,
        trace_hash: cluster.world.trace.hash(),
        inputs: cluster.world.trace.inputs,
        simulated_ms: cluster.world.time().ms(),
        acknowledged: tally.acknowledged,
        unknown: tally.unknown,
        read: tally.read,
        commits: cluster.groups.judge.borrow().commits_acknowledged(),
        generations: cluster.groups.judge.borrow().generations(),
        struck: cluster.struck.clone(),
        failure: outcome.err().map(|failure| (failure, cluster.last_lines())),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
    text.unwrap_or("a panic without words").to_owned()
}

impl Report {
    /// The first line of what did not hold.
    pub fn failure_line(&self) -> Option<&str> {
        self.failure.as_ref().map(|(failure, _)| failure.lines().next().unwrap_or_default())
    }
}

impl Cluster {
    /// With the faults that the seed draws.
    pub fn new(seed: u64, shape: Shape) -> Cluster {
        Cluster::with_faults(seed, shape, Cluster::faults(seed, &shape))
    }

    /// The faults that a seed draws, in order of time.
    pub fn faults(seed: u64, shape: &Shape) -> List {
        let mut random = Random::new(seed).fork(4);
        let mut faults = faults::draw(&mut random, shape);
        let seats = Groups::new(*shape, seed).seats();
        if !seats.is_empty() {
            let plan = Plan { until_ms: shape.trouble_ms, count: shape.member_faults };
            faults.extend(faults::draw_for_members(&mut random.fork(5), &seats, shape.gateways, plan));
            faults.sort_by_key(|&(at, _)| at);
        }
        faults
    }

    /// With these faults and no others. The same seed, shape and faults are the same run.
    pub fn with_faults(seed: u64, shape: Shape, faults: List) -> Cluster {
        let mut random = Random::new(seed);
        let groups = Groups::new(shape, seed);
        let mut cluster = Cluster {
            world: World::new(random.next_u64()),
            shape,
            random: random.fork(3),
            disks: BTreeMap::new(),
            stores: BTreeMap::new(),
            clients: Clients::new(shape, seed, groups.min_insync_replicas),
            groups,
            struck: Struck::default(),
            epochs: checkers::Epochs::default(),
            checked: 0,
        };
        for id in 1..=shape.controllers {
            cluster.stores.insert(id, controller::Store::default());
        }
        for id in 1..=shape.storage_nodes {
            cluster.disks.insert(id, Disk::default());
        }
        for process in shape.servers() {
            cluster.start(process);
        }
        cluster.clients.start(&mut cluster.world, seed);
        for (at, fault) in faults {
            cluster.world.schedule(at, fault);
        }
        for gateway in 1..=shape.gateways {
            cluster.groups.start_auditor(&mut cluster.world, gateway);
        }
        for seat in cluster.groups.seats() {
            cluster.start(seat.process);
        }
        cluster
    }

    fn run(&mut self) -> Result<(), String> {
        while self.advance()? {}
        checkers::replicas(&self.world, &mut self.epochs)?;
        self.clients.judged()?;
        self.groups.judged()?;
        self.healed()?;
        self.clients.judge(&self.world)
    }

    /// Lets the next thing happen, and looks at everything now and then. `false` when the run is over.
    pub fn advance(&mut self) -> Result<bool, String> {
        let Shape { trouble_ms, heal_ms, .. } = self.shape;
        if !self.world.step(Time((trouble_ms + heal_ms) * 1000)) {
            return Ok(false);
        }
        for fault in self.world.take_faults() {
            self.carry_out(fault);
        }
        if self.world.trace.inputs < self.checked + CHECK_EVERY_INPUTS {
            return Ok(true);
        }
        self.checked = self.world.trace.inputs;
        checkers::replicas(&self.world, &mut self.epochs)?;
        self.clients.judged()?;
        self.groups.judged()?;
        Ok(self.world.time() <= Time(trouble_ms * 1000) || !self.has_healed())
    }

    fn healed(&self) -> Result<(), String> {
        let ends = checkers::healed(&self.world, self.shape)?;
        self.clients.are_settled(&self.world)?;
        self.groups.healed(&self.world, &ends)
    }

    /// Healed, and read from end to end.
    fn has_healed(&mut self) -> bool {
        self.healed().is_ok() && self.clients.has_read_all(&mut self.world)
    }

    fn last_lines(&self) -> Vec<String> {
        let judge = self.groups.judge.borrow();
        self.world.trace.lines().map(str::to_owned).chain(judge.notes().cloned()).collect()
    }

    fn carry_out(&mut self, fault: Fault) {
        let struck = match fault {
            Fault::Kill { process } => self.crash(process, None),
            Fault::PowerLoss { process, loss } => self.crash(process, Some(loss)),
            Fault::Restart { process } => {
                if !self.world.is_alive(process) {
                    self.start(process);
                }
                false
            }
            Fault::Pause { process } => self.world.pause(process),
            Fault::Resume { process } => {
                self.world.resume(process);
                false
            }
            Fault::Cut { from, to } => {
                self.world.cut(from, to);
                true
            }
            Fault::Heal | Fault::Mend { .. } => {
                self.world.heal();
                false
            }
            _ => false,
        };
        self.struck.add(fault.name(), u64::from(struck));
    }

    /// Whether there was anything to strike.
    fn crash(&mut self, process: ProcessId, loss: Option<Loss>) -> bool {
        match process {
            ProcessId::Storage(id) => {
                if let Some(storage) = self.world.process::<Storage>(process) {
                    let disk = storage.disk();
                    let after = match loss {
                        Some(loss) => disk.after_power_loss(loss),
                        None => disk.after_kill(),
                    };
                    self.disks.insert(id, after);
                }
            }
            ProcessId::Controller(id) => {
                if let Some(controller) = self.world.process::<Controller>(process) {
                    self.stores.insert(id, controller.store().clone());
                }
            }
            ProcessId::Member(number) => self.groups.died(number, self.world.time()),
            ProcessId::Gateway(_) | ProcessId::Client(_) => {}
        }
        let struck = self.world.is_alive(process);
        self.world.kill(process);
        struck
    }

    fn start(&mut self, process: ProcessId) {
        let incarnation = Incarnation(self.random.uuid());
        let now = Now { tick: Tick(self.world.time().ms()), wall: Timestamp(0) };
        match process {
            ProcessId::Storage(id) => {
                let Some(disk) = self.disks.get(&id).cloned() else { return };
                let storage = Storage::start(id, disk, incarnation, self.shape.controllers, groups::statics());
                self.world.start(process, storage);
            }
            ProcessId::Controller(id) => {
                let Some(store) = self.stores.get(&id).cloned() else { return };
                let seed = self.random.next_u64();
                self.world.start(process, Controller::start(id, self.shape.controllers, store, seed, now));
            }
            ProcessId::Gateway(id) => {
                let seed = self.random.next_u64();
                let gateway = Gateway::start(id, incarnation, self.shape.controllers, groups::statics(), seed);
                self.world.start(process, gateway);
            }
            ProcessId::Member(number) => self.groups.start_member(&mut self.world, number),
            ProcessId::Client(_) => {}
        }
    }
}
