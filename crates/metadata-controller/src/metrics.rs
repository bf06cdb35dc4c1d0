//! One function per fact.

use std::time::Duration;

use controller_core::Role;
use prometheus::{Histogram, IntCounter, IntGauge};
use service_kit::Metrics;
use service_kit::metrics::LATENCY_SECONDS;

#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    active: IntGauge,
    term: IntGauge,
    leader_known: IntGauge,
    role_changes: IntCounter,
    metadata_offset: IntGauge,
    sessions: IntGauge,
    log_sync: Histogram,
}

impl ControllerMetrics {
    pub fn new(metrics: &Metrics) -> ControllerMetrics {
        ControllerMetrics {
            active: metrics.gauge("thalweg_controller_active", "1 on the active controller."),
            term: metrics.gauge("thalweg_controller_raft_term", "The term of the quorum."),
            leader_known: metrics
                .gauge("thalweg_controller_raft_leader_known", "1 while a leader of the quorum is known."),
            role_changes: metrics.counter("thalweg_controller_raft_role_changes_total", "Changes of leader or term."),
            metadata_offset: metrics.gauge("thalweg_controller_metadata_offset", "Last entry applied here."),
            sessions: metrics.gauge("thalweg_controller_sessions", "Open sessions."),
            log_sync: metrics.histogram(
                "thalweg_controller_log_sync_seconds",
                "Time to make a write of the quorum log durable.",
                LATENCY_SECONDS,
            ),
        }
    }

    pub fn role_changed(&self, role: Role) {
        self.term.set(role.term as i64);
        self.leader_known.set(role.leader.is_some().into());
        self.role_changes.inc();
    }

    pub fn stepped(&self, active: bool, offset: u64, sessions: usize) {
        self.active.set(active.into());
        self.metadata_offset.set(offset as i64);
        self.sessions.set(sessions as i64);
    }

    pub fn log_synced(&self, took: Duration) {
        self.log_sync.observe(took.as_secs_f64());
    }
}
