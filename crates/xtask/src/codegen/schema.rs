//! The schema files of `kafka-wire`: what they mean, and how they are read and printed.
//!
//! One file per API, `kNN_name.schema`; indentation is nesting, one line is one fact:
//!
//! ```text
//!   api 1 Fetch broker controller                          key, name, listeners; then `unstable` when the newest version is
//!   request 4-18 flexible 12+                              versions, flexible versions (or `none`)
//!       struct Cursor 0+                                   a struct used by several fields
//!           ...
//!       Topics []FetchTopic 0+                             name, type, versions; then any of:
//!           Topic string 0-12 ignorable key                  ignorable, key, null <versions>, tag <number>,
//!           Rack string 11+ null 11+ default null            default <value>, inflexible
//! ```
//!
//! A message outside of the request-response pairs starts with `message Name versions flexible versions`, and
//! `other_keys.schema` lists the keys whose messages we do not speak: `key 52 Vote 0-2 flexible 0+ controller`.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// Inclusive; `None` in an `Option<Versions>` stands for no versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    /// `i16::MAX` when open-ended.
    pub max: i16,
}

#[derive(Clone, Debug, Default)]
pub struct File {
    /// File name without extension: the name of the Rust module.
    pub name: String,
    pub api: Option<Api>,
    pub messages: Vec<Message>,
    /// Only in `other_keys.schema`.
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug)]
pub struct Api {
    pub key: i16,
    pub name: String,
    pub listeners: Vec<String>,
    pub unstable: bool,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub key: i16,
    pub name: String,
    pub versions: Option<Versions>,
    pub flexible: Option<Versions>,
    pub listeners: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    pub name: String,
    pub versions: Versions,
    pub flexible: Option<Versions>,
    /// Named structs shared by several fields.
    pub structs: Vec<Struct>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Other,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    pub versions: Versions,
    pub ignorable: bool,
    /// Part of the key by which Kafka looks elements up. A fact for readers; nothing is generated from it.
    pub key: bool,
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
    pub default: Option<String>,
    /// Keeps the fixed-width length in flexible versions.
    pub inflexible: bool,
    /// Non-empty when the field's struct is defined in place.
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Versions {
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    pub fn contains(self, other: Self) -> bool {
        self.intersect(other) == Some(other)
    }

    /// Reads `none`, `3`, `3-5` or `3+`.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if text == "none" {
            return Ok(None);
        }
        let (min, max) = match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(min), _) => (min.parse()?, i16::MAX),
            (None, Some((min, max))) => (min.parse()?, max.parse()?),
            (None, None) => (text.parse()?, text.parse()?),
        };
        Ok(Some(Self { min, max }))
    }

    fn parse_some(text: &str) -> Result<Self> {
        Self::parse(text)?.context("versions wanted, not `none`")
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (min, i16::MAX) => write!(f, "{min}+"),
            (min, max) if min == max => write!(f, "{min}"),
            (min, max) => write!(f, "{min}-{max}"),
        }
    }
}

impl FromStr for Type {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(element.parse()?)),
                None if text.starts_with(char::is_uppercase) => Self::Struct(text.to_owned()),
                None => bail!("unknown type {text}"),
            },
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(element) => write!(f, "[]{element}"),
            Self::Struct(name) => f.write_str(name),
            primitive => f.write_str(&format!("{primitive:?}").to_lowercase()),
        }
    }
}

pub fn read_directory(directory: &Path) -> Result<Vec<File>> {
    let mut paths = std::fs::read_dir(directory)
        .with_context(|| format!("read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "schema"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().and_then(|stem| stem.to_str()).context("file name is not UTF-8")?;
            parse(name, &std::fs::read_to_string(path)?).with_context(|| format!("in {}", path.display()))
        })
        .collect()
}

