//! The state of every process of a run in words, one line for each thing, so that two moments can be compared.

use std::collections::BTreeMap;

use crate::process::controller::Controller;
use crate::process::gateway::Gateway;
use crate::process::storage::Storage;
use crate::world::{ProcessId, World};

/// What a process has, by name: `storage-2 simulated-0` has `follower of 1, epoch 3, ...`.
pub type State = BTreeMap<String, String>;

pub fn of(world: &World) -> State {
    let mut state = State::new();
    for id in world.processes() {
        match id {
            ProcessId::Controller(_) => controller(world, id, &mut state),
            ProcessId::Storage(_) => storage(world, id, &mut state),
            ProcessId::Gateway(_) => gateway(world, id, &mut state),
            ProcessId::Client(_) | ProcessId::Member(_) => drop(state.insert(id.to_string(), "runs".to_owned())),
        }
    }
    state
}

/// What is not the same: `-` as it was, `+` as it is.
pub fn difference(before: &State, after: &State) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let changed = names.filter(|name| before.get(*name) != after.get(*name));
    let lines = changed.flat_map(|name| {
        let was = before.get(name).map(|was| format!("- {name}: {was}"));
        let is = after.get(name).map(|is| format!("+ {name}: {is}"));
        [was, is]
    });
    lines.flatten().collect()
}

fn controller(world: &World, id: ProcessId, state: &mut State) {
    let Some(controller) = world.process::<Controller>(id) else { return };
    let core = controller.core();
    let is_active = if core.is_active() { ", active" } else { "" };
    state.insert(id.to_string(), format!("{:?}{is_active}, metadata at {:?}", core.role(), core.image().at()));
    if core.is_active() {
        for (partition, committed) in core.image().partitions() {
            let topic = core.image().topic(partition.topic).map_or("?", |topic| topic.name.as_str());
            state.insert(format!("{id} {topic}-{}", partition.partition), format!("{committed:?}"));
        }
    }
}

fn storage(world: &World, id: ProcessId, state: &mut State) {
    let Some(storage) = world.process::<Storage>(id) else { return };
    let core = storage.core();
    let epoch = core.broker_epoch().map_or("not registered".to_owned(), |epoch| format!("broker epoch {epoch}"));
    state.insert(id.to_string(), format!("{epoch}, metadata at {:?}", core.image().at()));
    for stats in core.replica_stats() {
        let Some(replica) = core.replica(stats.partition) else { continue };
        let topic = core.image().topic(stats.partition.topic).map_or("?", |topic| topic.name.as_str());
        let isr: Vec<String> = replica.isr().iter().map(|broker| broker.to_string()).collect();
        let line = format!(
            "{:?}, epoch {}, from {} to {} ({} durable), high watermark {}, isr {}",
            replica.role(),
            stats.leader_epoch,
            stats.log_start,
            stats.log_end,
            stats.durable_end,
            stats.high_watermark,
            isr.join(" ")
        );
        state.insert(format!("{id} {topic}-{}", stats.partition.partition), line);
    }
}

fn gateway(world: &World, id: ProcessId, state: &mut State) {
    let Some(gateway) = world.process::<Gateway>(id) else { return };
    let (core, stats) = (gateway.core(), gateway.core().stats());
    let controller = if core.has_controller() { "" } else { ", no controller" };
    let line = format!(
        "metadata at {:?}{controller}, {} connections, {} storage and {} controller calls open",
        core.image().at(),
        stats.connections,
        stats.storage_calls,
        stats.controller_calls
    );
    state.insert(id.to_string(), line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_came_went_and_changed() {
        let state = |lines: &[(&str, &str)]| -> State {
            lines.iter().map(|(name, line)| ((*name).to_owned(), (*line).to_owned())).collect()
        };
        let before = state(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = state(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(difference(&before, &after), ["- b: 1", "+ b: 2", "- c: 1", "+ d: 1"]);
        assert!(difference(&after, &after).is_empty());
    }
}
