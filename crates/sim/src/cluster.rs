//! A whole cluster in one thread: who is in it, what goes wrong, and whether everything held.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_types::{Incarnation, Now, Random, Tick, Timestamp};
use store_api::{MemKv, MemVfs, Survivors};

use crate::checkers;
use crate::faults::{self, Fault, Plan};
use crate::process::client::{Consumer, Producer, Settings};
use crate::process::controller::{self, Controller};
use crate::process::gateway::Gateway;
use crate::process::storage::{Disk, Storage};
use crate::world::{ProcessId, Time, World};

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub controllers: i32,
    pub storage_nodes: i32,
    pub gateways: i32,
    pub producers: i32,
    pub partitions: i32,
    /// Faults end and clients stop here; then everything has to heal.
    pub trouble_ms: u64,
    pub heal_ms: u64,
    pub faults: u64,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            controllers: 3,
            storage_nodes: 3,
            gateways: 2,
            producers: 3,
            partitions: 2,
            trouble_ms: 12_000,
            heal_ms: 30_000,
            faults: 6,
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
    /// What did not hold, and the last lines of the trace.
    pub failure: Option<(String, Vec<String>)>,
}

pub struct Cluster {
    pub world: World,
    shape: Shape,
    random: Random,
    disks: BTreeMap<i32, Disk>,
    stores: BTreeMap<i32, controller::Store>,
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
        failure: outcome.err().map(|failure| (failure, cluster.world.trace.lines().map(str::to_owned).collect())),
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
        };
        let mut targets = Vec::new();
        for id in 1..=shape.controllers {
            cluster.stores.insert(id, controller::Store::default());
            targets.push(ProcessId::Controller(id));
        }
        for id in 1..=shape.storage_nodes {
            cluster.disks.insert(id, Disk { vfs: MemVfs::new(), kv: Arc::new(MemKv::new()), broker_epoch: None });
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
        cluster
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
                if self.world.time() > trouble_ends && self.has_healed() {
                    break;
                }
            }
        }
        checkers::replicas(&self.world, &mut epochs)?;
        checkers::consumer(&self.world)?;
        checkers::healed(&self.world, self.shape)?;
        checkers::history(&self.world, &self.promises())
    }

    fn has_healed(&self) -> bool {
        checkers::healed(&self.world, self.shape).is_ok() && checkers::history(&self.world, &self.promises()).is_ok()
    }

    fn promises(&self) -> Vec<crate::process::client::Promises> {
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
                        }
                    } else {
                        Disk {
                            vfs: disk.vfs.clone(),
                            kv: Arc::new(disk.kv.after_kill()),
                            broker_epoch: disk.broker_epoch,
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
                let rack = Some(format!("rack-{id}"));
                self.world.start(process, Storage::start(id, disk, incarnation, self.shape.controllers, rack));
            }
            ProcessId::Controller(id) => {
                let Some(store) = self.stores.get(&id).cloned() else { return };
                let seed = self.random.next_u64();
                self.world.start(process, Controller::start(id, self.shape.controllers, store, seed, now));
            }
            ProcessId::Gateway(id) => {
                let seed = self.random.next_u64();
                self.world.start(process, Gateway::start(id, incarnation, self.shape.controllers, seed));
            }
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
            stop_ms: self.shape.trouble_ms,
        }
    }
}
