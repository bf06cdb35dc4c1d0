//! Waits that are bounded by the time that we ourselves had.
//!
//! A machine may be stopped as a whole, and everything on it with it, for longer than any bound: then nobody was too slow.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

const PAUSE: Duration = Duration::from_millis(50);
/// A look that takes longer was not ours alone.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// Looks until it finds something; past `bound` the last reason why there was nothing is the error.
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let mut spent = Duration::ZERO;
    loop {
        let start = Instant::now();
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if spent > bound => return Err(error.context(format!("waited {bound:?} in vain for {what}"))),
            Err(_) => thread::sleep(PAUSE),
        }
        spent += start.elapsed().min(LOOK_MAX);
    }
}
