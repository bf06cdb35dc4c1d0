//! Files and directories of a [`super::MemVfs`], each with what is durable, what a reader sees, and what lies between.

use std::{collections::BTreeMap, sync::Arc};

use base_types::Random;

use super::{DiskFault, Survivors, content::Content};
use crate::{DiskError, DiskErrorKind, DiskOperation, SECTOR_BYTES};

pub(super) type NodeId = u64;
const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(File),
    Directory(Directory),
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) durable: Content,
    pub(super) current: Content,
    pending: Vec<Pending<Change>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    durable: BTreeMap<String, NodeId>,
    current: BTreeMap<String, NodeId>,
    pending: Vec<Pending<NameChange>>,
}

#[derive(Clone, Debug)]
struct Pending<C> {
    order: u64,
    change: C,
    /// Made durable by itself; stands in the list because changes before it are not.
    hardened: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { position: u64, bytes: Arc<[u8]> },
    SetSize(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Set { name: String, node: NodeId },
    Remove { name: String },
    Rename { from: String, to: String, node: NodeId },
}

pub(super) struct Disk {
    nodes: BTreeMap<NodeId, Node>,
    next: NodeId,
    pub(super) changes: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    pub(super) faults: Vec<DiskFault>,
    pub(super) capacity: u64,
    pub(super) faults_met: u64,
    pub(super) is_looked_at: bool,
}

impl Node {
    pub(super) fn empty_file() -> Node {
        Node::File(File::default())
    }

    pub(super) fn empty_directory() -> Node {
        Node::Directory(Directory::default())
    }
}

impl Disk {
    pub(super) fn new() -> Disk {
        Disk {
            nodes: BTreeMap::from([(ROOT, Node::empty_directory())]),
            next: 1,
            changes: 0,
            crash_at: None,
            crashed: false,
            faults: Vec::new(),
            capacity: u64::MAX,
            faults_met: 0,
            is_looked_at: false,
        }
    }

    /// Fails when power is gone or a fault is due.
    pub(super) fn check(&mut self, operation: DiskOperation, path: &str) -> Result<(), DiskError> {
        if self.crashed {
            return Err(DiskError::new(operation, path, DiskErrorKind::Crashed));
        }
        if self.is_looked_at {
            return Ok(());
        }
        for fault in &mut self.faults {
            if fault.operation != operation || !path.contains(&fault.path) || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            self.faults_met += 1;
            return Err(DiskError::new(operation, path, fault.kind));
        }
        Ok(())
    }

    pub(super) fn used(&self) -> u64 {
        let size = |node: &Node| if let Node::File(file) = node { file.current.len() } else { 0 };
        self.nodes.values().map(size).sum()
    }

    /// How many of `wanted` bytes at `position` still fit.
    pub(super) fn room(&self, id: NodeId, position: u64, wanted: usize) -> usize {
        if self.capacity == u64::MAX {
            return wanted;
        }
        let len = self.file(id).current.len();
        let growth = (position + wanted as u64).saturating_sub(len);
        let free = self.capacity.saturating_sub(self.used());
        wanted - growth.saturating_sub(free).min(wanted as u64) as usize
    }

