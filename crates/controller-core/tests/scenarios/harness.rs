//! The command language.
//!
//! ```text
//!  tick MS                                      time passes, in steps of 50 ms
//!  hello SESSION broker|gateway|tool ID         a stream opens and follows the metadata
//!  bye SESSION                                  it ends
//!  again                                        the controller starts again, with what is stored and no session
//!  register SESSION ID life=N [rack=R] [clean=EPOCH] [intact=EPOCH] [cluster=ID]
//!  beat SESSION ID [epoch=E] [seen=OFFSET] [stop] [damaged=T-P@EPOCH,…] [not-open=T-P,…] [more]
//!  gateway SESSION ID life=N    gateway-beat SESSION ID life=N [stop]
//!  up ID…                                       brokers arrive and are unfenced, each on the session of its id
//!  create SESSION NAME PARTITIONS FACTOR [KEY=VALUE…]     assign SESSION NAME 1,2 2,3 …
//!  grow SESSION NAME COUNT      delete SESSION NAME
//!  config SESSION topic:NAME|broker:ID|cluster set|delete|append|subtract|replace KEY[=VALUE]…
//!  isr SESSION ID NAME-PARTITION 1,2,3 [leader-epoch=N] [partition-epoch=N] [stale=ID]
//!  elect SESSION preferred|unclean [NAME-PARTITION…]
//!  move SESSION NAME-PARTITION 1,2,3|none|back [same-factor]
//!  unregister SESSION ID        feature SESSION NAME LEVEL up|down|unsafe [dry]
//!  ids SESSION       quorum SESSION             show
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use base_types::{BrokerEpoch, BrokerId, Incarnation, Now, PartitionIndex, Random, Tick, Timestamp, TopicPartition};
use controller_core::{Config, Controller, Effect, Effects, Event, SessionId, Stored};
use peer_api::controller::{
    ActiveController, AlterPartition, BrokerHeartbeat, ConfigChange, ConfigChanges, ConfigOperation, ElectionKind,
    ElectionTopics, Error, FeatureUpdate, FeatureUpdateKind, FromController, IsrChange, NewPartitions, NewTopic,
    Reassign, ReassignedTopic, Refusal, RegisterBroker, RegisterGateway, Request, Response, Role, TopicOutcomes,
    TopicSelector,
};
use peer_api::metadata::{ConfigResource, MetadataOffset, PartitionState, Record, Update};
use peer_api::storage::RequestId;

pub struct Harness {
    config: Config,
    controller: Controller,
    /// Snapshots are not made in so short a life.
    hard_state: Option<bytes::Bytes>,
    entries: BTreeMap<u64, bytes::Bytes>,
    now: u64,
    calls: u64,
    /// Topics are shown by name.
    names: BTreeMap<base_types::TopicId, String>,
    quiet: bool,
}

impl Harness {
    pub fn new() -> Harness {
        let me = ActiveController { id: BrokerId(100), address: "c:9190".to_owned() };
        let config = Config { rebalance_ms: 3_000, ..Config::new(BrokerId(100), vec![me], "cluster".to_owned()) };
        let mut effects = Effects::default();
        let now = Now { tick: Tick(0), wall: Timestamp(0) };
        let controller = Controller::recover(config.clone(), Stored::default(), now, Random::new(1), &mut effects)
            .expect("an empty log");
        let mut harness = Harness {
            config,
            controller,
            hard_state: None,
            entries: BTreeMap::new(),
            now: 0,
            calls: 0,
            names: BTreeMap::new(),
            quiet: false,
        };
        harness.settle(effects, &mut String::new());
        assert!(harness.controller.is_active(), "a sole voter is active once its writes are durable");
        harness
    }

