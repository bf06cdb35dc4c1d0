//! How the other services are reached: over gRPC, or within the process.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base_types::BrokerId;
use peer_api::controller::{ActiveController, FromController, ToController};
use peer_api::storage::{FromStorage, ToStorage};
use rpc::Duplex;

/// A stream that is being opened; `None` when it could not be.
pub type Opening<Out, In> = Pin<Box<dyn Future<Output = Option<Duplex<Out, In>>> + Send>>;

/// Opens streams. Each call is one attempt; the gateway asks again when it still needs one.
pub trait Links: Send + 'static {
    fn storage(&mut self, node: BrokerId, address: &str) -> Opening<ToStorage, FromStorage>;

    /// To the controller named, or to the next one known.
    fn controller(&mut self, active: Option<ActiveController>) -> Opening<ToController, FromController>;
}

/// gRPC to addresses: storage nodes as the metadata has them, controllers from a list.
pub struct GrpcLinks {
    controllers: Vec<String>,
    next: usize,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl GrpcLinks {
    /// `controllers`: `host:port` of each.
    pub fn new(controllers: Vec<String>) -> GrpcLinks {
        GrpcLinks { controllers, next: 0 }
    }
}

impl Links for GrpcLinks {
    fn storage(&mut self, node: BrokerId, address: &str) -> Opening<ToStorage, FromStorage> {
        let address = address.to_owned();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, rpc::storage::connect(&address)).await {
                Ok(Ok(duplex)) => Some(duplex),
                Ok(Err(error)) => {
                    tracing::debug!(%node, %address, %error, "storage node not reached");
                    None
                }
                Err(_) => {
                    tracing::debug!(%node, %address, "storage node did not answer in time");
                    None
                }
            }
        })
    }

    fn controller(&mut self, active: Option<ActiveController>) -> Opening<ToController, FromController> {
        let address = match active {
            Some(active) => active.address,
            None if self.controllers.is_empty() => return Box::pin(std::future::ready(None)),
            None => {
                let address = self.controllers[self.next % self.controllers.len()].clone();
                self.next += 1;
                address
            }
        };
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, rpc::controller::connect(&address)).await {
                Ok(Ok(duplex)) => Some(duplex),
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "controller not reached");
                    None
                }
                Err(_) => {
                    tracing::debug!(%address, "controller did not answer in time");
                    None
                }
            }
        })
    }
}
