//! What is measured, one function per fact.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::{GroupLag, RequestInfo, Stats};
use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service_kit::metrics::LATENCY_SECONDS;

pub struct Metrics {
    latency: HistogramVec,
    latency_by_api: BTreeMap<&'static str, Histogram>,
    requests: IntCounterVec,
    errors: IntCounterVec,
    closes: IntCounterVec,
    bytes_in: IntCounter,
    bytes_out: IntCounter,
    connections: IntGauge,
    bytes_held: IntGauge,
    bytes_unsent: IntGauge,
    bytes_receiving: IntGauge,
    fetch_sessions: IntGauge,
    fetch_session_partitions: IntGauge,
    produce_retries: IntCounter,
    produce_indeterminate: IntCounter,
    metadata_offset: IntGauge,
    groups: GroupMetrics,
    /// What was taken over from the core already.
    last: Stats,
}

impl Metrics {
    pub fn new(kit: &service_kit::Metrics) -> Metrics {
        Metrics {
            latency: kit.histograms(
                "thalweg_gateway_request_seconds",
                "From the last byte of a request to the moment its answer is ready.",
                &["api"],
                LATENCY_SECONDS,
            ),
            latency_by_api: BTreeMap::new(),
            requests: kit.counters("thalweg_gateway_requests_total", "Requests begun.", &["api"]),
            errors: kit.counters("thalweg_gateway_errors_total", "Error codes told to clients.", &["code"]),
            closes: kit.counters("thalweg_gateway_closes_total", "Connections ended by the gateway.", &["reason"]),
            bytes_in: kit.counter("thalweg_gateway_received_bytes_total", "Bytes of requests."),
            bytes_out: kit.counter("thalweg_gateway_sent_bytes_total", "Bytes of answers."),
            connections: kit.gauge("thalweg_gateway_connections", "Open client connections."),
            bytes_held: kit.gauge("thalweg_gateway_held_bytes", "Bytes of requests received and not answered."),
            bytes_unsent: kit.gauge("thalweg_gateway_unsent_bytes", "Bytes of answers that clients have not taken."),
            bytes_receiving: kit
                .gauge("thalweg_gateway_receiving_bytes", "Bytes of requests that are not whole or not taken up yet."),
            fetch_sessions: kit.gauge("thalweg_gateway_fetch_sessions", "Fetch sessions remembered."),
            fetch_session_partitions: kit
                .gauge("thalweg_gateway_fetch_session_partitions", "Partitions in fetch sessions."),
            produce_retries: kit.counter("thalweg_gateway_produce_retries_total", "Appends sent again."),
            produce_indeterminate: kit
                .counter("thalweg_gateway_produce_indeterminate_total", "Appends whose outcome is unknown."),
            metadata_offset: kit.gauge("thalweg_gateway_metadata_offset", "How far the metadata is followed."),
            groups: GroupMetrics::new(kit),
            last: Stats::default(),
        }
    }

    pub(crate) fn answered(&mut self, request: RequestInfo, took: Duration) {
        let api = request.key.name();
        self.latency_by_api
            .entry(api)
            .or_insert_with(|| self.latency.with_label_values(&[api]))
            .observe(took.as_secs_f64());
    }

    /// Takes over what the core has counted since the last time.
    pub(crate) fn counted(&mut self, stats: Stats, metadata_offset: u64) {
        for (key, count) in &stats.requests {
            let before = self.last.requests.get(key).copied().unwrap_or_default();
            self.requests.with_label_values(&[key.name()]).inc_by(count - before);
        }
        for (code, count) in &stats.errors {
            let before = self.last.errors.get(code).copied().unwrap_or_default();
            self.errors.with_label_values(&[code.name()]).inc_by(count - before);
        }
        for (reason, count) in &stats.closes {
            let before = self.last.closes.get(reason).copied().unwrap_or_default();
            self.closes.with_label_values(&[&format!("{reason:?}")]).inc_by(count - before);
        }
        self.bytes_in.inc_by(stats.bytes_in - self.last.bytes_in);
        self.bytes_out.inc_by(stats.bytes_out - self.last.bytes_out);
        self.produce_retries.inc_by(stats.produce_retries - self.last.produce_retries);
        self.produce_indeterminate.inc_by(stats.produce_indeterminate - self.last.produce_indeterminate);
        self.connections.set(stats.connections as i64);
        self.bytes_held.set(stats.bytes_held as i64);
        self.bytes_unsent.set(stats.bytes_unsent as i64);
        self.fetch_sessions.set(stats.fetch_sessions as i64);
        self.fetch_session_partitions.set(stats.fetch_session_partitions as i64);
        self.metadata_offset.set(metadata_offset as i64);
        self.last = stats;
    }

