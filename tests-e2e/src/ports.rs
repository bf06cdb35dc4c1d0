//! Free TCP ports for processes that must be told their port.

use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// What this test process has given out; the next one is looked for behind it.
static GIVEN: Mutex<Option<u16>> = Mutex::new(None);

/// Below the range from which the system takes ports for outgoing connections (32768 and up by default): any of those may be in
/// use again before the process that was told its port binds it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on. Between this call and its use somebody else may take it; then the process fails to start and says so.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let width = RANGE.end - RANGE.start;
    // Test processes that run at the same time begin at different places.
    let begin =
        given.map_or_else(|| (std::process::id() % u32::from(width / 100)) as u16 * 100, |port| port + 1 - RANGE.start);
    let free = (0..width)
        .map(|step| RANGE.start + (begin + step) % width)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .with_context(|| format!("no free port in {RANGE:?}"))?;
    *given = Some(free);
    Ok(free)
}
