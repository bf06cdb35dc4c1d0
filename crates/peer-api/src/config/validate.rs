//! Whether a value is one Kafka would accept, said in Kafka's words.

use std::collections::BTreeMap;
use std::fmt;

use super::definition::{Definition, Dynamic, Kind, Rule};
use super::{BROKER_CONFIGS, broker_config, topic_config};

/// Kafka's INVALID_CONFIG with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig(pub String);

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidConfig {}

/// Checks all configs a topic would have set after a change.
pub fn validate_topic(configs: &BTreeMap<String, String>) -> Result<(), InvalidConfig> {
    for name in configs.keys() {
        if topic_config(name).is_none() {
            return Err(InvalidConfig(format!("Unknown topic config name: {name}")));
        }
    }
    for (name, value) in configs {
        if let Some(definition) = topic_config(name) {
            validate_value(definition, value)?;
        }
    }
    let number = |name: &str, default: i64| configs.get(name).and_then(|v| v.trim().parse().ok()).unwrap_or(default);
    let (lag_min, lag_max) = (number("min.compaction.lag.ms", 0), number("max.compaction.lag.ms", i64::MAX));
    if lag_min > lag_max {
        return Err(InvalidConfig(format!(
            "conflict topic config setting min.compaction.lag.ms ({lag_min}) > max.compaction.lag.ms ({lag_max})"
        )));
    }
    if configs.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err(InvalidConfig(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ));
    }
    Ok(())
}

/// Checks all dynamic configs a broker (`per_broker`) or the cluster would have set after a change. As in Kafka, names that
/// are no broker configs pass: plug-ins have their own.
pub fn validate_broker(configs: &BTreeMap<String, String>, per_broker: bool) -> Result<(), InvalidConfig> {
    let with = |dynamic: Dynamic| -> Vec<&str> {
        let known = |name: &&str| broker_config(name).is_some_and(|definition| definition.dynamic == dynamic);
        configs.keys().map(String::as_str).filter(known).collect()
    };
    let read_only = with(Dynamic::ReadOnly);
    if !read_only.is_empty() {
        return Err(InvalidConfig(format!("Cannot update these configs dynamically: [{}]", read_only.join(", "))));
    }
    let security: Vec<&str> = with(Dynamic::PerBroker).into_iter().filter(|name| name.starts_with("ssl.")).collect();
    if !security.is_empty() {
        return Err(InvalidConfig(format!(
            "These security configs can be dynamically updated only per-listener using the listener prefix: [{}]",
            security.join(", ")
        )));
    }
    let single = with(Dynamic::PerBroker);
    if !per_broker && !single.is_empty() {
        return Err(InvalidConfig(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
            single.join(", ")
        )));
    }
    BROKER_CONFIGS
        .iter()
        .filter_map(|definition| Some((definition, configs.get(definition.name)?)))
        .try_for_each(|(definition, value)| validate_value(definition, value))
}

/// Checks one value against its config's type and rule.
pub fn validate_value(definition: &Definition, value: &str) -> Result<(), InvalidConfig> {
    parse(definition, value).map(drop)
}

/// The value in the one form Kafka shows: trimmed, lists without spaces and repetitions, numbers as Java prints them. A value
/// that is not valid comes back as it is.
pub fn canonical(definition: &Definition, value: &str) -> String {
    match parse(definition, value) {
        Ok(Parsed::Boolean(value)) => value.to_string(),
        Ok(Parsed::Text(value)) => value,
        Ok(Parsed::Number(value)) => value.to_string(),
        Ok(Parsed::Fraction(value)) => java_double(value),
        Ok(Parsed::List(values)) => values.join(","),
        Err(_) => value.to_owned(),
    }
}

/// The elements of a list config.
pub(super) fn elements(value: &str) -> Vec<String> {
    let trimmed = value.trim();
    if trimmed.is_empty() { Vec::new() } else { trimmed.split(',').map(|element| element.trim().to_owned()).collect() }
}

enum Parsed {
    Boolean(bool),
    Text(String),
    Number(i64),
    Fraction(f64),
    List(Vec<String>),
}

