//! The standard gRPC health service.

use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::services::Service;
use crate::services::controller::Controller;
use crate::services::raft::Raft;
use crate::services::replication::Replication;
use crate::services::storage::Storage;

/// What the health service answers, for the whole process (the empty name) and each stream service alike.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Not serving until it is said otherwise.
    pub fn new() -> Health {
        Health { reporter: HealthReporter::new() }
    }

    pub async fn set_serving(&self, serving: bool) {
        use tonic_health::ServingStatus;
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in ["", Storage::NAME, Replication::NAME, Controller::NAME, Raft::NAME] {
            self.reporter.set_service_status(name, status).await;
        }
    }

    pub(crate) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::new()
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health")
    }
}
