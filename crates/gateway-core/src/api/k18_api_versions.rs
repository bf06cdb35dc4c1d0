//! ApiVersions (18): what is served.
//!
//! Versions 0–4. v3: flexible body and client software (KIP-511), features (KIP-584). v4: as v3, and features whose minimum is 0
//! may be told (KAFKA-17011); older clients stumble over them.
//!
//! The table comes from the `SUPPORTED` constants of the handlers and is in the order of the keys. A version we do not know is
//! answered in version 0 with error 35 and the range of this one API, and its body is not looked at (trap 1); the header of the
//! answer never has tagged fields (trap 2). Answered before the metadata is known and, later, before authentication (trap 14).
//!
//! Features: `metadata.version` alone. Those that promise transactions v2 or new group protocols are told when they are kept.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k18_api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, KafkaString, Reader, encode_response};

use crate::api;
use crate::effect::CloseReason;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=4;

/// `metadata.version` from 3.3-IV3 to 4.3-IV0, as Kafka 4.3.0 has it.
const METADATA_VERSION: (&str, i16, i16) = ("metadata.version", 7, 30);

/// Takes the body undecoded, since the version may be one that nobody can decode.
pub(crate) fn begin(cx: &mut Context<'_>, reader: &mut Reader) -> Begun {
    if !SUPPORTED.contains(&cx.version()) {
        return Begun::Answered(unsupported(cx));
    }
    let Ok(request) = ApiVersionsRequest::decode(reader, cx.version()) else {
        return Begun::Answered(Answer::Close(CloseReason::Malformed));
    };
    if cx.version() >= 3 && !(is_software(&request.client_software_name) && is_software(&request.client_software_version)) {
        let error_code = cx.code(ErrorCode::InvalidRequest);
        return Begun::Answered(cx.respond(&ApiVersionsResponse { error_code, ..Default::default() }));
    }
    let mut response = ApiVersionsResponse { api_keys: table(), ..Default::default() };
    if cx.version() >= 3 {
        let (name, min_version, max_version) = METADATA_VERSION;
        let name = KafkaString::from_static(name);
        response.supported_features = vec![SupportedFeatureKey { name, min_version, max_version }];
        response.finalized_features = cx
            .image
            .features()
            .filter(|(name, level)| *name == METADATA_VERSION.0 && *level > 0)
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.into(),
                max_version_level: level,
                min_version_level: level,
            })
            .collect();
        response.finalized_features_epoch = i64::try_from(cx.image.at().0).unwrap_or(i64::MAX);
    }
    Begun::Answered(cx.respond(&response))
}

/// Every API that is served, with the versions that clients are told.
pub(crate) fn table() -> Vec<ApiVersion> {
    ApiKey::all()
        .filter_map(|key| {
            let supported = api::supported(key)?;
            let min_version = if key == ApiKey::Produce { api::k00_produce::ADVERTISED_MIN } else { *supported.start() };
            Some(ApiVersion { api_key: key.into(), min_version, max_version: *supported.end() })
        })
        .collect()
}

fn unsupported(cx: &mut Context<'_>) -> Answer {
    let response = ApiVersionsResponse {
        error_code: cx.code(ErrorCode::UnsupportedVersion),
        api_keys: table().into_iter().filter(|api| api.api_key == i16::from(ApiKey::ApiVersions)).collect(),
        ..Default::default()
    };
    match encode_response(cx.request.correlation_id, 0, &response) {
        Ok(segments) => Answer::Respond(segments),
        Err(_) => Answer::Close(CloseReason::Unanswerable),
    }
}

/// KIP-511: letters, digits, dots and hyphens, the first and last a letter or digit.
fn is_software(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'-'))
}
