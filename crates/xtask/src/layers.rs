//! The dependency law: which of our crates may use which, and what no core may ever reach.
//!
//! The table is the law; `cargo metadata` is the fact. A crate that is not in the table fails, so that adding one is a decision
//! somebody takes here. What only tests or build scripts use is free.

use anyhow::{Result, bail};

use crate::workspace::Graph;

/// Crate, and which of ours it may name. Everyone may use `base-types`.
const LAW: &[(&str, &[&str])] = &[
    // - words and bytes -
    ("base-types", &[]),
    ("record-batch", &[]),
    ("kafka-wire", &["record-batch"]),
    ("peer-api", &["record-batch"]),
    // - cores: decide, never act -
    ("replica-core", &["record-batch", "peer-api"]),
    ("coordinator-core", &["record-batch", "peer-api"]),
    ("storage-core", &["record-batch", "peer-api", "replica-core", "coordinator-core"]),
    ("raft-core", &["peer-api"]),
    ("controller-core", &["raft-core", "peer-api"]),
    ("gateway-core", &["kafka-wire", "record-batch", "peer-api"]),
    // - disk -
    ("store-api", &[]),
    ("segment-log", &["store-api", "record-batch"]),
    ("store-os", &["store-api"]),
    // - wiring -
    ("rpc", &["record-batch", "peer-api"]),
    ("service-kit", &[]),
    // - the services and the tool: shells -
    (
        "storage-node",
        &[
            "storage-core",
            "replica-core",
            "coordinator-core",
            "record-batch",
            "peer-api",
            "segment-log",
            "store-api",
            "store-os",
            "rpc",
            "service-kit",
        ],
    ),
    (
        "metadata-controller",
        &["controller-core", "raft-core", "peer-api", "store-api", "store-os", "rpc", "service-kit"],
    ),
    ("protocol-gateway", &["gateway-core", "kafka-wire", "record-batch", "peer-api", "rpc", "service-kit"]),
    // `thalweg dev` runs the three services in one process; `thalweg produce` speaks Kafka.
    (
        "admin-cli",
        &[
            "record-batch",
            "kafka-wire",
            "peer-api",
            "rpc",
            "service-kit",
            "store-api",
            "store-os",
            "segment-log",
            "storage-node",
            "metadata-controller",
            "protocol-gateway",
        ],
    ),
    // - proof -
    ("replication-model", &["record-batch", "peer-api", "replica-core", "controller-core"]),
    (
        "sim",
        &[
            "record-batch",
            "kafka-wire",
            "peer-api",
            "replica-core",
            "coordinator-core",
            "storage-core",
            "raft-core",
            "controller-core",
            "gateway-core",
            "segment-log",
            "store-api",
            "history-checker",
        ],
    ),
    ("history-checker", &[]),
    ("xtask", &[]),
    ("tests-e2e", &[]),
    ("chaos", &["tests-e2e", "history-checker", "kafka-wire", "record-batch"]),
];

/// What no core may reach, at any depth: runtimes, sockets, disks.
const NEVER_UNDER_A_CORE: &[&str] = &[
    "tokio",
    "tonic",
    "hyper",
    "mio",
    "socket2",
    "rocksdb",
    "librocksdb-sys",
    "rustix",
    "store-api",
    "store-os",
    "rpc",
    "service-kit",
];

/// Outside crates that exactly these of ours may name.
const ONLY_NAMED_BY: &[(&str, &[&str])] = &[
    // Protobuf types stay behind rpc; raft-core turns raft-rs's own messages into the bytes that everyone else passes on.
    ("prost", &["rpc", "raft-core"]),
    ("prost-types", &["rpc"]),
    ("tonic-prost", &["rpc"]),
    // One crate knows the consensus library; its random numbers are neutralised there.
    ("raft", &["raft-core"]),
    ("raft-proto", &["raft-core"]),
    ("rand", &["raft-core"]),
    // One crate knows what stands behind `KvStore`.
    ("rocksdb", &["store-os"]),
];

pub fn run() -> Result<()> {
    let graph = Graph::load()?;
    let broken = violations(&graph);
    if broken.is_empty() {
        println!("layers: {} crates keep the law", graph.members().count());
        return Ok(());
    }
    for line in &broken {
        eprintln!("layers: {line}");
    }
    bail!("{} breaches of the dependency law; the table is in crates/xtask/src/layers.rs", broken.len());
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut broken = Vec::new();
    for (id, name) in graph.members() {
        match LAW.iter().find(|(crate_name, _)| *crate_name == name) {
            Some((_, allowed)) => direct_violations(graph, id, name, allowed, &mut broken),
            None => broken.push(format!("`{name}` is not in the table: decide which of our crates it may use")),
        }
        if name.ends_with("-core") {
            closure_violations(graph, id, name, &mut broken);
        }
    }
    for (name, _) in LAW {
        if !graph.members().any(|(_, member)| member == *name) {
            broken.push(format!("the table names `{name}`, which does not exist"));
        }
    }
    broken
}

