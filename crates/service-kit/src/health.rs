//! Is it started, alive, ready: what Kubernetes asks and people want explained.

use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;

/// The state of one process. Cheap to clone; every clone speaks of the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    stopping: bool,
    checks: Vec<Report>,
}

/// One condition of readiness. Fails until it is said to pass.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    index: usize,
}

/// What a check says, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

impl Health {
    pub fn new() -> Health {
        Health::default()
    }

    /// Adds a condition of readiness.
    pub fn check(&self, name: &'static str) -> Check {
        let mut state = self.state();
        state.checks.push(Report { name, ok: false, detail: "not yet".to_owned() });
        Check { health: self.clone(), index: state.checks.len() - 1 }
    }

    /// Recovery is over; from here on liveness and readiness count.
    pub fn set_started(&self) {
        self.state().started = true;
    }

    /// No longer ready, however the checks stand: nothing new should come here.
    pub fn set_stopping(&self) {
        self.state().stopping = true;
    }

    pub fn is_started(&self) -> bool {
        self.state().started
    }

    pub fn is_ready(&self) -> bool {
        let state = self.state();
        state.started && !state.stopping && state.checks.iter().all(|check| check.ok)
    }

    pub fn reports(&self) -> Vec<Report> {
        let state = self.state();
        let mut reports = state.checks.clone();
        if !state.started {
            reports.push(Report { name: "startup", ok: false, detail: "still starting".to_owned() });
        }
        if state.stopping {
            reports.push(Report { name: "shutdown", ok: false, detail: "stopping".to_owned() });
        }
        reports
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can panic while it is held.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Check {
    pub fn pass(&self) {
        self.set(true, String::new());
    }

    pub fn fail(&self, why: impl Into<String>) {
        self.set(false, why.into());
    }

    fn set(&self, ok: bool, detail: String) {
        if let Some(report) = self.health.state().checks.get_mut(self.index) {
            (report.ok, report.detail) = (ok, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_started_and_every_check_passes_and_not_stopping() {
        let health = Health::new();
        let (metadata, storage) = (health.check("metadata"), health.check("storage"));
        assert!(!health.is_ready());
        health.set_started();
        metadata.pass();
        assert!(!health.is_ready());
        storage.pass();
        assert!(health.is_ready());
        storage.fail("node 2 cannot be reached");
        assert!(!health.is_ready());
        assert_eq!(health.reports()[1].detail, "node 2 cannot be reached");
        storage.pass();
        health.set_stopping();
        assert!(!health.is_ready());
    }
}
