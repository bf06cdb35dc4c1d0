//! A whole cluster in one thread: who is in it, what goes wrong, and whether everything held.

mod groups;

use std::collections::BTreeMap;
use std::sync::Arc;

use base_types::{Incarnation, Now, Random, Tick, Timestamp};
use store_api::{MemKv, MemVfs, Survivors};

use crate::checkers;
use crate::faults::{self, Fault, Plan};
use crate::process::client::log::{Consumer, Producer, Promises, Settings};
use crate::process::controller::{self, Controller};
use crate::process::gateway::Gateway;
use crate::process::storage::{Disk, Storage};
use crate::world::{ProcessId, Time, World};
use groups::Groups;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub controllers: i32,
    pub storage_nodes: i32,
    pub gateways: i32,
    pub producers: i32,
    /// Between an answer and the next batch.
    pub pace_ms: u64,
    pub partitions: i32,
    /// Of three members each, in both protocols.
    pub groups: usize,
    /// Faults end and clients stop here; then everything has to heal.
    pub trouble_ms: u64,
    pub heal_ms: u64,
    pub faults: u64,
    /// Of members of groups.
    pub member_faults: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            controllers: 3,
            storage_nodes: 3,
            gateways: 2,
            producers: 3,
            pace_ms: 0,
            partitions: 2,
            groups: 0,
            trouble_ms: 12_000,
            heal_ms: 30_000,
            faults: 6,
            member_faults: 0,
        }
    }
}

impl Shape {
    /// Consumer groups, with so much going on besides as they need.
    pub fn of_groups() -> Shape {
        Shape {
            producers: 1,
            pace_ms: 30,
            partitions: 6,
            groups: 3,
            trouble_ms: 15_000,
            heal_ms: 45_000,
            faults: 8,
            member_faults: 6,
            ..Shape::default()
        }
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub trace_hash: u64,
    pub inputs: u64,
    pub simulated_ms: u64,
    pub acknowledged: usize,
    pub unknown: usize,
    pub commits: usize,
    /// Generations and member epochs that groups went through.
    pub generations: usize,
    /// What did not hold, and the last lines of the trace.
    pub failure: Option<(String, Vec<String>)>,
}

pub struct Cluster {
    pub world: World,
    shape: Shape,
    random: Random,
    disks: BTreeMap<i32, Disk>,
    stores: BTreeMap<i32, controller::Store>,
    groups: Groups,
}

/// How often the checkers look at everything.
const CHECK_EVERY_INPUTS: u64 = 500;

/// Runs one seed to its end.
pub fn run(seed: u64, shape: Shape, verbose: bool) -> Report {
    let mut cluster = Cluster::new(seed, shape);
    cluster.world.trace.verbose = verbose;
    let outcome = cluster.run();
    let promises = cluster.promises();
    Report {
        seed,
        trace_hash: cluster.world.trace.hash(),
        inputs: cluster.world.trace.inputs,
        simulated_ms: cluster.world.time().ms(),
        acknowledged: promises.iter().map(|promise| promise.acknowledged.len()).sum(),
        unknown: promises.iter().map(|promise| promise.unknown.len()).sum(),
        commits: cluster.groups.judge.borrow().commits_acknowledged(),
        generations: cluster.groups.judge.borrow().generations(),
        failure: outcome.err().map(|failure| (failure, cluster.last_lines())),
    }
}

impl Cluster {
    pub fn new(seed: u64, shape: Shape) -> Cluster {
        let mut random = Random::new(seed);
        let mut cluster = Cluster {
            world: World::new(random.next_u64()),
            shape,
            random: random.fork(3),
            disks: BTreeMap::new(),
            stores: BTreeMap::new(),
            groups: Groups::new(shape, &mut random),
        };
        let mut targets = Vec::new();
        for id in 1..=shape.controllers {
            cluster.stores.insert(id, controller::Store::default());
            targets.push(ProcessId::Controller(id));
        }
        for id in 1..=shape.storage_nodes {
            cluster.disks.insert(
                id,
                Disk { vfs: MemVfs::new(), kv: Arc::new(MemKv::new()), broker_epoch: None, cluster_id: None },
            );
            targets.push(ProcessId::Storage(id));
        }
        for id in 1..=shape.gateways {
            targets.push(ProcessId::Gateway(id));
        }
        for &target in &targets {
            cluster.start(target);
        }
        for id in 1..=shape.producers {
            let producer = Producer::new(cluster.client(id));
            cluster.world.start(ProcessId::Client(id), producer);
        }
        let consumer = Consumer::new(cluster.client(0));
        cluster.world.start(ProcessId::Client(0), consumer);
        let plan = Plan { until_ms: shape.trouble_ms, count: shape.faults };
        let mut fault_random = cluster.random.fork(4);
        for (at, fault) in faults::draw(&mut fault_random, &targets, plan) {
            cluster.world.schedule(at, fault);
        }
        cluster.start_groups();
        cluster
    }

