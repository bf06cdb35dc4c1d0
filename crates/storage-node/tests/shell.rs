//! The shell with a real directory and a real stream to a controller, which is played here.
#![allow(clippy::disallowed_methods, reason = "a test of the shell: real files and real sockets")]

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, ErrorCode};
use peer_api::controller::{Error, FromController, HeartbeatAnswer, Refusal, Request, Response, ToController};
use peer_api::metadata::{MetadataOffset, Record, Update};
use rpc::Duplex;
use segment_log::LogOptions;
use storage_node::{Directory, Identity, Metrics, RemoteDial, new_incarnation};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::LocalSet;

const BROKER: BrokerId = BrokerId(1);

/// Plays the controller of `cluster`, and tells when the node's first heartbeat has come.
async fn control(mut stream: Duplex<FromController, ToController>, cluster: &'static str, stands: Arc<Notify>) {
    let mut say = Vec::new();
    while let Some(message) = stream.rx.recv().await {
        match message {
            ToController::Hello { .. } => {
                say.push(FromController::Welcome { controller: BrokerId(100), term: 1 });
                let records = vec![Record::ClusterNamed { cluster_id: cluster.to_owned() }];
                say.push(FromController::Update(Update::Snapshot { at: MetadataOffset(5), records }));
            }
            ToController::Call { id, request } => {
                let result = match request {
                    Request::RegisterBroker(asks) if asks.cluster_id.as_deref().is_some_and(|id| id != cluster) => {
                        let message = format!("Expected cluster ID {cluster}");
                        Err(Error::Refused(Refusal { code: ErrorCode::InconsistentClusterId, message }))
                    }
                    Request::RegisterBroker(_) => Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(5) }),
                    Request::BrokerHeartbeat(beat) => {
                        stands.notify_one();
                        let answer = HeartbeatAnswer { may_shutdown: beat.want_shutdown, ..HeartbeatAnswer::default() };
                        Ok(Response::Heartbeat(answer))
                    }
                    other => panic!("{other:?}"),
                };
                say.push(FromController::Answer { id, result });
            }
        }
        for message in say.drain(..) {
            if stream.tx.send(message).await.is_err() {
                return;
            }
        }
    }
}

/// A life of the node with the controllers of `cluster`: until it is registered and then stopped, or until it gives up.
async fn live(data_dir: &Path, cluster: &'static str) -> anyhow::Result<()> {
    let (listener, stands) = (TcpListener::bind("127.0.0.1:0").await?, Arc::new(Notify::new()));
    let address = listener.local_addr()?.to_string();
    let stood = Arc::clone(&stands);
    let server = rpc::Server::builder().controller(move |stream, _| {
        tokio::spawn(control(stream, cluster, Arc::clone(&stood)));
    });
    let serving = tokio::spawn(server.serve(listener, std::future::pending()));

    let incarnation = new_incarnation();
    let directory = Directory::open(data_dir, BROKER, LogOptions::new(incarnation))?;
    let identity = Identity {
        broker: BROKER,
        incarnation,
        cluster_id: directory.cluster_id().map(str::to_owned),
        rack: None,
        peer_address: "nobody follows".to_owned(),
        host: "localhost".to_owned(),
        clean_since: directory.clean_since(),
        intact_since: directory.intact_since(),
        statics: BTreeMap::new(),
    };
    let metrics = Metrics::new(&service_kit::Metrics::new("storage-node", "test"));
    let mut started = storage_node::start(identity, directory, Rc::new(RemoteDial::new(vec![address])), metrics);
    let ended = tokio::select! {
        ended = &mut started.task => ended,
        () = stands.notified() => {
            started.handle.shut_down().await;
            started.task.await
        }
    };
    serving.abort();
    ended?
}

#[tokio::test]
async fn a_data_directory_of_another_cluster_is_refused_and_left_as_it_is() {
    let data_dir = tempfile::tempdir().unwrap();
    let lives = async {
        live(data_dir.path(), "ours").await.unwrap();
        let refused = format!("{:#}", live(data_dir.path(), "theirs").await.unwrap_err());
        assert!(refused.contains("belongs to another cluster"), "{refused}");
        assert!(refused.contains("Expected cluster ID theirs"), "{refused}");
        live(data_dir.path(), "ours").await.unwrap();
    };
    LocalSet::new().run_until(lives).await;
    let identity = std::fs::read_to_string(data_dir.path().join("log/identity")).unwrap();
    assert_eq!(identity, "version=1\nbroker.id=1\nbroker.epoch=5\ncluster.id=ours\n");
}
