//! The four streams: their names, how each is opened, and who the opener says he is.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::{Malformed, Wire};

/// One kind of stream.
pub(crate) trait Service: 'static {
    /// As in `proto/`.
    const NAME: &'static str;
    const PATH: &'static str;
    type FromClient: Wire;
    type FromServer: Wire;
    /// What the opener says about himself in the call's metadata.
    type Hello: Send + Sync + 'static;

    fn write(hello: &Self::Hello, metadata: &mut HeaderMap);
    fn read(metadata: &HeaderMap) -> Result<Self::Hello, Malformed>;
}

fn put(metadata: &mut HeaderMap, key: &'static str, number: i64) {
    metadata.insert(HeaderName::from_static(key), HeaderValue::from(number));
}

fn get<N: std::str::FromStr>(metadata: &HeaderMap, key: &'static str) -> Result<N, Malformed> {
    metadata
        .get(key)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed::Metadata(key))
}

/// Gateway to storage node.
pub mod storage {
    use peer_api::storage::{FromStorage, ToStorage};

    use super::*;
    use crate::{ConnectError, ConnectOptions, Duplex, client};

    pub(crate) struct Storage;

    impl Service for Storage {
        const NAME: &'static str = "thalweg.storage.v1.StorageService";
        const PATH: &'static str = "/thalweg.storage.v1.StorageService/Exchange";
        type FromClient = ToStorage;
        type FromServer = FromStorage;
        type Hello = ();

        fn write((): &(), _metadata: &mut HeaderMap) {}

        fn read(_metadata: &HeaderMap) -> Result<(), Malformed> {
            Ok(())
        }
    }

    /// Opens a stream to the storage node at `host:port`.
    pub async fn connect(address: &str) -> Result<Duplex<ToStorage, FromStorage>, ConnectError> {
        connect_with(address, &ConnectOptions::default()).await
    }

    pub async fn connect_with(
        address: &str,
        options: &ConnectOptions,
    ) -> Result<Duplex<ToStorage, FromStorage>, ConnectError> {
        client::open::<Storage>(address, (), options).await
    }
}

/// Follower's node to leader's node.
pub mod replication {
    use base_types::{BrokerEpoch, BrokerId};
    use peer_api::replication::{FromFollower, FromLeader, Hello};

    use super::*;
    use crate::{ConnectError, ConnectOptions, Duplex, client};

    pub(crate) struct Replication;

    const FOLLOWER: &str = "thalweg-follower";
    const BROKER_EPOCH: &str = "thalweg-broker-epoch";

    impl Service for Replication {
        const NAME: &'static str = "thalweg.replication.v1.ReplicationService";
        const PATH: &'static str = "/thalweg.replication.v1.ReplicationService/Follow";
        type FromClient = FromFollower;
        type FromServer = FromLeader;
        type Hello = Hello;

        fn write(hello: &Hello, metadata: &mut HeaderMap) {
            put(metadata, FOLLOWER, hello.follower.0.into());
            put(metadata, BROKER_EPOCH, hello.broker_epoch.0);
        }

        fn read(metadata: &HeaderMap) -> Result<Hello, Malformed> {
            Ok(Hello {
                follower: BrokerId(get(metadata, FOLLOWER)?),
                broker_epoch: BrokerEpoch(get(metadata, BROKER_EPOCH)?),
            })
        }
    }

    /// Opens a stream to the leaders on the node at `host:port`.
    pub async fn connect(address: &str, hello: Hello) -> Result<Duplex<FromFollower, FromLeader>, ConnectError> {
        connect_with(address, hello, &ConnectOptions::default()).await
    }

    pub async fn connect_with(
        address: &str,
        hello: Hello,
        options: &ConnectOptions,
    ) -> Result<Duplex<FromFollower, FromLeader>, ConnectError> {
        client::open::<Replication>(address, hello, options).await
    }
}

/// Anyone to the metadata controller.
pub mod controller {
    use peer_api::controller::{FromController, ToController};

    use super::*;
    use crate::{ConnectError, ConnectOptions, Duplex, client};

    pub(crate) struct Controller;

    impl Service for Controller {
        const NAME: &'static str = "thalweg.controller.v1.ControllerService";
        const PATH: &'static str = "/thalweg.controller.v1.ControllerService/Session";
        type FromClient = ToController;
        type FromServer = FromController;
        type Hello = ();

        fn write((): &(), _metadata: &mut HeaderMap) {}

        fn read(_metadata: &HeaderMap) -> Result<(), Malformed> {
            Ok(())
        }
    }

    /// Opens a session with the controller at `host:port`.
    pub async fn connect(address: &str) -> Result<Duplex<ToController, FromController>, ConnectError> {
        connect_with(address, &ConnectOptions::default()).await
    }

    pub async fn connect_with(
        address: &str,
        options: &ConnectOptions,
    ) -> Result<Duplex<ToController, FromController>, ConnectError> {
        client::open::<Controller>(address, (), options).await
    }
}

/// Controller to controller.
pub mod raft {
    use base_types::BrokerId;
    use peer_api::controller::RaftMessage;

    use super::*;
    use crate::{ConnectError, ConnectOptions, Duplex, client};

    pub(crate) struct Raft;

    const CONTROLLER: &str = "thalweg-controller";

    impl Service for Raft {
        const NAME: &'static str = "thalweg.raft.v1.RaftService";
        const PATH: &'static str = "/thalweg.raft.v1.RaftService/Exchange";
        type FromClient = RaftMessage;
        type FromServer = RaftMessage;
        type Hello = BrokerId;

        fn write(from: &BrokerId, metadata: &mut HeaderMap) {
            put(metadata, CONTROLLER, from.0.into());
        }

        fn read(metadata: &HeaderMap) -> Result<BrokerId, Malformed> {
            Ok(BrokerId(get(metadata, CONTROLLER)?))
        }
    }

    /// Opens a stream to the controller at `host:port`, as the controller `from`. Either side may use either direction.
    pub async fn connect(address: &str, from: BrokerId) -> Result<Duplex<RaftMessage, RaftMessage>, ConnectError> {
        connect_with(address, from, &ConnectOptions::default()).await
    }

    pub async fn connect_with(
        address: &str,
        from: BrokerId,
        options: &ConnectOptions,
    ) -> Result<Duplex<RaftMessage, RaftMessage>, ConnectError> {
        client::open::<Raft>(address, from, options).await
    }
}