    pub fn run(&mut self, command: &str) -> String {
        let mut out = String::new();
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<i32>().unwrap_or_else(|_| panic!("a number at {at}: {command}"));
        let option = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let epoch = |key: &str| option(key).map(|text| BrokerEpoch(text.parse().unwrap()));
        match words[0] {
            "tick" => {
                let end = self.now + number(1) as u64;
                while self.now < end {
                    self.now = (self.now + 50).min(end);
                    self.step(Event::Ticked, &mut out);
                }
            }
            "hello" => {
                let id = BrokerId(words.get(3).map_or(0, |_| number(3)));
                let role = match words[2] {
                    "broker" => Role::Broker(id),
                    "gateway" => Role::Gateway(id),
                    _ => Role::Tool,
                };
                let follow_from = Some(self.controller.image().at());
                self.step(Event::SessionOpened { session: session(words[1]), role, follow_from }, &mut out);
            }
            "again" => {
                let (hard_state, entries) = (self.hard_state.clone(), self.entries.clone().into_iter().collect());
                let stored = Stored { hard_state, snapshot: None, entries };
                let mut effects = Effects::default();
                let random = Random::new(self.now);
                self.controller = Controller::recover(self.config.clone(), stored, self.now(), random, &mut effects)
                    .expect("what it wrote itself");
                self.settle(effects, &mut out);
            }
            "bye" => self.step(Event::SessionClosed { session: session(words[1]) }, &mut out),
            "register" => {
                let mut request =
                    registration(number(2), option("life").unwrap(), option("rack"), epoch("clean"), epoch("intact"));
                request.cluster_id = option("cluster").map(str::to_owned).or(request.cluster_id);
                self.call(words[1], Request::RegisterBroker(request), &mut out);
            }
            "beat" => {
                let broker = BrokerId(number(2));
                let known = self.controller.image().broker(broker).map_or(BrokerEpoch(-1), |broker| broker.epoch);
                let seen =
                    option("seen").map_or(self.controller.image().at(), |at| MetadataOffset(at.parse().unwrap()));
                let request = Request::BrokerHeartbeat(BrokerHeartbeat {
                    broker,
                    broker_epoch: epoch("epoch").unwrap_or(known),
                    metadata_offset: seen,
                    want_shutdown: words.contains(&"stop"),
                    damaged: option("damaged")
                        .iter()
                        .flat_map(|text| text.split(','))
                        .map(|text| self.damaged(text))
                        .collect(),
                    not_open: option("not-open")
                        .iter()
                        .flat_map(|text| text.split(','))
                        .map(|text| self.partition(text))
                        .collect(),
                    more: words.contains(&"more"),
                });
                self.call(words[1], request, &mut out);
            }
            "up" => {
                self.quiet = true;
                for id in &words[1..] {
                    self.run(&format!("hello {id} broker {id}"));
                    self.run(&format!("register {id} {id} life=1"));
                    self.run(&format!("beat {id} {id}"));
                }
                self.quiet = false;
            }
            "gateway" => {
                let request = Request::RegisterGateway(RegisterGateway {
                    gateway: BrokerId(number(2)),
                    incarnation: life(option("life").unwrap()),
                    advertised_host: format!("g{}", number(2)),
                    advertised_port: 9092,
                    rack: None,
                    host: format!("h{}", number(2)),
                });
                self.call(words[1], request, &mut out);
            }
            "gateway-beat" => {
                let (gateway, incarnation) = (BrokerId(number(2)), life(option("life").unwrap()));
                let want_shutdown = words.contains(&"stop");
                self.call(words[1], Request::GatewayHeartbeat { gateway, incarnation, want_shutdown }, &mut out);
            }
            "create" => {
                let topic = NewTopic {
                    name: words[2].replace("''", ""),
                    partitions: number(3),
                    replication_factor: number(4) as i16,
                    assignments: Vec::new(),
                    configs: words[5..].iter().map(|pair| key_value(pair)).collect(),
                };
                self.call(words[1], Request::CreateTopics { topics: vec![topic], validate_only: false }, &mut out);
            }
            "assign" => {
                let assignments = words[3..].iter().enumerate();
                let topic = NewTopic {
                    name: words[2].to_owned(),
                    partitions: -1,
                    replication_factor: -1,
                    assignments: assignments.map(|(at, list)| (PartitionIndex(at as i32), brokers(list))).collect(),
                    configs: Vec::new(),
                };
                self.call(words[1], Request::CreateTopics { topics: vec![topic], validate_only: false }, &mut out);
            }
            "grow" => {
                let topic = NewPartitions { name: words[2].to_owned(), count: number(3), assignments: Vec::new() };
                self.call(words[1], Request::CreatePartitions { topics: vec![topic], validate_only: false }, &mut out);
            }
            "elect" => {
                let kind = match words[2] {
                    "unclean" => ElectionKind::Unclean,
                    _ => ElectionKind::Preferred,
                };
                let named = words[3..].iter().map(|word| {
                    let (name, index) = word.rsplit_once('-').unwrap();
                    (name.to_owned(), vec![index.parse().unwrap()])
                });
                let topics =
                    if words.len() == 3 { ElectionTopics::All } else { ElectionTopics::Named(named.collect()) };
                self.call(words[1], Request::ElectLeaders { kind, topics }, &mut out);
            }
            "move" => {
                let (name, index) = words[2].rsplit_once('-').unwrap();
                let replicas = match words[3] {
                    "back" => None,
                    "none" => Some(Vec::new()),
                    list => Some(brokers(list)),
                };
                let partitions = vec![(index.parse().unwrap(), replicas)];
                let request = Reassign {
                    topics: vec![ReassignedTopic { name: name.to_owned(), partitions }],
                    allow_replication_factor_change: !words.contains(&"same-factor"),
                };
                self.call(words[1], Request::Reassign(request), &mut out);
            }
            "unregister" => {
                self.call(words[1], Request::UnregisterBroker { broker: BrokerId(number(2)) }, &mut out);
            }
            "feature" => {
                let kind = match words[4] {
                    "down" => FeatureUpdateKind::SafeDowngrade,
                    "unsafe" => FeatureUpdateKind::UnsafeDowngrade,
                    _ => FeatureUpdateKind::Upgrade,
                };
                let updates = vec![FeatureUpdate { name: words[2].to_owned(), level: number(3) as i16, kind }];
                let validate_only = words.contains(&"dry");
                self.call(words[1], Request::UpdateFeatures { updates, validate_only }, &mut out);
            }
            "delete" => {
                let selector = TopicSelector::Name(words[2].to_owned());
                self.call(words[1], Request::DeleteTopics(vec![selector]), &mut out);
            }
            "config" => {
                let resource = match words[2].split_once(':') {
                    Some(("topic", name)) => ConfigResource::Topic(name.to_owned()),
                    Some((_, id)) => ConfigResource::Broker(BrokerId(id.parse().unwrap())),
                    None => ConfigResource::Cluster,
                };
                let operation = match words[3] {
                    "delete" => ConfigOperation::Delete,
                    "append" => ConfigOperation::Append,
                    "subtract" => ConfigOperation::Subtract,
                    _ => ConfigOperation::Set,
                };
                let changes = words[4..].iter().map(|pair| {
                    let (name, value) = key_value(pair);
                    ConfigChange { name, operation, value }
                });
                let replace_all = words[3] == "replace";
                let changes = vec![ConfigChanges { resource, replace_all, changes: changes.collect() }];
                self.call(words[1], Request::AlterConfigs { changes, validate_only: false }, &mut out);
            }
            "isr" => {
                let request =
                    self.isr_change(&words, option("leader-epoch"), option("partition-epoch"), option("stale"));
                self.call(words[1], request, &mut out);
            }
            "ids" => self.call(words[1], Request::AllocateProducerIds, &mut out),
            "quorum" => self.call(words[1], Request::DescribeQuorum, &mut out),
            "show" => self.show(&mut out),
            _ => panic!("no such command: {command}"),
        }
        out
    }