    pub(crate) fn receiving(&self, bytes: usize) {
        self.bytes_receiving.set(bytes as i64);
    }

    /// Takes over what a new round found of groups; what it did not find is no more.
    pub(crate) fn behind(&mut self, rounds: u64, groups: &[GroupLag]) {
        if std::mem::replace(&mut self.groups.rounds, rounds) != rounds {
            self.groups.set(groups);
        }
    }
}

/// Under the names of kafka_exporter, which dashboards and alerts know; what it does not have is named alike.
struct GroupMetrics {
    offset: IntGaugeVec,
    offset_sum: IntGaugeVec,
    lag: IntGaugeVec,
    lag_sum: IntGaugeVec,
    lag_max: IntGaugeVec,
    lag_seconds: GaugeVec,
    lag_seconds_sum: GaugeVec,
    lag_seconds_max: GaugeVec,
    members: IntGaugeVec,
    state: IntGaugeVec,
    rebalances: IntCounterVec,
    /// Taken over already.
    rounds: u64,
}

impl GroupMetrics {
    fn new(kit: &service_kit::Metrics) -> GroupMetrics {
        let partition = ["consumergroup", "topic", "partition"];
        let topic = ["consumergroup", "topic"];
        GroupMetrics {
            offset: kit.gauges(
                "kafka_consumergroup_current_offset",
                "Committed offset of a group in a partition.",
                &partition,
            ),
            offset_sum: kit.gauges(
                "kafka_consumergroup_current_offset_sum",
                "Committed offsets of a group, over the partitions of a topic.",
                &topic,
            ),
            lag: kit.gauges("kafka_consumergroup_lag", "Records a group is behind in a partition.", &partition),
            lag_sum: kit.gauges(
                "kafka_consumergroup_lag_sum",
                "Records a group is behind, over the partitions of a topic.",
                &topic,
            ),
            lag_max: kit.gauges(
                "kafka_consumergroup_lag_max",
                "Records a group is behind in the worst partition of a topic.",
                &topic,
            ),
            lag_seconds: kit.fractions(
                "kafka_consumergroup_lag_seconds",
                "Age of the first record of a partition that a group has not read; 0 when there is none.",
                &partition,
            ),
            lag_seconds_sum: kit.fractions(
                "kafka_consumergroup_lag_seconds_sum",
                "The same, over the partitions of a topic.",
                &topic,
            ),
            lag_seconds_max: kit.fractions(
                "kafka_consumergroup_lag_seconds_max",
                "The same in the worst partition of a topic.",
                &topic,
            ),
            members: kit.gauges("kafka_consumergroup_members", "Members of a group.", &["consumergroup"]),
            state: kit.gauges(
                "thalweg_group_state",
                "1 for the state that a group is in, by Kafka's name.",
                &["consumergroup", "state"],
            ),
            rebalances: kit.counters(
                "thalweg_group_rebalances_total",
                "Rebalances of a group since it was made: its generation, or its group epoch.",
                &["consumergroup"],
            ),
            rounds: 0,
        }
    }

