//! How the shell reaches others: over gRPC, or within the process.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use peer_api::controller::{ActiveController, FromController, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use rpc::Duplex;

/// A stream that is being opened.
pub type Dialled<'a, Out, In> = Pin<Box<dyn Future<Output = Result<Duplex<Out, In>, DialError>> + 'a>>;

/// Opens streams to the other services.
pub trait Dial {
    /// To the active controller if it is known, else to the next one in the list.
    fn controller<'a>(&'a self, active: Option<&'a ActiveController>) -> Dialled<'a, ToController, FromController>;

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
}

impl RemoteDial {
    /// `controllers` are `host:port` of all of the quorum.
    pub fn new(controllers: Vec<String>) -> RemoteDial {
        RemoteDial { controllers, next: Cell::new(0) }
    }
}

impl Dial for RemoteDial {
    fn controller<'a>(&'a self, active: Option<&'a ActiveController>) -> Dialled<'a, ToController, FromController> {
        Box::pin(async move {
            let address = match active {
                Some(active) => active.address.clone(),
                None => {
                    let index = self.next.get();
                    self.next.set(index.wrapping_add(1));
                    let count = self.controllers.len().max(1);
                    let none = || DialError("no controllers are configured".to_owned());
                    self.controllers.get(index % count).cloned().ok_or_else(none)?
                }
            };
            rpc::controller::connect(&address)
                .await
                .map_err(|error| DialError(format!("controller {address}: {error}")))
        })
    }

    fn leader<'a>(&'a self, address: &'a str, hello: Hello) -> Dialled<'a, FromFollower, FromLeader> {
        Box::pin(async move {
            let failed = |error| DialError(format!("storage node {address}: {error}"));
            rpc::replication::connect(address, hello).await.map_err(failed)
        })
    }
}
