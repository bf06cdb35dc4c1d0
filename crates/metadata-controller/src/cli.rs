//! Flags.

use std::path::PathBuf;

use clap::Parser;
use service_kit::cli::CommonArgs;
use service_kit::config::LoadOptions;

/// Thalweg's metadata controller: one voter of the quorum that keeps the cluster's metadata
#[derive(Clone, Debug, Parser)]
#[command(name = "metadata-controller", version)]
pub struct Args {
    #[command(flatten)]
    pub common: CommonArgs,

    /// This controller's id, unique among controllers
    #[arg(long, value_name = "N")]
    pub node_id: Option<i32>,

    /// Where the quorum log is kept
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// gRPC listener
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Metrics and health listener
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,

    /// All voters: id@host:port, separated by commas
    #[arg(long, value_name = "LIST")]
    pub quorum: Option<String>,

    /// Name of the cluster, the same on all controllers
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,
}

impl Args {
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions::from_process(self.common.config.clone())
            .flag("--node-id", "controller.node_id", self.node_id)
            .flag("--data-dir", "controller.data_dir", self.data_dir.clone())
            .flag("--listen", "controller.listen", self.listen.clone())
            .flag("--http", "controller.http", self.http.clone())
            .flag("--quorum", "controller.quorum", self.quorum.clone())
            .flag("--cluster-id", "controller.cluster_id", self.cluster_id.clone())
    }
}
