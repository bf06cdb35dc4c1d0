//! Sizes and times of the internal streams. None of them is configuration, except through [`crate::ConnectOptions`].

use std::time::Duration;

/// Largest message that is taken. Above the largest Kafka request a gateway lets in, with room for its header.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Largest message without its payload. A header's fields take more memory than bytes, so their bound is closer.
pub const HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// HTTP/2 frame. h2 writes one frame per system call, so large ones pay; a batch of Kafka's default `max.message.bytes`
/// (1 MiB + 12) must fit in one frame, else it arrives in two pieces and has to be copied together.
pub const FRAME_BYTES_MAX: u32 = 1024 * 1024 + 4096;

/// Flow control, set and not adaptive: an adaptive window starts at 64 KiB and stalls the first megabytes of every stream.
pub const STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// A payload piece of at least this size travels by reference; below, the copy is cheaper than a frame of its own.
pub const REFERENCE_BYTES_MIN: usize = 16 * 1024;

/// Small messages and pieces are gathered into frames of about this size.
pub const COALESCE_BYTES_MAX: usize = 32 * 1024;

/// Messages that wait in a stream's sender before `send` waits too.
pub const STREAM_MESSAGES_MAX: usize = 256;

/// Streams on one connection. Ours carry one each; the health service and tools have a few.
pub const CONNECTION_STREAMS_MAX: u32 = 64;

/// How long a unary call (health) may take on the server.
pub const UNARY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long connecting may take, all of it: TCP, HTTP/2 and the other side taking up the stream.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// After this much silence the other side is asked for a sign of life,
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(1000);

/// and after this much more without one the connection is given up.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1000);

const _: () = assert!(REFERENCE_BYTES_MIN < COALESCE_BYTES_MAX);
const _: () = assert!(COALESCE_BYTES_MAX < FRAME_BYTES_MAX as usize);
const _: () = assert!(FRAME_BYTES_MAX < 1 << 24); // RFC 9113, 4.2
const _: () = assert!(FRAME_BYTES_MAX <= STREAM_WINDOW_BYTES && STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
const _: () = assert!(HEADER_BYTES_MAX < MESSAGE_BYTES_MAX);
