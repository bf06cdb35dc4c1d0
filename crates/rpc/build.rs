//! Generates the protobuf types, and the plain client and server that the tests compare our own framing with.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "thalweg/base/v1/base.proto",
        "thalweg/groups/v1/groups.proto",
        "thalweg/storage/v1/storage.proto",
        "thalweg/replication/v1/replication.proto",
        "thalweg/controller/v1/controller.proto",
        "thalweg/raft/v1/raft.proto",
    ];
    println!("cargo:rerun-if-changed=../../proto");
    // `Bytes` for the payloads: a slice of what was received, where a `Vec` would be a copy.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&protos.map(|path| format!("../../proto/{path}")), &["../../proto".to_owned()])?;
    Ok(())
}
