//! Each fault as one line of words, there and back: `12000000 power-loss storage-2 torn-prefix 77`.

use std::fmt::{self, Display};
use std::str::FromStr;

use store_api::{DiskOperation, Survivors};

use super::{Fault, List, Loss, Operation};
use crate::world::{ProcessId, Time};

const SURVIVORS: &[(Survivors, &str)] = &[
    (Survivors::Nothing, "nothing"),
    (Survivors::Everything, "everything"),
    (Survivors::Prefix, "prefix"),
    (Survivors::TornPrefix, "torn-prefix"),
    (Survivors::Subset, "subset"),
    (Survivors::TornSubset, "torn-subset"),
    (Survivors::SizesOnly, "sizes-only"),
    (Survivors::NamesOnly, "names-only"),
    (Survivors::DataOnly, "data-only"),
];

const OPERATIONS: &[(DiskOperation, &str)] = &[
    (DiskOperation::Open, "open"),
    (DiskOperation::Read, "read"),
    (DiskOperation::Write, "write"),
    (DiskOperation::Sync, "sync"),
    (DiskOperation::Resize, "resize"),
    (DiskOperation::Rename, "rename"),
    (DiskOperation::Remove, "remove"),
    (DiskOperation::CreateDirectory, "create-directory"),
    (DiskOperation::SyncDirectory, "sync-directory"),
    (DiskOperation::List, "list"),
    (DiskOperation::FreeSpace, "free-space"),
];

/// One line for each, with its time in microseconds.
pub fn to_lines(faults: &[(Time, Fault)]) -> String {
    faults.iter().map(|(at, fault)| format!("{} {fault}\n", at.0)).collect()
}

/// What [`to_lines`] wrote. The error names the line.
pub fn parse_lines(text: &str) -> Result<List, String> {
    let parse = |line: &str| -> Option<(Time, Fault)> {
        let (at, fault) = line.split_once(' ')?;
        Some((Time(at.parse().ok()?), fault.parse().ok()?))
    };
    text.lines().map(|line| parse(line).ok_or_else(|| format!("not a fault: `{line}`"))).collect()
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Fault::Heal => Ok(()),
            Fault::Kill { process }
            | Fault::Wipe { process }
            | Fault::Stop { process }
            | Fault::Restart { process }
            | Fault::Pause { process }
            | Fault::Resume { process }
            | Fault::MendDisk { process } => write!(f, " {process}"),
            Fault::PowerLoss { process, loss } => write!(f, " {process} {loss}"),
            Fault::PowerLossAtChange { process, changes, loss } => write!(f, " {process} {changes} {loss}"),
            Fault::PowerLossOfAll { loss } => write!(f, " {loss}"),
            Fault::Cut { from, to } | Fault::Mend { from, to } => write!(f, " {from} {to}"),
            Fault::Reset { a, b } => write!(f, " {a} {b}"),
            Fault::Jump { process, ms } => write!(f, " {process} {ms}"),
            Fault::Drift { process, per_mille } => write!(f, " {process} {per_mille}"),
            Fault::FailDisk { process, operation, skip, times } => {
                write!(f, " {process} {} {skip} {times}", name_of(OPERATIONS, *operation))
            }
            Fault::FillDisk { process, bytes } => write!(f, " {process} {bytes}"),
            Fault::SlowDisk { process, times } => write!(f, " {process} {times}"),
            Fault::Operate(operation) => operation.fmt(f),
        }
    }
}

impl Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", name_of(SURVIVORS, self.survivors), self.seed)
    }
}

/// What follows the name.
impl Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Configure { topic, name, value: Some(value) } => write!(f, " {topic} {name} {value}"),
            Operation::Configure { topic, name, value: None } => write!(f, " {topic} {name}"),
            Operation::Reassign { topic, partition, replicas } => {
                let replicas: Vec<String> = replicas.iter().map(i32::to_string).collect();
                write!(f, " {topic} {partition} {}", replicas.join(","))
            }
            Operation::CancelReassignment { topic, partition } | Operation::Elect { topic, partition } => {
                write!(f, " {topic} {partition}")
            }
            Operation::Create { name, partitions, replication_factor } => {
                write!(f, " {name} {partitions} {replication_factor}")
            }
            Operation::Delete { name } => write!(f, " {name}"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let mut words = Words(text.split(' '));
        words.fault().filter(|_| words.0.next().is_none()).ok_or_else(|| format!("not a fault: `{text}`"))
    }
}

struct Words<'t>(std::str::Split<'t, char>);

