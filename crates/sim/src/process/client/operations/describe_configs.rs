//! DescribeConfigs: one config of one topic.
//!
//! Predicted: what was last set on this connection. UNKNOWN_TOPIC_OR_PARTITION only for a topic that may not be there.

use base_types::ErrorCode;
use kafka_wire::k32_describe_configs::DescribeConfigsResource;
use kafka_wire::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::alter_configs::Resource;
use super::{Notes, Operation};

pub struct DescribeConfigs {
    pub version: i16,
    pub topic: String,
    pub name: &'static str,
}

impl Operation for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    /// Its value; `None`: there is no such topic.
    type Outcome = Option<String>;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> DescribeConfigsRequest {
        let topic = Resource::Topic(self.topic.clone());
        let (resource_type, name) = topic.named();
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: Some(vec![self.name.into()]),
        };
        DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: DescribeConfigsResponse) -> Option<String> {
        let told = answer.results.first()?;
        match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::UnknownTopicOrPartition) => return None,
            _ => {
                notes.never("DescribeConfigs", told.error_code);
                return None;
            }
        }
        let value = told.configs.first().and_then(|config| config.value.as_ref());
        Some(value.map(|value| value.as_str().to_owned()).unwrap_or_default())
    }
}
