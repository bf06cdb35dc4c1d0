//! What a machine can judge without argument.
//!
//! Rules about one file are pure functions over its path and text (`source_rules`, `document_rules`, `manifest_rules`), rules about
//! the whole tree are pure functions over all of them (`map_rules`, `link_rules`); `run` only reads the files. Size is information:
//! the longest files are listed, never refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace;

/// Names that say nothing: what is in there could be anything, so everything ends up in there.
const BANNED_MODULES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc", "impls", "types"];

/// Crates that decide or describe and therefore may not lift the ban on clocks, threads, files and unordered maps.
const PURE_CRATES: &[&str] = &["base-types", "record-batch", "kafka-wire", "peer-api", "history-checker"];

/// What lifts the ban: the two lints by name, and the groups that they are in.
const LIFTS: &[&str] = &["clippy::disallowed_methods", "clippy::disallowed_types", "clippy::style", "clippy::all"];

/// How many of the longest files are listed.
const LONGEST: usize = 8;

pub fn run() -> Result<()> {
    let root = workspace::root();
    let tree = Tree::read(&root)?;
    let broken = tree.violations();
    for (lines, path) in tree.longest() {
        println!("tidy: {lines:>6} lines  {path}");
    }
    if broken.is_empty() {
        println!("tidy: {} files in order (the list above is information: is each still one idea?)", tree.files.len());
        return Ok(());
    }
    for line in &broken {
        eprintln!("tidy: {line}");
    }
    bail!("{} breaches of docs/STYLE.md", broken.len());
}

/// The checkout: every text file that belongs to it, with its path from the root.
struct Tree {
    files: Vec<(String, String)>,
    /// Every path, of files that are not text too, and every folder.
    paths: BTreeSet<String>,
    crates: Vec<String>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        // What git tracks and what is new, without what it ignores.
        let mut git = std::process::Command::new("git");
        git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let listed = command::output(&mut git)?;
        let mut files = Vec::new();
        let mut paths = BTreeSet::new();
        for path in listed.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file()) {
            paths.extend(Path::new(path).ancestors().map(|at| at.to_string_lossy().into_owned()));
            let bytes = fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push((path.to_owned(), text));
            }
        }
        Ok(Self::new(files, paths))
    }

    fn new(files: Vec<(String, String)>, paths: BTreeSet<String>) -> Self {
        let manifests = files.iter().filter_map(|(path, _)| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"));
        let crates = manifests.map(str::to_owned).collect();
        Self { files, paths, crates }
    }

    fn violations(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (path, text) in &self.files {
            if path.ends_with(".rs") {
                source_rules(path, text, &mut broken);
            }
            if path.ends_with(".md") && (path == "README.md" || path.starts_with("docs/")) {
                link_rules(path, text, &self.paths, &mut broken);
            }
            if path.ends_with("package-lock.json") && text.contains("\"resolved\"") {
                broken.push(format!(
                    "{path}: holds download addresses; make it with `npm install --omit-lockfile-registry-resolved`"
                ));
            }
            home_path_rule(path, text, &mut broken);
        }
        map_rules(self.text("docs/ARCHITECTURE.md"), &self.crates, &mut broken);
        broken
    }

    fn text(&self, wanted: &str) -> Option<&str> {
        self.files.iter().find(|(path, _)| path == wanted).map(|(_, text)| text.as_str())
    }

    fn longest(&self) -> Vec<(usize, &str)> {
        let sources = self.files.iter().filter(|(path, text)| path.ends_with(".rs") && !is_generated(path, text));
        let mut sizes: Vec<(usize, &str)> = sources.map(|(path, text)| (text.lines().count(), path.as_str())).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        sizes.truncate(LONGEST);
        sizes
    }
}

fn is_generated(path: &str, text: &str) -> bool {
    path.contains("/generated/")
        || path.ends_with("/generated.rs")
        || text.lines().take(3).any(|line| line.contains("@generated"))
}

/// Rules about one Rust file.
fn source_rules(path: &str, text: &str, broken: &mut Vec<String>) {
    let file = Path::new(path);
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if stem == "mod" {
        broken.push(format!("{path}: a module is `name.rs` beside `name/`, never `mod.rs`"));
    }
    let named = file.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().trim_end_matches(".rs").to_owned()),
        _ => None,
    });
    for name in named.filter(|name| BANNED_MODULES.contains(&name.as_str())) {
        broken.push(format!("{path}: `{name}` says nothing about what is inside"));
    }
    ban_rule(path, text, broken);
    if is_generated(path, text) {
        return;
    }
    let is_crate_source = path.contains("/src/");
    if is_crate_source && !is_tests_only(path) && !text.lines().any(|line| line.starts_with("//!")) {
        broken.push(format!("{path}: no module head (`//!`): what it is, what it must not know, where it is tested"));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        for (mark, complaint) in LEFTOVERS {
            // The needles are put together so that this file does not find itself.
            if code.contains(&mark.concat()) {
                broken.push(format!("{path}:{}: {complaint}", number + 1));
            }
        }
    }
}