pub fn parse(name: &str, text: &str) -> Result<File> {
    let mut lines = Lines { lines: text.lines().filter(|line| !line.trim().is_empty()).collect(), at: 0 };
    let mut file = File { name: name.to_owned(), ..File::default() };
    while let Some(words) = lines.next_at_depth(0) {
        match words[..] {
            ["api", key, name, ref listeners @ ..] => {
                let unstable = listeners.contains(&"unstable");
                let listeners =
                    listeners.iter().filter(|word| **word != "unstable").map(|word| (*word).to_owned()).collect();
                file.api = Some(Api { key: key.parse()?, name: name.to_owned(), listeners, unstable });
            }
            ["key", key, name, versions, "flexible", flexible, ref listeners @ ..] => file.keys.push(Key {
                key: key.parse()?,
                name: name.to_owned(),
                versions: Versions::parse(versions)?,
                flexible: Versions::parse(flexible)?,
                listeners: listeners.iter().map(|word| (*word).to_owned()).collect(),
            }),
            ["message", name, versions, "flexible", flexible] => {
                file.messages.push(parse_message(&mut lines, Kind::Other, name.to_owned(), versions, flexible)?);
            }
            [kind @ ("request" | "response"), versions, "flexible", flexible] => {
                let api = &file.api.as_ref().context("`api` comes before messages")?.name;
                let (kind, name) = match kind {
                    "request" => (Kind::Request, format!("{api}Request")),
                    _ => (Kind::Response, format!("{api}Response")),
                };
                file.messages.push(parse_message(&mut lines, kind, name, versions, flexible)?);
            }
            _ => bail!("line {}: unknown line {words:?}", lines.at),
        }
    }
    Ok(file)
}

pub fn print(file: &File) -> String {
    let mut text = String::new();
    if let Some(Api { key, name, listeners, unstable }) = &file.api {
        let unstable = if *unstable { " unstable" } else { "" };
        line(&mut text, 0, format_args!("api {key} {name} {}{unstable}", listeners.join(" ")));
    }
    for Key { key, name, versions, flexible, listeners } in &file.keys {
        let listeners: String = listeners.iter().map(|listener| format!(" {listener}")).collect();
        let (versions, flexible) = (or_none(*versions), or_none(*flexible));
        line(&mut text, 0, format_args!("key {key} {name} {versions} flexible {flexible}{listeners}"));
    }
    for message in &file.messages {
        let kind = match message.kind {
            Kind::Request => "request",
            Kind::Response => "response",
            Kind::Other => &format!("message {}", message.name),
        };
        line(&mut text, 0, format_args!("{kind} {} flexible {}", message.versions, or_none(message.flexible)));
        for shared in &message.structs {
            line(&mut text, 1, format_args!("struct {} {}", shared.name, shared.versions));
            print_fields(&mut text, 2, &shared.fields);
        }
        print_fields(&mut text, 1, &message.fields);
    }
    text
}

/// The lines of a file and how many of them have been read.
struct Lines<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

const INDENT: usize = 2;

impl<'a> Lines<'a> {
    /// The words of the next line when it stands at `depth`.
    fn next_at_depth(&mut self, depth: usize) -> Option<Vec<&'a str>> {
        let line = self.lines.get(self.at)?;
        let indentation = line.len() - line.trim_start().len();
        (indentation == depth * INDENT).then(|| {
            self.at += 1;
            line.split_whitespace().collect()
        })
    }
}

fn parse_message(lines: &mut Lines<'_>, kind: Kind, name: String, versions: &str, flexible: &str) -> Result<Message> {
    let (versions, flexible) = (Versions::parse_some(versions)?, Versions::parse(flexible)?);
    let mut message = Message { kind, name, versions, flexible, structs: Vec::new(), fields: Vec::new() };
    while let Some(words) = lines.next_at_depth(1) {
        match words[..] {
            ["struct", name, versions] => {
                let fields = parse_fields(lines, 2)?;
                message.structs.push(Struct {
                    name: name.to_owned(),
                    versions: Versions::parse_some(versions)?,
                    fields,
                });
            }
            _ => message.fields.push(parse_field(lines, 1, &words)?),
        }
    }
    Ok(message)
}

