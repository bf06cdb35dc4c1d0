//! A record as a client sends or sees it, and its form as a JSON line (bytes in base64) between us and the client scripts.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::base64;

/// What a producer is asked to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; without it the client sets its own.
    pub timestamp: Option<i64>,
    /// Without it the client's partitioner decides.
    pub partition: Option<i32>,
}

/// What a consumer saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub record: Record,
}

/// What a producer was told: the `n`-th record of its input is at this place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub n: usize,
    /// Not every client says where a record went.
    pub place: Option<(i32, i64)>,
}

impl Record {
    pub fn text(key: &str, value: &str) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    pub fn to_json(&self) -> String {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!([name, encoded(value.as_deref())])).collect();
        json!({
            "key": encoded(self.key.as_deref()),
            "value": encoded(self.value.as_deref()),
            "headers": headers,
            "timestamp": self.timestamp,
            "partition": self.partition,
        })
        .to_string()
    }
}

impl Seen {
    pub fn from_json(line: &str) -> Result<Self> {
        let fields: Map<String, Value> =
            serde_json::from_str(line).with_context(|| format!("not a JSON object: {line}"))?;
        let number = |name: &str| {
            fields.get(name).and_then(Value::as_i64).with_context(|| format!("no number `{name}`: {line}"))
        };
        let partition = i32::try_from(number("partition")?)?;
        let mut headers = Vec::new();
        for header in fields.get("headers").and_then(Value::as_array).into_iter().flatten() {
            let name = header.get(0).and_then(Value::as_str).context("a header has a name")?;
            headers.push((name.to_owned(), decoded(header.get(1))?));
        }
        let record = Record {
            key: decoded(fields.get("key"))?,
            value: decoded(fields.get("value"))?,
            headers,
            timestamp: fields.get("timestamp").and_then(Value::as_i64),
            partition: Some(partition),
        };
        Ok(Self { partition, offset: number("offset")?, record })
    }
}

impl Ack {
    /// `{"n":7,"partition":0,"offset":41}`, or an error of the client: `{"n":7,"error":"..."}`.
    pub fn from_json(line: &str) -> Result<Result<Self, String>> {
        let fields: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        if let Some(error) = fields.get("error") {
            return Ok(Err(error.to_string()));
        }
        let number = |name: &str| fields.get(name).and_then(Value::as_i64);
        let n = number("n").with_context(|| format!("no number `n`: {line}"))?;
        let place = match (number("partition"), number("offset")) {
            (Some(partition), Some(offset)) if offset >= 0 => Some((i32::try_from(partition)?, offset)),
            _ => None,
        };
        Ok(Ok(Self { n: usize::try_from(n)?, place }))
    }
}

fn encoded(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| Value::String(base64::encode(bytes)))
}

fn decoded(value: Option<&Value>) -> Result<Option<Vec<u8>>> {
    value.and_then(Value::as_str).map(base64::decode).transpose()
}
