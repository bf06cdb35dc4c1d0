//! Levels of features (KIP-584): Kafka's rules, codes and texts. All updates of a request are made, or none.

use base_types::ErrorCode;
use peer_api::controller::{FeatureUpdate, FeatureUpdateKind, Refusal, Response};
use peer_api::features::{METADATA_VERSION, levels};
use peer_api::metadata::{MetadataOffset, Record};

use super::{Controller, Decision, refusal};

impl Controller {
    pub(super) fn update_features(
        &mut self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Result<Decision, Refusal> {
        for update in &updates {
            self.check_feature(update).map_err(|reason| {
                let text = format!(
                    "The update failed for all features since the following feature had an error: Invalid update version \
                     {} for feature {}. {reason}",
                    update.level, update.name
                );
                refusal(ErrorCode::InvalidUpdateVersion, text)
            })?;
        }
        let record = |update: FeatureUpdate| Record::FeatureChanged { name: update.name, level: update.level };
        let records = if validate_only { Vec::new() } else { updates.into_iter().map(record).collect() };
        Ok(Decision::after(records, Response::FeaturesUpdated { visible_at: MetadataOffset(0) }))
    }

    fn check_feature(&self, update: &FeatureUpdate) -> Result<(), String> {
        let FeatureUpdate { name, level, kind } = update;
        if *level < 0 {
            return Err("A feature version cannot be less than 0.".to_owned());
        }
        let me = self.config.id;
        let Some(known) = levels(name) else {
            return Err(format!("Local controller {me} does not support this feature."));
        };
        if !known.contains(level) {
            let (oldest, newest) = known.into_inner();
            return Err(format!("Local controller {me} only supports versions {oldest}-{newest}"));
        }
        let current = self.pending.features().find(|(known, _)| known == name).map_or(0, |(_, level)| level);
        match kind {
            FeatureUpdateKind::Upgrade if *level < current => {
                Err("Can't downgrade the version of this feature without \
                 setting the upgrade type to either safe or unsafe downgrade."
                    .to_owned())
            }
            FeatureUpdateKind::SafeDowngrade | FeatureUpdateKind::UnsafeDowngrade if *level > current => {
                Err("Can't downgrade to a newer version.".to_owned())
            }
            FeatureUpdateKind::SafeDowngrade if *level < current && name == METADATA_VERSION => {
                Err("Refusing to perform the requested downgrade because it might delete metadata information."
                    .to_owned())
            }
            FeatureUpdateKind::UnsafeDowngrade if *level < current && name == METADATA_VERSION => {
                Err("Unsafe metadata downgrade is not supported in this version.".to_owned())
            }
            // Nothing here could act on a cluster without it.
            _ if *level < current && name == "eligible.leader.replicas.version" => {
                Err("Can't downgrade the version of this feature.".to_owned())
            }
            _ => Ok(()),
        }
    }
}
