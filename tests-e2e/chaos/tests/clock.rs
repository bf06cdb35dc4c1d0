//! The preloaded clock, in a process that is not ours.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test with a real process")]

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use chaos::clock::{Clock, ClockLibrary};

fn date(library: &ClockLibrary, clock: &Clock) -> i64 {
    let mut date = Command::new("date");
    library.preload(&mut date, clock);
    let output = date.arg("+%s").output().expect("date runs");
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("a number")
}

#[test]
fn a_process_sees_the_step_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let library = ClockLibrary::compile(folder.path()).expect("cc is here");
    let clock = Clock::new(&folder.path().join("clock")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    assert!((date(&library, &clock) - now).abs() < 60);
    assert_eq!(clock.asked().unwrap(), 0, "no offset, nobody deceived");
    clock.set(-86_400).unwrap();
    assert!((date(&library, &clock) - (now - 86_400)).abs() < 60);
    assert!(clock.asked().unwrap() > 0);
}
