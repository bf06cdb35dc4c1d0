//! IncrementalAlterConfigs (KIP-339): one config of one topic, or of all brokers.
//!
//! Predicted: it is so, on this connection at once (`describe_configs.rs`).

use base_types::ErrorCode;
use kafka_wire::k44_incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::{Done, Notes, Operation, done};

pub struct AlterConfigs {
    pub version: i16,
    pub resource: Resource,
    pub name: &'static str,
    pub value: String,
}

#[derive(Clone, Debug)]
pub enum Resource {
    Topic(String),
    /// All that do not say otherwise.
    Brokers,
}

impl Resource {
    /// Kafka's number for its kind, and its name.
    pub fn named(&self) -> (i8, &str) {
        match self {
            Resource::Topic(name) => (2, name),
            Resource::Brokers => (4, ""),
        }
    }
}

impl Operation for AlterConfigs {
    type Request = IncrementalAlterConfigsRequest;
    type Outcome = Done;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> IncrementalAlterConfigsRequest {
        const SET: i8 = 0;
        let config =
            AlterableConfig { name: self.name.into(), config_operation: SET, value: Some(self.value.as_str().into()) };
        let (resource_type, name) = self.resource.named();
        let resource = AlterConfigsResource { resource_type, resource_name: name.into(), configs: vec![config] };
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
    }

    fn answered(self, notes: &mut Notes<'_>, answer: IncrementalAlterConfigsResponse) -> Done {
        let Some(told) = answer.responses.first() else {
            notes.book.complain("answer", "IncrementalAlterConfigs is answered without its resource");
            return Done::Unknown;
        };
        match ErrorCode::from_code(told.error_code) {
            Some(ErrorCode::UnknownTopicOrPartition) => Done::Already,
            _ => done(told.error_code).unwrap_or_else(|| {
                notes.never("IncrementalAlterConfigs", told.error_code);
                Done::Unknown
            }),
        }
    }
}
