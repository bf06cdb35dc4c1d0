//! Layered configuration: defaults < TOML file < environment < flags.
//!
//! A service describes its settings as one struct with serde and `Default`; what the default serialises to is the list of
//! keys there are. Every value remembers where it comes from, and every refusal names the key, the source and what was
//! expected. `THALWEG_JOURNAL__SIZE_BYTES=1` sets `journal.size_bytes`.
//!
//! ```no_run
//! # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Config { node_id: Option<i32> }
//! # let (file, node_id) = (None, Some(1));
//! use service_kit::config::{self, LoadOptions};
//! let options = LoadOptions::from_process(file).flag("--node-id", "node_id", node_id);
//! let loaded = config::load::<Config>(options)?;
//! # Ok::<(), service_kit::config::ConfigError>(())
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use figment::error::{Actual, Kind};
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(test)]
mod tests;

const PREFIX: &str = "THALWEG_";

/// Variables with our prefix that are no configuration keys: where the file is, and what the command line tool reads.
const NOT_KEYS: [&str; 2] = ["THALWEG_CONFIG", "THALWEG_BOOTSTRAP"];

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
struct Flag {
    name: String,
    key: String,
    value: Result<Value, String>,
}

/// A configuration, and where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    pub config: T,
    values: Vec<(String, String, Origin)>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag(String),
}

/// A configuration is refused. The process must not start.
#[derive(Debug)]
pub enum ConfigError {
    /// The file named cannot be read.
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file is not TOML.
    Syntax {
        path: PathBuf,
        message: String,
    },
    Unknown(Vec<UnknownKey>),
    /// A value is not what its key asks for.
    Invalid {
        key: String,
        origin: Option<Origin>,
        found: Option<String>,
        expected: String,
    },
    /// The defaults cannot be written down: a fault in the service, not of who configures it.
    Defaults(String),
}

/// A key that nothing reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    pub key: String,
    pub origin: Origin,
    pub suggestion: Option<String>,
}

impl LoadOptions {
    /// With this file, if any, and this process's environment.
    pub fn from_process(file: Option<PathBuf>) -> LoadOptions {
        // Variables that are not Unicode cannot be ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        LoadOptions { file, environment, flags: Vec::new() }
    }

    /// With this environment instead.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> LoadOptions {
        self.environment = variables.into_iter().collect();
        self
    }

    /// A flag, if it was given: its name for messages, the key it sets, its value.
    #[must_use]
    pub fn flag(mut self, name: &str, key: &str, value: Option<impl Serialize>) -> LoadOptions {
        if let Some(value) = value {
            let value = Value::serialize(value).map_err(|error| error.to_string());
            self.flags.push(Flag { name: name.to_owned(), key: key.to_owned(), value });
        }
        self
    }
}

/// Reads, layers and checks a configuration.
pub fn load<T: Serialize + DeserializeOwned + Default>(options: LoadOptions) -> Result<Loaded<T>, ConfigError> {
    let defaults = Value::serialize(T::default()).map_err(|error| ConfigError::Defaults(error.to_string()))?;
    let mut layers = Figment::from(Serialized::defaults(T::default()));
    if let Some(path) = &options.file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.clone(), source })?;
        // Parsed once more by figment, which would not say where an error is.
        if let Err(error) = text.parse::<toml::Table>() {
            return Err(ConfigError::Syntax { path: path.clone(), message: error.to_string().trim_end().to_owned() });
        }
        layers = layers.merge(OneSource {
            origin: Origin::File(path.clone()),
            values: Toml::string(&text)
                .data()
                .map_err(|error| ConfigError::Syntax { path: path.clone(), message: error.to_string() })?,
        });
    }
    // Read as what they look like; again as plain text where that is not what the key asks for (a rack named 1).
    let mut as_text = BTreeSet::new();
    loop {
        let layers = with_overrides(layers.clone(), &options, &defaults, &as_text)?;
        check_keys(&layers, &defaults)?;
        match layers.extract::<T>() {
            Ok(config) => {
                let values = flatten(&layers).into_iter().map(|(key, value)| {
                    let origin = origin(layers.get_metadata(value.tag()));
                    (key, show(&value), origin)
                });
                return Ok(Loaded { config, values: values.collect() });
            }
            Err(error) => {
                let key = error.path.join(".");
                let set_by_environment = matches!(origin(error.metadata.as_ref()), Origin::Environment(_));
                let wants_text = matches!(&error.kind, Kind::InvalidType(_, wanted) if wanted.contains("string"));
                if !(set_by_environment && wants_text && as_text.insert(key)) {
                    return Err(refused(error));
                }
            }
        }
    }
}

