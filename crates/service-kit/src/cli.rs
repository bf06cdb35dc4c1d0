//! The flags every service has.

use std::path::PathBuf;

/// Flatten into a service's own: `#[command(flatten)] pub common: CommonArgs`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArgs {
    /// Configuration file (TOML). Environment (THALWEG_SECTION__KEY) and flags override it
    #[arg(long, value_name = "FILE", env = "THALWEG_CONFIG")]
    pub config: Option<PathBuf>,

    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,

    /// Print the configuration, and where each value comes from, and exit
    #[arg(long)]
    pub print_config: bool,
}

impl CommonArgs {
    /// Does what `--check-config` and `--print-config` ask for; `true` when that was all there is to do.
    pub fn answer<T>(&self, loaded: &crate::config::Loaded<T>) -> bool {
        if self.print_config {
            print!("{}", loaded.print());
        } else if self.check_config {
            eprintln!("the configuration is valid");
        }
        self.print_config || self.check_config
    }
}
