//! Our own client under faults, as a program of its own: what the libraries would never do, it does on purpose.
//!
//! It sends batches of one producer several at once, some twice, and old ones again long after; it knows of each attempt whether it may
//! have been kept; and it holds the cluster to what the gateway documents of its errors (`gateway-core/src/api/error.rs`): a batch that was refused for
//! certain is never seen, and a batch that is next in line is never out of order.
//!
//! Its words and commands are those of the other clients, see [`crate::journal`].

mod producer;
pub mod reader;

use std::io::{self, BufRead as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::random::Random;
use crate::wire::Topic;

pub use self::producer::Outcome;

/// One number after another that nobody else has: lives of clients, and values in a range for each program.
const VALUES_OF_A_PROGRAM: u64 = 1_000_000;

/// What a client program is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    pub bootstrap: String,
    pub topic: Topic,
    /// Names of clients and values begin here.
    pub first: u32,
    pub seed: u64,
    /// Between two sends.
    pub pause: Duration,
}

struct Shared {
    options: Options,
    clients: AtomicU32,
    values: AtomicU64,
    stopping: AtomicBool,
    ends: OnceLock<Vec<i64>>,
    failed: AtomicBool,
}

/// Runs until standard input says `stop` and `finish`. Whether the reader got to the ends.
pub fn run(options: Options) -> Result<bool> {
    let shared = Arc::new(Shared {
        clients: AtomicU32::new(options.first),
        values: AtomicU64::new(u64::from(options.first) * VALUES_OF_A_PROGRAM),
        stopping: AtomicBool::new(false),
        ends: OnceLock::new(),
        failed: AtomicBool::new(false),
        options,
    });
    let mut random = Random::new(shared.options.seed);
    let producers = [true, false].map(|idempotent| {
        let (shared, random) = (Arc::clone(&shared), random.split());
        thread::spawn(move || producer::run(&shared, random, idempotent))
    });
    let reader = {
        let (shared, random) = (Arc::clone(&shared), random.split());
        thread::spawn(move || reader::run(&shared, random))
    };
    let mut producers = Some(producers);
    for line in io::stdin().lock().lines() {
        let line = line?;
        shared.stopping.store(true, Ordering::Relaxed);
        for producer in producers.take().into_iter().flatten() {
            producer.join().map_err(|_| anyhow::anyhow!("a producer panicked"))??;
        }
        match line.split_once(' ') {
            Some(("finish", ends)) => {
                let ends = ends.split(' ').map(|end| end.parse().context("an end is a number"));
                let _ = shared.ends.set(ends.collect::<Result<Vec<i64>>>()?);
                break;
            }
            _ => say("# producers are done"),
        }
    }
    shared.stopping.store(true, Ordering::Relaxed);
    let _ = shared.ends.set(vec![0; shared.options.topic.partitions as usize]);
    reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(!shared.failed.load(Ordering::Relaxed))
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn next_client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn next_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn complain(&self, words: &str) {
        say(&format!("! {words}"));
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// The clock that all programs of a machine share, in nanoseconds.
pub fn moment() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// One line, whole.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads: then the run is over.
    let _ = writeln!(out, "{line}");
}
