//! Where things are: the checkout, the built binaries, the installed clients.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder `tests-e2e` of the checkout.
pub fn manifests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The root of the checkout.
pub fn checkout() -> &'static Path {
    manifests().parent().expect("tests-e2e lies below the root")
}

/// What `cargo xtask setup test` installed.
pub fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SETUP_CACHE") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("neither SETUP_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/thalweg"))
}

/// One of our binaries, built beside the running test with the same profile.
pub fn binary(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().context("this program has no path")?;
    // target/release/deps/some_test-0123 or target/release/some-bin
    for folder in running.ancestors().skip(1).take(2) {
        let found = folder.join(name);
        if found.is_file() {
            return Ok(found);
        }
    }
    bail!("`{name}` is not built: `cargo build --release --workspace --bins` (make test does it)")
}