fn parse(definition: &Definition, value: &str) -> Result<Parsed, InvalidConfig> {
    let name = definition.name;
    let trimmed = value.trim();
    let refuse =
        |shown: &str, why: &str| InvalidConfig(format!("Invalid value {shown} for configuration {name}: {why}"));
    let not_a_number = || refuse(value, &format!("Not a number of type {}", definition.kind.name()));
    let parsed = match definition.kind {
        Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Parsed::Boolean(true),
        Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Parsed::Boolean(false),
        Kind::Boolean => return Err(refuse(value, "Expected value to be either true or false")),
        Kind::String | Kind::Class | Kind::Password => Parsed::Text(trimmed.to_owned()),
        Kind::Int => Parsed::Number(trimmed.parse::<i32>().map_err(|_| not_a_number())?.into()),
        Kind::Short => Parsed::Number(trimmed.parse::<i16>().map_err(|_| not_a_number())?.into()),
        Kind::Long => Parsed::Number(trimmed.parse::<i64>().map_err(|_| not_a_number())?),
        Kind::Double => Parsed::Fraction(parse_java_double(trimmed).ok_or_else(not_a_number)?),
        Kind::List => Parsed::List(elements(value)),
    };
    match (definition.rule, parsed) {
        (Rule::AtLeast(low), Parsed::Number(n)) if n < low => {
            Err(refuse(&n.to_string(), &format!("Value must be at least {low}")))
        }
        (Rule::Between(low, _), Parsed::Number(n)) if n < low => {
            Err(refuse(&n.to_string(), &format!("Value must be at least {low}")))
        }
        (Rule::Between(_, high), Parsed::Number(n)) if n > high => {
            Err(refuse(&n.to_string(), &format!("Value must be no more than {high}")))
        }
        (Rule::Between(low, _), Parsed::Fraction(n)) if n < low as f64 => {
            Err(refuse(&java_double(n), &format!("Value must be at least {low}")))
        }
        (Rule::Between(_, high), Parsed::Fraction(n)) if n > high as f64 => {
            Err(refuse(&java_double(n), &format!("Value must be no more than {high}")))
        }
        (Rule::GzipLevel, Parsed::Number(n)) if n != -1 && !(1..=9).contains(&n) => {
            Err(refuse(&n.to_string(), "Value must be between 1 and 9 or equal to -1"))
        }
        (Rule::OneOf(valid), Parsed::Text(text)) if !valid.contains(&text.as_str()) => {
            Err(refuse(&text, &format!("String must be one of: {}", valid.join(", "))))
        }
        (Rule::OneOfIgnoringCase(valid), Parsed::Text(text))
            if !valid.iter().any(|v| v.eq_ignore_ascii_case(&text)) =>
        {
            Err(refuse(&text, &format!("String must be one of (case insensitive): {}", valid.join(", "))))
        }
        (Rule::EachOf(valid), Parsed::List(list)) => {
            if list.iter().any(String::is_empty) {
                return Err(InvalidConfig(format!("Configuration '{name}' values must not be empty.")));
            }
            if let Some(bad) = list.iter().find(|element| !valid.contains(&element.as_str())) {
                return Err(refuse(bad, &format!("String must be one of: {}", valid.join(", "))));
            }
            let mut once: Vec<String> = Vec::new();
            for element in list {
                if !once.contains(&element) {
                    once.push(element);
                }
            }
            Ok(Parsed::List(once))
        }
        (Rule::ThrottledReplicas, Parsed::List(list)) if !are_throttled_replicas(&list) => Err(refuse(
            &format!("[{}]", list.join(", ")),
            &format!(
                "{name} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            ),
        )),
        (_, parsed) => Ok(parsed),
    }
}

fn are_throttled_replicas(list: &[String]) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let pair = |text: &String| text.split_once(':').is_some_and(|(p, b)| digits(p) && digits(b));
    matches!(list, [all] if all == "*") || list.iter().all(pair)
}

/// Java takes a type suffix (`0.5f`), and writes the special values its own way.
fn parse_java_double(text: &str) -> Option<f64> {
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        digits if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        _ => {}
    }
    text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text).parse().ok()
}