    /// `t-0@3`: partition 0 of topic t, in epoch 3.
    fn damaged(&self, text: &str) -> (TopicPartition, base_types::LeaderEpoch) {
        let (name, epoch) = text.split_once('@').unwrap();
        (self.partition(name), base_types::LeaderEpoch(epoch.parse().unwrap()))
    }

    fn partition(&self, name: &str) -> TopicPartition {
        let (topic, index) = name.split_once('-').unwrap();
        let topic = self.controller.image().topic_named(topic).unwrap().id;
        TopicPartition { topic, partition: PartitionIndex(index.parse().unwrap()) }
    }

    fn isr_change(
        &self,
        words: &[&str],
        leader_epoch: Option<&str>,
        partition_epoch: Option<&str>,
        stale: Option<&str>,
    ) -> Request {
        let image = self.controller.image();
        let (name, index) = words[3].rsplit_once('-').unwrap();
        let topic = image.topic_named(name).unwrap();
        let partition = TopicPartition { topic: topic.id, partition: PartitionIndex(index.parse().unwrap()) };
        let state = image.partition(partition).unwrap();
        let broker = BrokerId(words[2].parse().unwrap());
        let epoch = |id: BrokerId| {
            let epoch = image.broker(id).map_or(BrokerEpoch(-1), |broker| broker.epoch);
            if stale == Some(&id.to_string()) { BrokerEpoch(epoch.0 - 1) } else { epoch }
        };
        let change = IsrChange {
            partition,
            leader_epoch: leader_epoch
                .map_or(state.leader_epoch, |text| base_types::LeaderEpoch(text.parse().unwrap())),
            partition_epoch: partition_epoch
                .map_or(state.partition_epoch, |text| base_types::PartitionEpoch(text.parse().unwrap())),
            isr: brokers(words[4]).into_iter().map(|id| (id, epoch(id))).collect(),
        };
        Request::AlterPartition(AlterPartition { broker, broker_epoch: epoch(broker), changes: vec![change] })
    }

