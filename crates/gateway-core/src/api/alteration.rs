//! What AlterConfigs and IncrementalAlterConfigs share: resources in, one verdict each out.

use std::collections::BTreeSet;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::KafkaString;
use peer_api::controller::{ConfigChange, ConfigChanges, ConfigOperation, Error, Refusal, Request, Response};
use peer_api::metadata::{ConfigResource, Image};

use crate::api::administration::{self, Change, TIMEOUT_MS};
use crate::api::error;
use crate::api::k32_describe_configs::{BROKER, TOPIC};
use crate::operation::{Answer, Begun, Context};

/// One resource of a request, however the version spells it.
pub(crate) struct Resource {
    pub kind: i8,
    pub name: KafkaString,
    pub changes: Vec<(KafkaString, Option<ConfigOperation>, Option<KafkaString>)>,
}

pub(crate) struct Verdict {
    pub kind: i8,
    pub name: KafkaString,
    pub code: ErrorCode,
    pub message: Option<KafkaString>,
}

/// Builds the answer of one of the two APIs.
pub(crate) type Answerer = fn(&mut Context<'_>, Vec<Verdict>) -> Answer;

struct Alteration {
    /// In the order of the request; `None` for what the controller judges.
    verdicts: Vec<(i8, KafkaString, Option<Refusal>)>,
    answerer: Answerer,
}

pub(crate) fn begin(
    cx: &mut Context<'_>,
    resources: Vec<Resource>,
    replace_all: bool,
    validate_only: bool,
    answerer: Answerer,
) -> Begun {
    let mut verdicts = Vec::with_capacity(resources.len());
    let mut changes = Vec::new();
    let counts = administration::counted(resources.iter().map(|resource| (resource.kind, resource.name.as_str())));
    for resource in &resources {
        let checked = if counts.get(&(resource.kind, resource.name.as_str())) > Some(&1) {
            Err(refuse("Each resource must appear at most once."))
        } else {
            check(cx.image, resource, replace_all)
        };
        match checked {
            Ok(change) => {
                changes.push(change);
                verdicts.push((resource.kind, resource.name.clone(), None));
            }
            Err(refusal) => verdicts.push((resource.kind, resource.name.clone(), Some(refusal))),
        }
    }
    let alteration = Alteration { verdicts, answerer };
    if changes.is_empty() {
        let nothing = Response::ConfigsAltered { resources: Vec::new(), visible_at: cx.image.at() };
        return Begun::Answered(alteration.answer(cx, Ok(nothing)));
    }
    administration::ask(cx, alteration, Request::AlterConfigs { changes, validate_only }, TIMEOUT_MS)
}

fn refuse(text: impl Into<String>) -> Refusal {
    Refusal { code: ErrorCode::InvalidRequest, message: text.into() }
}

fn check(image: &Image, resource: &Resource, replace_all: bool) -> Result<ConfigChanges, Refusal> {
    let target = match resource.kind {
        TOPIC => ConfigResource::Topic(resource.name.to_string()),
        BROKER if resource.name.is_empty() => ConfigResource::Cluster,
        BROKER => match resource.name.parse() {
            // Kafka's broker refuses every id but its own, before the controller is asked.
            Ok(id) if image.broker(BrokerId(id)).is_none() => {
                return Err(refuse(format!("Unexpected broker id: there is no broker {id}")));
            }
            Ok(id) => ConfigResource::Broker(BrokerId(id)),
            Err(_) => {
                let name = resource.name.escape_default();
                return Err(refuse(format!("Broker id must be an integer, but it is: {name}")));
            }
        },
        other => return Err(refuse(format!("Unsupported resource type: {other}"))),
    };
    let mut changes = Vec::with_capacity(resource.changes.len());
    let mut names = BTreeSet::new();
    for (name, operation, value) in &resource.changes {
        let Some(operation) = *operation else {
            return Err(refuse(format!("Unknown operation on {}", name.escape_default())));
        };
        if operation != ConfigOperation::Delete && value.is_none() {
            return Err(refuse(format!("Null value not supported for : {}", name.escape_default())));
        }
        if !names.insert(&**name) {
            return Err(refuse("Error due to duplicate config keys"));
        }
        let value = value.as_ref().map(|value| value.to_string());
        changes.push(ConfigChange { name: name.to_string(), operation, value });
    }
    Ok(ConfigChanges { resource: target, replace_all, changes })
}

impl Change for Alteration {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let asked = self.verdicts.iter().filter(|(_, _, refusal)| refusal.is_none()).count();
        let mut results = match result {
            Ok(Response::ConfigsAltered { resources, .. }) if resources.len() == asked => resources,
            Ok(_) => vec![Err(Refusal { code: ErrorCode::UnknownServerError, message: String::new() }); asked],
            Err(error) => {
                let (code, message) = error::controller(&error);
                vec![Err(Refusal { code, message }); asked]
            }
        }
        .into_iter();
        let verdicts = self
            .verdicts
            .into_iter()
            .map(|(kind, name, refusal)| {
                let refusal = refusal.or_else(|| results.next().and_then(Result::err));
                let (code, message) = match refusal {
                    Some(refusal) => (refusal.code, administration::message(refusal.message)),
                    None => (ErrorCode::None, None),
                };
                Verdict { kind, name, code, message }
            })
            .collect();
        (self.answerer)(cx, verdicts)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k33_alter_configs::{AlterConfigsResource, AlterableConfig};
    use kafka_wire::k44_incremental_alter_configs as k44;
    use kafka_wire::{AlterConfigsRequest, IncrementalAlterConfigsRequest};
    use peer_api::metadata::{MetadataOffset, Record};

    use super::*;
    use crate::testing::World;

    fn change(operation: i8, name: &str, value: Option<&str>) -> k44::AlterableConfig {
        k44::AlterableConfig { name: name.into(), config_operation: operation, value: value.map(Into::into) }
    }

    fn resource(kind: i8, name: &str, configs: Vec<k44::AlterableConfig>) -> k44::AlterConfigsResource {
        k44::AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs }
    }

    /// Trap 27.
    #[test]
    fn increments_set_delete_append_and_subtract() {
        for version in 0..=1 {
            let mut world = World::new(1);
            let configs = vec![
                change(0, "retention.ms", Some("5")),
                change(1, "segment.bytes", None),
                change(2, "cleanup.policy", Some("compact")),
                change(3, "other", Some("x")),
            ];
            let resources = vec![resource(TOPIC, "t", configs)];
            world.send(version, &IncrementalAlterConfigsRequest { resources, validate_only: false });
            let (id, call) = world.next_call();
            let Request::AlterConfigs { changes, validate_only: false } = call else { panic!("{call:?}") };
            assert_eq!(changes[0].resource, ConfigResource::Topic("t".into()));
            assert!(!changes[0].replace_all);
            use ConfigOperation::*;
            let operations: Vec<_> = changes[0].changes.iter().map(|change| change.operation).collect();
            assert_eq!(operations, [Set, Delete, Append, Subtract]);
            let visible_at = MetadataOffset(world.metadata_at().0 + 1);
            world.controller_answers(id, Ok(Response::ConfigsAltered { resources: vec![Ok(())], visible_at }));
            assert!(world.is_silent());
            world.change(vec![Record::ClusterNamed { cluster_id: "x".into() }]);
            let (_, response) = world.answer::<IncrementalAlterConfigsRequest>(version);
            assert_eq!((response.responses[0].error_code, &*response.responses[0].resource_name), (0, "t"));
        }
    }

    #[test]
    fn the_old_form_replaces_all() {
        for version in 0..=2 {
            let mut world = World::new(1);
            let configs = vec![AlterableConfig { name: "a".into(), value: Some("1".into()) }];
            let resources = vec![AlterConfigsResource { resource_type: BROKER, resource_name: "1".into(), configs }];
            world.send(version, &AlterConfigsRequest { resources, validate_only: true });
            let (id, call) = world.next_call();
            let Request::AlterConfigs { changes, validate_only: true } = call else { panic!("{call:?}") };
            assert_eq!((changes[0].replace_all, &changes[0].resource), (true, &ConfigResource::Broker(BrokerId(1))));
            let refusal = Refusal { code: ErrorCode::InvalidConfig, message: "unknown".into() };
            let answer = Response::ConfigsAltered { resources: vec![Err(refusal)], visible_at: world.metadata_at() };
            world.controller_answers(id, Ok(answer));
            let (_, response) = world.answer::<AlterConfigsRequest>(version);
            assert_eq!(response.responses[0].error_code, 40);
            assert_eq!(response.responses[0].error_message.as_deref(), Some("unknown"));
        }
    }

    #[test]
    fn what_is_wrong_with_one_resource_does_not_stop_the_others() {
        let mut world = World::new(1);
        let resources = vec![
            resource(TOPIC, "null", vec![change(0, "a", None)]),
            resource(TOPIC, "twice", vec![]),
            resource(TOPIC, "good", vec![change(0, "a", Some("1"))]),
            resource(TOPIC, "twice", vec![]),
            resource(TOPIC, "keys", vec![change(0, "a", Some("1")), change(1, "a", None)]),
            resource(TOPIC, "operation", vec![change(9, "a", Some("1"))]),
            resource(BROKER, "one", vec![]),
            resource(99, "x", vec![]),
            resource(BROKER, "", vec![]),
        ];
        world.send(1, &IncrementalAlterConfigsRequest { resources, validate_only: false });
        let (id, call) = world.next_call();
        let Request::AlterConfigs { changes, .. } = call else { panic!("{call:?}") };
        let targets: Vec<_> = changes.into_iter().map(|change| change.resource).collect();
        assert_eq!(targets, [ConfigResource::Topic("good".into()), ConfigResource::Cluster]);
        let answer = Response::ConfigsAltered { resources: vec![Ok(()); 2], visible_at: world.metadata_at() };
        world.controller_answers(id, Ok(answer));
        let (_, response) = world.answer::<IncrementalAlterConfigsRequest>(1);
        let codes: Vec<i16> = response.responses.iter().map(|response| response.error_code).collect();
        assert_eq!(codes, [42, 42, 0, 42, 42, 42, 42, 42, 0]);
    }
}
