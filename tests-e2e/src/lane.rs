//! How much a scenario does: little in `make test`, more in `make test-long`, which sets `E2E_FULL`.

/// How many times as long an application runs; what each makes of it is in its own script.
const LONG: u32 = 10;

pub fn is_long() -> bool {
    std::env::var_os("E2E_FULL").is_some()
}

pub fn scale() -> u32 {
    if is_long() { LONG } else { 1 }
}
