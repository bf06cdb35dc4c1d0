//! ApiVersions (18): what is served.
//!
//! Versions 0–4. v3: flexible body and client software (KIP-511), features (KIP-584). v4: as v3, and features whose minimum is 0
//! may be told (KAFKA-17011); older clients stumble over them.
//!
//! The table comes from the `SUPPORTED` constants of the handlers and is in the order of the keys. A version we do not know is
//! answered in version 0 with error 35 and the range of this one API, and its body is not looked at (trap 1); the header of the
//! answer never has tagged fields (trap 2). Answered before the metadata is known and, later, before authentication (trap 14).
//!
//! Features: `metadata.version`, eligible leader replicas, and the new group protocol. What promises transactions v2 or other
//! kinds of groups is told when it is kept.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k18_api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, Reader, encode_response};
use peer_api::features::FEATURES;

use crate::api;
use crate::effect::CloseReason;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=4;

/// Takes the body undecoded, since the version may be one that nobody can decode.
pub(crate) fn begin(cx: &mut Context<'_>, reader: &mut Reader) -> Begun {
    if !SUPPORTED.contains(&cx.version()) {
        return Begun::Answered(unsupported(cx));
    }
    let Ok(request) = ApiVersionsRequest::decode(reader, cx.version()) else {
        return Begun::Answered(Answer::Close(CloseReason::Malformed));
    };
    if cx.version() >= 3
        && !(is_software(&request.client_software_name) && is_software(&request.client_software_version))
    {
        let error_code = cx.code(ErrorCode::InvalidRequest);
        return Begun::Answered(cx.respond(&ApiVersionsResponse { error_code, ..Default::default() }));
    }
    let mut response = ApiVersionsResponse { api_keys: table(), ..Default::default() };
    if cx.version() >= 3 {
        response.supported_features = FEATURES
            .into_iter()
            .filter(|(_, min_version, _)| cx.version() >= 4 || *min_version > 0)
            .map(|(name, min_version, max_version)| SupportedFeatureKey { name: name.into(), min_version, max_version })
            .collect();
        response.finalized_features = cx
            .image
            .features()
            .filter(|(name, level)| *level > 0 && FEATURES.iter().any(|(known, ..)| known == name))
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
            let min_version =
                if key == ApiKey::Produce { api::k00_produce::ADVERTISED_MIN } else { *supported.start() };
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

#[cfg(test)]
mod tests {
    use kafka_wire::encode_request;

    use super::*;
    use crate::testing::{C, World};
    use crate::{Event, Stamp};

    fn request() -> ApiVersionsRequest {
        ApiVersionsRequest { client_software_name: "test-client".into(), client_software_version: "1.0".into() }
    }

    /// Traps 3, 5 and 60: what is told is what is served, shaped like Kafka 4.3.0.
    #[test]
    fn the_table_is_what_is_served_and_no_more() {
        let told: Vec<(i16, i16, i16)> =
            table().iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        assert_eq!(
            told,
            [
                (0, 0, 13),
                (1, 4, 18),
                (2, 1, 11),
                (3, 0, 13),
                (8, 2, 10),
                (9, 1, 10),
                (10, 0, 6),
                (11, 0, 9),
                (12, 0, 4),
                (13, 0, 5),
                (14, 0, 5),
                (15, 0, 6),
                (16, 0, 5),
                (18, 0, 4),
                (19, 2, 7),
                (20, 1, 6),
                (21, 0, 2),
                (22, 0, 5),
                (23, 2, 4),
                (32, 1, 4),
                (33, 0, 2),
                (35, 1, 5),
                (37, 0, 3),
                (42, 0, 2),
                (43, 0, 2),
                (44, 0, 1),
                (45, 0, 1),
                (46, 0, 0),
                (47, 0, 0),
                (55, 0, 2),
                (57, 0, 2),
                (60, 0, 2),
                (61, 0, 0),
                (64, 0, 0),
                (68, 0, 1),
                (69, 0, 1),
                (74, 0, 1),
                (75, 0, 0),
            ]
        );
        for key in ApiKey::all() {
            let Some(served) = api::supported(key) else { continue };
            let kafka = key.valid_versions().unwrap();
            let newest = kafka.end() - i16::from(key.is_latest_version_unstable());
            assert_eq!((*served.start(), *served.end()), (*kafka.start(), newest), "{key:?}");
            assert!(key.is_on_broker_listener(), "W9: {key:?}");
        }
    }

    /// Trap 4: what librdkafka infers from the table. Topic ids come together (trap 20).
    #[test]
    fn librdkafka_finds_its_features() {
        let range =
            |key: i16| table().into_iter().find(|api| api.api_key == key).map(|api| (api.min_version, api.max_version));
        let has = |key, version| range(key).is_some_and(|(min, max)| min <= version && version <= max);
        assert!(has(0, 3) && has(1, 4), "MsgVer2");
        assert!(has(0, 7) && has(1, 10), "zstd");
        assert!(has(2, 1), "offsets by time");
        assert!(has(10, 0), "LZ4");
        assert!(has(3, 12) && has(1, 13) && has(0, 13), "topic ids");
        assert!(has(10, 0) && has(11, 0) && has(15, 0) && has(16, 0), "groups");
        assert!(has(68, 0) && has(8, 9) && has(9, 9), "the new group protocol");
        assert!(has(8, 10) && has(9, 10), "topic ids in groups");
    }

    #[test]
    fn every_version_is_answered_and_features_only_from_v3() {
        let mut world = World::new(1);
        for version in SUPPORTED {
            let response = world.ask::<ApiVersionsRequest>(version, &request());
            assert_eq!((response.error_code, response.api_keys.len()), (0, 38));
            let features: Vec<_> =
                response.supported_features.iter().map(|f| (&*f.name, f.min_version, f.max_version)).collect();
            let finalized: Vec<_> =
                response.finalized_features.iter().map(|f| (&*f.name, f.max_version_level)).collect();
            // Trap 6: a feature with minimum 0 makes older clients stumble.
            let (elr, metadata) = (("eligible.leader.replicas.version", 0, 1), ("metadata.version", 7, 30));
            let group = ("group.version", 0, 1);
            assert_eq!(
                features,
                match version {
                    0..=2 => vec![],
                    3 => vec![metadata],
                    _ => vec![elr, group, metadata],
                }
            );
            if version >= 3 {
                let levels = [("eligible.leader.replicas.version", 1), ("group.version", 1), ("metadata.version", 30)];
                assert_eq!(finalized, levels);
                assert!(response.finalized_features_epoch > 0);
            } else {
                assert_eq!(finalized.len(), 0);
            }
        }
    }

    /// Trap 1: a version of the future is answered in version 0, and its body is not looked at.
    #[test]
    fn an_unknown_version_is_answered_in_version_0() {
        let mut world = World::new(1);
        for version in [5i16, 99, i16::MAX] {
            let frame = encode_request(77, Some("c".into()), 4, &request()).unwrap().concat();
            let mut frame = frame[4..].to_vec();
            frame[2..4].copy_from_slice(&version.to_be_bytes());
            frame.truncate(frame.len() - 9);
            frame.extend_from_slice(&[0xff; 9]);
            world.step(Event::FrameReceived { connection: C, frame: frame.into(), stamp: Stamp::default() });
            let (id, response) = world.answer::<ApiVersionsRequest>(0);
            assert_eq!((id, response.error_code), (77, 35));
            let told: Vec<_> =
                response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
            assert_eq!(told, [(18, 0, 4)]);
        }
        assert!(world.closed.is_empty());
    }

    /// Trap 2.
    #[test]
    fn the_answers_header_has_no_tagged_fields() {
        let mut world = World::new(1);
        world.send(3, &request());
        let (_, frame) = world.sent.pop_front().unwrap();
        // Correlation id, error code, then at once the compact array of 38 APIs.
        assert_eq!(frame[4..7], [0, 0, 39]);
    }

    #[test]
    fn software_names_follow_kip_511() {
        let mut world = World::new(1);
        let bad = ApiVersionsRequest { client_software_name: "-x".into(), client_software_version: "1".into() };
        assert_eq!(world.ask::<ApiVersionsRequest>(3, &bad).error_code, 42);
        assert_eq!(world.ask::<ApiVersionsRequest>(2, &bad).error_code, 0);
        assert!(is_software("librdkafka") && is_software("2.15.0-dev") && !is_software("") && !is_software("a b"));
    }

    /// Trap 14, and what a client may do before the metadata is there.
    #[test]
    fn it_is_answered_before_the_metadata_is_known_and_the_rest_waits() {
        let mut world = World::with(0, crate::Config::default());
        world.gateway = crate::Gateway::new(crate::Config::default());
        world.step(Event::Ticked);
        world.step(Event::ConnectionOpened { connection: C, host: String::new() });
        assert_eq!(world.ask::<ApiVersionsRequest>(3, &request()).error_code, 0);
        world.send(9, &kafka_wire::MetadataRequest::default());
        assert!(world.is_silent());
    }
}
