//! A data directory: whose it is, and what it holds.
//!
//! ```text
//!   <data-dir>/log/             journal and segments (segment-log)
//!   <data-dir>/log/identity     broker id, cluster id and the last broker epoch
//!   <data-dir>/derived/         RocksDB, rebuilt on doubt
//! ```

mod identity;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, Incarnation};
use segment_log::{LogOptions, LogStore};
use store_os::{DirectIo, OsVfs, RocksKv};

use crate::disk::Pace;
use identity::Identity;

/// An opened data directory. Nothing but this process uses it.
pub struct Directory {
    path: PathBuf,
    broker: BrokerId,
    cluster_id: Option<String>,
    log: LogStore,
    /// The epoch it bears, if everything that was synced under it is still here.
    intact_since: Option<BrokerEpoch>,
    /// The same, if it was closed in order.
    clean_since: Option<BrokerEpoch>,
    pace: Pace,
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
        let mut identity = Identity::load(path, broker)?;
        let derived = path.join("derived");
        if !LogStore::is_there(&vfs).map_err(DirectoryError::Log)? {
            // Before there is a log again: after a start that was interrupted it would look like the one that is lost.
            if identity.take().is_some() {
                tracing::warn!(path = %path.display(), "the log is lost, and what was kept beside it is forgotten");
            }
            Identity::forget(path)?;
            if derived.try_exists().map_err(at(&derived))? {
                fs::remove_dir_all(&derived).map_err(at(&derived))?;
            }
        }
        let (epoch, cluster_id) = match identity {
            Some(Identity { broker_epoch, cluster_id, .. }) => (Some(broker_epoch), cluster_id),
            None => (None, None),
        };
        let direct_io = vfs.uses_direct_io();
        let derived = RocksKv::open(&derived).map_err(DirectoryError::Kv)?;
        if derived.was_rebuilt {
            tracing::warn!(path = %path.display(), "derived state was damaged and is built anew from the log");
        }
        let (log, report) =
            LogStore::open(Arc::new(vfs), Arc::new(derived.kv), options).map_err(DirectoryError::Log)?;
        tracing::info!(path = %path.display(), direct_io, ?report, "data directory opened");
        if let Some(block) = report.damaged_block {
            tracing::error!(
                block,
                lost = report.lost_blocks,
                damaged = report.damaged.len(),
                "the journal is damaged; a copy of it is kept in log/journal.damaged-{block}"
            );
        }
        if report.manifest_was_single {
            tracing::warn!("the manifest or its copy was missing or damaged, and was written anew from the other");
        }
        Ok(Directory {
            path: path.to_owned(),
            broker,
            cluster_id,
            log,
            // Where blocks of the journal are lost, even a replica that was made there may be missing (R13).
            intact_since: epoch.filter(|_| !report.lost_blocks),
            clean_since: epoch.filter(|_| report.was_clean),
            pace: Pace::default(),
        })
    }

    /// With a scrub of that pace.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Directory {
        Directory { pace, ..self }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    /// Of the cluster that it was opened as a part of; `None` before its first registration.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
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

    /// Writes the registration down; durable when it returns.
    pub(crate) fn remember(&self, broker_epoch: BrokerEpoch, cluster_id: Option<String>) -> Result<(), DirectoryError> {
        Identity { broker: self.broker, broker_epoch, cluster_id }.store(&self.path)
    }
}

/// One life of this process, drawn at random.
pub fn new_incarnation() -> Incarnation {
    Incarnation(uuid::Uuid::new_v4().into_bytes())
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { path, source }
}

