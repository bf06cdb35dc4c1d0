//! The shell with real clocks, threads and sockets: one controller in process, and three over gRPC.
#![allow(clippy::disallowed_methods, reason = "a test of the shell: real time and real sockets")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base_types::{BrokerId, Incarnation};
use metadata_controller::metrics::ControllerMetrics;
use metadata_controller::{ControllerConfig, ControllerHandle, OpenError};
use peer_api::controller::{
    ActiveController, BrokerHeartbeat, Error, FromController, NewTopic, RegisterBroker, Request, Response, Role,
    ToController,
};
use peer_api::metadata::{Image, MetadataOffset};
use peer_api::storage::RequestId;
use rpc::Duplex;
use store_api::{MemVfs, Vfs};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

type Stream = Duplex<ToController, FromController>;

/// A storage node as the controller sees it: answers by id, updates folded.
struct Client {
    stream: Stream,
    view: Image,
    calls: u64,
}

impl Client {
    /// `None` when this controller is not the active one.
    async fn greet(stream: Stream, view: Image) -> Option<Client> {
        let hello = ToController::Hello { role: Role::Broker(BrokerId(1)), follow_from: Some(view.at()) };
        stream.tx.send(hello).await.ok()?;
        let mut client = Client { stream, view, calls: 0 };
        match client.stream.rx.recv().await? {
            FromController::Welcome { .. } => Some(client),
            FromController::NotActive { .. } => None,
            other => panic!("before the welcome: {other:?}"),
        }
    }

