use base_types::{BrokerEpoch, BrokerId, ErrorCode};
use peer_api::controller::{ActiveController, Error, FromController, Refusal, Response};
use peer_api::metadata::{MetadataOffset, Record, Update};
use peer_api::storage::Acks;
use storage_core::{ControllerStream, Event, WriteFailure};

use crate::host::*;

fn welcome(host: &mut Host, stream: u64) -> Vec<String> {
    let stream = ControllerStream(stream);
    let connected = host.step(Event::ControllerConnected { stream });
    assert_eq!(connected.len(), 1, "{connected:?}");
    let message = FromController::Welcome { controller: BrokerId(100), term: 1 };
    host.step(Event::ControllerSaid { stream, message })
}

fn refused(code: ErrorCode) -> Result<Response, Error> {
    Err(Error::Refused(Refusal { code, message: String::new() }))
}

fn elsewhere() -> Option<ActiveController> {
    Some(ActiveController { id: BrokerId(101), address: "controller2:1".to_owned() })
}

#[test]
fn a_registration_is_written_down_before_the_first_heartbeat() {
    let mut host = Host::new();
    let hello = host.step(Event::ControllerConnected { stream: ControllerStream(1) });
    assert_eq!(hello, ["controller 1: hello from 0"]);
    let welcome = FromController::Welcome { controller: BrokerId(100), term: 1 };
    assert_eq!(host.said(welcome), ["controller 1: #1 register, clean -, intact 2"]);
    let registered = host.answered(1, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(5) }));
    assert_eq!(registered, ["remember 5"]);
    assert!(host.after_ms(1_000).is_empty());
    assert_eq!(host.node.broker_epoch(), None);
    let remembered = host.remembered(5, Ok(()));
    assert_eq!(remembered, ["controller 1: #2 heartbeat 5 at 0"]);
}

/// A new directory takes up the cluster with its first registration, and is of no other from then on.
#[test]
fn a_registration_says_of_which_cluster_the_directory_is() {
    let mut host = Host::new();
    welcome(&mut host, 1);
    let records = vec![Record::ClusterNamed { cluster_id: "c".to_owned() }];
    host.said(FromController::Update(Update::Snapshot { at: MetadataOffset(10), records }));
    let given = host.answered(1, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(5) }));
    assert_eq!(given, ["remember 5 of c"]);
    assert_eq!(host.remembered(5, Err(WriteFailure::NoSpace)), Vec::<String>::new());
    assert_eq!(host.after_ms(1_000), ["remember 5 of c"]);
    host.remembered(5, Ok(()));
    let again = host.answered(2, refused(ErrorCode::StaleBrokerEpoch));
    assert_eq!(again, ["controller 1: #3 register of c, clean -, intact 5"]);

    let message = "Expected cluster ID d, but got cluster ID c".to_owned();
    let refusal = Refusal { code: ErrorCode::InconsistentClusterId, message };
    let shown = host.answered(3, Err(Error::Refused(refusal)));
    assert_eq!(shown, ["end: Expected cluster ID d, but got cluster ID c"]);
}

#[test]
fn a_registration_that_found_no_space_is_written_down_later() {
    let mut host = Host::new();
    welcome(&mut host, 1);
    host.answered(1, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(5) }));
    assert!(host.remembered(5, Err(WriteFailure::NoSpace)).is_empty(), "no loop without a pause");
    assert!(host.after_ms(999).is_empty());
    assert_eq!(host.after_ms(1), ["remember 5"]);
    assert!(host.after_ms(2_000).is_empty(), "it is on its way");
    // Whether there is a controller or not.
    host.step(Event::ControllerLost { stream: ControllerStream(1) });
    host.remembered(5, Err(WriteFailure::NoSpace));
    assert_eq!(host.after_ms(1_000), ["remember 5"]);
    assert!(welcome(&mut host, 2).is_empty());
    assert_eq!(host.remembered(5, Ok(())), ["controller 2: #2 heartbeat 5 at 0"]);
    assert!(host.remembered(5, Err(WriteFailure::NoSpace)).is_empty(), "an old word");
}

#[test]
fn a_directory_that_cannot_bear_the_registration_is_the_end() {
    let mut host = Host::new();
    welcome(&mut host, 1);
    host.answered(1, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(5) }));
    assert_eq!(host.remembered(5, Err(WriteFailure::Failed)), ["stop"]);
}

