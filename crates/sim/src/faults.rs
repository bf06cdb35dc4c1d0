//! What goes wrong, drawn from the seed before the run begins.

use base_types::Random;

use crate::world::{ProcessId, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies. `power_lost`: what its disk had not synced is lost in part.
    Crash {
        process: ProcessId,
        power_lost: bool,
    },
    Restart {
        process: ProcessId,
    },
    Pause {
        process: ProcessId,
    },
    Resume {
        process: ProcessId,
    },
    Cut {
        from: ProcessId,
        to: ProcessId,
    },
    Heal,
}

/// How many faults there are, and how they come.
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

/// Faults in order of time. Every crash has its restart and every pause its end; after `until_ms` everything is well.
pub fn draw(random: &mut Random, targets: &[ProcessId], plan: Plan) -> Vec<(Time, Fault)> {
    let mut faults = Vec::new();
    for _ in 0..plan.count {
        let at = random.between(1_000, plan.until_ms.saturating_sub(3_000).max(1_001));
        let process = targets[random.below(targets.len() as u64) as usize];
        let lasts = random.between(50, 3_000);
        let (begin, end) = match random.below(10) {
            0..=5 => (Fault::Crash { process, power_lost: random.chance(500) }, Fault::Restart { process }),
            6 => (Fault::Pause { process }, Fault::Resume { process }),
            _ => {
                let other = targets[random.below(targets.len() as u64) as usize];
                (Fault::Cut { from: process, to: other }, Fault::Heal)
            }
        };
        faults.push((Time(at * 1000), begin));
        faults.push((Time((at + lasts) * 1000), end));
    }
    faults.push((Time(plan.until_ms * 1000), Fault::Heal));
    for &process in targets {
        faults.push((Time(plan.until_ms * 1000), Fault::Resume { process }));
        faults.push((Time(plan.until_ms * 1000), Fault::Restart { process }));
    }
    faults.sort_by_key(|&(at, _)| at);
    faults
}

/// Faults of members, in order of time. Who does not die for good is there after `until_ms`.
pub fn draw_for_members(random: &mut Random, seats: &[Seat], gateways: i32, plan: Plan) -> Vec<(Time, Fault)> {
    let mut faults = Vec::new();
    let mut dead = Vec::new();
    for _ in 0..plan.count {
        let at = random.between(2_000, plan.until_ms);
        let ends = (at + random.between(100, 5_000)).min(plan.until_ms);
        let Seat { process, stand_in, is_mortal } = seats[random.below(seats.len() as u64) as usize];
        let mut put = |at: u64, fault| faults.push((Time(at * 1000), fault));
        match random.below(10) {
            0..=2 => {
                put(at, Fault::Crash { process, power_lost: false });
                put(ends, Fault::Restart { process });
            }
            3 | 4 if is_mortal => {
                put(at, Fault::Crash { process, power_lost: false });
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
                put(ends, Fault::Heal);
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
