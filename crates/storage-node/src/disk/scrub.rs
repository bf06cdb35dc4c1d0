//! The scrub: reads everything that lies in segments once per cycle, so that damage is found while other copies are whole.
//!
//! Its thread has the lowest priority (on Linux a priority is that of a thread), with which its reads have the lowest of their class
//! too, and it never reads faster than it was told.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use segment_log::ScrubCursor;

use super::Shared;

/// Read in one step.
const STEP_BYTES: usize = 256 << 10;
/// So that a directory with little in it is not read the whole day.
const ROUND_AT_LEAST: Duration = Duration::from_secs(3_600);
const AFTER_ERROR: Duration = Duration::from_secs(60);

/// How fast. What it says depends on what it is asked alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Everything is read once in this time, unless that takes more than `bytes_per_s_max`. Zero: never.
    pub cycle: Duration,
    pub bytes_per_s_max: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { cycle: Duration::from_secs(7 * 86_400), bytes_per_s_max: 32 << 20 }
    }
}

impl Pace {
    /// How long to wait after so many bytes, of a directory that holds `bytes_total`. Half a cycle is kept in reserve for what is appended
    /// meanwhile, restarts and slow disks.
    fn after_step(&self, bytes: u64, bytes_total: u64) -> Duration {
        let in_time = bytes_total as f64 / (self.cycle.as_secs_f64() / 2.0).max(0.001);
        let rate = in_time.max(1024.0 * 1024.0).min(self.bytes_per_s_max.max(1) as f64);
        Duration::from_secs_f64(bytes as f64 / rate)
    }

    /// How long to wait when a round has ended that took so long.
    fn after_round(&self, took: Duration) -> Duration {
        ROUND_AT_LEAST.min(self.cycle).saturating_sub(took)
    }
}

/// Until the other end of `stopped` is gone.
pub(super) fn run(shared: &Shared, pace: Pace, stopped: &Receiver<()>) {
    if pace.cycle.is_zero() {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "the scrub runs at ordinary priority");
    }
    let log = shared.log();
    let bytes_total = || log.replicas().into_iter().map(|partition| log.size(partition)).sum();
    let mut cursor = ScrubCursor::default();
    let mut round = Duration::ZERO;
    let mut bytes_of_round = bytes_total();
    let mut pause = pace.after_round(Duration::ZERO).min(Duration::from_secs(60));
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
        round += pause;
        pause = match log.scrub(&mut cursor, STEP_BYTES) {
            Ok(step) => {
                shared.metrics.scrubbed(step.bytes);
                shared.tell_damage();
                if step.is_round_over {
                    shared.metrics.scrub_completed();
                    bytes_of_round = bytes_total();
                    pace.after_round(std::mem::take(&mut round))
                } else {
                    pace.after_step(step.bytes, bytes_of_round)
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the scrub cannot read");
                AFTER_ERROR
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_round_takes_half_a_cycle_and_never_more_than_the_disk_was_granted() {
        let pace = Pace { cycle: Duration::from_secs(1_000), bytes_per_s_max: 10 * MIB };
        let round = |bytes_total: u64| pace.after_step(bytes_total, bytes_total).as_secs();
        assert_eq!(round(2_500 * MIB), 500);
        assert_eq!(round(100 * MIB), 100, "no slower than a mebibyte a second");
        assert_eq!(round(100_000 * MIB), 10_000, "no faster than ten");
        assert_eq!(pace.after_round(Duration::from_secs(400)), Duration::from_secs(600));
        assert_eq!(pace.after_round(Duration::from_secs(4_000)), Duration::ZERO);
    }
}
