//! Which value holds, and where it comes from: what DescribeConfigs shows.

use std::collections::BTreeMap;

use base_types::BrokerId;

use super::definition::Definition;
use super::validate::canonical;
use super::{BROKER_CONFIGS, TOPIC_CONFIGS, broker_config};
use crate::metadata::{ConfigResource, Image};

/// Where a value was set. The numbers are DescribeConfigs' source codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

impl Source {
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// One place that gives a config a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// A config as it holds. `value` is `None` for Kafka's null and for what must not be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    pub definition: &'static Definition,
    pub value: Option<String>,
    pub source: Source,
    /// Every place that gives a value, the one that holds first.
    pub synonyms: Vec<Synonym>,
}

/// Looks configs up in an image, in Kafka's order: topic, broker, cluster, the process's own configuration, default.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    image: &'a Image,
    broker: Option<BrokerId>,
    statics: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Lookup<'a> {
    /// As the cluster sees it: without any one broker's own configs.
    pub fn new(image: &'a Image) -> Lookup<'a> {
        Lookup { image, broker: None, statics: None }
    }

    /// As this broker sees it.
    #[must_use]
    pub fn on_broker(self, broker: BrokerId) -> Lookup<'a> {
        Lookup { broker: Some(broker), ..self }
    }

    /// With what the process was started with: broker config names and values.
    #[must_use]
    pub fn with_static(self, statics: &'a BTreeMap<String, String>) -> Lookup<'a> {
        Lookup { statics: Some(statics), ..self }
    }

    /// Every topic config Kafka would list for the topic.
    pub fn topic_configs(&self, topic: &str) -> Vec<Effective> {
        TOPIC_CONFIGS
            .iter()
            .map(|definition| self.topic_config(topic, definition))
            .filter(|effective| !effective.definition.internal || effective.source == Source::Topic)
            .collect()
    }

    pub fn topic_config(&self, topic: &str, definition: &'static Definition) -> Effective {
        let value = self.topic_value(topic, definition);
        let set = self.image.config(&ConfigResource::Topic(topic.to_owned()), definition.name);
        let own = set.map(|_| Synonym { name: definition.name, value: value.clone(), source: Source::Topic });
        let from_server = definition.server_names.first().into_iter().flat_map(|s| self.broker_synonyms(s.name));
        let synonyms: Vec<Synonym> = own.into_iter().chain(from_server).collect();
        self.effective(definition, value, synonyms)
    }

    /// The value in force alone.
    pub fn topic_value(&self, topic: &str, definition: &Definition) -> Option<String> {
        match self.image.config(&ConfigResource::Topic(topic.to_owned()), definition.name) {
            Some(value) => Some(canonical(definition, value)),
            None => self.inherited(definition).map(|value| canonical(definition, &value)),
        }
    }

    /// Every broker config, as DescribeConfigs of one broker lists them.
    pub fn broker_configs(&self) -> Vec<Effective> {
        let internal_shown =
            |effective: &Effective| !effective.definition.internal || effective.source != Source::Default;
        BROKER_CONFIGS.iter().map(|definition| self.broker_config(definition)).filter(internal_shown).collect()
    }

    pub fn broker_config(&self, definition: &'static Definition) -> Effective {
        let synonyms = self.broker_synonyms(definition.name);
        let value = self.broker_value(definition.name).map(|(value, _)| canonical(definition, &value));
        self.effective(definition, value, synonyms)
    }

    /// The dynamic defaults of the whole cluster: DescribeConfigs of the broker resource without a name lists only what is set.
    pub fn cluster_configs(&self) -> Vec<Effective> {
        let set = |definition: &&Definition| self.image.config(&ConfigResource::Cluster, definition.name).is_some();
        BROKER_CONFIGS
            .iter()
            .filter(set)
            .map(|definition| {
                let value =
                    self.image.config(&ConfigResource::Cluster, definition.name).map(|v| canonical(definition, v));
                let source = Source::DynamicDefaultBroker;
                let synonyms = vec![Synonym { name: definition.name, value: value.clone(), source }];
                self.effective(definition, value, synonyms)
            })
            .collect()
    }

    fn effective(
        &self,
        definition: &'static Definition,
        value: Option<String>,
        mut synonyms: Vec<Synonym>,
    ) -> Effective {
        let source = synonyms.first().map_or(Source::Default, |synonym| synonym.source);
        if definition.is_sensitive() {
            synonyms.iter_mut().for_each(|synonym| synonym.value = None);
        }
        let value = value.filter(|_| !definition.is_sensitive());
        Effective { definition, value, source, synonyms }
    }

    /// What the broker configs give a topic config: the strongest of its names that any of the places sets.
    fn inherited(&self, definition: &Definition) -> Option<String> {
        let set = definition.server_names.iter().find_map(|server| {
            let (value, source) = self.broker_value(server.name)?;
            (source != Source::Default).then(|| server.unit.convert(&value))
        });
        set.or_else(|| definition.default.map(str::to_owned))
    }

    fn broker_value(&self, name: &str) -> Option<(String, Source)> {
        let dynamic = |resource: &ConfigResource, source| Some((self.image.config(resource, name)?.to_owned(), source));
        self.broker
            .and_then(|broker| dynamic(&ConfigResource::Broker(broker), Source::DynamicBroker))
            .or_else(|| dynamic(&ConfigResource::Cluster, Source::DynamicDefaultBroker))
            .or_else(|| Some((self.statics?.get(name)?.clone(), Source::StaticBroker)))
            .or_else(|| Some((broker_config(name)?.default?.to_owned(), Source::Default)))
    }

    /// Kafka's list of synonyms of a broker config. What other names give before the name itself does is left out, so a
    /// config that has its default through another name (`log.retention.ms` through `log.retention.hours`) shows none.
    fn broker_synonyms(&self, name: &'static str) -> Vec<Synonym> {
        let Some(definition) = broker_config(name) else { return Vec::new() };
        let own = [super::ServerName { name, unit: super::Unit::Same }];
        let names = if definition.server_names.is_empty() { &own[..] } else { definition.server_names };
        let mut synonyms = Vec::new();
        for place in [Source::DynamicBroker, Source::DynamicDefaultBroker, Source::StaticBroker, Source::Default] {
            for server in names {
                let value = match place {
                    Source::DynamicBroker => {
                        self.broker.and_then(|id| self.image.config(&ConfigResource::Broker(id), server.name))
                    }
                    Source::DynamicDefaultBroker => self.image.config(&ConfigResource::Cluster, server.name),
                    Source::StaticBroker => {
                        self.statics.and_then(|statics| statics.get(server.name)).map(String::as_str)
                    }
                    _ => broker_config(server.name).and_then(|definition| definition.default),
                };
                if let Some(value) = value {
                    synonyms.push(Synonym { name: server.name, value: Some(value.to_owned()), source: place });
                }
            }
        }
        synonyms.into_iter().skip_while(|synonym| synonym.name != name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic_config;
    use crate::metadata::Record;

    fn image(configs: &[(ConfigResource, &str, &str)]) -> Image {
        let mut image = Image::default();
        for (resource, name, value) in configs {
            image.apply(&Record::ConfigChanged {
                resource: resource.clone(),
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            });
        }
        image
    }

    fn shown(effective: &Effective) -> String {
        let synonyms: Vec<String> = effective
            .synonyms
            .iter()
            .map(|s| format!("{:?}:{}={}", s.source, s.name, s.value.as_deref().unwrap_or("null")))
            .collect();
        format!("{} {:?} {{{}}}", effective.value.as_deref().unwrap_or("null"), effective.source, synonyms.join(", "))
    }

    #[test]
    fn a_default_shows_its_broker_name_unless_another_unit_holds_it() {
        let image = Image::default();
        let lookup = Lookup::new(&image);
        let show = |name| shown(&lookup.topic_config("t", topic_config(name).unwrap()));
        assert_eq!(show("segment.bytes"), "1073741824 Default {Default:log.segment.bytes=1073741824}");
        assert_eq!(show("retention.ms"), "604800000 Default {}");
        assert_eq!(show("flush.ms"), "9223372036854775807 Default {}");
        assert_eq!(show("remote.storage.enable"), "false Default {}");
    }

    #[test]
    fn the_nearest_place_wins_and_all_places_are_listed() {
        let image = image(&[
            (ConfigResource::Topic("t".to_owned()), "retention.ms", " 5 "),
            (ConfigResource::Broker(BrokerId(1)), "log.retention.ms", "6"),
            (ConfigResource::Cluster, "log.retention.ms", "7"),
        ]);
        let statics = BTreeMap::from([("log.retention.hours".to_owned(), "1".to_owned())]);
        let lookup = Lookup::new(&image).with_static(&statics);
        let definition = topic_config("retention.ms").unwrap();
        assert_eq!(
            shown(&lookup.on_broker(BrokerId(1)).topic_config("t", definition)),
            "5 Topic {Topic:retention.ms=5, DynamicBroker:log.retention.ms=6, DynamicDefaultBroker:log.retention.ms=7, \
             StaticBroker:log.retention.hours=1, Default:log.retention.hours=168}"
        );
        assert_eq!(lookup.topic_config("u", definition).value.as_deref(), Some("7"));
        assert_eq!(lookup.on_broker(BrokerId(1)).topic_config("u", definition).value.as_deref(), Some("6"));
        let fresh = Image::default();
        let hours = Lookup::new(&fresh).with_static(&statics).topic_config("u", definition);
        assert_eq!(hours.value.as_deref(), Some("3600000"));
    }

    #[test]
    fn the_cluster_resource_lists_only_what_is_set() {
        let image = image(&[(ConfigResource::Cluster, "log.cleaner.threads", "2")]);
        let listed = Lookup::new(&image).cluster_configs();
        assert_eq!(listed.len(), 1);
        assert_eq!(shown(&listed[0]), "2 DynamicDefaultBroker {DynamicDefaultBroker:log.cleaner.threads=2}");
    }

    #[test]
    fn internal_configs_are_listed_only_when_set() {
        let fresh = Image::default();
        let named = |image: &Image| {
            Lookup::new(image).topic_configs("t").iter().any(|e| e.definition.name == "internal.segment.bytes")
        };
        assert!(!named(&fresh));
        assert!(named(&image(&[(ConfigResource::Topic("t".to_owned()), "internal.segment.bytes", "100")])));
    }
}