    fn call(&mut self, to: &str, request: Request, out: &mut String) {
        self.calls += 1;
        self.step(Event::Called { session: session(to), id: RequestId(self.calls), request }, out);
    }

    fn step(&mut self, event: Event, out: &mut String) {
        let mut effects = Effects::default();
        self.controller.step(self.now(), event, &mut effects);
        self.controller.check_invariants();
        self.settle(effects, out);
    }

    fn now(&self) -> Now {
        Now { tick: Tick(self.now), wall: Timestamp(0) }
    }

    /// Every write is durable at once.
    fn settle(&mut self, mut effects: Effects, out: &mut String) {
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Persist(persist) => {
                    self.hard_state = persist.hard_state.or(self.hard_state.take());
                    self.entries.extend(persist.entries);
                    let event = Event::PersistCompleted { write: persist.write };
                    self.controller.step(self.now(), event, &mut effects);
                    self.controller.check_invariants();
                }
                Effect::SendSession { session, message } if !self.quiet => self.say(session, message, out),
                Effect::SendSession { message: FromController::Update(update), .. } => drop(self.updated(update)),
                Effect::CloseSession { session } => writeln!(out, "{}: closed", session.0).unwrap(),
                Effect::SendSession { .. } | Effect::SendRaft { .. } | Effect::RoleChanged(_) => {}
            }
        }
    }

    fn say(&mut self, session: SessionId, message: FromController, out: &mut String) {
        let text = match message {
            FromController::Welcome { controller, term } => format!("welcome from {controller} in term {term}"),
            FromController::NotActive { active } => format!("not active, {active:?}"),
            FromController::Update(update) => self.updated(update),
            FromController::Answer { result: Ok(response), .. } => self.response(response),
            FromController::Answer { result: Err(Error::Refused(refusal)), .. } => refused(&refusal),
            FromController::Answer { result: Err(error), .. } => format!("{error:?}"),
        };
        writeln!(out, "{}: {text}", session.0).unwrap();
    }

    fn updated(&mut self, update: Update) -> String {
        let (head, records) = match update {
            Update::Snapshot { at, records } => (format!("snapshot at {at}"), records),
            Update::Delta { from, to, records } => (format!("delta {from}..{to}"), records),
        };
        records.iter().fold(head, |text, record| text + "\n     " + &self.record(record))
    }

    fn record(&mut self, record: &Record) -> String {
        match record {
            Record::BrokerRegistered(broker) => {
                format!("broker {} registered, epoch {}, {:?}", broker.id, broker.epoch, broker.state)
            }
            Record::BrokerStateChanged { broker, broker_epoch, state } => {
                format!("broker {broker} epoch {broker_epoch} is {state:?}")
            }
            Record::DirectoryConfirmed { broker, broker_epoch } => {
                format!("directory of {broker} bears epoch {broker_epoch}")
            }
            Record::GatewayRegistered(gateway) => format!("gateway {} registered", gateway.id),
            Record::GatewayRemoved { gateway } => format!("gateway {gateway} removed"),
            Record::TopicCreated { id, name } => {
                self.names.insert(*id, name.clone());
                format!("topic {name} created")
            }
            Record::TopicRemoved { id } => format!("topic {} removed", self.names[id]),
            Record::PartitionChanged { partition, state } => {
                format!("{}-{} {}", self.names[&partition.topic], partition.partition, partition_text(state))
            }
            Record::ConfigChanged { resource, name, value } => {
                format!("{resource:?} {name}={}", value.as_deref().unwrap_or("(none)"))
            }
            other => format!("{other:?}"),
        }
    }

    fn response(&self, response: Response) -> String {
        fn each<T>(results: &[Result<T, Refusal>], show: impl Fn(&T) -> String) -> String {
            let texts = results.iter().map(|result| result.as_ref().map_or_else(refused, &show));
            texts.collect::<Vec<_>>().join("; ")
        }
        match response {
            Response::BrokerRegistered { broker_epoch } => format!("registered, epoch {broker_epoch}"),
            Response::Heartbeat(answer) => {
                let given_up = answer.given_up.iter().map(|(partition, epoch)| {
                    format!(" given-up={}-{}@{epoch}", self.names[&partition.topic], partition.partition)
                });
                let given_up: String = given_up.collect();
                format!("fenced={} may_shutdown={}{given_up}", answer.fenced, answer.may_shutdown)
            }
            Response::GatewayRegistered => "gateway registered".to_owned(),
            Response::PartitionsAltered(results) => {
                let texts = results.into_iter().map(|(_, result)| match result {
                    Ok(state) => partition_text(&state),
                    Err(code) => code.to_string(),
                });
                texts.collect::<Vec<_>>().join("; ")
            }
            Response::TopicsCreated { topics, visible_at } => {
                let show = |t: &peer_api::controller::CreatedTopic| {
                    format!("created {} with {} × {}", t.name, t.partitions, t.replication_factor)
                };
                format!("{} (at {visible_at})", each(&topics, show))
            }
            Response::TopicsDeleted { topics, visible_at } => {
                format!("{} (at {visible_at})", each(&topics, |topic| format!("deleted {}", topic.name)))
            }
            Response::PartitionsCreated { topics, visible_at } => {
                format!("{} (at {visible_at})", each(&topics, |()| "grown".to_owned()))
            }
            Response::LeadersElected { topics, visible_at } => {
                format!("{} (at {visible_at})", outcomes(topics, "elected"))
            }
            Response::Reassigned { topics, visible_at } => format!("{} (at {visible_at})", outcomes(topics, "moves")),
            Response::BrokerUnregistered { visible_at } => format!("unregistered (at {visible_at})"),
            Response::FeaturesUpdated { visible_at } => format!("updated (at {visible_at})"),
            Response::ConfigsAltered { resources, visible_at } => {
                format!("{} (at {visible_at})", each(&resources, |()| "altered".to_owned()))
            }
            Response::ProducerIds { first, count } => format!("producer ids {first} +{count}"),
            Response::Quorum(quorum) => format!(
                "quorum: leader {} epoch {} high watermark {} voters {}",
                quorum.leader,
                quorum.leader_epoch,
                quorum.high_watermark,
                quorum.voters.iter().map(|v| format!("{}@{}", v.id, v.address)).collect::<Vec<_>>().join(",")
            ),
        }
    }

    fn show(&self, out: &mut String) {
        let image = self.controller.image();
        for broker in image.brokers() {
            writeln!(out, "broker {} epoch {} {:?}", broker.id, broker.epoch, broker.state).unwrap();
        }
        for topic in image.topics_by_name() {
            for (index, state) in topic.partitions.iter().enumerate() {
                writeln!(out, "{}-{index} {}", topic.name, partition_text(state)).unwrap();
            }
        }
    }
}

