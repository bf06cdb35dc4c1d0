//! What a storage node measures: one function for each fact, all names in one place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base_types::Tick;
use peer_api::groups::{GroupKind, GroupState};
use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec};
use storage_core::{CoordinatorStats, StorageNode};

/// How often the core is looked at.
const CORE_EVERY_MS: u64 = 1_000;

/// Cheap to clone; every clone counts into the same.
#[derive(Clone)]
pub struct Metrics {
    facts: Arc<Facts>,
}

struct Facts {
    commit_seconds: Histogram,
    commit_batches: Histogram,
    written_bytes: IntCounter,
    written_batches: IntCounter,
    commit_failures: IntCounter,
    unclean_truncations: IntCounter,
    damage_found: IntCounter,
    replicas_set_aside: IntCounter,
    scrubbed_bytes: IntCounter,
    scrub_rounds: IntCounter,
    scrub_completed_at: IntGauge,
    damaged: IntGauge,
    replicas: IntGauge,
    leaders: IntGauge,
    under_replicated: IntGauge,
    under_min_isr: IntGauge,
    appends_waiting: IntGauge,
    fetches_waiting: IntGauge,
    coordinators: IntGauge,
    coordinators_loading: IntGauge,
    groups: IntGaugeVec,
    group_offsets: IntGauge,
    group_requests_waiting: IntGauge,
    group_records_skipped: IntGauge,
    group_loads: IntCounter,
    group_load_ms: IntCounter,
    group_load_ms_max: IntGauge,
    fenced: IntGauge,
    metadata_offset: IntGauge,
    looked_at: Mutex<Option<Tick>>,
}

