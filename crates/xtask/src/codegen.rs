//! From schema files to the Rust of `kafka-wire`.
//!
//! ```text
//!   Kafka's message definitions (JSON) ──import──► crates/kafka-wire/schema/*.schema ─codegen─► src/generated/*.rs
//!        once per Kafka release                        committed, facts only                     committed
//! ```
//!
//! Generating needs nothing but the schema files, so a build never depends on Kafka. With `--check` nothing is written, and
//! the task fails when the committed code is not what the schema gives.
//!
//! For a new release of Kafka, unpack `common/message/` from its `kafka-clients` jar, then
//! `cargo xtask codegen --import <that folder>`, `cargo xtask codegen`, and read both diffs.
//!
//! What it must not know: what any message means. Deviation from Kafka's own generator: arrays with map keys are plain
//! vectors, and unknown tagged fields have no place in the structs.

mod import;
mod rust;
mod schema;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// `cargo xtask codegen [--check | --import <directory>]`.
pub fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => generate(false),
        ["--check"] => generate(true),
        ["--import", definitions] => import(Path::new(definitions)),
        _ => bail!("codegen takes nothing, `--check`, or `--import <directory of Kafka's message definitions>`"),
    }
}

/// Regenerates the code of `kafka-wire`, or with `check` only compares.
fn generate(check: bool) -> Result<()> {
    let files = schema::read_directory(&crate_directory().join("schema"))?;
    let wanted = rust::generate(&files)?
        .into_iter()
        .map(|(path, code)| Ok((crate_directory().join("src").join(path), format(&code)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;

    let committed = committed_files()?;
    let mut stale: Vec<_> = committed.keys().filter(|path| !wanted.contains_key(*path)).collect();
    stale.extend(wanted.keys().filter(|path| committed.get(*path) != wanted.get(*path)));
    if check {
        ensure!(stale.is_empty(), "generated code differs from its schema, run `cargo xtask codegen`: {stale:#?}");
        return Ok(());
    }
    for path in stale {
        match wanted.get(path) {
            Some(code) => std::fs::write(path, code).with_context(|| format!("write {}", path.display()))?,
            None => std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?,
        }
    }
    Ok(())
}

/// Rewrites the schema files from a directory of Kafka's message definitions (`common/message` in its clients jar).
fn import(definitions: &Path) -> Result<()> {
    let directory = crate_directory().join("schema");
    for (name, text) in import::import(definitions)? {
        std::fs::write(directory.join(&name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn crate_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka-wire")
}

fn committed_files() -> Result<BTreeMap<PathBuf, String>> {
    let source = crate_directory().join("src");
    let mut paths = vec![source.join("generated.rs")];
    for entry in std::fs::read_dir(source.join("generated"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.exists());
    paths.into_iter().map(|path| Ok((path.clone(), std::fs::read_to_string(path)?))).collect()
}

fn format(code: &str) -> Result<String> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(crate_directory().join("../../rustfmt.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start rustfmt")?;
    // The pipe closes at the end of the statement, which is what ends rustfmt's input.
    rustfmt.stdin.take().context("rustfmt has no input")?.write_all(code.as_bytes())?;
    let output = rustfmt.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt refused the generated code");
    }
    Ok(String::from_utf8(output.stdout)?)
}
