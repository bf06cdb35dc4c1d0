//! The closed set of reasons with which a stream or a call is refused or ended, and gRPC's codes for them.
//!
//! What a service answers to a request is no status: it is a message of its own. A status is about the stream.

use std::fmt;

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Code {
    /// The stream came to its end as it should.
    Ok,
    /// The other side gave up or was dropped.
    Cancelled,
    /// A message or the call's metadata does not say what the contract asks for. Trying the same again is of no use.
    Malformed,
    /// The call took too long.
    TimedOut,
    /// More than a limit allows.
    TooMuch,
    /// Not now or not any more; connect again.
    Unavailable,
    /// This process does not offer that service.
    NotServed,
    /// The caller may not.
    NotAllowed,
    /// A fault of the other side.
    Internal,
}

/// How a stream ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub code: Code,
    pub message: String,
}

impl Code {
    pub const ALL: [Code; 9] = [
        Code::Ok,
        Code::Cancelled,
        Code::Malformed,
        Code::TimedOut,
        Code::TooMuch,
        Code::Unavailable,
        Code::NotServed,
        Code::NotAllowed,
        Code::Internal,
    ];

    /// Whether the same may succeed on a new connection.
    pub fn is_retriable(self) -> bool {
        match self {
            Code::Ok | Code::Cancelled | Code::TimedOut | Code::TooMuch | Code::Unavailable | Code::Internal => true,
            Code::Malformed | Code::NotServed | Code::NotAllowed => false,
        }
    }

    pub(crate) fn to_grpc(self) -> tonic::Code {
        match self {
            Code::Ok => tonic::Code::Ok,
            Code::Cancelled => tonic::Code::Cancelled,
            Code::Malformed => tonic::Code::InvalidArgument,
            Code::TimedOut => tonic::Code::DeadlineExceeded,
            Code::TooMuch => tonic::Code::ResourceExhausted,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::NotServed => tonic::Code::Unimplemented,
            Code::NotAllowed => tonic::Code::PermissionDenied,
            Code::Internal => tonic::Code::Internal,
        }
    }

    pub(crate) fn from_grpc(code: tonic::Code) -> Code {
        match code {
            tonic::Code::Ok => Code::Ok,
            tonic::Code::Cancelled | tonic::Code::Aborted => Code::Cancelled,
            tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition | tonic::Code::OutOfRange => Code::Malformed,
            tonic::Code::DeadlineExceeded => Code::TimedOut,
            tonic::Code::ResourceExhausted => Code::TooMuch,
            tonic::Code::Unavailable => Code::Unavailable,
            tonic::Code::Unimplemented | tonic::Code::NotFound => Code::NotServed,
            tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Code::NotAllowed,
            tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::AlreadyExists | tonic::Code::DataLoss => {
                Code::Internal
            }
        }
    }
}

impl Ended {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Ended {
        Ended { code, message: message.into() }
    }

    pub(crate) fn to_status(&self) -> tonic::Status {
        tonic::Status::new(self.code.to_grpc(), self.message.clone())
    }

    pub(crate) fn from_status(status: &tonic::Status) -> Ended {
        Ended::new(Code::from_grpc(status.code()), status.message())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Ok => "ended",
            Code::Cancelled => "cancelled",
            Code::Malformed => "malformed",
            Code::TimedOut => "timed out",
            Code::TooMuch => "too much",
            Code::Unavailable => "unavailable",
            Code::NotServed => "not served",
            Code::NotAllowed => "not allowed",
            Code::Internal => "internal fault",
        })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { self.code.fmt(f) } else { write!(f, "{}: {}", self.code, self.message) }
    }
}

impl std::error::Error for Ended {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_grpc() {
        for code in Code::ALL {
            assert_eq!(Code::from_grpc(code.to_grpc()), code);
            let ended = Ended::new(code, "why");
            assert_eq!(Ended::from_status(&ended.to_status()), ended);
        }
    }
}
