//! Logs to standard error, and the end of a process that panics.

use opentelemetry::trace::TracerProvider;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::trace::{self, Exporter, TraceConfig};

/// The `[log]` section of a service's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    pub format: LogFormat,
    /// As `RUST_LOG` has them: `info`, or `info,storage_node=debug`.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// Sends what is still to be exported when it is dropped; main keeps it to the end.
#[derive(Debug)]
#[must_use = "traces stop when it is dropped"]
pub struct Guard {
    _exporter: Option<Exporter>,
}

/// Sets up logs, the panic hook, and traces if they are configured. Once per process.
pub fn init(service: &'static str, log: &LogConfig, trace: &TraceConfig) -> anyhow::Result<Guard> {
    let filter = EnvFilter::builder().parse(&log.filter).map_err(|error| {
        anyhow::anyhow!("`log.filter` is {:?}; expected: directives like info,rpc=debug: {error}", log.filter)
    })?;
    // Spans of traces are no business of the log. Saying so here is what makes them free while traces are off.
    let filter = filter.and(filter_fn(|metadata| metadata.target() != trace::TARGET));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let output: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_filter(filter).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_filter(filter).boxed()
        }
    };
    let exporter = trace::exporter(trace, service)?;
    let traces = exporter.as_ref().map(|exporter| {
        let wanted = Targets::new().with_target(trace::TARGET, LevelFilter::TRACE);
        tracing_opentelemetry::layer().with_tracer(exporter.provider.tracer(service)).with_filter(wanted)
    });
    tracing_subscriber::registry().with(output).with(traces).try_init()?;
    abort_on_panic();
    Ok(Guard { _exporter: exporter })
}

/// A panic anywhere is a broken invariant: it is logged and the process ends, before any other thread acts on a state that
/// cannot be true. The binaries are built with unwinding so that one build of every dependency serves tests and binaries
/// alike; this hook makes a panic final all the same.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(message, place, thread = thread.name().unwrap_or("unnamed"), %backtrace, "panic: the process ends");
        std::process::abort();
    }));
}
