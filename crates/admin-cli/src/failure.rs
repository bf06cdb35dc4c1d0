//! Why a command did not do what it was asked, and with which exit code it says so.

use std::fmt;

use base_types::ErrorCode;
use kafka_wire::{DecodeError, EncodeError};

#[derive(Debug)]
pub enum Failure {
    /// The cluster answered with an error.
    Refused {
        what: String,
        code: i16,
        message: Option<String>,
    },
    /// The cluster could not be reached, or the connection broke.
    Unreachable {
        address: String,
        source: std::io::Error,
    },
    /// The other side said something that is not Kafka's protocol.
    Protocol(DecodeError),
    Encode(EncodeError),
    Io {
        what: String,
        source: std::io::Error,
    },
    /// What was asked makes no sense; the text says what would.
    Usage(String),
    Failed(String),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Unreachable { .. } => 3,
            _ => 1,
        }
    }

    /// An answer's error code and message; `Ok` for code 0.
    pub fn check(what: &str, code: i16, message: Option<&str>) -> Result<(), Failure> {
        if code == 0 {
            return Ok(());
        }
        Err(Failure::Refused { what: what.to_owned(), code, message: message.map(str::to_owned) })
    }

    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failure {
        move |source| Failure::Io { what: what.into(), source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { what, code, message } => {
                let name = ErrorCode::from_code(*code).map_or("unknown error", ErrorCode::name);
                write!(f, "{what}: {name} ({code})")?;
                message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
            }
            Failure::Unreachable { address, source } => {
                write!(f, "cannot reach {address}: {source}; is the cluster running, and is this its Kafka address?")
            }
            Failure::Protocol(error) => write!(f, "the answer is not valid Kafka protocol: {error}"),
            Failure::Encode(error) => write!(f, "the request cannot be sent: {error}"),
            Failure::Io { what, source } => write!(f, "{what}: {source}"),
            Failure::Usage(text) | Failure::Failed(text) => f.write_str(text),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        Failure::Protocol(error)
    }
}

impl From<EncodeError> for Failure {
    fn from(error: EncodeError) -> Failure {
        Failure::Encode(error)
    }
}
