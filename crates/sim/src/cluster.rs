//! A whole cluster in one thread: who is in it, what goes wrong, and whether everything held.

mod clients;
mod groups;
mod shape;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};

use base_types::{BrokerId, Incarnation, Now, Offset, Random, Tick, Timestamp};
use segment_log::{OpenError, StoreError};
use store_api::{DiskErrorKind, DiskFault};

use crate::checkers;
use crate::faults::{self, Fault, List, Loss, Plan, Struck};
use crate::process::admin::Admin;
use crate::process::controller::{self, Controller};
use crate::process::gateway::Gateway;
use crate::process::storage::{Disk, Storage};
use crate::world::{Exit, ProcessId, Time, World};
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
    /// What survives when a disk reaches the change at which power is lost.
    armed: BTreeMap<ProcessId, Loss>,
    memory: checkers::Memory,
    /// How many inputs there had been when everything was looked at.
    checked: u64,
    /// What was noticed while faults were carried out.
    failure: Option<String>,
}

const ADMIN: ProcessId = ProcessId::Client(1_000);

/// A failure of the disk that may be over at the next start. Damage is not.
fn is_for_now(error: &OpenError) -> bool {
    matches!(error, OpenError::Disk(_) | OpenError::Store(StoreError::NoSpace | StoreError::Failed(_)))
}

/// How often the checkers look at everything.
const CHECK_EVERY_INPUTS: u64 = 500;