fn direct_violations(graph: &Graph, id: &str, name: &str, allowed: &[&str], broken: &mut Vec<String>) {
    for used in graph.direct(id) {
        let used_name = graph.name(used);
        if graph.is_member(used) {
            if used_name != "base-types" && !allowed.contains(&used_name) {
                broken.push(format!("`{name}` must not use `{used_name}`"));
            }
        } else if let Some((_, users)) = ONLY_NAMED_BY.iter().find(|(outside, _)| *outside == used_name)
            && !users.contains(&name)
        {
            broken.push(format!("`{name}` must not name `{used_name}`: only {} may", users.join(", ")));
        }
    }
}

fn closure_violations(graph: &Graph, id: &str, name: &str, broken: &mut Vec<String>) {
    for (reached, path) in graph.closure(id) {
        let reached_name = graph.name(&reached);
        if NEVER_UNDER_A_CORE.contains(&reached_name) {
            broken.push(format!("the core `{name}` reaches `{reached_name}`: {}", path.join(" -> ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Names of packages, each with the kind of the dependency.
    type Uses = Vec<(String, Option<&'static str>)>;

    /// The real crates of the table, each with the first of its allowed dependencies, as `cargo metadata` would print them.
    struct Synthetic {
        packages: Vec<Value>,
        nodes: Vec<(String, Uses)>,
    }

    impl Synthetic {
        fn lawful() -> Self {
            let mut graph = Self { packages: Vec::new(), nodes: Vec::new() };
            for (name, allowed) in LAW {
                graph.package(name);
                let used = allowed.iter().map(|used| ((*used).to_owned(), None)).collect();
                graph.nodes.push(((*name).to_owned(), used));
            }
            for outside in ["tokio", "bytes", "prost"] {
                graph.package(outside);
                graph.nodes.push((outside.to_owned(), Vec::new()));
            }
            graph
        }

        fn package(&mut self, name: &str) {
            self.packages.push(json!({"id": name, "name": name}));
        }

        fn plant(mut self, user: &str, used: &str, kind: Option<&'static str>) -> Self {
            let node = self.nodes.iter_mut().find(|(name, _)| name == user).expect("a known crate");
            node.1.push((used.to_owned(), kind));
            self
        }

        fn violations(&self) -> Vec<String> {
            let members: Vec<&str> = LAW.iter().map(|(name, _)| *name).collect();
            let nodes = self.nodes.iter().map(|(id, used)| {
                let used: Vec<Value> =
                    used.iter().map(|(pkg, kind)| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]})).collect();
                json!({"id": id, "deps": used})
            });
            let nodes: Vec<Value> = nodes.collect();
            let metadata =
                json!({"packages": self.packages, "workspace_members": members, "resolve": {"nodes": nodes}});
            violations(&Graph::parse(&metadata.to_string()).expect("well-formed metadata"))
        }
    }

    #[test]
    fn the_table_itself_is_lawful() {
        assert_eq!(Synthetic::lawful().violations(), Vec::<String>::new());
    }

    #[test]
    fn tokio_planted_in_a_core_is_seen() {
        let found = Synthetic::lawful().plant("replica-core", "tokio", None).violations();
        assert!(
            found.contains(&"the core `replica-core` reaches `tokio`: replica-core -> tokio".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn tokio_planted_beneath_a_core_is_seen_from_every_core_above() {
        let found = Synthetic::lawful().plant("record-batch", "tokio", None).violations();
        for core in ["replica-core", "storage-core", "raft-core", "controller-core", "gateway-core"] {
            assert!(
                found.iter().any(|line| line.starts_with(&format!("the core `{core}` reaches `tokio`"))),
                "{core}: {found:?}"
            );
        }
    }

    #[test]
    fn tokio_as_a_dev_dependency_of_a_core_is_allowed() {
        assert_eq!(Synthetic::lawful().plant("replica-core", "tokio", Some("dev")).violations(), Vec::<String>::new());
    }

    #[test]
    fn a_core_that_uses_another_services_core_is_seen() {
        let found = Synthetic::lawful().plant("gateway-core", "storage-core", None).violations();
        assert!(found.contains(&"`gateway-core` must not use `storage-core`".to_owned()), "{found:?}");
    }

    #[test]
    fn protobuf_types_outside_rpc_are_seen() {
        let found = Synthetic::lawful().plant("storage-node", "prost", None).violations();
        assert_eq!(found, ["`storage-node` must not name `prost`: only rpc, raft-core may"]);
    }

    #[test]
    fn a_crate_outside_the_table_is_seen() {
        let metadata = json!({
            "packages": [{"id": "attic", "name": "attic"}],
            "workspace_members": ["attic"],
            "resolve": {"nodes": [{"id": "attic", "deps": []}]},
        });
        let found = violations(&Graph::parse(&metadata.to_string()).expect("well-formed metadata"));
        assert!(found.iter().any(|line| line.starts_with("`attic` is not in the table")), "{found:?}");
    }

    #[test]
    fn the_workspace_as_it_is_keeps_the_law() {
        assert_eq!(violations(&Graph::load().expect("cargo metadata")), Vec::<String>::new());
    }
}
