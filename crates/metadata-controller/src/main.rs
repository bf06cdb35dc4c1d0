//! The `metadata-controller` process.

use clap::Parser;
use metadata_controller::cli::Args;
use metadata_controller::config::FileConfig;
use metadata_controller::service;
use service_kit::{config, logs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    logs::abort_on_panic();
    let args = Args::parse();
    let loaded = config::load::<FileConfig>(args.load_options())?;
    if args.common.answer(&loaded) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let _guard = logs::init("metadata-controller", &loaded.config.log, &loaded.config.trace)?;
        service::run(loaded).await
    })
}
