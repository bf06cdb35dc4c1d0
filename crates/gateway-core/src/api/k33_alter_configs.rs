//! AlterConfigs (33): replaces all configs of a resource.
//!
//! Versions 0–2. v2: flexible.
//!
//! Old tools read, modify and write with it. Deviation from Kafka: none known.

use std::ops::RangeInclusive;

use kafka_wire::k33_alter_configs::AlterConfigsResourceResponse;
use kafka_wire::{AlterConfigsRequest, AlterConfigsResponse};
use peer_api::controller::ConfigOperation;

use crate::api::alteration::{self, Resource, Verdict};
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

pub(crate) fn begin(cx: &mut Context<'_>, request: AlterConfigsRequest) -> Begun {
    let resources = request
        .resources
        .into_iter()
        .map(|resource| Resource {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: resource
                .configs
                .into_iter()
                .map(|config| (config.name, Some(ConfigOperation::Set), config.value))
                .collect(),
        })
        .collect();
    alteration::begin(cx, resources, true, request.validate_only, answer)
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
    cx.respond(&AlterConfigsResponse { responses, ..Default::default() })
}