    fn directory(&self, id: NodeId) -> Option<&Directory> {
        match self.nodes.get(&id) {
            Some(Node::Directory(directory)) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> &mut Directory {
        match self.nodes.get_mut(&id) {
            Some(Node::Directory(directory)) => directory,
            _ => unreachable!("looked up as a directory before"),
        }
    }

    pub(super) fn alive(&self, id: NodeId, operation: DiskOperation, path: &str) -> Result<(), DiskError> {
        if self.nodes.contains_key(&id) {
            Ok(())
        } else {
            Err(DiskError::new(operation, path, DiskErrorKind::NotFound))
        }
    }

    pub(super) fn file(&self, id: NodeId) -> &File {
        match self.nodes.get(&id) {
            Some(Node::File(file)) => file,
            _ => unreachable!("looked up as a file before"),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> &mut File {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file,
            _ => unreachable!("looked up as a file before"),
        }
    }

    pub(super) fn find(&self, path: &str, operation: DiskOperation) -> Result<NodeId, DiskError> {
        let mut id = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            id = self
                .directory(id)
                .and_then(|directory| directory.current.get(name).copied())
                .ok_or_else(|| DiskError::new(operation, path, DiskErrorKind::NotFound))?;
        }
        Ok(id)
    }

    pub(super) fn find_file(&self, path: &str, operation: DiskOperation) -> Result<NodeId, DiskError> {
        let id = self.find(path, operation)?;
        match self.nodes.get(&id) {
            Some(Node::File(_)) => Ok(id),
            _ => Err(DiskError::new(operation, path, DiskErrorKind::Failed)),
        }
    }

    fn parent<'p>(&self, path: &'p str, operation: DiskOperation) -> Result<(NodeId, &'p str), DiskError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let id = self.find(parent, operation)?;
        match self.directory(id) {
            Some(_) => Ok((id, name)),
            None => Err(DiskError::new(operation, path, DiskErrorKind::NotFound)),
        }
    }

    pub(super) fn make(&mut self, path: &str, node: Node, operation: DiskOperation) -> Result<NodeId, DiskError> {
        let (parent, name) = self.parent(path, operation)?;
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.record_name(parent, NameChange::Set { name: name.to_owned(), node: id });
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let operation = DiskOperation::Rename;
        let node = self.find(from, operation)?;
        let (source, from_name) = self.parent(from, operation)?;
        let (target, to_name) = self.parent(to, operation)?;
        assert_eq!(source, target, "the model moves inside one directory only: {from} to {to}");
        let (from, to) = (from_name.to_owned(), to_name.to_owned());
        self.record_name(source, NameChange::Rename { from, to, node });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        self.find(path, DiskOperation::Remove)?;
        let (parent, name) = self.parent(path, DiskOperation::Remove)?;
        self.record_name(parent, NameChange::Remove { name: name.to_owned() });
        self.drop_unreachable();
        Ok(())
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let id = self.find(path, DiskOperation::List)?;
        let directory =
            self.directory(id).ok_or_else(|| DiskError::new(DiskOperation::List, path, DiskErrorKind::NotFound))?;
        Ok(directory.current.keys().cloned().collect())
    }

    /// Makes a change that readers see and a crash may undo.
    pub(super) fn record(&mut self, id: NodeId, change: Change) {
        let order = self.changes;
        let file = self.file_mut(id);
        apply(&mut file.current, &change);
        file.pending.push(Pending { order, change, hardened: false });
    }

    /// Makes the latest change of a file durable by itself.
    pub(super) fn harden_last(&mut self, id: NodeId) {
        let file = self.file_mut(id);
        if let Some(last) = file.pending.last_mut() {
            last.hardened = true;
        }
        // A change may move to the durable bytes only when nothing before it is still undecided.
        let decided = file.pending.iter().take_while(|pending| pending.hardened).count();
        for pending in file.pending.drain(..decided) {
            apply(&mut file.durable, &pending.change);
        }
    }

    pub(super) fn sync(&mut self, id: NodeId) {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => {
                for pending in file.pending.drain(..) {
                    apply(&mut file.durable, &pending.change);
                }
            }
            Some(Node::Directory(directory)) => {
                for pending in directory.pending.drain(..) {
                    apply_name(&mut directory.durable, &pending.change);
                }
                self.drop_unreachable();
            }
            None => {}
        }
    }

    /// After a failed sync the changes stay visible but will never become durable.
    pub(super) fn forget_pending(&mut self, id: NodeId) {
        let file = self.file_mut(id);
        for pending in file.pending.drain(..).filter(|pending| pending.hardened) {
            apply(&mut file.durable, &pending.change);
        }
    }

    fn record_name(&mut self, id: NodeId, change: NameChange) {
        let order = self.changes;
        let directory = self.directory_mut(id);
        apply_name(&mut directory.current, &change);
        directory.pending.push(Pending { order, change, hardened: false });
    }

    /// Frees nodes that no name, current, durable or pending, leads to. A handle that is still open then finds nothing, where a
    /// real file would live on until it is closed: harsher, and nobody may depend on it.
    fn drop_unreachable(&mut self) {
        let mut reachable = std::collections::BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            let Node::Directory(directory) = node else { continue };
            reachable.extend(directory.durable.values().chain(directory.current.values()));
            for pending in &directory.pending {
                match &pending.change {
                    NameChange::Set { node, .. } | NameChange::Rename { node, .. } => reachable.insert(*node),
                    NameChange::Remove { .. } => false,
                };
            }
        }
        // One level of garbage per call is enough: the next removal finds the next one.
        self.nodes.retain(|id, _| reachable.contains(id));
    }

