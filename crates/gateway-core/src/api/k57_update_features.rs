//! UpdateFeatures (57): other levels for the cluster's features (KIP-584).
//!
//! Versions 0–2, flexible. v1: the kind of change instead of a flag, and a request that only asks whether it could be made
//! (KIP-778). v2: one error for the whole instead of one for each feature (KIP-1022).
//!
//! All are changed, or none. Deviation from Kafka: the levels of eligible leader replicas and of the metadata cannot be lowered.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k57_update_features::{FeatureUpdateKey, UpdatableFeatureResult};
use kafka_wire::{KafkaString, UpdateFeaturesRequest, UpdateFeaturesResponse};
use peer_api::controller::{Error, FeatureUpdate, FeatureUpdateKind, Request, Response};

use crate::api::administration::{self, Change, message};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

pub(crate) fn begin(cx: &mut Context<'_>, request: UpdateFeaturesRequest) -> Begun {
    let mut updates = Vec::with_capacity(request.feature_updates.len());
    let change = Update { features: request.feature_updates.iter().map(|update| update.feature.clone()).collect() };
    for update in &request.feature_updates {
        match kind(cx.version(), update) {
            Some(kind) => {
                updates.push(FeatureUpdate { name: update.feature.to_string(), level: update.max_version_level, kind })
            }
            None => {
                let text = format!(
                    "The update failed for all features since the following feature had an error: Invalid update version \
                     {} for feature {}. The controller does not support the given upgrade type.",
                    update.max_version_level,
                    update.feature.as_str()
                );
                return Begun::Answered(change.told(cx, ErrorCode::InvalidUpdateVersion, text));
            }
        }
    }
    let validate_only = cx.version() >= 1 && request.validate_only;
    administration::ask(cx, change, Request::UpdateFeatures { updates, validate_only }, request.timeout_ms)
}

fn kind(version: i16, update: &FeatureUpdateKey) -> Option<FeatureUpdateKind> {
    match update.upgrade_type {
        _ if version == 0 && update.allow_downgrade => Some(FeatureUpdateKind::SafeDowngrade),
        _ if version == 0 => Some(FeatureUpdateKind::Upgrade),
        1 => Some(FeatureUpdateKind::Upgrade),
        2 => Some(FeatureUpdateKind::SafeDowngrade),
        3 => Some(FeatureUpdateKind::UnsafeDowngrade),
        _ => None,
    }
}

struct Update {
    features: Vec<KafkaString>,
}

impl Update {
    fn told(self, cx: &mut Context<'_>, code: ErrorCode, text: String) -> Answer {
        let mut response =
            UpdateFeaturesResponse { error_code: cx.code(code), error_message: message(text), ..Default::default() };
        if cx.version() <= 1 && code == ErrorCode::None {
            let done = |feature| UpdatableFeatureResult { feature, ..Default::default() };
            response.results = self.features.into_iter().map(done).collect();
        }
        cx.respond(&response)
    }
}

impl Change for Update {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        match result {
            Ok(Response::FeaturesUpdated { .. }) => self.told(cx, ErrorCode::None, String::new()),
            Ok(_) => self.told(cx, ErrorCode::UnknownServerError, String::new()),
            Err(error) => {
                let (code, text) = error::controller(&error);
                self.told(cx, code, text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use peer_api::controller::Refusal;

    use super::*;
    use crate::testing::World;

    fn request(upgrade_type: i8, allow_downgrade: bool, validate_only: bool) -> UpdateFeaturesRequest {
        let update =
            FeatureUpdateKey { feature: "group.version".into(), max_version_level: 0, allow_downgrade, upgrade_type };
        UpdateFeaturesRequest { timeout_ms: 1000, feature_updates: vec![update], validate_only }
    }

    #[test]
    fn the_controller_is_asked_for_what_each_version_says() {
        let asks = [
            (0, request(1, true, false), FeatureUpdateKind::SafeDowngrade, false),
            (0, request(1, false, false), FeatureUpdateKind::Upgrade, false),
            (1, request(2, false, true), FeatureUpdateKind::SafeDowngrade, true),
            (2, request(3, false, false), FeatureUpdateKind::UnsafeDowngrade, false),
        ];
        for (version, request, kind, validate_only) in asks {
            let mut world = World::new(1);
            world.send(version, &request);
            let (call, asked) = world.next_call();
            let updates = vec![FeatureUpdate { name: "group.version".into(), level: 0, kind }];
            assert_eq!(asked, Request::UpdateFeatures { updates, validate_only });
            let visible_at = world.metadata_at();
            world.controller_answers(call, Ok(Response::FeaturesUpdated { visible_at }));
            let (_, response) = world.answer::<UpdateFeaturesRequest>(version);
            assert_eq!((response.error_code, response.results.len()), (0, usize::from(version <= 1)));
        }
    }

    #[test]
    fn a_refusal_is_one_for_all() {
        let mut world = World::new(1);
        assert_eq!(world.ask::<UpdateFeaturesRequest>(2, &request(9, false, false)).error_code, 95);
        world.send(2, &request(1, false, false));
        let (call, _) = world.next_call();
        let refusal = Refusal { code: ErrorCode::InvalidUpdateVersion, message: "no".into() };
        world.controller_answers(call, Err(Error::Refused(refusal)));
        let (_, response) = world.answer::<UpdateFeaturesRequest>(2);
        assert_eq!((response.error_code, response.error_message.as_deref()), (95, Some("no")));
    }
}
