//! Trace files on disk.

use std::path::{Path, PathBuf};
use std::{env, fs};

use sim::trace::file::TraceFile;

use super::Refusal;
use super::arguments::Arguments;

/// Where traces are kept: `--traces`, or beside the program, which is where everything that was built is.
pub fn folder(arguments: &mut Arguments) -> Result<PathBuf, Refusal> {
    if let Some(folder) = arguments.option::<PathBuf>("--traces", "a folder")? {
        return Ok(folder);
    }
    let program = env::current_exe().map_err(|error| Refusal::Failed(format!("where is this program? {error}")))?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("sim-traces"))
}

pub fn read(path: &Path) -> Result<TraceFile, Refusal> {
    let failed = |why: String| Refusal::Failed(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    text.parse().map_err(failed)
}

pub fn write(path: &Path, trace: &TraceFile) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| Refusal::Failed(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, trace.to_string()).map_err(failed)
}
