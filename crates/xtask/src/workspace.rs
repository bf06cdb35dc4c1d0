//! The workspace as cargo sees it, reduced to what the rules ask about.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;

/// The root of the checkout.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.ancestors().nth(2).expect("crates/xtask lies two levels below the root").to_path_buf()
}

/// The names of packages by id, and who uses whom in the built program (neither for tests nor for build scripts).
pub struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
    members: Vec<String>,
}

impl Graph {
    pub fn load() -> Result<Self> {
        let mut cargo = command::cargo();
        let text = command::output(cargo.current_dir(root()).args(["metadata", "--format-version", "1"]))?;
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(text).context("cannot read the output of `cargo metadata`")?;
        let names = metadata.packages.into_iter().map(|package| (package.id, package.name)).collect();
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in metadata.resolve.nodes {
            let used = node.deps.into_iter().filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            edges.insert(node.id, used.map(|dep| dep.pkg).collect());
        }
        Ok(Self { names, edges, members: metadata.workspace_members })
    }

    /// Our own packages: id and name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|id| (id.as_str(), self.name(id)))
    }

    pub fn is_member(&self, id: &str) -> bool {
        self.members.iter().any(|member| member == id)
    }

    pub fn name(&self, id: &str) -> &str {
        self.names.get(id).map_or("?", String::as_str)
    }

    /// The ids that a package names itself.
    pub fn direct(&self, id: &str) -> &[String] {
        self.edges.get(id).map_or(&[], Vec::as_slice)
    }

    /// Every package reachable from `id`, each with the path of names that leads there.
    pub fn closure(&self, id: &str) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut open = vec![(id.to_owned(), vec![self.name(id).to_owned()])];
        while let Some((at, path)) = open.pop() {
            for next in self.direct(&at) {
                if found.contains_key(next) {
                    continue;
                }
                let mut longer = path.clone();
                longer.push(self.name(next).to_owned());
                found.insert(next.clone(), longer.clone());
                open.push((next.clone(), longer));
            }
        }
        found
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `null` for a normal dependency, else "dev" or "build".
    kind: Option<String>,
}