fn parse_fields(lines: &mut Lines<'_>, depth: usize) -> Result<Vec<Field>> {
    let mut fields = Vec::new();
    while let Some(words) = lines.next_at_depth(depth) {
        fields.push(parse_field(lines, depth, &words)?);
    }
    Ok(fields)
}

fn parse_field(lines: &mut Lines<'_>, depth: usize, words: &[&str]) -> Result<Field> {
    let [name, ty, versions, attributes @ ..] = words else { bail!("line {}: not a field", lines.at) };
    let mut field = Field {
        name: (*name).to_owned(),
        ty: ty.parse()?,
        versions: Versions::parse_some(versions)?,
        ignorable: false,
        key: false,
        nullable: None,
        tag: None,
        default: None,
        inflexible: false,
        fields: Vec::new(),
    };
    let mut attributes = attributes.iter().copied();
    while let Some(attribute) = attributes.next() {
        let mut value = || attributes.next().with_context(|| format!("{attribute} of {name} lacks a value"));
        match attribute {
            "ignorable" => field.ignorable = true,
            "key" => field.key = true,
            "inflexible" => field.inflexible = true,
            "null" => field.nullable = Versions::parse(value()?)?,
            "tag" => field.tag = Some(value()?.parse()?),
            "default" => field.default = Some(value()?.to_owned()),
            _ => bail!("line {}: unknown attribute {attribute}", lines.at),
        }
    }
    field.fields = parse_fields(lines, depth + 1)?;
    Ok(field)
}

fn print_fields(text: &mut String, depth: usize, fields: &[Field]) {
    for field in fields {
        let mut attributes = String::new();
        let mut add = |attribute: &str| {
            attributes.push(' ');
            attributes.push_str(attribute);
        };
        if field.ignorable {
            add("ignorable");
        }
        if field.key {
            add("key");
        }
        if field.inflexible {
            add("inflexible");
        }
        if let Some(versions) = field.nullable {
            add(&format!("null {versions}"));
        }
        if let Some(tag) = field.tag {
            add(&format!("tag {tag}"));
        }
        if let Some(default) = &field.default {
            add(&format!("default {default}"));
        }
        line(text, depth, format_args!("{} {} {}{attributes}", field.name, field.ty, field.versions));
        print_fields(text, depth + 1, &field.fields);
    }
}

fn line(text: &mut String, depth: usize, content: fmt::Arguments<'_>) {
    writeln!(text, "{:1$}{content}", "", depth * INDENT).expect("strings take everything");
}

fn or_none(versions: Option<Versions>) -> String {
    versions.map_or_else(|| "none".to_owned(), |versions| versions.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
api 1 Fetch broker controller unstable
request 4-18 flexible 12+
  struct Cursor 0+
    Offset int64 0+ default -1
  ClusterId string 12+ ignorable null 12+ tag 0 default null
  Topics []FetchTopic 0+
    Topic string 0-12 ignorable key
    Cursor Cursor 3
response 4-18 flexible none
  ErrorCode int16 7+
";

    #[test]
    fn printing_what_was_parsed_gives_the_same_text() {
        assert_eq!(print(&parse("k01_fetch", TEXT).unwrap()), TEXT);
        let keys = "key 4 LeaderAndIsr none flexible none\nkey 52 Vote 0-2 flexible 0+ controller\n";
        assert_eq!(print(&parse("other_keys", keys).unwrap()), keys);
        let message = "message RequestHeader 1-2 flexible 2+\n  ClientId string 1+ inflexible null 1+\n";
        assert_eq!(print(&parse("headers", message).unwrap()), message);
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in ["apis 1 Fetch", "api 1 Fetch broker\nrequest 0 flexible none\n  A int24 0+", "key 1"] {
            assert!(parse("x", text).is_err(), "{text}");
        }
        assert!(parse("x", &TEXT.replace("ignorable", "ignored")).is_err());
    }
}
