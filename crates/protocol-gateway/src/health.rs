//! What the gateway's state means for readiness.

use std::future::Future;

use service_kit::Health;
use tokio::sync::watch;

use crate::shell::Status;

/// Keeps `health` in step with the gateway: started once the metadata was seen, ready while a controller is there to follow.
///
/// Losing the controller does not make it unready: it serves produce and fetch from the view it has, and the next controller is
/// moments away. Only a gateway that never saw the metadata, or that stops, is to get no connections.
pub async fn follow(mut told: watch::Receiver<Status>, health: Health, stopping: impl Future<Output = ()>) {
    let metadata = health.check("metadata");
    let seen = async {
        loop {
            let status = *told.borrow_and_update();
            if status.ready {
                metadata.pass();
                health.set_started();
            } else {
                metadata.fail("no metadata yet: no controller has been reached");
            }
            if told.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = seen => {}
        () = stopping => health.set_stopping(),
    }
}
