import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What kafbat UI and AKHQ ask of a Kafka, with the client library that they use, on a state that this program makes itself.
 *
 * Prints each question and below it the answer, without what differs from one Kafka to another: addresses, paths, sizes, ids that
 * are drawn, times. So two Kafkas that do the same make it print the same. Arguments: address, time of the first record.
 */
public class UserInterfaces {
    static final String ORDERS = "ui-orders";
    static final String COMPACTED = "ui-compacted";
    static final String CLASSIC = "ui-classic";
    static final String MODERN = "ui-modern";
    static final String EMPTY = "ui-empty";
    static final int PARTITIONS = 3;
    static final int RECORDS = 60;

    /** The broker's configs that a user interface shows or acts on. */
    static final Set<String> BROKER_CONFIGS = Set.of(
        "auto.create.topics.enable", "compression.type", "default.replication.factor", "delete.topic.enable",
        "log.cleanup.policy", "log.retention.bytes", "log.retention.hours", "log.segment.bytes", "message.max.bytes",
        "min.insync.replicas", "num.partitions", "unclean.leader.election.enable");

    static String bootstrap;
    static long began;
    static Admin admin;

    public static void main(String[] arguments) throws Exception {
        // What the library logs is not an answer.
        System.setProperty("log4j2.level", "OFF");
        bootstrap = arguments[0];
        began = Long.parseLong(arguments[1]);
        try (Admin opened = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin = opened;
            arrange();
            try (var classic = member(CLASSIC, "classic"); var modern = member(MODERN, "consumer")) {
                overview();
                topics();
                groups();
                browse();
                changes();
            }
        }
    }

    // ---- the state -------------------------------------------------------------------------------------------------

