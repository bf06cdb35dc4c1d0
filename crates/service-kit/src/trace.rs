//! Traces across services: off unless an OTLP endpoint is configured, and free while off.
//!
//! Spans that are part of a trace carry the target [`TARGET`]. Whether a trace begins is decided by a [`Sampler`] before there
//! is a span: who is not sampled pays a comparison, and everyone downstream follows only a context that came with its message.
//! Between services the context travels as W3C `traceparent` text, next to the message it belongs to.
//!
//! ```text
//!   gateway: Sampler ─► span ─traceparent─► storage node: span ─traceparent─► follower: span
//! ```
//!
//! ```
//! use service_kit::trace;
//! let span = tracing::info_span!(target: trace::TARGET, "append", partition = 3);
//! let traceparent = trace::traceparent(&span); // None while off: nothing is sent
//! # let received: Option<Box<str>> = traceparent;
//! if let Some(parent) = received {
//!     let span = tracing::info_span!(target: trace::TARGET, "append on the leader");
//!     trace::set_parent(&span, &parent);
//! }
//! ```

use anyhow::Context as _;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{self, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of all spans that belong to traces.
pub const TARGET: &str = "thalweg_trace";

/// The `[trace]` section of a service's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceConfig {
    /// `http://host:port` of an OTLP gRPC collector; empty for no traces.
    pub otlp_endpoint: String,
    /// Which part of the traces that begin here is recorded: 0 to 1.
    pub sample_ratio: f64,
}

impl TraceConfig {
    /// Whether [`TraceConfig::sample_ratio`] is one.
    pub fn has_good_ratio(&self) -> bool {
        (0.0..=1.0).contains(&self.sample_ratio)
    }
}

impl Default for TraceConfig {
    fn default() -> TraceConfig {
        TraceConfig { otlp_endpoint: String::new(), sample_ratio: 0.01 }
    }
}

/// Decides which requests begin a trace. Off, it is one comparison.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    /// Of all 64-bit numbers, those up to this one are sampled; none when it is 0.
    up_to: u64,
    state: u64,
}

impl Sampler {
    /// The `seed` only spreads what several processes choose.
    pub fn new(config: &TraceConfig, seed: u64) -> Sampler {
        let wanted = !config.otlp_endpoint.is_empty() && config.sample_ratio > 0.0;
        // Saturates: a ratio of one is every number.
        let up_to = if wanted { (config.sample_ratio * 2f64.powi(64)) as u64 } else { 0 };
        Sampler { up_to, state: seed }
    }

    /// Whether the next request is to be traced.
    #[inline]
    pub fn takes_next(&mut self) -> bool {
        self.up_to > 0 && self.draw() <= self.up_to
    }

    /// SplitMix64: no period that a client's own rhythm could meet.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The context of a span for another process; `None` while traces are off or the span is not recorded.
pub fn traceparent(span: &Span) -> Option<Box<str>> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    if !context.is_valid() || !context.is_sampled() {
        return None;
    }
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    Some(format!("00-{trace}-{span}-{flags:02x}").into_boxed_str())
}

/// Makes a span, not yet entered, the child of one in another process. Text that is no trace context is ignored.
pub fn set_parent(span: &Span, traceparent: &str) {
    if let Some(context) = parse(traceparent).filter(|_| !span.is_disabled()) {
        // Fails only where no layer keeps traces, and then there is nothing to be a child in.
        drop(span.set_parent(opentelemetry::Context::new().with_remote_span_context(context)));
    }
}

fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2) && version != "ff";
    if !well_formed || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

/// What exports spans. It has a thread and a runtime of its own: a service that has stopped, or works, waits for no export and
/// keeps none waiting.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) provider: SdkTracerProvider,
    /// Dropped, it ends the thread.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The exporter, if one is configured.
pub(crate) fn exporter(config: &TraceConfig, service: &'static str) -> anyhow::Result<Option<Exporter>> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (made, making) = std::sync::mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let endpoint = config.otlp_endpoint.clone();
    let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
            // Who waits for it and who drops the other end is the one that made this thread.
            drop(made.send(exporter));
            drop(stopped.await);
        });
    })?;
    let exporter = making.recv()?.with_context(|| format!("`trace.otlp_endpoint` is {:?}", config.otlp_endpoint))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        // Sampled is what has a span at all; see `Sampler`.
        .with_sampler(trace::Sampler::ParentBased(Box::new(trace::Sampler::AlwaysOn)))
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    Ok(Some(Exporter { provider, stop: Some(stop), thread: Some(thread) }))
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last traces could not be sent");
        }
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has ended the process already.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn without_a_subscriber_there_is_nothing_to_send() {
        let span = tracing::info_span!(target: TARGET, "append");
        assert!(span.is_disabled());
        assert_eq!(traceparent(&span), None);
    }

    #[test]
    fn only_what_is_configured_is_sampled() {
        let taken = |endpoint: &str, sample_ratio| {
            let config = TraceConfig { otlp_endpoint: endpoint.to_owned(), sample_ratio };
            let mut sampler = Sampler::new(&config, 7);
            (0..10_000).filter(|_| sampler.takes_next()).count()
        };
        assert_eq!((taken("", 1.0), taken("http://x:1", 0.0), taken("http://x:1", 1.0)), (0, 0, 10_000));
        assert!((50..200).contains(&taken("http://x:1", 0.01)));
    }

    #[test]
    fn a_context_crosses_processes_as_text() {
        let provider = SdkTracerProvider::builder().with_sampler(trace::Sampler::AlwaysOn).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let gateway = tracing::info_span!(target: TARGET, "produce");
            let sent = traceparent(&gateway).unwrap();
            let storage = tracing::info_span!(target: TARGET, "append");
            set_parent(&storage, &sent);
            let passed_on = traceparent(&storage).unwrap();
            assert_eq!(sent[..36], passed_on[..36], "one trace");
            assert_ne!(sent, passed_on, "two spans");
        });
    }

    #[test]
    fn only_well_formed_contexts_are_believed() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(parse(good).is_some());
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