impl Words<'_> {
    fn next<T: FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    fn process(&mut self) -> Option<ProcessId> {
        self.next()
    }

    fn loss(&mut self) -> Option<Loss> {
        Some(Loss { survivors: named(SURVIVORS, self.0.next()?)?, seed: self.next()? })
    }

    fn fault(&mut self) -> Option<Fault> {
        let fault = match self.0.next()? {
            "kill" => Fault::Kill { process: self.process()? },
            "power-loss" => Fault::PowerLoss { process: self.process()?, loss: self.loss()? },
            "power-loss-at-change" => {
                Fault::PowerLossAtChange { process: self.process()?, changes: self.next()?, loss: self.loss()? }
            }
            "power-loss-of-all" => Fault::PowerLossOfAll { loss: self.loss()? },
            "wipe" => Fault::Wipe { process: self.process()? },
            "stop" => Fault::Stop { process: self.process()? },
            "restart" => Fault::Restart { process: self.process()? },
            "pause" => Fault::Pause { process: self.process()? },
            "resume" => Fault::Resume { process: self.process()? },
            "cut" => Fault::Cut { from: self.process()?, to: self.process()? },
            "mend" => Fault::Mend { from: self.process()?, to: self.process()? },
            "heal" => Fault::Heal,
            "reset" => Fault::Reset { a: self.process()?, b: self.process()? },
            "jump" => Fault::Jump { process: self.process()?, ms: self.next()? },
            "drift" => Fault::Drift { process: self.process()?, per_mille: self.next()? },
            "fail-disk" => Fault::FailDisk {
                process: self.process()?,
                operation: named(OPERATIONS, self.0.next()?)?,
                skip: self.next()?,
                times: self.next()?,
            },
            "fill-disk" => Fault::FillDisk { process: self.process()?, bytes: self.next()? },
            "mend-disk" => Fault::MendDisk { process: self.process()? },
            "slow-disk" => Fault::SlowDisk { process: self.process()?, times: self.next()? },
            operation => Fault::Operate(self.operation(operation)?),
        };
        Some(fault)
    }

    fn operation(&mut self, word: &str) -> Option<Operation> {
        let operation = match word {
            "configure" => Operation::Configure { topic: self.next()?, name: self.next()?, value: Some(self.next()?) },
            "unconfigure" => Operation::Configure { topic: self.next()?, name: self.next()?, value: None },
            "reassign" => {
                let (topic, partition) = (self.next()?, self.next()?);
                let replicas: Result<Vec<i32>, _> = self.0.next()?.split(',').map(str::parse).collect();
                Operation::Reassign { topic, partition, replicas: replicas.ok()? }
            }
            "cancel-reassignment" => Operation::CancelReassignment { topic: self.next()?, partition: self.next()? },
            "elect" => Operation::Elect { topic: self.next()?, partition: self.next()? },
            "create" => {
                Operation::Create { name: self.next()?, partitions: self.next()?, replication_factor: self.next()? }
            }
            "delete" => Operation::Delete { name: self.next()? },
            _ => return None,
        };
        Some(operation)
    }
}

fn name_of<T: PartialEq>(names: &'static [(T, &'static str)], value: T) -> &'static str {
    names.iter().find(|(named, _)| *named == value).map_or("?", |(_, name)| name)
}

fn named<T: Copy>(names: &[(T, &str)], word: &str) -> Option<T> {
    names.iter().find(|(_, name)| *name == word).map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Fault> {
        let (process, other) = (ProcessId::Storage(2), ProcessId::Controller(3));
        let mut faults = vec![
            Fault::Kill { process },
            Fault::PowerLoss { process, loss: Loss { survivors: Survivors::Nothing, seed: u64::MAX } },
            Fault::PowerLossAtChange { process, changes: 9, loss: Loss { survivors: Survivors::Prefix, seed: 0 } },
            Fault::PowerLossOfAll { loss: Loss { survivors: Survivors::DataOnly, seed: 7 } },
            Fault::Wipe { process },
            Fault::Stop { process: ProcessId::Gateway(1) },
            Fault::Restart { process: ProcessId::Member(103) },
            Fault::Pause { process: ProcessId::Client(0) },
            Fault::Resume { process },
            Fault::Cut { from: process, to: other },
            Fault::Mend { from: process, to: other },
            Fault::Heal,
            Fault::Reset { a: process, b: other },
            Fault::Jump { process, ms: -3_600_000 },
            Fault::Drift { process, per_mille: 900 },
            Fault::FillDisk { process, bytes: 4096 },
            Fault::MendDisk { process },
            Fault::SlowDisk { process, times: 100 },
        ];
        let name = || "again".to_owned();
        let operations = [
            Operation::Configure { topic: 1, name: name(), value: Some("2".to_owned()) },
            Operation::Configure { topic: 1, name: name(), value: None },
            Operation::Reassign { topic: 0, partition: 3, replicas: vec![3, 1] },
            Operation::CancelReassignment { topic: 0, partition: 3 },
            Operation::Elect { topic: 2, partition: 0 },
            Operation::Create { name: name(), partitions: 2, replication_factor: 3 },
            Operation::Delete { name: name() },
        ];
        faults.extend(operations.into_iter().map(Fault::Operate));
        let failing = |&(operation, _): &(DiskOperation, _)| Fault::FailDisk { process, operation, skip: 1, times: 2 };
        faults.extend(OPERATIONS.iter().map(failing));
        let lost = |&survivors: &Survivors| Fault::PowerLossOfAll { loss: Loss { survivors, seed: 1 } };
        faults.extend(Survivors::ALL.iter().map(lost));
        faults
    }

    #[test]
    fn every_fault_is_read_back_as_it_was_written() {
        let faults: List = one_of_each().into_iter().enumerate().map(|(at, fault)| (Time(at as u64), fault)).collect();
        assert_eq!(parse_lines(&to_lines(&faults)), Ok(faults));
    }

    #[test]
    fn what_is_no_fault_is_refused_and_named() {
        for line in
            ["", "kill storage-1", "5 kill", "5 kill storage-1 twice", "5 kill storage-x", "5 explode storage-1"]
        {
            assert!(line.is_empty() || parse_lines(line).unwrap_err().contains(line), "{line}");
        }
        assert_eq!(parse_lines(""), Ok(Vec::new()));
    }
}