    pub(super) fn after_crash(&self, survivors: Survivors, random: &mut Random) -> Disk {
        let orders: Vec<u64> = self.pending_orders();
        // A prefix is chosen among the changes that are pending at all, else most choices would be the same.
        let cut = match orders.len() {
            0 => 0,
            count => orders[random.below(count as u64) as usize] + random.below(2),
        };
        let mut nodes = BTreeMap::new();
        for (&id, node) in &self.nodes {
            let survivor = match node {
                Node::File(file) => Node::File(file.after_crash(survivors, cut, random)),
                Node::Directory(directory) => Node::Directory(directory.after_crash(survivors, cut, random)),
            };
            nodes.insert(id, survivor);
        }
        let mut disk =
            Disk { nodes, next: self.next, capacity: self.capacity, faults_met: self.faults_met, ..Disk::new() };
        disk.drop_unreachable();
        disk
    }

    pub(super) fn after_kill(&self) -> Disk {
        let (nodes, next) = (self.nodes.clone(), self.next);
        Disk { nodes, next, changes: self.changes, capacity: self.capacity, ..Disk::new() }
    }

    fn pending_orders(&self) -> Vec<u64> {
        let mut orders = Vec::new();
        for node in self.nodes.values() {
            match node {
                Node::File(file) => orders.extend(file.pending.iter().filter(|p| !p.hardened).map(|p| p.order)),
                Node::Directory(directory) => orders.extend(directory.pending.iter().map(|p| p.order)),
            }
        }
        orders.sort_unstable();
        orders
    }
}

impl File {
    fn after_crash(&self, survivors: Survivors, cut: u64, random: &mut Random) -> File {
        let mut content = self.durable.clone();
        for pending in &self.pending {
            if pending.hardened {
                apply(&mut content, &pending.change);
                continue;
            }
            match survivors {
                Survivors::Everything | Survivors::DataOnly => apply(&mut content, &pending.change),
                Survivors::Nothing | Survivors::NamesOnly => {}
                Survivors::Prefix if pending.order < cut => apply(&mut content, &pending.change),
                Survivors::TornPrefix if pending.order + 1 < cut => apply(&mut content, &pending.change),
                Survivors::TornPrefix if pending.order < cut => apply_torn(&mut content, &pending.change, random),
                Survivors::Prefix | Survivors::TornPrefix => {}
                Survivors::Subset if random.chance(500) => apply(&mut content, &pending.change),
                Survivors::TornSubset if random.chance(700) => apply_torn(&mut content, &pending.change, random),
                Survivors::Subset | Survivors::TornSubset => {}
                Survivors::SizesOnly => match &pending.change {
                    Change::Write { position, bytes } => {
                        content.set_len(content.len().max(position + bytes.len() as u64));
                    }
                    Change::SetSize(size) => content.set_len(*size),
                },
            }
        }
        File { durable: content.clone(), current: content, pending: Vec::new() }
    }
}

impl Directory {
    fn after_crash(&self, survivors: Survivors, cut: u64, random: &mut Random) -> Directory {
        let mut names = self.durable.clone();
        for pending in &self.pending {
            let kept = match survivors {
                Survivors::Everything | Survivors::NamesOnly => true,
                Survivors::Nothing | Survivors::DataOnly => false,
                Survivors::Prefix | Survivors::TornPrefix => pending.order < cut,
                Survivors::Subset | Survivors::TornSubset | Survivors::SizesOnly => random.chance(500),
            };
            if kept {
                apply_name(&mut names, &pending.change);
            }
        }
        Directory { durable: names.clone(), current: names, pending: Vec::new() }
    }
}

fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write { position, bytes } => content.write(*position, bytes),
        Change::SetSize(size) => content.set_len(*size),
    }
}

/// Some sectors arrive and others do not. The file may have grown all the same.
fn apply_torn(content: &mut Content, change: &Change, random: &mut Random) {
    let Change::Write { position, bytes } = change else { return apply(content, change) };
    let end = position + bytes.len() as u64;
    let mut at = *position;
    while at < end {
        let sector_end = ((at / SECTOR_BYTES as u64 + 1) * SECTOR_BYTES as u64).min(end);
        if random.chance(500) {
            content.write(at, &bytes[(at - position) as usize..(sector_end - position) as usize]);
        }
        at = sector_end;
    }
    if random.chance(500) {
        content.set_len(content.len().max(end));
    }
}

fn apply_name(names: &mut BTreeMap<String, NodeId>, change: &NameChange) {
    match change {
        NameChange::Set { name, node } => {
            names.insert(name.clone(), *node);
        }
        NameChange::Remove { name } => {
            names.remove(name);
        }
        NameChange::Rename { from, to, node } => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}