#[test]
fn a_stream_lost_while_the_registration_is_written_down_does_not_ask_for_another() {
    let mut host = Host::new();
    welcome(&mut host, 1);
    host.answered(1, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(5) }));
    host.step(Event::ControllerLost { stream: ControllerStream(1) });
    assert!(welcome(&mut host, 2).is_empty());
    let remembered = host.remembered(5, Ok(()));
    assert_eq!(remembered, ["controller 2: #2 heartbeat 5 at 0"]);
}

#[test]
fn a_registration_that_failed_is_tried_again() {
    let mut host = Host::new();
    welcome(&mut host, 1);
    assert!(host.answered(1, refused(ErrorCode::DuplicateBrokerRegistration)).is_empty());
    assert_eq!(host.after_ms(300), ["controller 1: #2 register, clean -, intact 2"]);
}

#[test]
fn heartbeats_come_one_at_a_time() {
    let mut host = Host::registered();
    assert_eq!(host.after_ms(300), ["controller 1: #3 heartbeat 5 at 10"]);
    assert!(host.after_ms(600).is_empty(), "the last one is not answered yet");
    host.heartbeat_answered(3, false);
    assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 10"]);
}

#[test]
fn a_silent_controller_is_left() {
    let mut host = Host::registered();
    let shown = host.after_ms(300 + 3_000);
    assert_eq!(shown, ["controller 1: #3 heartbeat 5 at 10", "leave controller 1 for anyone"]);
    assert_eq!(host.node.next_deadline(), None);
    assert!(host.heartbeat_answered(3, false).is_empty(), "too late");
    assert_eq!(welcome(&mut host, 2), ["controller 2: #4 heartbeat 5 at 10"], "the registration outlives the stream");
}

#[test]
fn a_controller_that_does_not_greet_is_left() {
    let mut host = Host::new();
    host.step(Event::ControllerConnected { stream: ControllerStream(1) });
    assert_eq!(host.after_ms(3_000), ["leave controller 1 for anyone"]);
    assert_eq!(host.node.next_deadline(), None);
}

#[test]
fn a_controller_that_is_not_active_is_left_for_the_one_that_is() {
    let mut host = Host::registered();
    let not_active = FromController::NotActive { active: elsewhere() };
    assert_eq!(host.said(not_active), ["leave controller 1 for controller2:1"]);

    let mut host = Host::registered();
    host.after_ms(300);
    let shown = host.answered(3, Err(Error::NotActive { active: elsewhere() }));
    assert_eq!(shown, ["leave controller 1 for controller2:1"]);
}

#[test]
fn words_of_an_earlier_stream_are_not_heard() {
    let mut host = Host::registered();
    welcome(&mut host, 2);
    assert!(host.said(FromController::NotActive { active: None }).is_empty());
    assert!(host.step(Event::ControllerLost { stream: ControllerStream(1) }).is_empty());
    assert_eq!(host.after_ms(3_000), ["leave controller 2 for anyone"], "and its calls are not waited for");
}

#[test]
fn a_life_that_the_controller_has_forgotten_registers_again() {
    let mut host = Host::registered();
    host.after_ms(300);
    let again = host.answered(3, refused(ErrorCode::StaleBrokerEpoch));
    assert_eq!(again, ["controller 1: #4 register, clean -, intact 5"]);
    assert!(host.after_ms(1_000).is_empty());
    assert_eq!(host.answered(4, Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(8) })), ["remember 8"]);
    let shown = host.remembered(8, Ok(()));
    assert_eq!(shown, ["controller 1: #5 heartbeat 8 at 10"]);
    assert!(host.remembered(5, Ok(())).is_empty(), "an old word");
    assert_eq!(host.node.broker_epoch(), Some(BrokerEpoch(8)));
}

#[test]
fn a_node_hands_over_and_stops_once() {
    let mut host = Host::leading();
    assert_eq!(host.step(Event::ShutdownRequested), ["controller 1: #3 heartbeat 5 at 11, wants to stop"]);
    assert!(host.step(Event::ShutdownRequested).is_empty());
    assert!(host.heartbeat_answered(3, false).is_empty());
    assert_eq!(host.after_ms(300), ["controller 1: #4 heartbeat 5 at 11, wants to stop"]);
    assert_eq!(host.heartbeat_answered(4, true), ["checkpoint 1-0 as of 0, high watermark 0", "stop"]);
    assert_eq!(host.after_ms(300), ["controller 1: #5 heartbeat 5 at 11, wants to stop"]);
    assert!(host.heartbeat_answered(5, true).is_empty());
}

