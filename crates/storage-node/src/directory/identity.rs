//! Whose a log is, and the registration it bears: `log/identity`. Replaced whole, never changed in place.
//!
//! It lies in the log's own directory, which may be a mount of its own, and so shares its fate: where the log is lost, or another copy of
//! it is in its place, what is left around it does not vouch for it (R13).

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use base_types::{BrokerEpoch, BrokerId};

use super::{DirectoryError, at};

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) broker: BrokerId,
    /// `None` where it was written down before there was a cluster in it.
    pub(super) cluster_id: Option<String>,
    /// The last registration that was written down.
    pub(super) broker_epoch: BrokerEpoch,
}

impl Identity {
    /// What the data directory bears; refused if that is another broker's.
    pub(super) fn load(data_dir: &Path, broker: BrokerId) -> Result<Option<Identity>, DirectoryError> {
        // Until it was put into the log's directory it lay beside it.
        let (path, former) = (path(data_dir), data_dir.join("identity"));
        let found = Identity::read(&path, broker)?;
        if let Some(before) = Identity::read(&former, broker)? {
            let identity = found.unwrap_or(before);
            identity.store(data_dir)?;
            remove(&former)?;
            return Ok(Some(identity));
        }
        Ok(found)
    }

    /// Durable when it returns. After a failure it may be tried again: everything is written anew.
    pub(super) fn store(&self, data_dir: &Path) -> Result<(), DirectoryError> {
        let path = path(data_dir);
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft).map_err(at(&draft))?;
        let cluster = self.cluster_id.as_ref().map(|id| format!("cluster.id={id}\n")).unwrap_or_default();
        let text = format!("version=1\nbroker.id={}\nbroker.epoch={}\n{cluster}", self.broker, self.broker_epoch);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&draft))?;
        fs::rename(&draft, &path).map_err(at(&path))?;
        sync_names(&path)
    }

    /// Whatever it was, it is not borne any more. Durable when it returns.
    pub(super) fn forget(data_dir: &Path) -> Result<(), DirectoryError> {
        remove(&path(data_dir))
    }

    fn read(path: &Path, broker: BrokerId) -> Result<Option<Identity>, DirectoryError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DirectoryError::Io { path: path.to_owned(), source }),
        };
        let malformed = |line: &str| DirectoryError::Identity { path: path.to_owned(), line: line.to_owned() };
        let (mut broker_epoch, mut cluster_id) = (None, None);
        for line in text.lines() {
            match line.split_once('=').ok_or_else(|| malformed(line))? {
                ("version", "1") => {}
                ("broker.id", id) => {
                    let owner: i32 = id.parse().map_err(|_| malformed(line))?;
                    if owner != broker.0 {
                        return Err(DirectoryError::WrongBroker { path: path.to_owned(), owner, asked: broker.0 });
                    }
                }
                ("broker.epoch", number) => {
                    broker_epoch = Some(BrokerEpoch(number.parse().map_err(|_| malformed(line))?));
                }
                ("cluster.id", id) => cluster_id = Some(id.to_owned()),
                _ => return Err(malformed(line)),
            }
        }
        Ok(broker_epoch.map(|broker_epoch| Identity { broker, cluster_id, broker_epoch }))
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("log").join("identity")
}

fn remove(path: &Path) -> Result<(), DirectoryError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => sync_names(path),
    }
}

/// Makes it durable that the file is there, or is not.
fn sync_names(path: &Path) -> Result<(), DirectoryError> {
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_of_another_broker_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        fs::write(&path, "version=1\nbroker.id=7\nbroker.epoch=12\n").unwrap();
        let identity = Identity::read(&path, BrokerId(7)).unwrap().unwrap();
        assert_eq!(identity, Identity { broker: BrokerId(7), cluster_id: None, broker_epoch: BrokerEpoch(12) });
        let refused = Identity::read(&path, BrokerId(8)).unwrap_err();
        assert!(refused.to_string().contains("belongs to broker 7, and this is broker 8"), "{refused}");
        fs::write(&path, "version=9\n").unwrap();
        assert!(matches!(Identity::read(&path, BrokerId(7)), Err(DirectoryError::Identity { .. })));
    }
}
