//! Kafka's topic and broker configs: names, types, defaults, bounds; and the typed settings the services act on.
