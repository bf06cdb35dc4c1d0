//! Reads Kafka's message definitions and keeps the facts: names, types, versions, defaults.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::rust::snake_case;
use super::schema::{self, Api, File, Key, Kind, Message, Struct, Versions};

/// Messages that are neither request nor response, by the schema file they go to.
const OTHER_MESSAGES: [(&str, &[&str]); 4] = [
    ("headers", &["RequestHeader", "ResponseHeader"]),
    ("consumer_protocol_subscription", &["ConsumerProtocolSubscription"]),
    ("consumer_protocol_assignment", &["ConsumerProtocolAssignment"]),
    ("control_records", &["ControlRecordTypeSchema", "EndTxnMarker"]),
];

/// Keys that a later Kafka assigned. Known by name, so that a client's header can be read and answered.
const LATER_KEYS: [(i16, &str); 2] = [(93, "StreamsGroupTopologyDescriptionUpdate"), (94, "UnregisterController")];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Definition {
    api_key: Option<i16>,
    #[serde(rename = "type")]
    _kind: String,
    name: String,
    #[serde(default)]
    listeners: Vec<String>,
    valid_versions: String,
    flexible_versions: Option<String>,
    #[serde(default)]
    latest_version_unstable: bool,
    #[serde(default)]
    fields: Vec<FieldDefinition>,
    #[serde(default)]
    common_structs: Vec<StructDefinition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StructDefinition {
    name: String,
    versions: String,
    fields: Vec<FieldDefinition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FieldDefinition {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    versions: String,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    flexible_versions: Option<String>,
    tag: Option<u32>,
    #[serde(default)]
    ignorable: bool,
    #[serde(default)]
    map_key: bool,
    default: Option<Value>,
    #[serde(default)]
    fields: Vec<FieldDefinition>,
    // Prose, a hint for humans, and a hint for Java.
    #[serde(rename = "about")]
    _about: Option<String>,
    #[serde(rename = "entityType")]
    _entity_type: Option<String>,
    #[serde(rename = "zeroCopy", default)]
    _zero_copy: bool,
}

/// Schema files by name.
pub fn import(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut definitions = BTreeMap::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = without_comments(&std::fs::read_to_string(&path)?);
            let definition: Definition =
                serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
            definitions.insert(definition.name.clone(), definition);
        }
    }

    let mut files = Vec::new();
    let mut others = File { name: "other_keys".to_owned(), ..File::default() };
    for request in definitions.values().filter(|definition| definition.name.ends_with("Request")) {
        let name = request.name.trim_end_matches("Request").to_owned();
        let key = request.api_key.with_context(|| format!("{} has no key", request.name))?;
        let response =
            definitions.get(&format!("{name}Response")).with_context(|| format!("{name} has no response"))?;
        let versions = Versions::parse(&request.valid_versions)?;
        ensure!(request.valid_versions == response.valid_versions, "{name}: versions differ");
        ensure!(request.flexible_versions == response.flexible_versions, "{name}: flexible versions differ");
        if !request.listeners.iter().any(|listener| listener == "broker") {
            let flexible = request.flexible_versions.as_deref().map_or(Ok(None), Versions::parse)?;
            others.keys.push(Key { key, name, versions, flexible, listeners: request.listeners.clone() });
            continue;
        }
        files.push(File {
            name: format!("k{key:02}_{}", snake_case(&name)),
            messages: vec![message(Kind::Request, request)?, message(Kind::Response, response)?],
            api: Some(Api {
                key,
                name,
                listeners: request.listeners.clone(),
                unstable: request.latest_version_unstable,
            }),
            keys: Vec::new(),
        });
    }
    for (key, name) in LATER_KEYS {
        let flexible = Some(Versions { min: 0, max: i16::MAX });
        let name = name.to_owned();
        others.keys.push(Key { key, name, versions: None, flexible, listeners: Vec::new() });
    }
    others.keys.sort_by_key(|key| key.key);
    files.push(others);
    for (name, messages) in OTHER_MESSAGES {
        let messages = messages
            .iter()
            .map(|name| message(Kind::Other, definitions.get(*name).with_context(|| format!("{name} is missing"))?))
            .collect::<Result<_>>()?;
        files.push(File { name: name.to_owned(), messages, ..File::default() });
    }
    Ok(files.iter().map(|file| (format!("{}.schema", file.name), schema::print(file))).collect())
}

fn message(kind: Kind, definition: &Definition) -> Result<Message> {
    let structs = definition
        .common_structs
        .iter()
        .map(|shared| {
            Ok(Struct {
                name: shared.name.clone(),
                versions: Versions::parse(&shared.versions)?.context("struct without versions")?,
                fields: fields(&shared.fields)?,
            })
        })
        .collect::<Result<_>>()?;
    Ok(Message {
        kind,
        name: definition.name.clone(),
        versions: Versions::parse(&definition.valid_versions)?.context("message without versions")?,
        flexible: Versions::parse(definition.flexible_versions.as_deref().unwrap_or("none"))?,
        structs,
        fields: fields(&definition.fields)?,
    })
}

fn fields(definitions: &[FieldDefinition]) -> Result<Vec<schema::Field>> {
    definitions.iter().map(field).collect()
}

fn field(definition: &FieldDefinition) -> Result<schema::Field> {
    let name = &definition.name;
    let versions = Versions::parse(&definition.versions)?.with_context(|| format!("{name} has no versions"))?;
    if let Some(tagged) = &definition.tagged_versions {
        // Kafka could tag a field in some of its versions only; it never has.
        ensure!(*tagged == definition.versions, "{name} is tagged in {tagged} of {versions}");
    }
    ensure!(
        definition.flexible_versions.as_deref().is_none_or(|flexible| flexible == "none"),
        "{name} has flexible versions of its own"
    );
    let default = definition.default.as_ref().map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    Ok(schema::Field {
        name: name.clone(),
        ty: definition.ty.parse()?,
        versions,
        ignorable: definition.ignorable,
        key: definition.map_key,
        nullable: definition.nullable_versions.as_deref().map_or(Ok(None), Versions::parse)?,
        tag: definition.tag,
        // An empty default is what every type has anyway.
        default: default.filter(|text| !text.is_empty()),
        inflexible: definition.flexible_versions.is_some(),
        fields: fields(&definition.fields)?,
    })
}

/// Kafka's JSON carries `//` comments, and prose with `//` in it.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut in_string = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => {
                kept.push(character);
                kept.extend(characters.next());
                continue;
            }
            '"' => in_string = !in_string,
            '/' if !in_string && characters.peek() == Some(&'/') => {
                while characters.next_if(|character| *character != '\n').is_some() {}
                continue;
            }
            _ => {}
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_removed_and_strings_are_not() {
        assert_eq!(without_comments("// a\n{\"b\": \"c//\\\"//\"} // d"), "\n{\"b\": \"c//\\\"//\"} ");
    }
}