impl Metrics {
    pub fn new(kit: &service_kit::Metrics) -> Metrics {
        const SECONDS: [f64; 12] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        const BATCHES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0];
        Metrics {
            facts: Arc::new(Facts {
                commit_seconds: kit.histogram(
                    "thalweg_log_commit_seconds",
                    "Time from handing a group of batches to the disk until it is durable",
                    &SECONDS,
                ),
                commit_batches: kit.histogram("thalweg_log_commit_batches", "Batches made durable together", &BATCHES),
                written_bytes: kit.counter("thalweg_log_written_bytes_total", "Bytes of batches made durable"),
                written_batches: kit.counter("thalweg_log_written_batches_total", "Batches made durable"),
                commit_failures: kit.counter(
                    "thalweg_log_commit_failures_total",
                    "Groups of batches that the disk did not take, a full one included",
                ),
                unclean_truncations: kit.counter(
                    "thalweg_log_unclean_truncations_total",
                    "Logs cut below their high watermark, so that committed records were lost, after an unclean election",
                ),
                damage_found: kit
                    .counter("thalweg_log_damage_found_total", "Replicas found damaged, by a read or by the scrub"),
                replicas_set_aside: kit.counter(
                    "thalweg_log_replicas_quarantined_total",
                    "Damaged replicas that were set aside, to be fetched anew",
                ),
                scrubbed_bytes: kit.counter("thalweg_log_scrubbed_bytes_total", "Bytes verified by the scrub"),
                scrub_rounds: kit.counter("thalweg_log_scrub_rounds_total", "How often the scrub has read everything"),
                scrub_completed_at: kit.gauge(
                    "thalweg_log_scrub_completed_timestamp_seconds",
                    "When it had last, in seconds since 1970; 0: not yet",
                ),
                damaged: kit.gauge(
                    "thalweg_damaged_replicas",
                    "Replicas that are damaged and not given up yet; one that stays is the only copy",
                ),
                replicas: kit.gauge("thalweg_replicas", "Partition replicas on this node"),
                leaders: kit.gauge("thalweg_leaders", "Partitions led by this node"),
                under_replicated: kit.gauge(
                    "thalweg_under_replicated_partitions",
                    "Partitions led here with replicas that are not in sync",
                ),
                under_min_isr: kit.gauge(
                    "thalweg_under_min_isr_partitions",
                    "Partitions led here with fewer replicas in sync than min.insync.replicas",
                ),
                appends_waiting: kit.gauge("thalweg_appends_waiting", "Append requests that wait to be durable"),
                fetches_waiting: kit.gauge("thalweg_fetches_waiting", "Fetch requests that wait for records"),
                coordinators: kit.gauge(
                    "thalweg_group_coordinators",
                    "Partitions of __consumer_offsets whose groups are coordinated here",
                ),
                coordinators_loading: kit.gauge(
                    "thalweg_group_coordinators_loading",
                    "Those of them that are still being read from their log",
                ),
                groups: kit.gauges("thalweg_groups", "Consumer groups coordinated here", &["protocol", "state"]),
                group_offsets: kit.gauge("thalweg_group_offsets", "Committed offsets of groups coordinated here"),
                group_requests_waiting: kit.gauge(
                    "thalweg_group_requests_waiting",
                    "Requests of group members that wait for a write or for other members",
                ),
                group_records_skipped: kit.gauge(
                    "thalweg_group_records_skipped",
                    "Records of __consumer_offsets that could not be read and were passed over",
                ),
                group_loads: kit
                    .counter("thalweg_group_partition_loads_total", "How often the groups of a partition were loaded"),
                group_load_ms: kit.counter(
                    "thalweg_group_partition_load_milliseconds_total",
                    "How long that took, from the election until the first request was served",
                ),
                group_load_ms_max: kit.gauge(
                    "thalweg_group_partition_load_milliseconds_max",
                    "The longest of them since the process began",
                ),
                fenced: kit.gauge("thalweg_fenced", "1 while the controller trusts this node with nothing"),
                metadata_offset: kit.gauge("thalweg_metadata_offset", "Position of this node's view of the metadata"),
                looked_at: Mutex::new(None),
            }),
        }
    }

    /// A group of batches became durable.
    pub(crate) fn committed(&self, took: Duration, batches: usize, bytes: usize) {
        self.facts.commit_seconds.observe(took.as_secs_f64());
        self.facts.commit_batches.observe(batches as f64);
        self.facts.written_bytes.inc_by(bytes as u64);
        self.facts.written_batches.inc_by(batches as u64);
    }

    /// A group of batches was refused, or its fate is not known.
    pub(crate) fn commit_failed(&self) {
        self.facts.commit_failures.inc();
    }

    /// What was committed goes, because a leader without it was elected.
    pub(crate) fn unclean_truncation(&self) {
        self.facts.unclean_truncations.inc();
    }

    pub(crate) fn damage_found(&self) {
        self.facts.damage_found.inc();
    }

    pub(crate) fn replica_set_aside(&self) {
        self.facts.replicas_set_aside.inc();
    }

    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.facts.scrubbed_bytes.inc_by(bytes);
    }

    /// The scrub has read everything.
    pub(crate) fn scrub_completed(&self) {
        self.facts.scrub_rounds.inc();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.facts.scrub_completed_at.set(since.as_secs() as i64);
    }

    /// Takes up the core's own figures, once in a while.
    pub(crate) fn core(&self, core: &StorageNode, now: Tick) {
        let mut looked_at = self.facts.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if looked_at.is_some_and(|at| now.ms_since(at) < CORE_EVERY_MS) {
            return;
        }
        *looked_at = Some(now);
        let stats = core.stats();
        let facts = &self.facts;
        let count = |gauge: &IntGauge, value: usize| gauge.set(value as i64);
        count(&facts.replicas, stats.replicas);
        count(&facts.damaged, stats.damaged);
        count(&facts.leaders, stats.leaders);
        count(&facts.under_replicated, stats.under_replicated);
        count(&facts.under_min_isr, stats.under_min_isr);
        count(&facts.appends_waiting, stats.appends_waiting);
        count(&facts.fetches_waiting, stats.fetches_waiting);
        self.coordinators(&stats.coordinators);
        facts.fenced.set(i64::from(stats.fenced || !stats.registered));
        facts.metadata_offset.set(stats.metadata_offset.0 as i64);
    }

    fn coordinators(&self, stats: &CoordinatorStats) {
        let facts = &self.facts;
        let count = |gauge: &IntGauge, value: usize| gauge.set(value as i64);
        count(&facts.coordinators, stats.coordinators);
        count(&facts.coordinators_loading, stats.loading);
        for &kind in GroupKind::ALL {
            // States that no group is in any more go back to 0.
            for &state in GroupState::ALL {
                let groups = stats.groups.get(&(kind, state)).copied().unwrap_or_default();
                facts.groups.with_label_values(&[kind.name(), state.name()]).set(groups as i64);
            }
        }
        count(&facts.group_offsets, stats.offsets);
        count(&facts.group_requests_waiting, stats.requests_waiting);
        facts.group_records_skipped.set(stats.records_skipped as i64);
        let up_to = |counter: &IntCounter, total: u64| counter.inc_by(total.saturating_sub(counter.get()));
        up_to(&facts.group_loads, stats.loads.count);
        up_to(&facts.group_load_ms, stats.loads.ms_total);
        facts.group_load_ms_max.set(stats.loads.ms_max as i64);
    }
}