/// No source file of a crate that decides may lift the ban on what acts. Its tests may, on their own module or in a file of theirs.
fn ban_rule(path: &str, text: &str, broken: &mut Vec<String>) {
    let Some((name, rest)) = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/')) else { return };
    let is_pure = name.ends_with("-core") || PURE_CRATES.contains(&name);
    if !is_pure || !rest.starts_with("src/") || is_tests_only(path) {
        return;
    }
    for (number, line) in before_tests(text).enumerate() {
        if !line.trim_start().starts_with("//") && LIFTS.iter().any(|lift| line.contains(lift)) {
            broken.push(format!(
                "{path}:{}: `{name}` decides; it must not lift the ban on clocks, threads, files and unordered maps",
                number + 1
            ));
        }
    }
}

/// The lines above `mod tests` and its attributes, which stand at the bottom.
fn before_tests(text: &str) -> impl Iterator<Item = &str> {
    let mut ends_at = text.lines().count();
    let mut attributes_from = None;
    for (number, line) in text.lines().enumerate() {
        if line == "mod tests {" || line == "mod tests;" {
            ends_at = attributes_from.unwrap_or(number);
            break;
        }
        // An attribute may go over several lines, which are indented but for the last.
        let goes_on = line.starts_with("#[") || attributes_from.is_some() && line.starts_with([' ', ')']);
        attributes_from = if goes_on { attributes_from.or(Some(number)) } else { None };
    }
    text.lines().take(ends_at)
}

fn is_tests_only(path: &str) -> bool {
    let stem = path.trim_end_matches(".rs");
    stem.ends_with("/tests") || stem.ends_with("_test") || path.contains("/tests/")
}

const LEFTOVERS: &[(&[&str], &str)] = &[
    (&["#[", "ignore"], "a test that is not run proves nothing: make it fast, or move it to the full lane"),
    (&["dbg", "!("], "leftover debug mark"),
    (&["todo", "!("], "unfinished: finish it or open an issue"),
    (&["unimplemented", "!("], "unfinished: finish it or open an issue"),
    (&["unbounded_", "channel"], "every queue has a bound with a name"),
];

/// A path of somebody's machine has no place in the repository.
fn home_path_rule(path: &str, text: &str, broken: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        for home in [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"]] {
            if line.contains(&home.concat()) {
                broken.push(format!("{path}:{}: a path of one machine", number + 1));
            }
        }
    }
}

/// ARCHITECTURE.md names every crate, and every crate it links to exists.
fn map_rules(map: Option<&str>, crates: &[String], broken: &mut Vec<String>) {
    let Some(map) = map else {
        broken.push("docs/ARCHITECTURE.md does not exist".to_owned());
        return;
    };
    for name in crates {
        if !map.contains(&format!("`{name}`")) && !map.contains(&format!("`crates/{name}`")) {
            broken.push(format!("docs/ARCHITECTURE.md does not name the crate `{name}`"));
        }
    }
    for named in map.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("crates/")) {
        let name = named.split('/').next().unwrap_or_default();
        if !name.is_empty() && !name.contains(['*', '<', '{']) && !crates.iter().any(|existing| existing == name) {
            broken.push(format!("docs/ARCHITECTURE.md names `crates/{name}`, which does not exist"));
        }
    }
}

/// Links to files of the repository lead somewhere.
fn link_rules(path: &str, text: &str, paths: &BTreeSet<String>, broken: &mut Vec<String>) {
    for target in links(text) {
        let target = target.split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        let resolved = folded(&folder.join(target));
        let found = resolved.is_some_and(|at| paths.contains(at.to_string_lossy().trim_end_matches('/')));
        if !found {
            broken.push(format!("{path}: the link to `{target}` leads nowhere"));
        }
    }
}

/// The targets of `[text](target)` outside code fences.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(target);
            }
        }
    }
    found
}

