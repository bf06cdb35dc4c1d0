//! Which code this is. Asked when a trace is written, not when the program is built: the build would depend on every commit, and a program
//! that is built and run by one command comes from the checkout that it is run in.

use std::process::Command;

/// As `git describe` has it; changes that were not committed are told.
pub fn of_checkout() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let text = described.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.and_then(|text| String::from_utf8(text).ok()).map(|text| text.trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
