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