#[test]
fn a_wish_to_stop_during_a_heartbeat_is_told_when_that_is_answered() {
    let mut host = Host::registered();
    host.after_ms(300);
    assert!(host.step(Event::ShutdownRequested).is_empty());
    assert_eq!(host.heartbeat_answered(3, false), ["controller 1: #4 heartbeat 5 at 10, wants to stop"]);
    assert!(host.heartbeat_answered(4, false).is_empty(), "it has been told");
}

/// Nobody is to wonder what became of a batch because a node was stopped: what is in flight is answered, and what comes then is refused
/// definitely, before others lead.
#[test]
fn a_node_that_stops_answers_what_is_in_flight_before_it_hands_over() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    assert!(host.step(Event::ShutdownRequested).is_empty());
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #8: 1-0 NotLeader"]);
    let drained = host.written(tp(1, 0), 1);
    assert_eq!(drained, ["answer 1 #7: 1-0 @0", "controller 1: #3 heartbeat 5 at 11, wants to stop"]);
}

#[test]
fn an_append_that_takes_too_long_does_not_keep_a_node_from_stopping() {
    let mut host = Host::leading();
    host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)]));
    host.step(Event::ShutdownRequested);
    assert!(host.after_ms(99).is_empty());
    assert_eq!(host.after_ms(1), ["controller 1: #3 heartbeat 5 at 11, wants to stop"]);
}

#[test]
fn producers_are_not_held_off_for_a_handover_that_does_not_come() {
    let mut host = Host::leading();
    host.step(Event::ShutdownRequested);
    host.after_ms(499);
    assert_eq!(host.asked(1, 7, append(Acks::All, 3, &[tp(1, 0)])), ["answer 1 #7: 1-0 NotLeader"]);
    host.after_ms(1);
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["write 1 1-0: 1 at 0"]);
    // Without a controller there is nobody to hand over to.
    let mut host = Host::leading();
    host.step(Event::ControllerLost { stream: ControllerStream(1) });
    host.step(Event::ShutdownRequested);
    assert_eq!(host.asked(1, 8, append(Acks::All, 3, &[tp(1, 0)])), ["write 1 1-0: 1 at 0"]);
}

#[test]
fn a_node_that_never_registered_stops_at_once() {
    let mut host = Host::new();
    assert_eq!(host.step(Event::ShutdownRequested), ["stop"]);
    assert_eq!(host.node.next_deadline(), None);
}

#[test]
fn a_node_without_a_controller_stops_after_a_while() {
    let mut host = Host::registered();
    host.step(Event::ShutdownRequested);
    host.step(Event::ControllerLost { stream: ControllerStream(1) });
    assert!(host.after_ms(2_999).is_empty());
    assert_eq!(host.after_ms(1), ["stop"]);
}

#[test]
fn a_controller_found_again_lets_the_node_hand_over() {
    let mut host = Host::registered();
    host.step(Event::ControllerLost { stream: ControllerStream(1) });
    assert!(host.step(Event::ShutdownRequested).is_empty());
    assert_eq!(welcome(&mut host, 2), ["controller 2: #3 heartbeat 5 at 10, wants to stop"]);
    let message = FromController::Answer {
        id: peer_api::storage::RequestId(3),
        result: Ok(Response::Heartbeat(peer_api::controller::HeartbeatAnswer {
            may_shutdown: true,
            ..Default::default()
        })),
    };
    assert_eq!(host.step(Event::ControllerSaid { stream: ControllerStream(2), message }), ["stop"]);
}

#[test]
fn a_node_that_may_never_stop_stops_all_the_same() {
    let mut host = Host::registered();
    host.step(Event::ShutdownRequested);
    let mut shown = Vec::new();
    for id in 3.. {
        host.heartbeat_answered(id, false);
        shown.extend(host.after_ms(300).into_iter().filter(|line| !line.contains("heartbeat")));
        if !shown.is_empty() {
            break;
        }
    }
    assert_eq!(shown, ["stop"]);
    assert_eq!(host.now_ms, 1_000 + 10_200);
}
