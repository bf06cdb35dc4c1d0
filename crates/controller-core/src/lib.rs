//! The metadata state machine: brokers, topics, leaders, ISR and ELR, configs.