impl<T> Loaded<T> {
    /// The same with something made of the configuration, for example its validated form.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Loaded<U> {
        Loaded { config: make(self.config), values: self.values }
    }

    /// A refusal by the service: the value under `key` is of the right type and still not what is `expected`.
    pub fn refuse(&self, key: &str, expected: impl Into<String>) -> ConfigError {
        let set = self.values.iter().find(|(known, ..)| known == key);
        ConfigError::Invalid {
            key: key.to_owned(),
            origin: set.map(|(_, _, origin)| origin.clone()),
            found: set.map(|(_, value, _)| value.clone()),
            expected: expected.into(),
        }
    }

    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.iter().find(|(known, ..)| known == key).map(|(_, _, origin)| origin)
    }

    /// As a TOML file that says the same, with the origin of every value.
    pub fn print(&self) -> String {
        let lines = self.values.iter().map(|(key, value, origin)| match value.as_str() {
            // TOML has no word for "not set".
            "" => (format!("# {key} ="), origin),
            value => (format!("{key} = {value}"), origin),
        });
        let lines: Vec<_> = lines.collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        lines.iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n")).collect()
    }
}

fn with_overrides(
    mut layers: Figment,
    options: &LoadOptions,
    defaults: &Value,
    as_text: &BTreeSet<String>,
) -> Result<Figment, ConfigError> {
    for (name, text) in &options.environment {
        let Some(key) = name.strip_prefix(PREFIX).filter(|_| !NOT_KEYS.contains(&name.as_str())) else { continue };
        let key = key.to_ascii_lowercase().replace("__", ".");
        if defaults.find_ref(&key).is_none() && is_service_link(name, text) {
            continue;
        }
        let value =
            if as_text.contains(&key) { Value::from(text.as_str()) } else { read(text, defaults.find_ref(&key)) };
        layers = layers.merge(OneSource::of(Origin::Environment(name.clone()), &key, value));
    }
    for Flag { name, key, value } in &options.flags {
        let value = value.clone().map_err(|found| ConfigError::Invalid {
            key: key.clone(),
            origin: Some(Origin::Flag(name.clone())),
            found: Some(found),
            expected: "a value".to_owned(),
        })?;
        layers = layers.merge(OneSource::of(Origin::Flag(name.clone()), key, value));
    }
    Ok(layers)
}

/// A variable's text as the kind of value its key has by default.
fn read(text: &str, default: Option<&Value>) -> Value {
    match default {
        Some(Value::String(..) | Value::Char(..)) => Value::from(text),
        Some(Value::Array(..)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::from(items.map(Value::from).collect::<Vec<_>>())
        }
        _ => text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
    }
}

/// Kubernetes gives every pod variables about every service in its namespace, and a service may well be called `thalweg-…`.
fn is_service_link(name: &str, text: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && text.contains("://"))
}

/// One layer whose values all come from one place.
struct OneSource {
    origin: Origin,
    values: Map<Profile, Dict>,
}

impl OneSource {
    fn of(origin: Origin, key: &str, value: Value) -> OneSource {
        let values = figment::util::nest(key, value).into_dict().unwrap_or_default();
        OneSource { origin, values: Profile::Default.collect(values) }
    }
}