    fn set(&self, groups: &[GroupLag]) {
        for gauges in
            [&self.offset, &self.offset_sum, &self.lag, &self.lag_sum, &self.lag_max, &self.members, &self.state]
        {
            gauges.reset();
        }
        for gauges in [&self.lag_seconds, &self.lag_seconds_sum, &self.lag_seconds_max] {
            gauges.reset();
        }
        self.rebalances.reset();
        for group in groups {
            let group_id = group.group_id.as_str();
            self.members.with_label_values(&[group_id]).set(group.members as i64);
            self.state.with_label_values(&[group_id, group.state]).set(1);
            if let Some(rebalances) = group.rebalances {
                self.rebalances.with_label_values(&[group_id]).inc_by(u64::try_from(rebalances).unwrap_or(0));
            }
            for partition in &group.partitions {
                let (topic, index) = (partition.topic.as_str(), partition.partition.to_string());
                self.offset.with_label_values(&[group_id, topic, &index]).set(partition.committed.0);
                self.lag.with_label_values(&[group_id, topic, &index]).set(partition.lag);
                self.offset_sum.with_label_values(&[group_id, topic]).add(partition.committed.0);
                self.lag_sum.with_label_values(&[group_id, topic]).add(partition.lag);
                let lag_max = self.lag_max.with_label_values(&[group_id, topic]);
                lag_max.set(lag_max.get().max(partition.lag));
                if let Some(lag_ms) = partition.lag_ms {
                    let seconds = lag_ms as f64 / 1e3;
                    self.lag_seconds.with_label_values(&[group_id, topic, &index]).set(seconds);
                    self.lag_seconds_sum.with_label_values(&[group_id, topic]).add(seconds);
                    let worst = self.lag_seconds_max.with_label_values(&[group_id, topic]);
                    worst.set(worst.get().max(seconds));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base_types::{Offset, PartitionIndex};
    use gateway_core::PartitionLag;

    use super::*;

    #[test]
    fn lag_has_the_names_of_kafka_exporter_and_groups_that_are_gone_go() {
        let kit = service_kit::Metrics::new("test", "0");
        let mut metrics = Metrics::new(&kit);
        let partition = |index, committed, lag, lag_ms| PartitionLag {
            topic: "t".into(),
            partition: PartitionIndex(index),
            committed: Offset(committed),
            lag,
            lag_ms,
        };
        let partitions =
            vec![partition(0, 10, 3, Some(1_500)), partition(1, 20, 4, Some(250)), partition(2, 0, 1, None)];
        let group_id = "g".to_owned();
        metrics.behind(1, &[GroupLag { group_id, state: "Stable", rebalances: Some(3), members: 2, partitions }]);
        let text = kit.render();
        for line in [
            r#"kafka_consumergroup_current_offset{consumergroup="g",partition="0",topic="t"} 10"#,
            r#"kafka_consumergroup_current_offset_sum{consumergroup="g",topic="t"} 30"#,
            r#"kafka_consumergroup_lag{consumergroup="g",partition="1",topic="t"} 4"#,
            r#"kafka_consumergroup_lag_sum{consumergroup="g",topic="t"} 8"#,
            r#"kafka_consumergroup_lag_max{consumergroup="g",topic="t"} 4"#,
            r#"kafka_consumergroup_members{consumergroup="g"} 2"#,
            r#"kafka_consumergroup_lag_seconds{consumergroup="g",partition="0",topic="t"} 1.5"#,
            r#"kafka_consumergroup_lag_seconds_sum{consumergroup="g",topic="t"} 1.75"#,
            r#"kafka_consumergroup_lag_seconds_max{consumergroup="g",topic="t"} 1.5"#,
            r#"thalweg_group_state{consumergroup="g",state="Stable"} 1"#,
            r#"thalweg_group_rebalances_total{consumergroup="g"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("kafka_consumergroup_lag_seconds{consumergroup=\"g\",partition=\"2\""), "nobody knows");
        metrics.behind(1, &[]);
        assert!(kit.render().contains("kafka_consumergroup_lag_sum{"), "the same round says nothing new");
        metrics.behind(2, &[]);
        assert!(!kit.render().contains("consumergroup=\"g\""));
    }
}