    static void arrange() throws Exception {
        admin.createTopics(List.of(
            new NewTopic(ORDERS, PARTITIONS, (short) 1).configs(Map.of("retention.ms", "86400000", "max.message.bytes", "500000")),
            new NewTopic(COMPACTED, 1, (short) 1).configs(Map.of("cleanup.policy", "compact")))).all().get();
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "compression.type", "zstd");
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < RECORDS; n++) {
                var record = new ProducerRecord<>(ORDERS, n % PARTITIONS, began + n * 1000L, "key-" + n % 7, "value-" + n);
                record.headers().add("trace", ("trace-" + n).getBytes());
                producer.send(record).get();
            }
            for (int n = 0; n < 10; n++) {
                producer.send(new ProducerRecord<>(COMPACTED, 0, began + n, "key-" + n % 3, n < 9 ? "value-" + n : null)).get();
            }
        }
        admin.alterConsumerGroupOffsets(EMPTY, Map.of(
            new TopicPartition(ORDERS, 0), new OffsetAndMetadata(4, Optional.of(0), "by hand"),
            new TopicPartition(ORDERS, 1), new OffsetAndMetadata(2))).all().get();
    }

    /** A member that has read and committed everything and stays; its library sends the heartbeats. */
    static KafkaConsumer<String, String> member(String group, String protocol) {
        Map<String, Object> settings = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "group.id", group, "group.protocol", protocol, "client.id", group + "-client",
            "auto.offset.reset", "earliest", "enable.auto.commit", false));
        var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(ORDERS));
        long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        for (int seen = 0; seen < RECORDS;) {
            seen += consumer.poll(Duration.ofMillis(500)).count();
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException(group + ": " + seen + " of " + RECORDS + " records");
            }
        }
        consumer.commitSync();
        return consumer;
    }

    // ---- what both show first: the cluster, its brokers, their logs ------------------------------------------------------

    static void overview() {
        show("describeCluster", () -> {
            var cluster = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
            return List.of("controller " + node(cluster.controller().get()), "nodes " + nodes(cluster.nodes().get()),
                "named " + !cluster.clusterId().get().isEmpty(), "allowed " + sorted(cluster.authorizedOperations().get()));
        });
        show("describeCluster without operations", () -> admin.describeCluster().authorizedOperations().get());
        show("describeConfigs of a broker", () -> {
            var broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
            var entries = admin.describeConfigs(List.of(broker)).all().get().get(broker).entries();
            return entries.stream().filter(entry -> BROKER_CONFIGS.contains(entry.name())).map(UserInterfaces::config).toList();
        });
        show("describeConfigs of no broker", () ->
            admin.describeConfigs(List.of(new ConfigResource(ConfigResource.Type.BROKER, "99"))).all().get());
        show("describeLogDirs", () -> {
            var lines = new ArrayList<String>();
            admin.describeLogDirs(List.of(1)).allDescriptions().get().forEach((broker, folders) -> folders.forEach((path, folder) -> {
                lines.add(broker + ": error " + folder.error() + " capacity " + (folder.totalBytes().orElse(0) > 0)
                    + " free " + (folder.usableBytes().orElse(0) > 0));
                folder.replicaInfos().forEach((partition, replica) -> {
                    if (partition.topic().startsWith("ui-")) {
                        lines.add(partition + ": holds " + (replica.size() > 0) + " lag " + replica.offsetLag() + " future " + replica.isFuture());
                    }
                });
            }));
            return lines;
        });
        show("describeFeatures", () -> {
            var features = admin.describeFeatures().featureMetadata().get();
            var ours = Set.of("metadata.version", "group.version", "eligible.leader.replicas.version");
            return features.finalizedFeatures().entrySet().stream().filter(entry -> ours.contains(entry.getKey())).toList();
        });
        show("describeMetadataQuorum", () -> {
            var quorum = admin.describeMetadataQuorum().quorumInfo().get();
            return quorum.voters().stream().map(voter -> (voter.replicaId() == quorum.leaderId() ? "leader" : "voter")
                + " has written " + (voter.logEndOffset() > 0)).toList();
        });
        show("describeAcls", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
        show("describeClientQuotas", () -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get());
        show("describeUserScramCredentials", () -> admin.describeUserScramCredentials().all().get());
        show("listPartitionReassignments", () -> admin.listPartitionReassignments().reassignments().get());
    }

    // ---- topics ----------------------------------------------------------------------------------------------------------

    static void topics() {
        show("listTopics", () -> admin.listTopics().listings().get().stream()
            .filter(topic -> topic.name().startsWith("ui-")).map(topic -> topic.name() + " internal " + topic.isInternal()).toList());
        show("listTopics with internal ones", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).listings().get().stream()
            .filter(TopicListing::isInternal).map(TopicListing::name).toList());
        show("describeTopics", () -> admin.describeTopics(List.of(ORDERS, COMPACTED, "__consumer_offsets"),
            new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames().get().values().stream()
            .map(topic -> topic.name() + " internal " + topic.isInternal() + " allowed " + sorted(topic.authorizedOperations())
                + " partitions " + topic.partitions().stream().map(UserInterfaces::partition).toList()).toList());
        show("describeTopics of none", () -> admin.describeTopics(List.of("ui-nothing")).allTopicNames().get());
        for (String topic : List.of(ORDERS, COMPACTED, "__consumer_offsets")) {
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            show("describeConfigs of " + topic, () -> admin.describeConfigs(List.of(resource),
                    new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true))
                .all().get().get(resource).entries().stream().map(UserInterfaces::config).toList());
        }
        show("describeConfigs of no topic", () ->
            admin.describeConfigs(List.of(new ConfigResource(ConfigResource.Type.TOPIC, "ui-nothing"))).all().get());
        Map<String, OffsetSpec> specs = new TreeMap<>(Map.of(
            "earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "of the latest record", OffsetSpec.maxTimestamp(),
            "at a time", OffsetSpec.forTimestamp(began + 30_500), "after all", OffsetSpec.forTimestamp(began + 3_600_000)));
        specs.forEach((name, spec) -> show("listOffsets " + name, () -> {
            var asked = places(ORDERS).stream().collect(Collectors.toMap(Function.identity(), place -> spec));
            return offsets(admin.listOffsets(asked).all().get());
        }));
        show("describeProducers", () -> {
            var states = admin.describeProducers(places(ORDERS)).all().get();
            var lines = new ArrayList<String>();
            states.forEach((place, of) -> of.activeProducers().forEach(producer -> lines.add(place + ": epoch " + producer.producerEpoch()
                + " sequence " + producer.lastSequence() + " coordinator " + producer.coordinatorEpoch() + " open " + producer.currentTransactionStartOffset())));
            return lines;
        });
    }

    // ---- groups ------------------------------------------------------------------------------------------------------------

    static void groups() {
        show("listGroups of consumers", () -> admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get().stream()
            .filter(group -> group.groupId().startsWith("ui-")).map(GroupListing::toString).toList());
        show("listConsumerGroups", () -> listed(new ListConsumerGroupsOptions()));
        show("listConsumerGroups that are stable", () -> listed(
            new ListConsumerGroupsOptions().inGroupStates(Set.of(org.apache.kafka.common.GroupState.STABLE))));
        for (String group : List.of(CLASSIC, MODERN, EMPTY, "ui-nobody")) {
            show("describeConsumerGroups " + group, () -> {
                var found = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                var lines = new ArrayList<>(List.of(found.groupId() + " " + found.groupState() + " " + found.type() + " assignor '"
                    + found.partitionAssignor() + "' simple " + found.isSimpleConsumerGroup() + " coordinator " + node(found.coordinator())
                    + " epochs " + found.groupEpoch().isPresent() + " allowed " + found.authorizedOperations()));
                found.members().forEach(member -> lines.add("  " + member.clientId() + " at " + member.host() + " instance " + member.groupInstanceId()
                    + " has " + sorted(member.assignment().topicPartitions()) + " is to have "
                    + member.targetAssignment().map(target -> sorted(target.topicPartitions())) + " upgraded " + member.upgraded()));
                return lines;
            });
            show("listConsumerGroupOffsets " + group, () -> committed(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()));
        }
        show("listConsumerGroupOffsets of several", () -> {
            var all = new ListConsumerGroupOffsetsSpec();
            var some = new ListConsumerGroupOffsetsSpec().topicPartitions(places(ORDERS));
            var lines = new ArrayList<String>();
            admin.listConsumerGroupOffsets(Map.of(CLASSIC, all, MODERN, all, EMPTY, some)).all().get()
                .forEach((group, offsets) -> committed(offsets).forEach(line -> lines.add(group + " " + line)));
            return lines;
        });
        show("lag", () -> {
            var lines = new ArrayList<String>();
            var ends = admin.listOffsets(places(ORDERS).stream().collect(Collectors.toMap(Function.identity(), place -> OffsetSpec.latest()))).all().get();
            for (String group : List.of(CLASSIC, MODERN, EMPTY)) {
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                    .forEach((place, at) -> lines.add(group + " " + place + " " + (ends.get(place).offset() - at.offset())));
            }
            return lines;
        });
    }

    // ---- messages: from an offset, from a time, the last ones ------------------------------------------------------------

    static void browse() {
        var settings = new Properties();
        settings.putAll(Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", false, "auto.offset.reset", "earliest",
            "allow.auto.create.topics", false, "max.poll.records", 5));
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            show("partitionsFor", () -> consumer.partitionsFor(ORDERS).stream().map(of -> of.partition() + " " + node(of.leader())).toList());
            show("partitionsFor nothing", () -> consumer.partitionsFor("ui-nothing"));
            show("beginningOffsets", () -> consumer.beginningOffsets(places(ORDERS)));
            show("endOffsets", () -> consumer.endOffsets(places(ORDERS)));
            show("offsetsForTimes", () -> consumer.offsetsForTimes(places(ORDERS).stream().collect(
                Collectors.toMap(Function.identity(), place -> began + 45_000))).entrySet().stream()
                .map(found -> found.getKey() + " " + found.getValue().offset() + " " + (found.getValue().timestamp() - began)).toList());
            show("messages from an offset", () -> {
                consumer.assign(places(ORDERS));
                places(ORDERS).forEach(place -> consumer.seek(place, 7));
                return read(consumer);
            });
            show("messages from a time", () -> {
                consumer.assign(places(ORDERS));
                var times = places(ORDERS).stream().collect(Collectors.toMap(Function.identity(), place -> began + 40_000));
                consumer.offsetsForTimes(times).forEach((place, found) -> consumer.seek(place, found.offset()));
                return read(consumer);
            });
            show("the last messages", () -> {
                consumer.assign(places(ORDERS));
                consumer.endOffsets(places(ORDERS)).forEach((place, end) -> consumer.seek(place, end - 2));
                return read(consumer);
            });
            show("messages of a compacted topic", () -> {
                consumer.assign(places(COMPACTED));
                consumer.seekToBeginning(places(COMPACTED));
                return read(consumer);
            });
        }
    }

    static List<String> read(KafkaConsumer<String, String> consumer) {
        var ends = consumer.endOffsets(consumer.assignment());
        var lines = new ArrayList<String>();
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                var headers = new ArrayList<String>();
                record.headers().forEach(header -> headers.add(header.key() + "=" + new String(header.value())));
                lines.add(String.format("%d %03d epoch %s %s %d %s=%s %s sizes %d %d", record.partition(), record.offset(), record.leaderEpoch(),
                    record.timestampType(), record.timestamp() - began, record.key(), record.value(), headers,
                    record.serializedKeySize(), record.serializedValueSize()));
            }
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("only " + lines.size() + " records within 30 s");
            }
        }
        return lines;
    }

    // ---- what a user changes -----------------------------------------------------------------------------------------------

    static void changes() {
        var topic = "ui-made";
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var place = new TopicPartition(topic, 0);
        show("createTopics", () -> admin.createTopics(List.of(new NewTopic(topic, Optional.of(2), Optional.empty())
            .configs(Map.of("cleanup.policy", "delete", "retention.bytes", "1000000")))).config(topic).get().entries().stream()
            .map(UserInterfaces::config).toList());
        show("createTopics again", () -> admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get());
        show("createTopics wrong", () -> admin.createTopics(List.of(new NewTopic("ui-wrong", 1, (short) 1)
            .configs(Map.of("retention.ms", "soon")))).all().get());
        show("createPartitions", () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get());
        show("createPartitions fewer", () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all().get());
        show("incrementalAlterConfigs", () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "1000000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("retention.bytes", ""), AlterConfigOp.OpType.DELETE),
            new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND)))).all().get());
        show("describeConfigs after it", () -> {
            // A broker learns of a change after whoever made it has been answered.
            long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            while (true) {
                var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                if ("1000000".equals(config.get("retention.ms").value()) || System.nanoTime() > deadline) {
                    return config.entries().stream().filter(entry -> entry.source() != ConfigEntry.ConfigSource.DEFAULT_CONFIG)
                        .map(UserInterfaces::config).toList();
                }
                Thread.sleep(20);
            }
        });
        show("incrementalAlterConfigs wrong", () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(
            new AlterConfigOp(new ConfigEntry("min.insync.replicas", "none"), AlterConfigOp.OpType.SET)))).all().get());
        show("produce from the form", () -> {
            Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                // The topic is compacted as well now: without a key is refused.
                var written = producer.send(new ProducerRecord<>(topic, 0, "key", "value")).get();
                producer.send(new ProducerRecord<>(topic, 0, "key", "another")).get();
                return written.partition() + " " + written.offset();
            }
        });
        show("produce without a key to a compacted topic", () -> {
            Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                return producer.send(new ProducerRecord<>(COMPACTED, 0, (String) null, "value")).get().offset();
            } catch (ExecutionException refused) {
                // Its words are each Kafka's own.
                return refused.getCause().getClass();
            }
        });
        show("deleteRecords", () -> admin.deleteRecords(Map.of(new TopicPartition(ORDERS, 0), RecordsToDelete.beforeOffset(5)))
            .lowWatermarks().values().iterator().next().get().lowWatermark());
        show("deleteRecords of a compacted topic", () -> admin.deleteRecords(Map.of(new TopicPartition(COMPACTED, 0), RecordsToDelete.beforeOffset(1))).all().get());
        show("alterPartitionReassignments", () -> admin.alterPartitionReassignments(Map.of(
            place, Optional.of(new NewPartitionReassignment(List.of(1))))).all().get());
        show("electLeaders", () -> admin.electLeaders(org.apache.kafka.common.ElectionType.PREFERRED, Set.of(place)).partitions().get());
        show("alterConsumerGroupOffsets", () -> admin.alterConsumerGroupOffsets(EMPTY, Map.of(place, new OffsetAndMetadata(1))).all().get());
        show("alterConsumerGroupOffsets of a live group", () -> admin.alterConsumerGroupOffsets(CLASSIC, Map.of(place, new OffsetAndMetadata(1))).all().get());
        show("alterConsumerGroupOffsets of a live group of the new protocol", () ->
            admin.alterConsumerGroupOffsets(MODERN, Map.of(place, new OffsetAndMetadata(1))).all().get());
        show("a commit of a consumer without members", () -> {
            Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "group.id", EMPTY, "enable.auto.commit", false);
            try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
                consumer.assign(places(ORDERS));
                consumer.commitSync(Map.of(new TopicPartition(ORDERS, 2), new OffsetAndMetadata(9)));
                return committed(admin.listConsumerGroupOffsets(EMPTY).partitionsToOffsetAndMetadata().get());
            }
        });
        show("deleteConsumerGroupOffsets", () -> admin.deleteConsumerGroupOffsets(EMPTY, Set.of(new TopicPartition(ORDERS, 1))).all().get());
        show("deleteConsumerGroupOffsets of a live group", () ->
            admin.deleteConsumerGroupOffsets(CLASSIC, Set.of(new TopicPartition(ORDERS, 1))).all().get());
        show("deleteConsumerGroupOffsets of nobody", () ->
            admin.deleteConsumerGroupOffsets("ui-nobody", Set.of(new TopicPartition(ORDERS, 1))).all().get());
        show("deleteConsumerGroups that live", () -> admin.deleteConsumerGroups(List.of(CLASSIC)).all().get());
        show("deleteConsumerGroups that live, new protocol", () -> admin.deleteConsumerGroups(List.of(MODERN)).all().get());
        show("deleteConsumerGroups", () -> admin.deleteConsumerGroups(List.of(EMPTY)).all().get());
        show("deleteConsumerGroups of nobody", () -> admin.deleteConsumerGroups(List.of("ui-nobody")).all().get());
        show("deleteTopics", () -> admin.deleteTopics(List.of(topic)).all().get());
        show("deleteTopics again", () -> admin.deleteTopics(List.of(topic)).all().get());
        show("deleteTopics that are the groups'", () -> admin.deleteTopics(List.of("__no_such_internal")).all().get());
    }

    // ---- how an answer is told ---------------------------------------------------------------------------------------------

    static void show(String question, Callable<Object> ask) {
        System.out.println("# " + question);
        try {
            for (String line : lines(ask.call())) {
                if (!line.startsWith("thalweg.")) {
                    System.out.println(line);
                }
            }
        } catch (Exception thrown) {
            Throwable cause = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
            System.out.println(cause.getClass().getSimpleName() + ": " + cause.getMessage());
        }
    }

    static List<String> lines(Object answer) {
        if (answer instanceof Map<?, ?> map) {
            return lines(map.entrySet());
        }
        if (answer instanceof Collection<?> collection) {
            return collection.stream().map(String::valueOf).sorted().toList();
        }
        return List.of(String.valueOf(answer));
    }

    static List<String> sorted(Collection<?> of) {
        return of == null ? null : of.stream().map(String::valueOf).sorted().toList();
    }

    static List<TopicPartition> places(String topic) {
        var places = new ArrayList<TopicPartition>();
        for (int partition = 0; partition < (topic.equals(COMPACTED) ? 1 : PARTITIONS); partition++) {
            places.add(new TopicPartition(topic, partition));
        }
        return places;
    }

    static String node(Node node) {
        return node == null ? "none" : node.id() + " at " + node.host() + " rack " + node.rack();
    }

    static List<String> nodes(Collection<Node> nodes) {
        return nodes.stream().sorted(Comparator.comparing(Node::id)).map(UserInterfaces::node).toList();
    }

    static String partition(TopicPartitionInfo of) {
        return of.partition() + " led by " + node(of.leader()) + " on " + nodes(of.replicas()) + " in sync " + nodes(of.isr())
            + " eligible " + nodes(of.elr()) + " before " + nodes(of.lastKnownElr());
    }

    static String config(ConfigEntry of) {
        return of.name() + "=" + of.value() + " " + of.source() + " " + of.type() + (of.isSensitive() ? " sensitive" : "")
            + (of.isReadOnly() ? " read-only" : "") + " documented " + (of.documentation() != null) + " synonyms "
            + of.synonyms().stream().map(synonym -> synonym.name() + "=" + synonym.value() + " " + synonym.source()).toList();
    }

    static List<String> offsets(Map<TopicPartition, ListOffsetsResult.ListOffsetsResultInfo> found) {
        return found.entrySet().stream().map(entry -> entry.getKey() + " " + entry.getValue().offset() + " time "
            + (entry.getValue().timestamp() < 0 ? -1 : entry.getValue().timestamp() - began) + " epoch " + entry.getValue().leaderEpoch()).sorted().toList();
    }

    static List<String> committed(Map<TopicPartition, OffsetAndMetadata> found) {
        return found.entrySet().stream().map(entry -> entry.getKey() + " " + (entry.getValue() == null ? null
            : entry.getValue().offset() + " '" + entry.getValue().metadata() + "' epoch " + entry.getValue().leaderEpoch())).sorted().toList();
    }

    static List<String> listed(ListConsumerGroupsOptions options) throws Exception {
        return admin.listConsumerGroups(options).all().get().stream().filter(group -> group.groupId().startsWith("ui-"))
            .map(group -> group.groupId() + " " + group.groupState() + " " + group.type() + " simple " + group.isSimpleConsumerGroup()).toList();
    }
}
