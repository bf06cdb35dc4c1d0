//! Everything that may happen within small bounds, each state once: a breadth-first search, so that the first failure is a shortest one.
//!
//! Nothing is drawn and nothing depends on a clock. A state is the [`crate::World`] and what was spent of the bounds; [`steps`] says what may happen in it, and
//! [`fingerprint`] which states are the same: those that differ only in how long ago things were and in how things are numbered.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a search uses threads, and its states have no order"
)]

mod fingerprint;
mod steps;

use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::thread;

use crate::judge::Seen;
pub use steps::Bounds;
use steps::{PARTITION, State};

/// What `make test` looks at.
pub const SMALL: [Bounds; 3] = [
    Bounds { records: 2, elections: 2, fencings: 2, held: 1, ..Bounds::NONE },
    Bounds { records: 1, elections: 1, crashes: 1, held: 2, ..Bounds::NONE },
    Bounds { records: 1, elections: 1, fencings: 1, broken_streams: 1, lags: 1, held: 1, ..Bounds::NONE },
];

/// And `make test-long`.
pub const FULL: [Bounds; 4] = [
    Bounds { records: 3, elections: 2, fencings: 1, crashes: 1, held: 1, ..Bounds::NONE },
    Bounds { records: 3, elections: 2, fencings: 2, held: 1, ..Bounds::NONE },
    Bounds { records: 2, elections: 2, fencings: 2, broken_streams: 1, held: 1, ..Bounds::NONE },
    Bounds { records: 1, elections: 1, fencings: 1, broken_streams: 1, lags: 1, held: 2, ..Bounds::NONE },
];

/// What a search has met.
#[derive(Debug, Default)]
pub struct Outcome {
    pub states: usize,
    pub transitions: usize,
    /// Steps that led beyond the bounds, and were not followed.
    pub beyond: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    pub seen: Seen,
    pub failure: Option<Counterexample>,
}

/// A shortest way to what a rule forbids.
#[derive(Debug)]
pub struct Counterexample {
    /// With the id of the invariant.
    pub failure: String,
    /// What was done, and below each step what came of it.
    pub steps: Vec<String>,
}

/// By which state, and which of the steps that it allows, a state was found first.
#[derive(Clone, Copy)]
struct Origin {
    state: u32,
    step: u16,
}

#[derive(Default)]
struct Layer {
    found: Vec<(Origin, State)>,
    transitions: usize,
    beyond: usize,
    seen: Seen,
    failure: Option<Origin>,
}

/// The states that are to be expanded, and the number of the first. Whoever takes some owns them: they go when they are done.
struct Queue {
    chunks: Mutex<Vec<(usize, Vec<State>)>>,
}

/// So many states are taken at a time.
const CHUNK: usize = 64;

impl Queue {
    fn new(layer: Vec<State>, begins: usize) -> Queue {
        let ends = begins + layer.len();
        let mut states = layer.into_iter();
        let chunk = |at: usize| (at, states.by_ref().take(CHUNK).collect());
        let chunks = (begins..ends).step_by(CHUNK).map(chunk).collect();
        Queue { chunks: Mutex::new(chunks) }
    }

    fn take(&self) -> Option<(usize, Vec<State>)> {
        self.chunks.lock().expect("no search fails with it locked").pop()
    }

    fn stop(&self) {
        self.chunks.lock().expect("no search fails with it locked").clear();
    }
}

/// Fingerprints, in parts so that threads rarely wait for one another.
struct Visited {
    shards: Vec<Mutex<HashSet<u64>>>,
}

const SHARDS: usize = 64;

impl Visited {
    fn new() -> Visited {
        Visited { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Whether it is a new one.
    fn insert(&self, fingerprint: u64) -> bool {
        let shard = &self.shards[(fingerprint >> 58) as usize];
        shard.lock().expect("no search fails with it locked").insert(fingerprint)
    }
}

/// Looks at every state within the bounds, until a rule is broken. On several threads which of the shortest ways is told is a matter of luck.
pub fn search(bounds: &Bounds, threads: usize) -> Outcome {
    let visited = Visited::new();
    let first = State::first(bounds);
    visited.insert(first.fingerprint());
    let mut origins = vec![Origin { state: 0, step: 0 }];
    let mut outcome = Outcome { states: 1, ..Outcome::default() };
    let (mut begins, mut layer) = (0, vec![first]);
    while !layer.is_empty() {
        let size = layer.len();
        let queue = Queue::new(layer, begins);
        let work = || expand(bounds, &queue, &visited);
        let parts: Vec<Layer> = if threads == 1 {
            vec![work()]
        } else {
            thread::scope(|scope| {
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                workers.into_iter().map(|worker| worker.join().expect("failures are caught")).collect()
            })
        };
        begins += size;
        layer = Vec::new();
        for part in parts {
            outcome.transitions += part.transitions;
            outcome.beyond += part.beyond;
            outcome.seen.add(&part.seen);
            if let Some(origin) = part.failure {
                outcome.failure.get_or_insert_with(|| replay(bounds, &origins, origin));
            }
            for (origin, state) in part.found {
                origins.push(origin);
                layer.push(state);
            }
        }
        outcome.states += layer.len();
        if outcome.failure.is_some() {
            return outcome;
        }
        outcome.depth += usize::from(!layer.is_empty());
    }
    outcome
}

/// The states that those of a layer lead to.
fn expand(bounds: &Bounds, queue: &Queue, visited: &Visited) -> Layer {
    let mut result = Layer::default();
    while let Some((begins, states)) = queue.take() {
        for (index, state) in states.iter().enumerate() {
            for (number, step) in state.steps(bounds).into_iter().enumerate() {
                let origin = Origin { state: (begins + index) as u32, step: number as u16 };
                let mut after = state.clone();
                result.transitions += 1;
                match panic::catch_unwind(AssertUnwindSafe(|| after.take(step, bounds))) {
                    Ok(true) => {
                        result.seen.add(&std::mem::take(&mut after.world.judge.seen));
                        if visited.insert(after.fingerprint()) {
                            result.found.push((origin, after));
                        }
                    }
                    Ok(false) => result.beyond += 1,
                    Err(_) => {
                        queue.stop();
                        result.failure = Some(origin);
                        return result;
                    }
                }
            }
        }
    }
    result
}

/// There is only one.
fn without_partition(note: &str) -> String {
    note.replace(&format!(" {PARTITION}:"), ":").replace("::", ":").replace(";:", ";")
}

/// The way to a failure once more, for people.
fn replay(bounds: &Bounds, origins: &[Origin], last: Origin) -> Counterexample {
    let mut way = vec![last.step];
    let mut at = last.state as usize;
    while at > 0 {
        way.push(origins[at].step);
        at = origins[at].state as usize;
    }
    let mut state = State::first(bounds);
    state.world.trace = Some(Vec::new());
    let mut lines = Vec::new();
    // Fingerprints that are equal by chance, or states that are taken for one another and differ.
    let mut failure = "it does not come again".to_owned();
    for (number, step) in way.into_iter().rev().enumerate() {
        let step = state.steps(bounds)[usize::from(step)];
        lines.push(format!("{}. {}", number + 1, step.describe()));
        let result = panic::catch_unwind(AssertUnwindSafe(|| state.take(step, bounds)));
        let notes = state.world.trace.replace(Vec::new()).unwrap_or_default();
        lines.extend(notes.into_iter().map(|note| format!("     {}", without_partition(&note))));
        if let Err(payload) = result {
            failure = match payload.downcast::<String>() {
                Ok(text) => *text,
                Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words").to_owned(),
            };
        }
    }
    Counterexample { failure, steps: lines }
}
