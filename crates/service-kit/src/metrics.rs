//! Metrics of a process, in Prometheus' text format.
//!
//! A service has one `metrics.rs` of its own with one function per fact; names and label values stand there and nowhere
//! else. It makes its instruments here, once, and keeps them:
//!
//! ```
//! use prometheus::{IntCounterVec, Registry};
//! struct StorageMetrics {
//!     appends: IntCounterVec,
//! }
//! impl StorageMetrics {
//!     fn new(metrics: &service_kit::Metrics) -> StorageMetrics {
//!         let appends = metrics.counters("thalweg_storage_appends_total", "Appends answered.", &["result"]);
//!         StorageMetrics { appends }
//!     }
//!     fn append_answered(&self, ok: bool) {
//!         self.appends.with_label_values(&[if ok { "ok" } else { "error" }]).inc();
//!     }
//! }
//! ```

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// From 100 µs to 10 s, for anything a client waits for.
pub const LATENCY_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The registry of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    before_scrape: Arc<Mutex<Vec<Update>>>,
    process: Process,
}

type Update = Box<dyn Fn() + Send>;

#[derive(Clone)]
struct Process {
    cpu_seconds: Gauge,
    resident_bytes: IntGauge,
    open_files: IntGauge,
    threads: IntGauge,
}

impl Metrics {
    /// With the usual facts about the process itself. `service` and `version` name it in `thalweg_build_info`.
    pub fn new(service: &str, version: &str) -> Metrics {
        let registry = Registry::new();
        let process = Process {
            cpu_seconds: register(
                &registry,
                Gauge::new("process_cpu_seconds_total", "User and system time, in seconds."),
            ),
            resident_bytes: register(&registry, IntGauge::new("process_resident_memory_bytes", "Resident memory.")),
            open_files: register(&registry, IntGauge::new("process_open_fds", "Open file descriptors.")),
            threads: register(&registry, IntGauge::new("process_threads", "Threads.")),
        };
        let metrics = Metrics { registry, before_scrape: Arc::default(), process };
        metrics
            .gauges("thalweg_build_info", "1, with what is running as labels.", &["service", "version"])
            .with_label_values(&[service, version])
            .set(1);
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        metrics
            .gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
            .set(since_1970.as_secs() as i64);
        metrics
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        register(&self.registry, IntCounter::new(name, help))
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        register(&self.registry, IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        register(&self.registry, IntGauge::new(name, help))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        register(&self.registry, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// For what is no whole number, such as seconds.
    pub fn fractions(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        register(&self.registry, GaugeVec::new(Opts::new(name, help), labels))
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        register(&self.registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        register(&self.registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    /// Called before every scrape, to bring gauges up to date from a snapshot.
    pub fn before_scrape(&self, update: impl Fn() + Send + 'static) {
        self.before_scrape.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(Box::new(update));
    }

    /// Everything, as a scrape gets it.
    pub fn render(&self) -> String {
        self.process.update();
        for update in self.before_scrape.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter() {
            update();
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A name that is taken or no name at all is a fault in the program, found by the first test that makes the metrics.
#[track_caller]
fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    let registered = metric.and_then(|metric| registry.register(Box::new(metric.clone())).map(|()| metric));
    registered.unwrap_or_else(|error| panic!("metric cannot be registered: {error}"))
}

impl Process {
    /// From `/proc`; what cannot be read stays as it was.
    fn update(&self) {
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            // The name in the second field may hold spaces; fields are counted from its closing bracket, which ends field 2.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
            // proc(5): times are in 1/100 s on every Linux there is, sizes in pages.
            if let (Some(user), Some(system)) = (field(14), field(15)) {
                self.cpu_seconds.set((user + system) as f64 / 100.0);
            }
            if let Some(threads) = field(20) {
                self.threads.set(threads as i64);
            }
        }
        if let Ok(status) = std::fs::read_to_string("/proc/self/status")
            && let Some(kib) = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))
            && let Some(kib) = kib.split_whitespace().next().and_then(|text| text.parse::<i64>().ok())
        {
            self.resident_bytes.set(kib * 1024);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as i64);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_shows_what_was_counted_and_the_process() {
        let metrics = Metrics::new("storage-node", "0.1.0");
        let appends = metrics.counters("thalweg_test_appends_total", "Appends.", &["result"]);
        let lag = metrics.gauge("thalweg_test_lag", "Lag.");
        let seconds = metrics.histogram("thalweg_test_seconds", "Time.", LATENCY_SECONDS);
        metrics.before_scrape(move || lag.set(7));
        appends.with_label_values(&["ok"]).inc_by(3);
        seconds.observe(0.002);
        let text = metrics.render();
        for line in [
            "thalweg_test_appends_total{result=\"ok\"} 3",
            "thalweg_test_lag 7",
            "thalweg_test_seconds_bucket{le=\"0.0025\"} 1",
            "thalweg_build_info{service=\"storage-node\",version=\"0.1.0\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
    }

    #[test]
    #[should_panic(expected = "metric cannot be registered")]
    fn a_name_taken_twice_is_a_fault() {
        let metrics = Metrics::new("test", "0");
        metrics.counter("thalweg_same_total", "One.");
        metrics.counter("thalweg_same_total", "Two.");
    }
}
