//! Does to a running cluster what a strike says, takes it back, and knows whether it met anybody.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tests_e2e::cluster::Role;
use tests_e2e::process::signal;

use crate::cluster::{Cluster, storage_number};
use crate::disk::{Faults, Struck};
use crate::network::{Host, Network};
use crate::patience;
use crate::random::Random;
use crate::schedule::{Kind, Mechanism, Strike};
use crate::wire::{Gateways, Topic};

const ANSWER_BOUND: Duration = Duration::from_secs(5);
/// For the cluster to do as an operator asks while something is wrong.
const ASK_BOUND: Duration = Duration::from_secs(30);
const FLAP: Duration = Duration::from_millis(300);
const SLOW_DISK: Duration = Duration::from_millis(50);
/// As far as clocks are wrong in practice: after a suspended machine, a wrong zone, a wrong year.
const CLOCK_STEPS: [i64; 6] = [-1, 1, -3_600, 3_600, -86_400 * 400, 86_400 * 400];

/// A strike that is under way.
pub struct Strikes<'a> {
    pub cluster: &'a mut Cluster,
    pub network: &'a Network,
    /// Where clients run.
    pub clients: &'a [Host],
    pub topic: &'a Topic,
    pub gateways: &'a mut Gateways,
    /// All disks but one are lost at once, so that records must be.
    pub sabotaged: bool,
}

/// What is to be taken back, and what will tell whether it struck.
#[derive(Debug)]
pub enum Undo {
    /// It is over, and it struck or did not.
    Done {
        struck: bool,
    },
    Start(Vec<usize>),
    Continue(usize),
    Heal(Vec<Host>),
    Disk {
        at: usize,
        kind: Kind,
        before: Struck,
    },
    Clock {
        at: usize,
        before: u64,
    },
    MinIsr,
}

/// Whether this machine and this cluster have what a kind needs.
pub fn is_possible(kind: Kind, network: &Network, cluster: &Cluster) -> bool {
    let storage = cluster.all(Role::Storage);
    let Some(first) = storage.first().map(|&at| cluster.member(at)) else { return false };
    match kind.mechanism() {
        Mechanism::Processes => true,
        Mechanism::Network => network.can_cut,
        Mechanism::Shaping => network.can_shape,
        Mechanism::Disk => first.disk.is_some(),
        Mechanism::Clock => first.clock.is_some(),
    }
}

