//! Bounded waiting for what happens in another process.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks. Another process cannot wake us, so looking again is all there is.
const PAUSE: Duration = Duration::from_millis(10);

/// Calls `look` until it finds something or `bound` has passed; an error from `look` ends the wait at once.
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > bound {
            bail!("waited {bound:?} in vain for {what}");
        }
        thread::sleep(PAUSE);
    }
}