/// Resolves `..` by name; nothing when it leads out of the repository.
fn folded(path: &Path) -> Option<PathBuf> {
    let mut at = PathBuf::new();
    for part in path.components() {
        match part {
            // The guard takes the last name away; where there was none, the path has left the repository.
            Component::ParentDir if !at.pop() => return None,
            Component::Normal(name) => at.push(name),
            _ => {}
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! What it is.\n";

    fn of_source(path: &str, text: &str) -> Vec<String> {
        let mut broken = Vec::new();
        source_rules(path, text, &mut broken);
        broken
    }

    fn one(found: Vec<String>, expected: &str) {
        assert!(found.len() == 1 && found[0].contains(expected), "expected one line about `{expected}`, got {found:?}");
    }

    #[test]
    fn a_file_in_order_is_silent() {
        assert_eq!(of_source("crates/rpc/src/status.rs", HEAD), Vec::<String>::new());
    }

    #[test]
    fn a_missing_module_head_is_seen() {
        one(of_source("crates/rpc/src/status.rs", "pub struct Status;\n"), "no module head");
    }

    #[test]
    fn generated_files_and_tests_need_no_head() {
        assert_eq!(of_source("crates/kafka-wire/src/generated/k00.rs", "pub struct A;"), Vec::<String>::new());
        assert_eq!(of_source("crates/rpc/src/status/tests.rs", "use super::*;"), Vec::<String>::new());
        assert_eq!(of_source("crates/rpc/src/pb.rs", "// @generated by prost\npub struct A;"), Vec::<String>::new());
    }

    #[test]
    fn banned_names_and_mod_files_are_seen() {
        one(of_source("crates/rpc/src/utils.rs", HEAD), "`utils` says nothing");
        one(of_source("crates/rpc/src/types/offset.rs", HEAD), "`types` says nothing");
        one(of_source("crates/rpc/src/status/mod.rs", HEAD), "never `mod.rs`");
    }

    #[test]
    fn leftovers_are_seen_in_code_but_not_in_comments() {
        for (mark, _) in LEFTOVERS {
            let mark = mark.concat();
            one(of_source("crates/rpc/src/a.rs", &format!("{HEAD}{mark}x")), "crates/rpc/src/a.rs:2");
            assert_eq!(of_source("crates/rpc/src/a.rs", &format!("{HEAD}// never {mark}x")), Vec::<String>::new());
        }
    }

    #[test]
    fn a_core_that_lifts_the_ban_is_seen_and_a_shell_is_not() {
        let lifted = format!("{HEAD}#![allow(clippy::disallowed_methods, reason = \"no\")]\n");
        for file in ["lib.rs", "main.rs", "replica.rs", "replica/leader.rs", "bin/tool.rs", "generated/a.rs"] {
            one(of_source(&format!("crates/replica-core/src/{file}"), &lifted), ":2: `replica-core` decides");
        }
        one(of_source("crates/peer-api/src/lib.rs", &lifted), "must not lift the ban");
        let on_an_item =
            format!("{HEAD}\n#[expect(\n    clippy::disallowed_types,\n    reason = \"no\"\n)]\nfn a() {{}}\n");
        one(of_source("crates/replica-core/src/isr.rs", &on_an_item), "src/isr.rs:4");
        one(of_source("crates/replica-core/src/isr.rs", &format!("{HEAD}#![allow(clippy::all)]\n")), "isr.rs:2");
        assert_eq!(of_source("crates/storage-node/src/lib.rs", &lifted), Vec::<String>::new());
    }

    #[test]
    fn tests_of_a_core_may_lift_the_ban_on_themselves() {
        let lift = "#[allow(\n    clippy::disallowed_methods,\n    reason = \"reads scenario files\"\n)]\n";
        let tests = "mod tests {\n    use clippy::disallowed_types;\n}\n";
        for order in [format!("{lift}#[cfg(test)]\n"), format!("#[cfg(test)]\n{lift}")] {
            let in_order = format!("{HEAD}fn a() {{}}\n\n{order}{tests}");
            assert_eq!(of_source("crates/replica-core/src/isr.rs", &in_order), Vec::<String>::new());
        }
        let above = format!("{HEAD}{lift}fn a() {{}}\n\n#[cfg(test)]\n{tests}");
        one(of_source("crates/replica-core/src/isr.rs", &above), "src/isr.rs:3");
        for file in ["tests/scenarios.rs", "src/isr/tests.rs", "benches/append.rs"] {
            let lifted = format!("{HEAD}#![allow(clippy::disallowed_methods)]\n");
            assert_eq!(of_source(&format!("crates/replica-core/{file}"), &lifted), Vec::<String>::new());
        }
    }

    #[test]
    fn home_paths_are_seen() {
        let mut broken = Vec::new();
        home_path_rule("Makefile", &["x\ncd /ho", "me/somebody/src"].concat(), &mut broken);
        one(broken, "Makefile:2");
    }

    #[test]
    fn the_map_and_the_crates_must_agree() {
        let crates = ["rpc".to_owned(), "sim".to_owned()];
        let mut broken = Vec::new();
        map_rules(Some("`rpc` carries, `crates/attic` holds"), &crates, &mut broken);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].contains("does not name the crate `sim`"));
        assert!(broken[1].contains("`crates/attic`, which does not exist"));
    }

    #[test]
    fn links_that_lead_nowhere_are_seen() {
        let paths = BTreeSet::from(["docs".to_owned(), "docs/STYLE.md".to_owned(), "README.md".to_owned()]);
        let mut broken = Vec::new();
        let text =
            "[a](STYLE.md#x) [b](../README.md) [c](https://example.org) [d](#here)\n```\n[e](no.md)\n```\n[f](gone.md)";
        link_rules("docs/HACKING.md", text, &paths, &mut broken);
        one(broken, "`gone.md`");
    }
}