    fn start_groups(&mut self) {
        for gateway in 1..=self.shape.gateways {
            self.groups.start_auditor(&mut self.world, gateway);
        }
        let seats = self.groups.seats();
        for seat in &seats {
            self.start(seat.process);
        }
        if seats.is_empty() {
            return;
        }
        let plan = Plan { until_ms: self.shape.trouble_ms, count: self.shape.member_faults };
        let mut random = self.random.fork(5);
        for (at, fault) in faults::draw_for_members(&mut random, &seats, self.shape.gateways, plan) {
            self.world.schedule(at, fault);
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let trouble_ends = Time(self.shape.trouble_ms * 1000);
        let end = Time((self.shape.trouble_ms + self.shape.heal_ms) * 1000);
        let mut checked = 0;
        let mut epochs = checkers::Epochs::default();
        while self.world.step(end) {
            for fault in self.world.take_faults() {
                self.carry_out(fault);
            }
            if self.world.trace.inputs >= checked + CHECK_EVERY_INPUTS {
                checked = self.world.trace.inputs;
                checkers::replicas(&self.world, &mut epochs)?;
                checkers::consumer(&self.world)?;
                self.groups.judged()?;
                if self.world.time() > trouble_ends && self.has_healed() {
                    break;
                }
            }
        }
        checkers::replicas(&self.world, &mut epochs)?;
        checkers::consumer(&self.world)?;
        self.groups.judged()?;
        self.healed()?;
        checkers::history(&self.world, &self.promises())
    }

    fn healed(&self) -> Result<(), String> {
        let ends = checkers::healed(&self.world, self.shape)?;
        self.groups.healed(&self.world, &ends)
    }

    fn has_healed(&self) -> bool {
        self.healed().is_ok() && checkers::history(&self.world, &self.promises()).is_ok()
    }

    fn last_lines(&self) -> Vec<String> {
        let judge = self.groups.judge.borrow();
        self.world.trace.lines().map(str::to_owned).chain(judge.notes().cloned()).collect()
    }

    fn promises(&self) -> Vec<Promises> {
        let of = |id| self.world.process::<Producer>(ProcessId::Client(id)).map(|producer| producer.promises.clone());
        (1..=self.shape.producers).filter_map(of).collect()
    }

    fn carry_out(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { process, power_lost } => self.crash(process, power_lost),
            Fault::Restart { process } => {
                if !self.world.is_alive(process) {
                    self.start(process);
                }
            }
            Fault::Pause { process } => self.world.pause(process),
            Fault::Resume { process } => self.world.resume(process),
            Fault::Cut { from, to } => self.world.cut(from, to),
            Fault::Heal => self.world.heal(),
        }
    }

    fn crash(&mut self, process: ProcessId, power_lost: bool) {
        match process {
            ProcessId::Storage(id) => {
                if let Some(storage) = self.world.process::<Storage>(process) {
                    let disk = storage.disk();
                    let pattern = self.random.below(Survivors::ALL.len() as u64) as usize;
                    let survivors = Survivors::ALL[pattern];
                    let after = if power_lost {
                        Disk {
                            vfs: disk.vfs.after_crash(survivors, &mut self.random),
                            kv: Arc::new(disk.kv.after_crash(&mut self.random)),
                            broker_epoch: disk.broker_epoch,
                            cluster_id: disk.cluster_id.clone(),
                        }
                    } else {
                        Disk {
                            vfs: disk.vfs.clone(),
                            kv: Arc::new(disk.kv.after_kill()),
                            broker_epoch: disk.broker_epoch,
                            cluster_id: disk.cluster_id.clone(),
                        }
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
        self.world.kill(process);
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

    fn client(&self, id: i32) -> Settings {
        Settings {
            id,
            gateways: self.shape.gateways,
            partitions: self.shape.partitions,
            replication_factor: 3,
            idempotent: id % 2 == 1,
            creates: id > 0,
            min_insync_replicas: self.groups.min_insync_replicas.filter(|_| id == 1),
            pace_ms: self.shape.pace_ms,
            stop_ms: self.shape.trouble_ms,
        }
    }
}
