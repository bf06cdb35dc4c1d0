//! What AlterConfigs and IncrementalAlterConfigs share: resources in, one verdict each out.

use base_types::{BrokerId, ErrorCode};
use kafka_wire::KafkaString;
use peer_api::controller::{ConfigChange, ConfigChanges, ConfigOperation, Error, Refusal, Request, Response};
use peer_api::metadata::ConfigResource;

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
    for (index, resource) in resources.iter().enumerate() {
        let same = |other: &Resource| other.kind == resource.kind && other.name == resource.name;
        let twice = resources.iter().enumerate().any(|(other, found)| other != index && same(found));
        let checked = if twice {
            Err(refuse("Each resource must appear at most once."))
        } else {
            check(resource, replace_all)
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

fn check(resource: &Resource, replace_all: bool) -> Result<ConfigChanges, Refusal> {
    let target = match resource.kind {
        TOPIC => ConfigResource::Topic(resource.name.to_string()),
        BROKER if resource.name.is_empty() => ConfigResource::Cluster,
        BROKER => match resource.name.parse() {
            Ok(id) => ConfigResource::Broker(BrokerId(id)),
            Err(_) => {
                let name = resource.name.escape_default();
                return Err(refuse(format!("Broker id must be an integer, but it is: {name}")));
            }
        },
        other => return Err(refuse(format!("Unsupported resource type: {other}"))),
    };
    let mut changes = Vec::with_capacity(resource.changes.len());
    for (index, (name, operation, value)) in resource.changes.iter().enumerate() {
        let Some(operation) = *operation else {
            return Err(refuse(format!("Unknown operation on {}", name.escape_default())));
        };
        if operation != ConfigOperation::Delete && value.is_none() {
            return Err(refuse(format!("Null value not supported for : {}", name.escape_default())));
        }
        if resource.changes.iter().take(index).any(|(earlier, ..)| earlier == name) {
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
