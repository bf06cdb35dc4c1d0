//! IncrementalAlterConfigs (44): changes some configs of a resource (KIP-339, trap 27).
//!
//! Versions 0–1. v1: flexible.
//!
//! Deviation from Kafka: broker loggers and client metrics cannot be changed (`INVALID_REQUEST`).

use std::ops::RangeInclusive;

use kafka_wire::k44_incremental_alter_configs::AlterConfigsResourceResponse;
use kafka_wire::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use peer_api::controller::ConfigOperation;

use crate::api::alteration::{self, Resource, Verdict};
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=1;

pub(crate) fn begin(cx: &mut Context<'_>, request: IncrementalAlterConfigsRequest) -> Begun {
    let resources = request
        .resources
        .into_iter()
        .map(|resource| Resource {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: resource
                .configs
                .into_iter()
                .map(|config| (config.name, operation(config.config_operation), config.value))
                .collect(),
        })
        .collect();
    alteration::begin(cx, resources, false, request.validate_only, answer)
}

fn operation(code: i8) -> Option<ConfigOperation> {
    match code {
        0 => Some(ConfigOperation::Set),
        1 => Some(ConfigOperation::Delete),
        2 => Some(ConfigOperation::Append),
        3 => Some(ConfigOperation::Subtract),
        _ => None,
    }
}

fn answer(cx: &mut Context<'_>, verdicts: Vec<Verdict>) -> Answer {
    let responses = verdicts
        .into_iter()
        .map(|verdict| AlterConfigsResourceResponse {
            error_code: cx.code(verdict.code),
            error_message: verdict.message,
            resource_type: verdict.kind,
            resource_name: verdict.name,
        })
        .collect();
    cx.respond(&IncrementalAlterConfigsResponse { responses, ..Default::default() })
}