    async fn call(&mut self, request: Request) -> Result<Response, Error> {
        self.calls += 1;
        let id = RequestId(self.calls);
        self.stream.tx.send(ToController::Call { id, request }).await.map_err(|_| Error::Unreachable)?;
        loop {
            match self.stream.rx.recv().await.ok_or(Error::TimedOut)? {
                FromController::Answer { id: answered, result } if answered == id => return result,
                FromController::Update(update) => assert!(self.view.update(update), "the update continues the view"),
                FromController::NotActive { active } => return Err(Error::NotActive { active }),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn register(&mut self) {
        let request = RegisterBroker {
            broker: BrokerId(1),
            cluster_id: None,
            incarnation: Incarnation([1; 16]),
            rack: None,
            peer_address: "localhost:1".to_owned(),
            host: "h".to_owned(),
            clean_since: None,
            intact_since: None,
        };
        let Ok(Response::BrokerRegistered { broker_epoch }) = self.call(Request::RegisterBroker(request)).await else {
            panic!("not registered")
        };
        let heartbeat = BrokerHeartbeat {
            broker: BrokerId(1),
            broker_epoch,
            metadata_offset: self.view.at(),
            want_shutdown: false,
            damaged: Vec::new(),
            not_open: Vec::new(),
            more: false,
        };
        let answer = self.call(Request::BrokerHeartbeat(heartbeat)).await;
        assert!(matches!(answer, Ok(Response::Heartbeat(ref answer)) if !answer.fenced), "{answer:?}");
    }

    async fn create(&mut self, name: &str) -> MetadataOffset {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: 3,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        match self.call(Request::CreateTopics { topics: vec![topic], validate_only: false }).await {
            Ok(Response::TopicsCreated { topics, visible_at }) => {
                topics[0].as_ref().unwrap();
                visible_at
            }
            other => panic!("{other:?}"),
        }
    }
}

fn metrics() -> ControllerMetrics {
    ControllerMetrics::new(&service_kit::Metrics::new("test", "0"))
}

fn start(
    config: ControllerConfig,
    vfs: Arc<dyn Vfs>,
) -> (JoinHandle<anyhow::Result<()>>, ControllerHandle, oneshot::Sender<()>) {
    let (task, handle) = metadata_controller::open(config, vfs, metrics()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(task.run(async move {
        let _ = stopped.await;
    }));
    (running, handle, stop)
}

fn alone() -> ControllerConfig {
    ControllerConfig::alone(BrokerId(100), "localhost:9190".to_owned(), "cluster".to_owned())
}

#[tokio::test]
async fn a_sole_controller_is_up_at_once_and_finds_its_metadata_again() {
    let vfs = Arc::new(MemVfs::new());
    let began = Instant::now();
    let (running, handle, stop) = start(alone(), vfs.clone());
    let mut client = Client::greet(handle.connect().await.unwrap(), Image::default()).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    println!("up after {took:?}");
    client.register().await;
    let visible_at = client.create("orders").await;
    assert!(client.view.at() >= visible_at, "an answer comes after the update that shows the change");
    assert_eq!(client.view.topic_named("orders").unwrap().partitions.len(), 3);
    assert_eq!(client.view.cluster_id(), "cluster");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();

    let view = client.view.clone();
    let (_running, handle, _stop) = start(alone(), vfs);
    let mut client = Client::greet(handle.connect().await.unwrap(), view).await.unwrap();
    client.create("payments").await;
    assert!(client.view.topic_named("orders").is_some());
    assert!(client.view.topic_named("payments").is_some());
}

#[tokio::test]
async fn a_silent_session_says_hello_first_or_ends() {
    let (_running, handle, _stop) = start(alone(), Arc::new(MemVfs::new()));
    let mut stream = handle.connect().await.unwrap();
    let call = ToController::Call { id: RequestId(1), request: Request::DescribeQuorum };
    stream.tx.send(call).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, stream.rx.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn another_controllers_directory_is_refused() {
    let vfs = Arc::new(MemVfs::new());
    drop(metadata_controller::open(alone(), vfs.clone(), metrics()).unwrap());
    let other = ControllerConfig::alone(BrokerId(7), "localhost:1".to_owned(), "cluster".to_owned());
    let refused = metadata_controller::open(other, vfs, metrics());
    assert!(matches!(refused, Err(OpenError::Log(_))), "{refused:?}");
}

struct Voter {
    address: String,
    running: JoinHandle<anyhow::Result<()>>,
    serving: JoinHandle<()>,
    vfs: Arc<MemVfs>,
    config: ControllerConfig,
}

impl Voter {
    fn start(config: ControllerConfig, listener: TcpListener, vfs: Arc<MemVfs>) -> Voter {
        let address = listener.local_addr().unwrap().to_string();
        let (task, handle) = metadata_controller::open(config.clone(), vfs.clone(), metrics()).unwrap();
        let running = tokio::spawn(task.run(std::future::pending()));
        let (sessions, raft) = (handle.clone(), handle);
        let server = rpc::Server::builder()
            .controller(move |stream, _| sessions.accept(stream))
            .raft(move |_, stream| raft.accept_raft(stream));
        let serving = tokio::spawn(async move {
            let _ = server.serve(listener, std::future::pending()).await;
        });
        Voter { address, running, serving, vfs, config }
    }

    fn kill(&self) {
        self.running.abort();
        self.serving.abort();
    }
}

/// Tries them all until one is active.
async fn find_active(voters: &[&Voter], view: &Image) -> (usize, Client) {
    let began = Instant::now();
    loop {
        for (index, voter) in voters.iter().enumerate() {
            if let Ok(stream) = rpc::controller::connect(&voter.address).await
                && let Ok(Some(client)) =
                    tokio::time::timeout(Duration::from_secs(2), Client::greet(stream, view.clone())).await
            {
                return (index, client);
            }
        }
        assert!(began.elapsed() < PATIENCE, "nobody became active");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn three_voters_survive_the_loss_of_any_one() {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let quorum: Vec<ActiveController> = (1..)
        .zip(&listeners)
        .map(|(id, listener)| ActiveController {
            id: BrokerId(id),
            address: listener.local_addr().unwrap().to_string(),
        })
        .collect();
    let config = |id| {
        let core = controller_core::Config {
            // The broker of this test sends no heartbeats.
            broker_timeout_ms: 60_000,
            broker_grace_ms: 60_000,
            ..controller_core::Config::new(BrokerId(id), quorum.clone(), "cluster".to_owned())
        };
        ControllerConfig { core, seed: Some(id as u64) }
    };
    let mut voters: Vec<Voter> = (1..)
        .zip(listeners)
        .map(|(id, listener)| Voter::start(config(id), listener, Arc::new(MemVfs::new())))
        .collect();

    let (active, mut client) = find_active(&voters.iter().collect::<Vec<_>>(), &Image::default()).await;
    client.register().await;
    client.create("before").await;

    voters[active].kill();
    let began = Instant::now();
    let others: Vec<&Voter> = voters.iter().enumerate().filter(|(i, _)| *i != active).map(|(_, v)| v).collect();
    let (_, mut client) = find_active(&others, &client.view).await;
    println!("another is active after {:?}", began.elapsed());
    client.create("after").await;
    assert!(client.view.topic_named("before").is_some() && client.view.topic_named("after").is_some());

    // The killed one comes back and catches up; then it is one of the two that are left.
    let dead = voters.remove(active);
    let listener = TcpListener::bind(&dead.address).await.unwrap();
    voters.push(Voter::start(dead.config, listener, dead.vfs));
    let all: Vec<&Voter> = voters.iter().collect();
    let (active, client) = find_active(&all, &client.view).await;
    voters[active].kill();
    let others: Vec<&Voter> = voters.iter().enumerate().filter(|(i, _)| *i != active).map(|(_, v)| v).collect();
    let (_, mut client) = find_active(&others, &client.view).await;
    client.create("last").await;
    assert_eq!(client.view.topics().count(), 3);

    // A minority answers, and says that it is not active.
    let rest: Vec<&Voter> = others;
    rest[0].kill();
    let left = rest[1];
    let began = Instant::now();
    loop {
        let stream = rpc::controller::connect(&left.address).await.expect("it still listens");
        let greeted = tokio::time::timeout(PATIENCE, Client::greet(stream, Image::default())).await;
        if greeted.expect("a minority does not hang").is_none() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it goes on as if it had a majority");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
