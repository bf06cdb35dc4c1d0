//! What is done to the cluster when: drawn from a seed, every kind once before any comes again.
//!
//! What it must not know: processes, time. A strike names a kind, a length and a number from which whoever strikes chooses its victim.

use std::fmt;

use crate::random::Random;

/// The kinds of trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    KillLeader,
    KillStorage,
    KillController,
    KillGateway,
    KillAll,
    Pause,
    PartitionStorage,
    PartitionOneWay,
    PartitionController,
    PartitionGateway,
    PartitionClient,
    SlowLink,
    FlappingLink,
    Resets,
    FullDisk,
    SyncErrors,
    ReadErrors,
    SlowDisk,
    ClockStep,
    RollingRestart,
    GatewayChurn,
    DiskLoss,
    LeaderTransfer,
    Reassignment,
    MinIsr,
}

/// What a kind needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    Processes,
    /// Network namespaces and iptables.
    Network,
    /// The same with tc.
    Shaping,
    /// FUSE.
    Disk,
    /// A library preloaded into the process.
    Clock,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strike {
    pub kind: Kind,
    pub seconds: u64,
    /// Decides whom it meets.
    pub choice: u64,
}

/// What is under way at the same time: one strike, or two in later rounds.
pub type Round = Vec<Strike>;

/// An endless list of rounds.
pub struct Schedule {
    random: Random,
    seconds_max: u64,
    /// Of the pass under way, the next one last.
    rest: Vec<Kind>,
    first_pass: bool,
}

const SECONDS_MAX: u64 = 20;
/// The first pass takes half of a run: each strike is followed by the time that recovery takes.
const SHARE_OF_STRIKES: u64 = 2;

impl Kind {
    pub const ALL: [Kind; 25] = [
        Kind::KillLeader,
        Kind::KillStorage,
        Kind::KillController,
        Kind::KillGateway,
        Kind::KillAll,
        Kind::Pause,
        Kind::PartitionStorage,
        Kind::PartitionOneWay,
        Kind::PartitionController,
        Kind::PartitionGateway,
        Kind::PartitionClient,
        Kind::SlowLink,
        Kind::FlappingLink,
        Kind::Resets,
        Kind::FullDisk,
        Kind::SyncErrors,
        Kind::ReadErrors,
        Kind::SlowDisk,
        Kind::ClockStep,
        Kind::RollingRestart,
        Kind::GatewayChurn,
        Kind::DiskLoss,
        Kind::LeaderTransfer,
        Kind::Reassignment,
        Kind::MinIsr,
    ];

    pub fn mechanism(self) -> Mechanism {
        match self {
            Kind::KillLeader
            | Kind::KillStorage
            | Kind::KillController
            | Kind::KillGateway
            | Kind::KillAll
            | Kind::Pause
            | Kind::RollingRestart
            | Kind::GatewayChurn
            | Kind::DiskLoss
            | Kind::LeaderTransfer
            | Kind::Reassignment
            | Kind::MinIsr => Mechanism::Processes,
            Kind::PartitionStorage
            | Kind::PartitionOneWay
            | Kind::PartitionController
            | Kind::PartitionGateway
            | Kind::PartitionClient
            | Kind::FlappingLink
            | Kind::Resets => Mechanism::Network,
            Kind::SlowLink => Mechanism::Shaping,
            Kind::FullDisk | Kind::SyncErrors | Kind::ReadErrors | Kind::SlowDisk => Mechanism::Disk,
            Kind::ClockStep => Mechanism::Clock,
        }
    }

    /// Whether it leaves alone who is up and what is on disks, so that it may come with another one.
    fn is_mild(self) -> bool {
        matches!(self.mechanism(), Mechanism::Network | Mechanism::Shaping | Mechanism::Clock)
            || matches!(self, Kind::LeaderTransfer | Kind::Pause | Kind::SlowDisk)
    }

    /// Nobody is there to be asked for other leaders when all are dead.
    fn may_come_with(self, first: Kind) -> bool {
        let nobody_is_asked = first == Kind::KillAll && self == Kind::LeaderTransfer;
        self.is_mild() && self != first && !nobody_is_asked
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {} s, choice {}", self.kind, self.seconds, self.choice)
    }
}

impl Schedule {
    /// Strikes are as long as lets every kind come once within `minutes`, and at most 20 s.
    pub fn new(seed: u64, minutes: u64) -> Schedule {
        let share = minutes * 60 / (Kind::ALL.len() as u64 * SHARE_OF_STRIKES);
        let seconds_max = share.clamp(2, SECONDS_MAX);
        let mut schedule = Schedule { random: Random::new(seed), seconds_max, rest: Vec::new(), first_pass: true };
        schedule.deal();
        schedule
    }

    fn deal(&mut self) {
        self.rest = Kind::ALL.to_vec();
        self.random.shuffle(&mut self.rest);
    }

    pub fn next_round(&mut self) -> Round {
        if self.rest.is_empty() {
            self.first_pass = false;
            self.deal();
        }
        let first = self.rest.pop().expect("just dealt");
        let mut round = vec![self.strike(first)];
        if !self.first_pass && self.random.chance(1, 2) {
            let mild: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.may_come_with(first)).collect();
            let second = *self.random.pick(&mild);
            round.push(self.strike(second));
        }
        round
    }

    fn strike(&mut self, kind: Kind) -> Strike {
        Strike { kind, seconds: 1 + self.random.below(self.seconds_max), choice: self.random.draw() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn rounds(seed: u64, minutes: u64, count: usize) -> Vec<Round> {
        let mut schedule = Schedule::new(seed, minutes);
        (0..count).map(|_| schedule.next_round()).collect()
    }

    #[test]
    fn a_seed_gives_one_schedule() {
        assert_eq!(rounds(7, 5, 100), rounds(7, 5, 100));
        assert_ne!(rounds(7, 5, 100), rounds(8, 5, 100));
    }

    #[test]
    fn every_kind_comes_once_and_alone_before_any_comes_again() {
        for seed in 0..50 {
            let first = rounds(seed, 5, Kind::ALL.len());
            assert!(first.iter().all(|round| round.len() == 1));
            let kinds: BTreeSet<Kind> = first.iter().map(|round| round[0].kind).collect();
            assert_eq!(kinds.len(), Kind::ALL.len());
            let seconds: u64 = first.iter().map(|round| round[0].seconds).sum();
            assert!(seconds <= 5 * 60 / SHARE_OF_STRIKES, "{seconds} s of strikes in 5 minutes");
        }
    }

    #[test]
    fn later_rounds_have_pairs_of_which_one_is_mild() {
        let later = rounds(1, 30, 100 * Kind::ALL.len()).split_off(Kind::ALL.len());
        let pairs: Vec<&Round> = later.iter().filter(|round| round.len() == 2).collect();
        assert!(pairs.len() > later.len() / 4);
        assert!(pairs.iter().all(|pair| pair[1].kind.is_mild() && pair[0].kind != pair[1].kind));
        let to_the_dead = pairs.iter().filter(|pair| pair[0].kind == Kind::KillAll);
        assert!(to_the_dead.clone().count() > 2);
        assert!(to_the_dead.into_iter().all(|pair| pair[1].kind != Kind::LeaderTransfer));
        assert!(later.iter().flatten().all(|strike| (1..=SECONDS_MAX).contains(&strike.seconds)));
        assert!(later.iter().flatten().any(|strike| strike.seconds > 15));
    }
}
