//! A panic in a run is part of its report, so the hook says nothing; where it was is kept for whoever tells of the failure.

use std::cell::RefCell;
use std::panic;

thread_local! {
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are silent and remembered.
pub fn silence() {
    panic::set_hook(Box::new(|info| {
        PANICKED_AT.set(info.location().map(ToString::to_string));
    }));
}

/// Where this thread panicked since it was asked the last time.
pub fn place() -> Option<String> {
    PANICKED_AT.take()
}
