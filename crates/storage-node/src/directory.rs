//! A data directory: whose it is, and what it holds.
//!
//! ```text
//!   <data-dir>/identity     broker id, cluster id and the last broker epoch; replaced whole, never changed in place
//!   <data-dir>/log/         journal and segments (segment-log)
//!   <data-dir>/derived/     RocksDB, rebuilt on doubt
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, Incarnation};
use segment_log::{LogOptions, LogStore};
use store_os::{DirectIo, OsVfs, RocksKv};

/// An opened data directory. Nothing but this process uses it.
pub struct Directory {
    path: PathBuf,
    broker: BrokerId,
    log: LogStore,
    /// The epoch it bears, if everything that was synced under it is still here.
    intact_since: Option<BrokerEpoch>,
    /// The same, if it was closed in order.
    clean_since: Option<BrokerEpoch>,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum DirectoryError {
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// It belongs to another broker.
    WrongBroker {
        path: PathBuf,
        owner: i32,
        asked: i32,
    },
    /// The identity file is not of the form this program writes.
    Identity {
        path: PathBuf,
        line: String,
    },
    Files(store_os::OpenDirectoryError),
    Kv(store_api::KvError),
    Log(segment_log::OpenError),
}

impl Directory {
    /// Opens the directory, making it if it is not there, and recovers its log.
    pub fn open(path: &Path, broker: BrokerId, options: LogOptions) -> Result<Directory, DirectoryError> {
        let log_path = path.join("log");
        fs::create_dir_all(&log_path).map_err(at(&log_path))?;
        let vfs = OsVfs::open(&log_path, DirectIo::Auto).map_err(DirectoryError::Files)?;
        let epoch = read_identity(&path.join("identity"), broker)?;
        let direct_io = vfs.uses_direct_io();
        let derived = RocksKv::open(&path.join("derived")).map_err(DirectoryError::Kv)?;
        if derived.was_rebuilt {
            tracing::warn!(path = %path.display(), "derived state was damaged and is built anew from the log");
        }
        let (log, report) =
            LogStore::open(Arc::new(vfs), Arc::new(derived.kv), options).map_err(DirectoryError::Log)?;
        tracing::info!(path = %path.display(), direct_io, ?report, "data directory opened");
        Ok(Directory {
            path: path.to_owned(),
            broker,
            log,
            intact_since: epoch,
            clean_since: epoch.filter(|_| report.was_clean),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    pub fn intact_since(&self) -> Option<BrokerEpoch> {
        self.intact_since
    }

    pub fn clean_since(&self) -> Option<BrokerEpoch> {
        self.clean_since
    }

    pub(crate) fn log(&self) -> &LogStore {
        &self.log
    }

    /// Bytes of the file system in all, and free for us.
    pub(crate) fn space(&self) -> (u64, u64) {
        match rustix::fs::statvfs(&self.path) {
            Ok(space) => (space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize),
            Err(_) => (0, 0),
        }
    }

    /// Writes the broker epoch down; durable when it returns.
    pub(crate) fn remember(&self, broker_epoch: BrokerEpoch) -> Result<(), DirectoryError> {
        let (path, draft) = (self.path.join("identity"), self.path.join("identity.draft"));
        let mut file = File::create(&draft).map_err(at(&draft))?;
        let text = format!("version=1\nbroker.id={}\nbroker.epoch={broker_epoch}\n", self.broker);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&draft))?;
        fs::rename(&draft, &path).map_err(at(&path))?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(at(&self.path))
    }
}

/// One life of this process, drawn at random.
pub fn new_incarnation() -> Incarnation {
    Incarnation(uuid::Uuid::new_v4().into_bytes())
}

fn read_identity(path: &Path, broker: BrokerId) -> Result<Option<BrokerEpoch>, DirectoryError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DirectoryError::Io { path: path.to_owned(), source }),
    };
    let mut epoch = None;
    for line in text.lines() {
        let malformed = || DirectoryError::Identity { path: path.to_owned(), line: line.to_owned() };
        match line.split_once('=').ok_or_else(malformed)? {
            ("version", "1") => {}
            ("broker.id", id) => {
                let owner: i32 = id.parse().map_err(|_| malformed())?;
                if owner != broker.0 {
                    return Err(DirectoryError::WrongBroker { path: path.to_owned(), owner, asked: broker.0 });
                }
            }
            ("broker.epoch", number) => epoch = Some(BrokerEpoch(number.parse().map_err(|_| malformed())?)),
            _ => return Err(malformed()),
        }
    }
    Ok(epoch)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { path, source }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::Io { path, .. } => write!(f, "{} cannot be used", path.display()),
            DirectoryError::WrongBroker { path, owner, asked } => write!(
                f,
                "{} says that the directory belongs to broker {owner}, and this is broker {asked}: \
                 check node_id and data_dir",
                path.display()
            ),
            DirectoryError::Identity { path, line } => {
                write!(f, "{} has a line that this version does not know: `{line}`", path.display())
            }
            DirectoryError::Files(error) => error.fmt(f),
            DirectoryError::Kv(_) => f.write_str("the store of derived state cannot be opened"),
            DirectoryError::Log(_) => f.write_str("the log cannot be recovered"),
        }
    }
}

impl std::error::Error for DirectoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DirectoryError::Io { source, .. } => Some(source),
            DirectoryError::Files(error) => error.source(),
            DirectoryError::Kv(error) => Some(error),
            DirectoryError::Log(error) => Some(error),
            DirectoryError::WrongBroker { .. } | DirectoryError::Identity { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_of_another_broker_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        fs::write(&path, "version=1\nbroker.id=7\nbroker.epoch=12\n").unwrap();
        assert!(matches!(read_identity(&path, BrokerId(7)), Ok(Some(BrokerEpoch(12)))));
        let refused = read_identity(&path, BrokerId(8)).unwrap_err();
        assert!(refused.to_string().contains("belongs to broker 7, and this is broker 8"), "{refused}");
        fs::write(&path, "version=9\n").unwrap();
        assert!(matches!(read_identity(&path, BrokerId(7)), Err(DirectoryError::Identity { .. })));
    }
}