impl DirectoryError {
    /// The same may succeed later.
    pub(crate) fn is_no_space(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, DirectoryError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
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

    const BROKER: BrokerId = BrokerId(7);
    const EPOCH: BrokerEpoch = BrokerEpoch(12);

    fn open(data_dir: &Path) -> Directory {
        let mut options = LogOptions::new(Incarnation([1; 16]));
        (options.journal_file_bytes, options.journal_bytes_max) = (1 << 20, 4 << 20);
        Directory::open(data_dir, BROKER, options).unwrap()
    }

    /// What it says at a start: `intact_since`, `clean_since`.
    fn says(data_dir: &Path) -> (Option<BrokerEpoch>, Option<BrokerEpoch>) {
        let directory = open(data_dir);
        (directory.intact_since(), directory.clean_since())
    }

    /// Registered once, and stopped in order.
    fn registered() -> tempfile::TempDir {
        let data_dir = tempfile::tempdir().unwrap();
        let directory = open(data_dir.path());
        assert_eq!((directory.intact_since(), directory.clean_since()), (None, None));
        directory.remember(EPOCH, Some("c".to_owned())).unwrap();
        directory.log().shutdown().unwrap();
        data_dir
    }

    #[test]
    fn a_directory_belongs_to_a_cluster_from_its_first_registration_on() {
        let data_dir = registered();
        assert_eq!(open(data_dir.path()).cluster_id(), Some("c"));
        // As it was written before there was a cluster in it.
        fs::write(data_dir.path().join("log/identity"), "version=1\nbroker.id=7\nbroker.epoch=12\n").unwrap();
        let directory = open(data_dir.path());
        assert_eq!((directory.cluster_id(), directory.intact_since()), (None, Some(EPOCH)));
        fs::remove_dir_all(data_dir.path().join("log")).unwrap();
        drop(directory);
        assert_eq!(open(data_dir.path()).cluster_id(), None, "an empty one belongs to none");
    }

    #[test]
    fn a_directory_says_under_which_epoch_it_is_whole() {
        let data_dir = registered();
        assert_eq!(says(data_dir.path()), (Some(EPOCH), Some(EPOCH)));
        assert_eq!(says(data_dir.path()), (Some(EPOCH), None), "opened since, and not stopped in order");
    }

    #[test]
    fn a_lost_log_is_never_taken_for_a_whole_one() {
        let losses: [fn(&Path); 3] = [
            |data_dir| fs::remove_dir_all(data_dir.join("log")).unwrap(),
            // Its identity alone is left, beside it or within.
            |data_dir| {
                fs::rename(data_dir.join("log/identity"), data_dir.join("identity")).unwrap();
                fs::remove_dir_all(data_dir.join("log")).unwrap();
            },
            |data_dir| {
                for entry in fs::read_dir(data_dir.join("log")).unwrap().map(|entry| entry.unwrap()) {
                    match entry.file_type().unwrap().is_dir() {
                        true => fs::remove_dir_all(entry.path()).unwrap(),
                        false if entry.file_name() == "identity" => {}
                        false => fs::remove_file(entry.path()).unwrap(),
                    }
                }
            },
        ];
        for lose in losses {
            let data_dir = registered();
            let derived = data_dir.path().join("derived/of the lost log");
            fs::write(&derived, "").unwrap();
            lose(data_dir.path());
            assert_eq!(says(data_dir.path()), (None, None));
            assert_eq!(says(data_dir.path()), (None, None), "and not after a start that came to nothing either");
            assert!(!derived.exists(), "what was derived from it is not taken for that of the new one");
        }
    }

    /// A mount that is missing at one start and there again at the next.
    #[test]
    fn an_older_log_does_not_bear_a_later_epoch() {
        let data_dir = registered();
        let (log, aside) = (data_dir.path().join("log"), data_dir.path().join("unmounted"));
        fs::rename(&log, &aside).unwrap();
        let directory = open(data_dir.path());
        directory.remember(BrokerEpoch(20), None).unwrap();
        drop(directory);
        fs::remove_dir_all(&log).unwrap();
        fs::rename(&aside, &log).unwrap();
        assert_eq!(says(data_dir.path()), (Some(EPOCH), Some(EPOCH)));
    }

    #[test]
    fn an_identity_beside_the_log_is_taken_up() {
        let data_dir = registered();
        let former = data_dir.path().join("identity");
        fs::rename(data_dir.path().join("log/identity"), &former).unwrap();
        assert_eq!(says(data_dir.path()), (Some(EPOCH), Some(EPOCH)));
        assert!(!former.exists());
        assert_eq!(says(data_dir.path()), (Some(EPOCH), None));
    }
}
