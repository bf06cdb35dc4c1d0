//! The command line.

use service_kit::cli::CommonArgs;
use service_kit::config::LoadOptions;

/// Speaks the Kafka protocol to clients and knows where the data is.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "protocol-gateway", version)]
pub struct Cli {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Id of this gateway, unique among gateways
    #[arg(long, value_name = "N")]
    pub node_id: Option<i32>,

    /// Where clients connect to
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// The address clients are told; `listen` unless given
    #[arg(long, value_name = "HOST:PORT")]
    pub advertised: Option<String>,

    /// Metrics and health, not for clients
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,

    /// The metadata controllers
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub controllers: Option<Vec<String>>,

    /// Zone or rack, to stand for storage nodes of the same one
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
}

impl Cli {
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions::from_process(self.common.config.clone())
            .flag("--node-id", "node_id", self.node_id)
            .flag("--listen", "listen", self.listen.clone())
            .flag("--advertised", "advertised", self.advertised.clone())
            .flag("--http", "http", self.http.clone())
            .flag("--controllers", "controllers", self.controllers.clone())
            .flag("--rack", "rack", self.rack.clone())
    }
}
