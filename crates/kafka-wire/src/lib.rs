//! The spoken bytes: every message of the Kafka protocol that a broker's listener carries, in every version of Kafka 4.3,
//! as plain Rust structs that know how to read and write themselves.
//!
//! **What it must not know.** Sockets, threads, clocks, sessions, what a request *means*. Error codes are bare `i16`,
//! topic ids bare [`Uuid`]; their meaning lives in `base-types`. Records are opaque bytes; `record-batch` opens them.
//!
//! ```text
//!   schema/*.schema ─cargo xtask codegen──► src/generated/kNN_*.rs     one file per API, request and response
//!                                                │ calls
//!   frame.rs    length, header, body             ▼
//!   read.rs     Reader: a cursor over one received frame        every check against hostile bytes is here
//!   write.rs    Writer: one buffer + slices by reference        every check against our own mistakes is here
//!   string.rs  records.rs  uuid.rs  error.rs  api_key.rs        the field types, the errors, the table of keys
//! ```
//!
//! # Use
//!
//! A server reads the length prefix itself (it owns the limit), then hands over the frame:
//!
//! ```
//! use bytes::Bytes;
//! use kafka_wire::{ApiKey, MetadataRequest, MetadataResponse, Reader, decode_request_header, encode_response};
//!
//! fn answer(frame: Bytes) -> Result<Vec<Bytes>, Box<dyn std::error::Error>> {
//!     let mut reader = Reader::new(frame);
//!     let header = decode_request_header(&mut reader)?;
//!     let version = header.request_api_version;
//!     match ApiKey::try_from(header.request_api_key)? {
//!         ApiKey::Metadata => {
//!             let _request = MetadataRequest::decode(&mut reader, version)?;
//!             let response = MetadataResponse { controller_id: 7, ..Default::default() };
//!             Ok(encode_response(header.correlation_id, version, &response)?) // length prefix included
//!         }
//!         other => Err(format!("{other:?} is not served").into()),
//!     }
//! }
//! # let request = MetadataRequest::default();
//! # let frame = kafka_wire::encode_request(1, None, 12, &request)?;
//! # let frame = Bytes::from(frame.concat()).slice(4..);
//! # assert!(answer(frame).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A client does the reverse with [`encode_request`] and [`decode_response`]. Structs nested in a message live in the module
//! of their API, which carries the API key in its name: [`k01_fetch::FetchTopic`].
//!
//! # Choices
//!
//! * **One struct for all versions.** A field that a version lacks has its default after decoding. On encoding, a value
//!   other than the default that the version cannot carry is dropped when Kafka marks the field *ignorable*, else an
//!   [`EncodeError`]: the rules of Kafka's own serialiser.
//! * **Strings are [`KafkaString`]**, UTF-8 checked once, backed by [`bytes::Bytes`]: a decoded name is a slice of its frame
//!   and a cached name is put into a thousand responses by reference count. The price: whoever *keeps* a decoded string or
//!   byte field keeps its whole frame alive; keep [`KafkaString::detach`]ed copies instead.
//! * **Bytes and records are never copied.** Requests hold slices of the frame. In responses records are [`Records`], a rope
//!   of slices, and [`Writer`] puts large slices into its output by reference, ready for a vectored write.
//! * **Unknown tagged fields are skipped and forgotten.** We are an end of the conversation, not a relay.
//!
//! # Invariants
//!
//! * A decoder never panics, whatever the bytes.
//! * No length claimed by a frame is believed before it was compared with the bytes that remain, and memory grows with the
//!   elements really read, so a decode allocates at most a constant multiple of its frame.
//! * Decoding then encoding gives back the bytes Kafka's Java serialiser wrote, for every API and version.
//!
//! Deviation from Kafka: malformed UTF-8 and a tagged field whose size disagrees with its content are errors here; the Java
//! decoder replaces the former and overlooks the latter.
//!
//! Tested in `tests/wire/`: `golden.rs` (bytes written by Kafka), `differential.rs` (an independent codec), `hostile.rs`
//! (mutated frames under a counting allocator); and at the bottom of each module.

#![forbid(unsafe_code)]

mod api_key;
mod error;
mod frame;
mod generated;
mod read;
mod records;
mod string;
mod uuid;
mod write;

pub use api_key::{ApiKey, UnknownApiKey};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use frame::{Message, Request, decode_request_header, decode_response, encode_request, encode_response};
pub use generated::*;
pub use read::Reader;
pub use records::Records;
pub use string::KafkaString;
pub use uuid::Uuid;
pub use write::{TaggedFields, Writer};
