//! What goes wrong: a plain list, drawn from the seed before the run begins. Each fault carries what it needs, its own randomness
//! too, so that a list from which one is taken out means the same for the others.
//!
//! | file | what |
//! |---|---|
//! | `draw.rs` | the list of a seed |
//! | `swarm.rs` | which kinds a seed has at all, and how strong they are |
//! | `text.rs` | each fault as one line, there and back |
//! | `struck.rs` | how often each kind truly struck |

mod draw;
mod struck;
mod swarm;
mod text;

use store_api::{DiskOperation, Survivors};

use crate::world::{ProcessId, Time};

pub use draw::{Plan, Seat, draw, draw_for_members};
pub use struck::Struck;
pub use swarm::{Kind, Swarm};
pub use text::{parse_lines, to_lines};

/// The faults of a run in order of time.
pub type List = Vec<(Time, Fault)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, as by SIGKILL; what it gave to the operating system lives on.
    Kill {
        process: ProcessId,
    },
    /// Its machine loses power: what its disk had not synced is there or not as `loss` says.
    PowerLoss {
        process: ProcessId,
        loss: Loss,
    },
    /// The same, in the middle of the disk's `changes`th change from now on: after a write and before its sync.
    PowerLossAtChange {
        process: ProcessId,
        changes: u64,
        loss: Loss,
    },
    /// Every controller, storage node and gateway at once.
    PowerLossOfAll {
        loss: Loss,
    },
    /// The node dies and finds an empty disk when it is started again, unless that were more than the contract covers.
    Wipe {
        process: ProcessId,
    },
    /// An orderly stop, as by SIGTERM.
    Stop {
        process: ProcessId,
    },
    /// Started if it is down.
    Restart {
        process: ProcessId,
    },
    /// As by SIGSTOP and SIGCONT.
    Pause {
        process: ProcessId,
    },
    Resume {
        process: ProcessId,
    },
    /// What `from` sends does not reach `to` until it is mended.
    Cut {
        from: ProcessId,
        to: ProcessId,
    },
    Mend {
        from: ProcessId,
        to: ProcessId,
    },
    /// All cuts are mended.
    Heal,
    /// The streams between the two are reset: of what is on its way a part arrives, in order, and the rest is lost.
    Reset {
        a: ProcessId,
        b: ProcessId,
    },
    /// The wall clock is moved.
    Jump {
        process: ProcessId,
        ms: i64,
    },
    /// The clock runs at so many thousandths of its speed.
    Drift {
        process: ProcessId,
        per_mille: u64,
    },
    /// So many operations of this kind fail, after `skip` have gone well. A sync that fails loses what it was to sync.
    FailDisk {
        process: ProcessId,
        operation: DiskOperation,
        skip: u64,
        times: u64,
    },
    /// So many more bytes fit.
    FillDisk {
        process: ProcessId,
        bytes: u64,
    },
    /// Whatever was wrong with the disk, or was to be, is over.
    MendDisk {
        process: ProcessId,
    },
    /// Everything that the disk does takes so many times longer.
    SlowDisk {
        process: ProcessId,
        times: u64,
    },
    /// Not a fault but work for the cluster that faults fall into.
    Operate(Operation),
}

/// What survives a loss of power; `seed` decides what `survivors` leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub survivors: Survivors,
    pub seed: u64,
}

/// What an operator asks of the cluster. Topics are those of the run's shape, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A config of a topic; `None`: its default.
    Configure {
        topic: usize,
        name: String,
        value: Option<String>,
    },
    Reassign {
        topic: usize,
        partition: i32,
        replicas: Vec<i32>,
    },
    CancelReassignment {
        topic: usize,
        partition: i32,
    },
    /// The preferred replica is to lead.
    Elect {
        topic: usize,
        partition: i32,
    },
    /// Topics made for a while beside those of the shape; made again under their name they are others.
    Create {
        name: String,
        partitions: i32,
        replication_factor: i16,
    },
    Delete {
        name: String,
    },
}

impl Fault {
    /// Its kind, for counts.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill",
            Fault::PowerLoss { .. } => "power-loss",
            Fault::PowerLossAtChange { .. } => "power-loss-at-change",
            Fault::PowerLossOfAll { .. } => "power-loss-of-all",
            Fault::Wipe { .. } => "wipe",
            Fault::Stop { .. } => "stop",
            Fault::Restart { .. } => "restart",
            Fault::Pause { .. } => "pause",
            Fault::Resume { .. } => "resume",
            Fault::Cut { .. } => "cut",
            Fault::Mend { .. } => "mend",
            Fault::Heal => "heal",
            Fault::Reset { .. } => "reset",
            Fault::Jump { .. } => "jump",
            Fault::Drift { .. } => "drift",
            Fault::FailDisk { .. } => "fail-disk",
            Fault::FillDisk { .. } => "fill-disk",
            Fault::MendDisk { .. } => "mend-disk",
            Fault::SlowDisk { .. } => "slow-disk",
            Fault::Operate(Operation::Configure { value: Some(_), .. }) => "configure",
            Fault::Operate(Operation::Configure { value: None, .. }) => "unconfigure",
            Fault::Operate(Operation::Reassign { .. }) => "reassign",
            Fault::Operate(Operation::CancelReassignment { .. }) => "cancel-reassignment",
            Fault::Operate(Operation::Elect { .. }) => "elect",
            Fault::Operate(Operation::Create { .. }) => "create",
            Fault::Operate(Operation::Delete { .. }) => "delete",
        }
    }
}
