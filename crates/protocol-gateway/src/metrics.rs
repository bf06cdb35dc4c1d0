//! What is measured, one function per fact.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::{RequestInfo, Stats};
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// Latency from the last byte of a request to the first of its answer.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

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
    produce_retries: IntCounter,
    produce_indeterminate: IntCounter,
    metadata_offset: Gauge,
    last: Stats,
}

impl Metrics {
    pub fn new(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let metrics = Metrics {
            latency: HistogramVec::new(
                HistogramOpts::new("thalweg_gateway_request_seconds", "time from request to answer")
                    .buckets(LATENCY_BUCKETS.to_vec()),
                &["api"],
            )?,
            latency_by_api: BTreeMap::new(),
            requests: counters("thalweg_gateway_requests_total", "requests begun", "api")?,
            errors: counters("thalweg_gateway_errors_total", "error codes told to clients", "code")?,
            closes: counters("thalweg_gateway_closes_total", "connections the gateway ended", "reason")?,
            bytes_in: IntCounter::new("thalweg_gateway_received_bytes_total", "bytes of requests")?,
            bytes_out: IntCounter::new("thalweg_gateway_sent_bytes_total", "bytes of answers")?,
            connections: IntGauge::new("thalweg_gateway_connections", "open client connections")?,
            bytes_held: IntGauge::new("thalweg_gateway_held_bytes", "bytes of requests not yet answered")?,
            bytes_unsent: IntGauge::new("thalweg_gateway_unsent_bytes", "bytes of answers not yet taken")?,
            fetch_sessions: IntGauge::new("thalweg_gateway_fetch_sessions", "fetch sessions in the cache")?,
            produce_retries: IntCounter::new("thalweg_gateway_produce_retries_total", "appends sent again")?,
            produce_indeterminate: IntCounter::new(
                "thalweg_gateway_produce_indeterminate_total",
                "appends whose outcome is unknown",
            )?,
            metadata_offset: Gauge::new("thalweg_gateway_metadata_offset", "how far the metadata is followed")?,
            last: Stats::default(),
        };
        let all: [Box<dyn Collector>; 13] = [
            Box::new(metrics.latency.clone()),
            Box::new(metrics.requests.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.closes.clone()),
            Box::new(metrics.bytes_in.clone()),
            Box::new(metrics.bytes_out.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.bytes_held.clone()),
            Box::new(metrics.bytes_unsent.clone()),
            Box::new(metrics.fetch_sessions.clone()),
            Box::new(metrics.produce_retries.clone()),
            Box::new(metrics.produce_indeterminate.clone()),
            Box::new(metrics.metadata_offset.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
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
        self.metadata_offset.set(metadata_offset as f64);
        self.last = stats;
    }
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), &[label])
}