impl Provider for OneSource {
    fn metadata(&self) -> Metadata {
        let (kind, name) = match &self.origin {
            Origin::Default => return Metadata::named("default"),
            Origin::File(path) => return Metadata::from("file", path.as_path()),
            Origin::Environment(name) => ("environment", name),
            Origin::Flag(name) => ("flag", name),
        };
        Metadata::from(kind, figment::Source::Custom(name.clone()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(self.values.clone())
    }
}

fn origin(metadata: Option<&Metadata>) -> Origin {
    match metadata.map(|metadata| (metadata.name.as_ref(), &metadata.source)) {
        Some(("file", Some(figment::Source::File(path)))) => Origin::File(path.clone()),
        Some(("environment", Some(figment::Source::Custom(name)))) => Origin::Environment(name.clone()),
        Some(("flag", Some(figment::Source::Custom(name)))) => Origin::Flag(name.clone()),
        _ => Origin::Default,
    }
}

fn check_keys(layers: &Figment, defaults: &Value) -> Result<(), ConfigError> {
    let mut known = Vec::new();
    leaves("", defaults, &mut |key, _| known.push(key.to_owned()));
    let sections: BTreeSet<&str> =
        known.iter().flat_map(|key| key.match_indices('.').map(|(at, _)| &key[..at])).collect();
    let unknown = flatten(layers).into_iter().filter(|(key, _)| !is_known(key, defaults)).map(|(key, value)| {
        let candidates = known.iter().map(String::as_str).chain(sections.iter().copied());
        UnknownKey {
            suggestion: closest(&key, candidates).map(str::to_owned),
            origin: origin(layers.get_metadata(value.tag())),
            key,
        }
    });
    let unknown: Vec<_> = unknown.collect();
    if unknown.is_empty() { Ok(()) } else { Err(ConfigError::Unknown(unknown)) }
}

/// Below a map without fixed keys, and below an optional section that is not there by default, serde decides.
fn is_known(key: &str, defaults: &Value) -> bool {
    let mut value = defaults;
    for part in key.split('.') {
        value = match value {
            Value::Dict(_, dict) if dict.is_empty() => return true,
            Value::Dict(_, dict) => match dict.get(part) {
                Some(value) => value,
                None => return false,
            },
            Value::Empty(..) => return true,
            // A table where a plain value belongs: serde says what was expected.
            _ => return true,
        };
    }
    true
}

fn closest<'a>(key: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The same name in another section counts as close, too: it is a common slip.
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    candidates
        .map(|candidate| {
            let whole = strsim::normalized_damerau_levenshtein(key, candidate);
            let name = strsim::normalized_damerau_levenshtein(&last(key), &last(candidate)) - 0.05;
            (whole.max(name), candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn flatten(layers: &Figment) -> Vec<(String, Value)> {
    let mut values = Vec::new();
    if let Ok(all) = layers.data() {
        for dict in all.into_values() {
            for (key, value) in dict {
                leaves(&key, &value, &mut |key, value| values.push((key.to_owned(), value.clone())));
            }
        }
    }
    values
}

fn leaves(key: &str, value: &Value, leaf: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            for (name, value) in dict {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                leaves(&key, value, leaf);
            }
        }
        value => leaf(key, value),
    }
}

/// In TOML; nothing for "not set".
fn show(value: &Value) -> String {
    match value {
        Value::Empty(..) => String::new(),
        Value::Dict(_, dict) if dict.is_empty() => "{}".to_owned(),
        value => toml::Value::try_from(value).map_or_else(|error| error.to_string(), |value| value.to_string()),
    }
}

fn refused(error: figment::Error) -> ConfigError {
    let mut key = error.path.join(".");
    let (found, expected) = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            (Some(found_in_words(found)), expected_in_words(expected))
        }
        Kind::InvalidLength(found, expected) => (Some(format!("{found} items")), expected.clone()),
        Kind::UnknownVariant(found, known) => (Some(format!("{found:?}")), format!("one of {}", known.join(", "))),
        Kind::UnknownField(field, known) => {
            let suggestion = closest(field, known.iter().copied());
            let join = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            return ConfigError::Unknown(vec![UnknownKey {
                key: join(field),
                origin: origin(error.metadata.as_ref()),
                suggestion: suggestion.map(join),
            }]);
        }
        Kind::MissingField(field) => {
            key = if key.is_empty() { field.to_string() } else { format!("{key}.{field}") };
            (None, "a value: it has no default".to_owned())
        }
        Kind::ISizeOutOfRange(found) => (Some(found.to_string()), "a smaller number".to_owned()),
        Kind::USizeOutOfRange(found) => (Some(found.to_string()), "a smaller number".to_owned()),
        other => (None, other.to_string()),
    };
    let origin = error.metadata.as_ref().map(|metadata| origin(Some(metadata)));
    ConfigError::Invalid { key, origin, found, expected }
}

fn found_in_words(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Str(text) => format!("{text:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

/// Rust's names of types mean nothing to who writes a configuration file.
fn expected_in_words(expected: &str) -> String {
    match expected {
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other.starts_with("struct ") || other == "a map" => "a section of keys".to_owned(),
        other => other.to_owned(),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown key `{}` ({})", self.key, self.origin)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => f.write_str("; --print-config lists the keys there are"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::File { path, .. } => write!(f, "the configuration file {} cannot be read", path.display()),
            ConfigError::Syntax { path, message } => {
                write!(f, "the configuration file {} is no TOML: {message}", path.display())
            }
            ConfigError::Unknown(keys) => {
                for (i, key) in keys.iter().enumerate() {
                    write!(f, "{}{key}", if i == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            ConfigError::Invalid { key, origin, found, expected } => {
                write!(f, "`{key}`")?;
                if let Some(origin) = origin {
                    write!(f, " ({origin})")?;
                }
                match found {
                    Some(found) if !found.is_empty() => write!(f, " is {found}; expected: {expected}"),
                    _ => write!(f, " is not set; expected: {expected}"),
                }
            }
            ConfigError::Defaults(message) => write!(f, "the built-in defaults cannot be written down: {message}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
