//! A whole gateway: connections, one handler per Kafka API, routing, metadata.
