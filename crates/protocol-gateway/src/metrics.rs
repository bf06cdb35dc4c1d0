//! What is measured, one function per fact.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::{RequestInfo, Stats};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use service_kit::metrics::LATENCY_SECONDS;

pub struct Metrics {
    latency: HistogramVec,
    latency_by_api: BTreeMap<&'static str, Histogram>,
    requests: IntCounterVec,
    errors: IntCounterVec,
    closes: IntCounterVec,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    connections: IntGauge,
    bytes_held: IntGauge,
    bytes_unsent: IntGauge,
    fetch_sessions: IntGauge,
    fetch_session_partitions: IntGauge,
    produce_retries: IntCounter,
    produce_indeterminate: IntCounter,
    metadata_offset: IntGauge,
    /// What was taken over from the core already.
    last: Stats,
}

impl Metrics {
    pub fn new(kit: &service_kit::Metrics) -> Metrics {
        Metrics {
            latency: kit.histograms(
                "thalweg_gateway_request_seconds",
                "From the last byte of a request to the moment its answer is ready.",
                &["api"],
                LATENCY_SECONDS,
            ),
            latency_by_api: BTreeMap::new(),
            requests: kit.counters("thalweg_gateway_requests_total", "Requests begun.", &["api"]),
            errors: kit.counters("thalweg_gateway_errors_total", "Error codes told to clients.", &["code"]),
            closes: kit.counters("thalweg_gateway_closes_total", "Connections ended by the gateway.", &["reason"]),
            bytes_in: kit.counter("thalweg_gateway_received_bytes_total", "Bytes of requests."),
            bytes_out: kit.counter("thalweg_gateway_sent_bytes_total", "Bytes of answers."),
            connections: kit.gauge("thalweg_gateway_connections", "Open client connections."),
            bytes_held: kit.gauge("thalweg_gateway_held_bytes", "Bytes of requests received and not answered."),
            bytes_unsent: kit.gauge("thalweg_gateway_unsent_bytes", "Bytes of answers that clients have not taken."),
            fetch_sessions: kit.gauge("thalweg_gateway_fetch_sessions", "Fetch sessions remembered."),
            fetch_session_partitions: kit
                .gauge("thalweg_gateway_fetch_session_partitions", "Partitions in fetch sessions."),
            produce_retries: kit.counter("thalweg_gateway_produce_retries_total", "Appends sent again."),
            produce_indeterminate: kit
                .counter("thalweg_gateway_produce_indeterminate_total", "Appends whose outcome is unknown."),
            metadata_offset: kit.gauge("thalweg_gateway_metadata_offset", "How far the metadata is followed."),
            last: Stats::default(),
        }
    }

    pub(crate) fn answered(&mut self, request: RequestInfo, took: Duration) {
        let api = request.key.name();
        self.latency_by_api
            .entry(api)
            .or_insert_with(|| self.latency.with_label_values(&[api]))
            .observe(took.as_secs_f64());
    }

    /// Takes over what the core has counted since the last time.
    pub(crate) fn counted(&mut self, stats: Stats, metadata_offset: u64) {
        for (key, count) in &stats.requests {
            let before = self.last.requests.get(key).copied().unwrap_or_default();
            self.requests.with_label_values(&[key.name()]).inc_by(count - before);
        }
        for (code, count) in &stats.errors {
            let before = self.last.errors.get(code).copied().unwrap_or_default();
            self.errors.with_label_values(&[code.name()]).inc_by(count - before);
        }
        for (reason, count) in &stats.closes {
            let before = self.last.closes.get(reason).copied().unwrap_or_default();
            self.closes.with_label_values(&[&format!("{reason:?}")]).inc_by(count - before);
        }
        self.bytes_in.inc_by(stats.bytes_in - self.last.bytes_in);
        self.bytes_out.inc_by(stats.bytes_out - self.last.bytes_out);
        self.produce_retries.inc_by(stats.produce_retries - self.last.produce_retries);
        self.produce_indeterminate.inc_by(stats.produce_indeterminate - self.last.produce_indeterminate);
        self.connections.set(stats.connections as i64);
        self.bytes_held.set(stats.bytes_held as i64);
        self.bytes_unsent.set(stats.bytes_unsent as i64);
        self.fetch_sessions.set(stats.fetch_sessions as i64);
        self.fetch_session_partitions.set(stats.fetch_session_partitions as i64);
        self.metadata_offset.set(metadata_offset as i64);
        self.last = stats;
    }
}