/// Ten times what a run usually takes.
const INPUTS_MAX: u64 = 1_000_000;

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
        struck: cluster.struck(),
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
            world: World::new(random.next_u64(), &shape.swarm),
            shape,
            random: random.fork(3),
            disks: BTreeMap::new(),
            stores: BTreeMap::new(),
            clients: Clients::new(shape, seed, groups.min_insync_replicas),
            groups,
            struck: Struck::default(),
            armed: BTreeMap::new(),
            memory: checkers::Memory::default(),
            checked: 0,
            failure: None,
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
        cluster.world.start(ADMIN, Admin::new(shape.gateways, shape.topics()));
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
        self.memory.check(&self.world)?;
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
        for (process, exit) in self.world.take_exits() {
            self.bury(process, exit);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.world.trace.inputs < self.checked + CHECK_EVERY_INPUTS {
            return Ok(true);
        }
        self.checked = self.world.trace.inputs;
        if self.checked > INPUTS_MAX {
            let ms = self.world.time().ms();
            return Err(format!("L: {INPUTS_MAX} inputs, and only {ms} ms are over: somebody goes round in circles"));
        }
        self.memory.check(&self.world)?;
        self.clients.judged()?;
        self.groups.judged()?;
        Ok(self.world.time() <= Time(trouble_ms * 1000) || !self.has_healed())
    }

    /// What struck, of links and disks too.
    fn struck(&self) -> Struck {
        let mut struck = self.struck.clone();
        struck.merge(&self.world.network.struck);
        let met = |disk: &Disk| disk.vfs.faults_met();
        struck.add("disk error", self.disks.values().map(met).sum());
        struck
    }

    fn healed(&self) -> Result<(), String> {
        let ends = checkers::healed(&self.world, self.shape)?;
        if let Some(image) = self.memory.controllers.newest() {
            checkers::liveness::partitions(image)?;
        }
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
        let name = fault.name();
        let struck = match fault {
            Fault::Kill { process } => self.crash(process, None),
            Fault::PowerLoss { process, loss } => self.crash(process, Some(loss)),
            Fault::PowerLossAtChange { process, changes, loss } => {
                if let Some(disk) = self.disk(process).filter(|disk| !disk.vfs.is_crashed()) {
                    disk.vfs.crash_after(changes);
                    self.armed.insert(process, loss);
                }
                false
            }
            Fault::PowerLossOfAll { loss } => {
                self.shape.servers().into_iter().for_each(|process| _ = self.crash(process, Some(loss)));
                true
            }
            Fault::Wipe { process } => self.wipe(process),
            Fault::Stop { process } => self.world.request_stop(process),
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
            Fault::Mend { from, to } => {
                self.world.mend(from, to);
                false
            }
            Fault::Heal => {
                self.world.heal();
                self.world.calm();
                false
            }
            Fault::Reset { a, b } => self.world.reset(a, b),
            Fault::Jump { process, ms } => {
                self.world.jump(process, ms);
                true
            }
            Fault::Drift { process, per_mille } => {
                self.world.drift(process, per_mille);
                per_mille != 1000
            }
            Fault::FailDisk { process, operation, skip, times } => {
                let kind = DiskErrorKind::Failed;
                let fault = DiskFault { operation, path: String::new(), kind, skip, times };
                if let Some(disk) = self.disk(process) {
                    disk.vfs.inject(fault);
                }
                false
            }
            Fault::FillDisk { process, bytes } => {
                if let Some(disk) = self.disk(process) {
                    disk.vfs.set_capacity(disk.vfs.used() + bytes);
                }
                false
            }
            Fault::SlowDisk { process, times } => self.slow_disk(process, times),
            Fault::MendDisk { process } => {
                if let Some(disk) = self.disk(process) {
                    disk.vfs.mend();
                }
                self.armed.remove(&process);
                self.slow_disk(process, 1);
                false
            }
            Fault::Operate(operation) => match self.world.process_mut::<Admin>(ADMIN) {
                Some(admin) => {
                    admin.ask(operation);
                    self.world.rouse(ADMIN);
                    true
                }
                None => false,
            },
        };
        self.struck.add(name, u64::from(struck));
    }

    fn disk(&self, process: ProcessId) -> Option<&Disk> {
        match process {
            ProcessId::Storage(id) => self.disks.get(&id),
            _ => None,
        }
    }

    /// Whether there was a process with a disk.
    fn slow_disk(&mut self, process: ProcessId, times: u64) -> bool {
        if let Some(storage) = self.world.process_mut::<Storage>(process) {
            storage.slowness = times;
        } else if let Some(controller) = self.world.process_mut::<Controller>(process) {
            controller.slowness = times;
        } else {
            return false;
        }
        true
    }

    /// Whether there was anything to strike.
    fn crash(&mut self, process: ProcessId, loss: Option<Loss>) -> bool {
        if !self.world.is_alive(process) {
            return false;
        }
        let noted = self.memory.look(&self.world);
        self.failure = self.failure.take().or(noted.err());
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
                    let store = match loss {
                        Some(loss) => controller.store_after_power_loss(loss),
                        None => controller.store().clone(),
                    };
                    self.stores.insert(id, store);
                }
            }
            ProcessId::Member(number) => self.groups.died(number, self.world.time()),
            ProcessId::Gateway(_) | ProcessId::Client(_) => {}
        }
        self.world.kill(process, loss.is_none());
        true
    }

    /// A process ended by itself; its supervisor starts it again after a while.
    fn bury(&mut self, process: ProcessId, exit: Exit) {
        let may_be_clean = self.world.process::<Storage>(process).is_some_and(Storage::may_be_clean);
        if let (ProcessId::Storage(id), true) = (process, may_be_clean) {
            self.memory.disks.closed(BrokerId(id));
        }
        match exit {
            Exit::Stopped => _ = self.crash(process, None),
            Exit::PowerLost => {
                let loss = self.armed.remove(&process);
                if self.crash(process, loss) {
                    self.struck.add("power-loss-at-change", 1);
                }
            }
        }
        self.restart_later(process);
    }

    fn restart_later(&mut self, process: ProcessId) {
        let at = self.world.time().plus_ms(self.random.between(500, 3_000));
        self.world.schedule(at, Fault::Restart { process });
    }

    /// The disk is another one, unless the contract would not cover that.
    fn wipe(&mut self, process: ProcessId) -> bool {
        let ProcessId::Storage(id) = process else { return false };
        if !self.atlas_permits_loss_of(id) {
            return false;
        }
        self.crash(process, None);
        self.disks.insert(id, Disk::default());
        self.memory.replication.disk_lost(BrokerId(id));
        self.memory.disks.lost(BrokerId(id));
        true
    }

    /// An acknowledged record is on every member of ISR and ELR, as the controllers have them, and those are as many as min.insync.replicas says, or
    /// more. Until a disk is known to be another one, its node may still be left as the only member. So it may be lost when it is no member, or when
    /// of so many members another one is left that truly has all.
    fn atlas_permits_loss_of(&mut self, id: i32) -> bool {
        let noted = self.memory.look(&self.world);
        self.failure = self.failure.take().or(noted.err());
        let Some(image) = self.memory.controllers.newest() else { return false };
        let replication = &self.memory.replication;
        image.partitions().all(|(partition, state)| {
            let members = || state.isr.iter().chain(&state.elr).copied();
            if !members().any(|broker| broker == BrokerId(id)) {
                return true;
            }
            let committed = replication.high_watermark(partition);
            let has_all =
                |broker| replication.durable_end(broker, partition).is_some_and(|durable| durable >= committed);
            let (have, lack): (Vec<BrokerId>, Vec<BrokerId>) =
                members().filter(|broker| *broker != BrokerId(id)).partition(|broker| has_all(*broker));
            let is_there = have.iter().any(|broker| self.world.is_alive(ProcessId::Storage(broker.0)));
            is_there && lack.len() + 1 < checkers::min_insync_replicas(image, partition)
        })
    }

    fn start(&mut self, process: ProcessId) {
        let incarnation = Incarnation(self.random.uuid());
        let now = Now { tick: Tick(0), wall: Timestamp(0) };
        match process {
            ProcessId::Storage(id) => self.start_storage(id, incarnation),
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

    fn start_storage(&mut self, id: i32, incarnation: Incarnation) {
        let process = ProcessId::Storage(id);
        let Some(disk) = self.disks.get(&id).cloned() else { return };
        match Storage::start(id, disk.clone(), incarnation, self.shape.controllers, groups::statics()) {
            Ok(storage) => {
                self.check_recovery(id, &storage);
                self.world.start(process, storage);
            }
            // Power may be lost again while the log is recovered.
            Err(_) if disk.vfs.is_crashed() => {
                if let Some(loss) = self.armed.remove(&process) {
                    self.disks.insert(id, disk.after_power_loss(loss));
                    self.struck.add("power-loss-in-recovery", 1);
                }
                self.restart_later(process);
            }
            Err(error) if is_for_now(&error) => {
                self.restart_later(process);
            }
            Err(error) => self.failure = Some(format!("S1: storage node {id} cannot recover its log: {error:?}")),
        }
    }

    fn check_recovery(&mut self, id: i32, storage: &Storage) {
        let node = BrokerId(id);
        let log = storage.log();
        let end = |partition| Some((partition, log.bounds(partition)?.1));
        let ends: BTreeMap<_, _> = log.replicas().into_iter().filter_map(end).collect();
        let image = self.memory.controllers.newest();
        // What the node was to delete may have been deleted already.
        let is_given = |partition| {
            let state = image.and_then(|image| image.partition(partition));
            state.is_some_and(|state| state.replicas.contains(&node))
        };
        // What was not committed may have been cut.
        let replication = &self.memory.replication;
        let committed = |(partition, end): (_, Offset)| (partition, end.min(replication.high_watermark(partition)));
        let durable: Vec<_> =
            replication.durable_of(node).filter(|(partition, _)| is_given(*partition)).map(committed).collect();
        let checked = self.memory.disks.recovered(node, storage.was_clean(), &ends, durable.into_iter());
        self.failure = self.failure.take().or(checked.err());
    }
}
