//! Streams in and out: a task for each that carries its messages to the inbox, and its end.

use std::rc::Rc;
use std::time::Duration;

use base_types::{BrokerEpoch, BrokerId, Now};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{FromStorage, ToStorage};
use rpc::{Duplex, Receiver};
use storage_core::{ControllerStream, Effects, Event, GatewayStream, PeerStream};
use tokio::sync::mpsc;

use crate::dial::Choice;

use super::outbox::Outbox;
use super::{Input, LeaderLink, Shell};

/// Between two attempts to reach somebody.
pub(super) const REDIAL_PAUSE: Duration = Duration::from_millis(50);

/// Before the controller whose stream broke is tried again. Well below the grace after which it fences us.
pub(super) const AGAIN_PAUSE: Duration = Duration::from_millis(5);

impl Shell {
    pub(super) fn gateway_connected(&mut self, stream: Duplex<FromStorage, ToStorage>) {
        self.next_stream += 1;
        let id = GatewayStream(self.next_stream);
        self.gateways.insert(id, Outbox::new(stream.tx));
        let asked = move |message| Event::GatewayAsked { stream: id, message };
        let carried = carry(stream.rx, self.inbox.clone(), asked);
        self.then(carried, Event::GatewayLost { stream: id });
    }

    pub(super) fn follower_connected(
        &mut self,
        now: Now,
        hello: Hello,
        stream: Duplex<FromLeader, FromFollower>,
        effects: &mut Effects,
    ) {
        self.next_stream += 1;
        let id = PeerStream(self.next_stream);
        self.followers.insert(id, Outbox::new(stream.tx));
        self.step(now, Event::FollowerConnected { stream: id, hello }, effects);
        let said = move |message| Event::FollowerSaid { stream: id, message };
        let carried = carry(stream.rx, self.inbox.clone(), said);
        self.then(carried, Event::FollowerLost { stream: id });
    }

    /// Dials until there is a stream, then carries it; the core asks for the next one when it wants to move on.
    pub(super) fn dial_controller(&mut self, choice: Choice, pause: Duration) {
        self.next_stream += 1;
        let id = ControllerStream(self.next_stream);
        let (dial, inbox) = (Rc::clone(&self.dial), self.inbox.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            let mut choice = choice;
            let stream = loop {
                match dial.controller(&std::mem::replace(&mut choice, Choice::Next)).await {
                    Ok(stream) => break stream,
                    Err(error) => tracing::debug!(%error, "controller not reached"),
                }
                tokio::time::sleep(REDIAL_PAUSE).await;
            };
            if inbox.send(Input::Controller(id, stream.tx)).await.is_err() {
                return;
            }
            let said = move |message| Event::ControllerSaid { stream: id, message };
            carry(stream.rx, inbox.clone(), said).await;
            drop(inbox.send(Input::ControllerLost(id)).await);
        });
    }

    /// Keeps a stream to that node, dialling again whenever it is lost.
    pub(super) fn dial_leader(&mut self, leader: BrokerId, address: String, broker_epoch: BrokerEpoch) {
        self.next_stream += 1;
        let generation = self.next_stream;
        let hello = Hello { follower: self.core.broker(), broker_epoch };
        let (dial, inbox) = (Rc::clone(&self.dial), self.inbox.clone());
        let task = tokio::task::spawn_local(async move {
            loop {
                match dial.leader(&address, hello).await {
                    Ok(stream) => {
                        if inbox.send(Input::Leader(leader, generation, stream.tx)).await.is_err() {
                            return;
                        }
                        let said = move |message| Event::LeaderSaid { leader, message };
                        carry(stream.rx, inbox.clone(), said).await;
                        if inbox.send(Input::LeaderLost(leader, generation)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::debug!(%leader, %error, "leader not reached"),
                }
                tokio::time::sleep(REDIAL_PAUSE).await;
            }
        });
        if let Some(old) = self.leaders.insert(leader, LeaderLink { generation, outbox: None, task }) {
            old.task.abort();
        }
    }

    /// Runs `carried` to its end, then says what that means.
    fn then(&self, carried: impl Future<Output = ()> + 'static, lost: Event) {
        let inbox = self.inbox.clone();
        tokio::task::spawn_local(async move {
            carried.await;
            drop(inbox.send(Input::Event(lost)).await);
        });
    }
}

/// Carries what is received to the inbox, all that is there in one piece, until the stream ends.
async fn carry<T>(mut receiver: Receiver<T>, inbox: mpsc::Sender<Input>, event: impl Fn(T) -> Event) {
    let mut next = receiver.recv_traced().await;
    while let Some((message, traceparent)) = next.take() {
        if let Some(traceparent) = traceparent {
            if inbox.send(Input::Traced(event(message), traceparent)).await.is_err() {
                return;
            }
        } else {
            let mut events = vec![event(message)];
            while events.len() < 256
                && let Ok((message, traceparent)) = receiver.try_recv_traced()
            {
                if traceparent.is_some() {
                    next = Some((message, traceparent));
                    break;
                }
                events.push(event(message));
            }
            if inbox.send(Input::Events(events)).await.is_err() {
                return;
            }
        }
        if next.is_none() {
            next = receiver.recv_traced().await;
        }
    }
}
