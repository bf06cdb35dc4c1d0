//! What the node's state means for readiness.

use std::time::Duration;

use service_kit::Health;

use crate::shell::Handle;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Keeps `health` in step with the node: started once its data is recovered and the shell runs, ready while the controller
/// trusts it. Ends with the shell.
pub async fn follow(handle: Handle, health: Health) {
    let registered = health.check("registration");
    health.set_started();
    while let Some((stats, _)) = handle.stats().await {
        if stats.registered && !stats.fenced {
            registered.pass();
        } else {
            registered.fail("the controller has not unfenced this node");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