impl Strikes<'_> {
    /// Strikes; some kinds are over when this returns.
    pub fn begin(&mut self, strike: Strike) -> Result<Undo> {
        let mut random = Random::new(strike.choice);
        let end = Instant::now() + Duration::from_secs(strike.seconds);
        match strike.kind {
            Kind::KillLeader => {
                let at = self.leader(&mut random)?;
                self.kill(vec![at])
            }
            Kind::KillStorage => self.kill_one_of(Role::Storage, &mut random),
            Kind::KillController => self.kill_one_of(Role::Controller, &mut random),
            Kind::KillGateway => self.kill_one_of(Role::Gateway, &mut random),
            Kind::KillAll => self.kill((0..self.cluster.count()).collect()),
            Kind::Pause => {
                let at = random.below(self.cluster.count() as u64) as usize;
                let Some(pid) = self.cluster.member(at).pid() else { return Ok(Undo::Done { struck: false }) };
                signal(pid, Signal::STOP)?;
                Ok(Undo::Continue(at))
            }
            Kind::PartitionStorage => {
                let [one, other] = self.two(Role::Storage, &mut random);
                self.cut(&[one], &[other], true)
            }
            Kind::PartitionOneWay => {
                let from = self.one_of(Role::Storage, &mut random);
                let mut others: Vec<usize> = self.cluster.all(Role::Storage);
                others.extend(self.cluster.all(Role::Controller));
                others.retain(|&at| at != from);
                let to = *random.pick(&others);
                if random.chance(1, 2) { self.cut(&[from], &[to], false) } else { self.cut(&[to], &[from], false) }
            }
            Kind::PartitionController => {
                let mut others = self.cluster.all(Role::Controller);
                if random.chance(1, 2) {
                    let storage = self.one_of(Role::Storage, &mut random);
                    return self.cut(&[storage], &others, true);
                }
                let controller = others.remove(random.below(others.len() as u64) as usize);
                others.extend(self.cluster.all(Role::Storage));
                self.cut(&[controller], &others, true)
            }
            Kind::PartitionGateway => {
                let gateway = self.one_of(Role::Gateway, &mut random);
                let storage = self.one_of(Role::Storage, &mut random);
                self.cut(&[gateway], &[storage], true)
            }
            Kind::PartitionClient => {
                let gateway = self.cluster.member(self.one_of(Role::Gateway, &mut random)).host.clone();
                let client = random.pick(self.clients).clone();
                self.network.drop_from(&client, &gateway)?;
                if random.chance(1, 2) {
                    self.network.drop_from(&gateway, &client)?;
                }
                Ok(Undo::Heal(vec![gateway, client]))
            }
            Kind::SlowLink => {
                let host = self.cluster.member(self.one_of(Role::Storage, &mut random)).host.clone();
                self.network.shape(&host, 100 + random.below(400))?;
                Ok(Undo::Heal(vec![host]))
            }
            Kind::FlappingLink => {
                let [one, other] = self.two(Role::Storage, &mut random);
                let mut struck = false;
                while Instant::now() < end {
                    let cut = self.cut(&[one], &[other], true)?;
                    thread::sleep(FLAP);
                    struck |= self.end(cut)?;
                    thread::sleep(FLAP);
                }
                Ok(Undo::Done { struck })
            }
            Kind::Resets => {
                let gateway = self.cluster.member(self.one_of(Role::Gateway, &mut random)).host.clone();
                let other = if random.chance(1, 2) {
                    self.cluster.member(self.one_of(Role::Storage, &mut random)).host.clone()
                } else {
                    random.pick(self.clients).clone()
                };
                self.network.reset_from(&other, &gateway)?;
                self.network.reset_from(&gateway, &other)?;
                Ok(Undo::Heal(vec![gateway, other]))
            }
            Kind::FullDisk => self.disk(strike.kind, Faults { is_full: true, ..Faults::default() }, &mut random),
            Kind::SyncErrors => self.disk(strike.kind, Faults { sync_fails: true, ..Faults::default() }, &mut random),
            Kind::SlowDisk => self.disk(strike.kind, Faults { delay: SLOW_DISK, ..Faults::default() }, &mut random),
            // What was written lately is read from memory, so the node starts anew on a disk that cannot be read.
            Kind::ReadErrors => {
                let faults = Faults { read_fails: true, ..Faults::default() };
                let undo = self.disk(strike.kind, faults, &mut random)?;
                if let Undo::Disk { at, .. } = undo {
                    self.cluster.kill(&[at])?;
                    self.cluster.start(self.network, at)?;
                }
                Ok(undo)
            }
            Kind::ClockStep => {
                let at = random.below(self.cluster.count() as u64) as usize;
                let Some(clock) = &self.cluster.member(at).clock else { return Ok(Undo::Done { struck: false }) };
                let before = clock.asked()?;
                clock.set(*random.pick(&CLOCK_STEPS))?;
                Ok(Undo::Clock { at, before })
            }
            Kind::RollingRestart => {
                for at in 0..self.cluster.count() {
                    self.cluster.terminate(at)?;
                    self.cluster.start(self.network, at)?;
                    self.wait_whole()?;
                }
                Ok(Undo::Done { struck: true })
            }
            Kind::GatewayChurn => {
                while Instant::now() < end {
                    let at = self.one_of(Role::Gateway, &mut random);
                    if random.chance(1, 2) {
                        self.cluster.kill(&[at])?
                    } else {
                        self.cluster.terminate(at)?
                    }
                    self.cluster.start(self.network, at)?;
                    let mut gateway = Gateways::new(&self.cluster.address(at), ANSWER_BOUND);
                    patience::until("a gateway that was started", Cluster::RECOVERY_BOUND, || {
                        gateway.is_whole(self.topic)
                    })?;
                }
                Ok(Undo::Done { struck: true })
            }
            Kind::DiskLoss => {
                let mut victims = self.cluster.all(Role::Storage);
                random.shuffle(&mut victims);
                victims.truncate(if self.sabotaged { victims.len() - 1 } else { 1 });
                self.cluster.kill(&victims)?;
                for &at in &victims {
                    match &mut self.cluster.member_mut(at).disk {
                        Some(disk) => disk.replace()?,
                        None => self.cluster.forget_data(at)?,
                    }
                }
                Ok(Undo::Start(victims))
            }
            Kind::LeaderTransfer => self.transfer(&mut random),
            Kind::Reassignment => self.reassign(&mut random),
            Kind::MinIsr => {
                let (gateways, topic) = (&mut *self.gateways, self.topic);
                patience::until("min.insync.replicas to be set", ASK_BOUND, || {
                    gateways.set_config(topic, "min.insync.replicas", "3")
                })?;
                Ok(Undo::MinIsr)
            }
        }
    }

    /// Takes a strike back. Whether it met anybody.
    pub fn end(&mut self, undo: Undo) -> Result<bool> {
        match undo {
            Undo::Done { struck } => Ok(struck),
            Undo::Start(victims) => {
                victims.into_iter().try_for_each(|at| self.cluster.start(self.network, at))?;
                Ok(true)
            }
            Undo::Continue(at) => {
                if let Some(pid) = self.cluster.member(at).pid() {
                    signal(pid, Signal::CONT)?;
                }
                Ok(true)
            }
            Undo::Heal(hosts) => {
                let mut packets = 0;
                for host in hosts {
                    packets += self.network.heal(&host)?;
                }
                Ok(packets > 0)
            }
            Undo::Disk { at, kind, before } => {
                let Some(disk) = &self.cluster.member(at).disk else { return Ok(false) };
                disk.set(Faults::default());
                let now = disk.struck();
                Ok(match kind {
                    Kind::FullDisk => now.full > before.full,
                    Kind::SyncErrors => now.syncs > before.syncs,
                    Kind::ReadErrors => now.reads > before.reads,
                    _ => now.slow > before.slow,
                })
            }
            Undo::Clock { at, before } => {
                let Some(clock) = &self.cluster.member(at).clock else { return Ok(false) };
                clock.set(0)?;
                Ok(clock.asked()? > before)
            }
            Undo::MinIsr => {
                let (gateways, topic) = (&mut *self.gateways, self.topic);
                patience::until("min.insync.replicas to be set back", ASK_BOUND, || {
                    gateways.set_config(topic, "min.insync.replicas", "2")
                })?;
                Ok(true)
            }
        }
    }

    /// Until everyone is up and in sync. Who has ended is started.
    pub fn wait_whole(&mut self) -> Result<()> {
        patience::until("every replica to be in sync", Cluster::RECOVERY_BOUND, || {
            self.cluster.revive(self.network)?;
            self.gateways.is_whole(self.topic)
        })?;
        (0..self.cluster.count()).for_each(|at| self.cluster.member_mut(at).excused = false);
        Ok(())
    }

    fn one_of(&self, role: Role, random: &mut Random) -> usize {
        *random.pick(&self.cluster.all(role))
    }

    fn two(&self, role: Role, random: &mut Random) -> [usize; 2] {
        let mut all = self.cluster.all(role);
        random.shuffle(&mut all);
        [all[0], all[1]]
    }

    fn leader(&mut self, random: &mut Random) -> Result<usize> {
        let partitions = self.gateways.partitions(self.topic)?;
        let leader = random.pick(&partitions).leader_id;
        self.cluster.place(Role::Storage, storage_number(leader)?).context("the leader is none of ours")
    }

    fn kill(&mut self, victims: Vec<usize>) -> Result<Undo> {
        self.cluster.kill(&victims)?;
        Ok(Undo::Start(victims))
    }

    fn kill_one_of(&mut self, role: Role, random: &mut Random) -> Result<Undo> {
        let at = self.one_of(role, random);
        self.kill(vec![at])
    }

    /// Nothing gets from any of `from` to any of `to`, nor back if `both`.
    fn cut(&mut self, from: &[usize], to: &[usize], both: bool) -> Result<Undo> {
        let host = |at: &usize| self.cluster.member(*at).host.clone();
        let (from, to): (Vec<Host>, Vec<Host>) = (from.iter().map(host).collect(), to.iter().map(host).collect());
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
            self.network.drop_from(from, to)?;
            if both {
                self.network.drop_from(to, from)?;
            }
        }
        Ok(Undo::Heal([from, to].concat()))
    }

    fn disk(&mut self, kind: Kind, faults: Faults, random: &mut Random) -> Result<Undo> {
        let at = self.one_of(Role::Storage, random);
        let member = self.cluster.member_mut(at);
        member.excused = true;
        let disk = member.disk.as_ref().context("this node has no disk of ours")?;
        let before = disk.struck();
        disk.set(faults);
        Ok(Undo::Disk { at, kind, before })
    }

    /// Other first replicas for all partitions, then the leadership to them.
    fn transfer(&mut self, random: &mut Random) -> Result<Undo> {
        let (gateways, topic) = (&mut *self.gateways, self.topic);
        let before = patience::until("the leaders", ASK_BOUND, || gateways.partitions(topic))?;
        let turned = before.iter().map(|partition| {
            let mut replicas = partition.replica_nodes.clone();
            let turn = 1 + random.below(replicas.len() as u64 - 1) as usize;
            replicas.rotate_left(turn);
            (partition.partition_index, replicas)
        });
        let turned: Vec<(i32, Vec<i32>)> = turned.collect();
        patience::until("other first replicas", ASK_BOUND, || gateways.reassign(topic, turned.clone()))?;
        let leaders = |partitions: Vec<_>| -> BTreeMap<i32, i32> {
            let each = |p: kafka_wire::k03_metadata::MetadataResponsePartition| (p.partition_index, p.leader_id);
            partitions.into_iter().map(each).collect()
        };
        let before = leaders(before);
        let struck = patience::until("other leaders", ASK_BOUND, || {
            gateways.elect_preferred(topic)?;
            let moved = leaders(gateways.partitions(topic)?) != before;
            anyhow::ensure!(moved, "all leaders are the same");
            Ok(true)
        })?;
        Ok(Undo::Done { struck })
    }

    /// One replica of two partitions moves to a node that has none.
    fn reassign(&mut self, random: &mut Random) -> Result<Undo> {
        let nodes: Vec<i32> =
            self.cluster.all(Role::Storage).into_iter().map(|at| i32::from(self.cluster.member(at).number)).collect();
        let (gateways, topic) = (&mut *self.gateways, self.topic);
        let partitions = patience::until("the replicas", ASK_BOUND, || gateways.partitions(topic))?;
        let mut wanted = Vec::new();
        for _ in 0..2 {
            let partition = random.pick(&partitions);
            let mut replicas = partition.replica_nodes.clone();
            let Some(&free) = nodes.iter().find(|node| !replicas.contains(node)) else { continue };
            let place = random.below(replicas.len() as u64) as usize;
            replicas[place] = free;
            if wanted.iter().all(|(index, _)| *index != partition.partition_index) {
                wanted.push((partition.partition_index, replicas));
            }
        }
        let struck = !wanted.is_empty();
        patience::until("the reassignment to be taken", ASK_BOUND, || gateways.reassign(topic, wanted.clone()))?;
        Ok(Undo::Done { struck })
    }
}