fn java_double(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(pairs: &[(&str, &str)]) -> Result<(), String> {
        let configs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        validate_topic(&configs).map_err(|e| e.0)
    }

    fn broker(per_broker: bool, pairs: &[(&str, &str)]) -> Result<(), String> {
        let configs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        validate_broker(&configs, per_broker).map_err(|e| e.0)
    }

    /// Each text was printed by Apache Kafka 4.3.0's own `LogConfig.validate` for the same input.
    #[test]
    fn topic_refusals_read_as_kafkas() {
        let invalid = |pair: (&str, &str), text: &str| {
            assert_eq!(topic(&[pair]), Err(text.to_owned()), "{pair:?}");
        };
        invalid(("foo", "bar"), "Unknown topic config name: foo");
        invalid(("message.format.version", "3.0"), "Unknown topic config name: message.format.version");
        invalid(("retention.ms", "abc"), "Invalid value abc for configuration retention.ms: Not a number of type LONG");
        invalid(("retention.ms", ""), "Invalid value  for configuration retention.ms: Not a number of type LONG");
        invalid(("retention.ms", "-2"), "Invalid value -2 for configuration retention.ms: Value must be at least -1");
        invalid(
            ("segment.bytes", "10"),
            "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576",
        );
        invalid(
            ("segment.bytes", "99999999999"),
            "Invalid value 99999999999 for configuration segment.bytes: Not a number of type INT",
        );
        invalid(
            ("cleanup.policy", "foo"),
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        );
        invalid(("cleanup.policy", "delete,,compact"), "Configuration 'cleanup.policy' values must not be empty.");
        invalid(
            ("min.cleanable.dirty.ratio", "2"),
            "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        );
        invalid(
            ("min.cleanable.dirty.ratio", "x"),
            "Invalid value x for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE",
        );
        invalid(
            ("preallocate", "yes"),
            "Invalid value yes for configuration preallocate: Expected value to be either true or false",
        );
        invalid(
            ("compression.type", "GZIP"),
            "Invalid value GZIP for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
        );
        invalid(
            ("compression.gzip.level", "0"),
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        );
        invalid(
            ("compression.lz4.level", "18"),
            "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17",
        );
        invalid(
            ("leader.replication.throttled.replicas", "*,0:1"),
            "Invalid value [*, 0:1] for configuration leader.replication.throttled.replicas: leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        );
        assert_eq!(
            topic(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]),
            Err("conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)".to_owned())
        );
    }

    #[test]
    fn what_kafka_accepts_is_accepted_and_shown_in_one_form() {
        let shown = |name: &str, value: &str| {
            assert_eq!(topic(&[(name, value)]), Ok(()), "{name}={value}");
            canonical(topic_config(name).unwrap(), value)
        };
        assert_eq!(shown("cleanup.policy", ""), "");
        assert_eq!(shown("cleanup.policy", "compact , delete "), "compact,delete");
        assert_eq!(shown("cleanup.policy", "compact,compact"), "compact");
        assert_eq!(shown("preallocate", " TRUE "), "true");
        assert_eq!(shown("retention.ms", " 5 "), "5");
        assert_eq!(shown("segment.bytes", "+5000000"), "5000000");
        assert_eq!(shown("retention.bytes", "-5"), "-5");
        assert_eq!(shown("min.cleanable.dirty.ratio", "0.5f"), "0.5");
        assert_eq!(shown("min.cleanable.dirty.ratio", "1e-4"), "1.0E-4");
        assert_eq!(shown("leader.replication.throttled.replicas", "0:1,1:2"), "0:1,1:2");
        assert_eq!(java_double(f64::MAX), "1.7976931348623157E308");
    }

    /// Likewise from `DynamicBrokerConfig.validateConfigs`.
    #[test]
    fn broker_refusals_read_as_kafkas() {
        let refused = |per_broker, pairs: &[(&str, &str)], text: &str| {
            assert_eq!(broker(per_broker, pairs), Err(text.to_owned()));
        };
        refused(
            false,
            &[("log.retention.hours", "1"), ("num.partitions", "2")],
            "Cannot update these configs dynamically: [log.retention.hours, num.partitions]",
        );
        refused(
            true,
            &[("ssl.keystore.type", "JKS")],
            "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.type]",
        );
        refused(
            false,
            &[("listeners", "PLAINTEXT://:9")],
            "Cannot update these configs at default cluster level, broker id must be specified: [listeners]",
        );
        refused(
            false,
            &[("log.retention.ms", "abc")],
            "Invalid value abc for configuration log.retention.ms: Not a number of type LONG",
        );
        refused(
            false,
            &[("min.insync.replicas", "0")],
            "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1",
        );
        assert_eq!(broker(false, &[("foo.bar", "3")]), Ok(()));
        assert_eq!(broker(true, &[("max.connections", "5")]), Ok(()));
        assert_eq!(broker(false, &[("log.retention.ms", "-5")]), Ok(()));
    }
}
