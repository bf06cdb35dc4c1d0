//! Traces across the services, as an OTLP collector receives them.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tests_e2e::cluster::{Cluster, ClusterSpec};
use tests_e2e::{clients, wait};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const BOUND: Duration = Duration::from_secs(30);

/// Every span received, with the service it is of.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().unwrap();
        for of_process in request.into_inner().resource_spans {
            let attributes = of_process.resource.unwrap_or_default().attributes;
            let service = attribute(&attributes, "service.name").unwrap_or_default();
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            received.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on a port of its own choice until the test ends; returns the endpoint.
    fn listen(&self) -> Result<String> {
        let (bound, binding) = mpsc::sync_channel(1);
        let service = TraceServiceServer::new(self.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
            });
        });
        Ok(format!("http://{}", binding.recv()?))
    }

    /// Waits for a span that `wanted` is true of.
    fn wait_for(&self, what: &str, wanted: impl Fn(&str, &Span) -> bool) -> Result<Span> {
        wait::until(what, BOUND, || {
            let received = self.0.lock().unwrap();
            Ok(received.iter().find(|(service, span)| wanted(service, span)).map(|(_, span)| span.clone()))
        })
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?;
    match value {
        AnyValue { value: Some(Value::StringValue(text)) } => Some(text),
        AnyValue { value: Some(Value::IntValue(number)) } => Some(number.to_string()),
        _ => None,
    }
}

fn is_about_the_partition(span: &Span) -> bool {
    let of = |key| attribute(&span.attributes, key);
    (of("topic").as_deref(), of("partition").as_deref()) == (Some("traced"), Some("0"))
}

#[test]
fn one_produce_is_one_trace_from_the_gateway_over_the_leader_to_the_follower() -> Result<()> {
    let collector = Collector::default();
    let environment = [
        ("THALWEG_TRACE__OTLP_ENDPOINT", collector.listen()?),
        ("THALWEG_TRACE__SAMPLE_RATIO", "1.0".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let cluster = Cluster::start(ClusterSpec {
        controllers: 1,
        storage_nodes: 2,
        gateways: 1,
        environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
        ..ClusterSpec::default()
    })?;
    clients::create_topics(&cluster.bootstrap(), &["traced:1:2:min.insync.replicas=2"])?;
    let arguments = ["-P", "-b", &cluster.bootstrap(), "-t", "traced", "-p", "0", "-X", "acks=all"];
    clients::kcat(&arguments, Some(b"hello\n"))?;

    let produce = collector.wait_for("the gateway's span of the produce", |service, span| {
        (service, span.name.as_str()) == ("protocol-gateway", "Produce") && is_about_the_partition(span)
    })?;
    attribute(&produce.attributes, "correlation_id").context("a span says which request it is of")?;
    let append = collector.wait_for("the leader's span", |service, span| {
        (service, span.name.as_str()) == ("storage-node", "Append") && span.parent_span_id == produce.span_id
    })?;
    let replicate = collector.wait_for("the follower's span", |service, span| {
        (service, span.name.as_str()) == ("storage-node", "Replicate") && span.parent_span_id == append.span_id
    })?;
    assert!(produce.parent_span_id.is_empty());
    assert_eq!((&append.trace_id, &replicate.trace_id), (&produce.trace_id, &produce.trace_id));
    assert!(is_about_the_partition(&append) && is_about_the_partition(&replicate));
    // The client was answered after the leader's disk and the follower's.
    assert!(produce.end_time_unix_nano >= append.end_time_unix_nano);
    assert!(append.start_time_unix_nano <= replicate.start_time_unix_nano);

    let create = collector.wait_for("the gateway's span of the creation", |service, span| {
        (service, span.name.as_str()) == ("protocol-gateway", "CreateTopics")
    })?;
    let call = collector.wait_for("the controller's span", |service, span| {
        (service, span.name.as_str()) == ("metadata-controller", "CreateTopics")
            && span.parent_span_id == create.span_id
    })?;
    assert_eq!(call.trace_id, create.trace_id);
    assert_eq!(cluster.unexpected_errors(&[]), Vec::<String>::new());
    Ok(())
}