fn session(word: &str) -> SessionId {
    SessionId(word.parse().unwrap())
}

fn life(text: &str) -> Incarnation {
    let mut bytes = [0; 16];
    bytes[15] = text.parse().unwrap();
    Incarnation(bytes)
}

fn brokers(list: &str) -> Vec<BrokerId> {
    list.split(',').map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn key_value(pair: &str) -> (String, Option<String>) {
    match pair.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (pair.to_owned(), None),
    }
}

fn registration(
    id: i32,
    incarnation: &str,
    rack: Option<&str>,
    clean_since: Option<BrokerEpoch>,
    intact_since: Option<BrokerEpoch>,
) -> RegisterBroker {
    RegisterBroker {
        broker: BrokerId(id),
        cluster_id: Some("cluster".to_owned()),
        incarnation: life(incarnation),
        rack: rack.map(str::to_owned),
        peer_address: format!("s{id}:9190"),
        host: format!("h{id}"),
        clean_since,
        intact_since,
    }
}

fn partition_text(state: &PartitionState) -> String {
    let list = |ids: &[BrokerId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let leader = state.leader.map_or("none".to_owned(), |id| id.to_string());
    let mut text = format!(
        "replicas={} isr={} leader={leader} epoch={} version={}",
        list(&state.replicas),
        list(&state.isr),
        state.leader_epoch,
        state.partition_epoch
    );
    if !state.elr.is_empty() {
        text += &format!(" elr={}", list(&state.elr));
    }
    if !state.last_known_elr.is_empty() {
        text += &format!(" last-known={}", list(&state.last_known_elr));
    }
    if let Some(epoch) = state.unclean_since {
        text += &format!(" unclean-since={epoch}");
    }
    if state.is_moving() {
        text += &format!(" adding={} removing={}", list(&state.adding), list(&state.removing));
    }
    text
}

fn outcomes(topics: Vec<TopicOutcomes>, done: &str) -> String {
    let told = topics.into_iter().map(|topic| {
        let show = |(index, result): (i32, Result<(), Refusal>)| {
            format!("{index} {}", result.as_ref().map_or_else(refused, |()| done.to_owned()))
        };
        let partitions: Vec<String> = topic.partitions.into_iter().map(show).collect();
        format!("{}: {}", topic.name, partitions.join(", "))
    });
    told.collect::<Vec<_>>().join("; ")
}

fn refused(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code, refusal.message)
}
