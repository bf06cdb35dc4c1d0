//! How the shell reaches others: over gRPC, or within the process.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use peer_api::controller::{ActiveController, FromController, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use rpc::Duplex;

/// A stream that is being opened.
pub type Dialled<'a, Out, In> = Pin<Box<dyn Future<Output = Result<Duplex<Out, In>, DialError>> + 'a>>;

/// Which controller to try.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The next one in the list.
    Next,
    /// The one that was reached last: if only the stream broke, it is the active one still, and it waits no longer than its grace.
    Again,
    Named(ActiveController),
}

/// Opens streams to the other services.
pub trait Dial {
    fn controller<'a>(&'a self, choice: &'a Choice) -> Dialled<'a, ToController, FromController>;

    /// To the storage node at `address`, to follow partitions that it leads.
    fn leader<'a>(&'a self, address: &'a str, hello: Hello) -> Dialled<'a, FromFollower, FromLeader>;
}

/// Why a stream could not be opened; for the log.
#[derive(Debug)]
pub struct DialError(pub String);

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DialError {}

/// Over gRPC.
pub struct RemoteDial {
    controllers: Vec<String>,
    next: Cell<usize>,
    reached: RefCell<Option<String>>,
}

impl RemoteDial {
    /// `controllers` are `host:port` of all of the quorum.
    pub fn new(controllers: Vec<String>) -> RemoteDial {
        RemoteDial { controllers, next: Cell::new(0), reached: RefCell::default() }
    }

    fn next(&self) -> Option<String> {
        let index = self.next.get();
        self.next.set(index.wrapping_add(1));
        self.controllers.get(index % self.controllers.len().max(1)).cloned()
    }
}

impl Dial for RemoteDial {
    fn controller<'a>(&'a self, choice: &'a Choice) -> Dialled<'a, ToController, FromController> {
        Box::pin(async move {
            let reached = self.reached.take();
            let address = match choice {
                Choice::Named(active) => Some(active.address.clone()),
                Choice::Again => reached.or_else(|| self.next()),
                Choice::Next => self.next(),
            };
            let address = address.ok_or_else(|| DialError("no controllers are configured".to_owned()))?;
            let failed = |error| DialError(format!("controller {address}: {error}"));
            let stream = rpc::controller::connect(&address).await.map_err(failed)?;
            self.reached.replace(Some(address));
            Ok(stream)
        })
    }

    fn leader<'a>(&'a self, address: &'a str, hello: Hello) -> Dialled<'a, FromFollower, FromLeader> {
        Box::pin(async move {
            let failed = |error| DialError(format!("storage node {address}: {error}"));
            rpc::replication::connect(address, hello).await.map_err(failed)
        })
    }
}
