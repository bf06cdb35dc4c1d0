//! The command line.

use service_kit::cli::CommonArgs;
use service_kit::config::LoadOptions;

/// Keeps replicas of partitions on its own disk and replicates them.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "storage-node", version)]
pub struct Cli {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Id of this node, unique among storage nodes; clients see it as the broker id
    #[arg(long, value_name = "N")]
    pub node_id: Option<i32>,

    /// Where the data is kept
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,

    /// Where gateways and other storage nodes connect to
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Metrics and health
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,

    /// The metadata controllers
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub controllers: Option<Vec<String>>,

    /// Zone or rack; replicas of a partition are spread over racks
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
}

impl Cli {
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions::from_process(self.common.config.clone())
            .flag("--node-id", "node_id", self.node_id)
            .flag("--data-dir", "data_dir", self.data_dir.clone())
            .flag("--listen", "listen", self.listen.clone())
            .flag("--http", "http", self.http.clone())
            .flag("--controllers", "controllers", self.controllers.clone())
            .flag("--rack", "rack", self.rack.clone())
    }
}
