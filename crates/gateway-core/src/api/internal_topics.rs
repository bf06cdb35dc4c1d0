//! Topics that the cluster makes for itself when somebody first needs them.

use peer_api::config::{Lookup, broker_config};
use peer_api::controller::NewTopic;
use peer_api::groups::GROUPS_TOPIC;

use crate::operation::Context;

/// `__consumer_offsets`, as the `offsets.topic.` settings ask for it.
pub(crate) fn groups_topic(cx: &Context<'_>) -> NewTopic {
    let lookup = Lookup::new(cx.image).with_static(&cx.config().statics);
    let setting = |name: &str| broker_config(name).and_then(|definition| lookup.broker_config(definition).value);
    let config = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let mut configs = vec![config("cleanup.policy", "compact"), config("compression.type", "producer")];
    configs.extend(setting("offsets.topic.segment.bytes").map(|bytes| config("segment.bytes", &bytes)));
    NewTopic {
        name: GROUPS_TOPIC.to_owned(),
        partitions: setting("offsets.topic.num.partitions").and_then(|count| count.parse().ok()).unwrap_or(50),
        replication_factor: setting("offsets.topic.replication.factor")
            .and_then(|count| count.parse().ok())
            .unwrap_or(3),
        assignments: Vec::new(),
        configs,
    }
}
