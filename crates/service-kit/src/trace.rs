//! Traces across services: off unless an OTLP endpoint is configured, and free while off.
//!
//! Spans that are part of a trace carry the target [`TARGET`]. Without an endpoint no subscriber takes an interest in that
//! target, so making one is a load and a branch. Between services the context travels as W3C `traceparent` text, next to the
//! message it belongs to.
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

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
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

impl Default for TraceConfig {
    fn default() -> TraceConfig {
        TraceConfig { otlp_endpoint: String::new(), sample_ratio: 0.01 }
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

/// The exporter, if one is configured. Must be made within a tokio runtime.
pub(crate) fn provider(config: &TraceConfig, service: &'static str) -> anyhow::Result<Option<SdkTracerProvider>> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&config.otlp_endpoint).build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    Ok(Some(provider))
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
    fn a_context_crosses_processes_as_text() {
        let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).build();
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
