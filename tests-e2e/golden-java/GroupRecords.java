import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.coordinator.group.generated.*;

/**
 * Prints records of __consumer_offsets as Kafka's own classes write them.
 *
 * <pre>
 *   mvn -q dependency:copy-dependencies
 *   java -cp 'target/dependency/*' GroupRecords.java > ../../crates/coordinator-core/fixtures/records.txt
 * </pre>
 *
 * One line per record: name, version of the value, key in hex, value in hex. `crates/coordinator-core/tests/golden.rs` says what
 * each one means.
 */
public final class GroupRecords {
    private static final Uuid TOPIC = new Uuid(0x0102030405060708L, 0x090a0b0c0d0e0f10L);

    public static void main(String[] arguments) {
        ApiMessage offset = new OffsetCommitKey().setGroup("grüße").setTopic("topic").setPartition(7);
        OffsetCommitValue committed = new OffsetCommitValue().setOffset(1234567890123L).setLeaderEpoch(5)
            .setMetadata("métadata").setCommitTimestamp(1700000000000L).setExpireTimestamp(1700000060000L)
            .setTopicId(TOPIC);
        for (short version = 0; version <= 4; version++) {
            print("offset", version, offset, committed);
        }
        print("offset-without-topic-id", (short) 4, offset, committed.duplicate().setTopicId(Uuid.ZERO_UUID));
        print("offset-legacy", (short) 0, new LegacyOffsetCommitKey().setGroup("grüße").setTopic("topic").setPartition(7),
            new LegacyOffsetCommitValue().setOffset(1234567890123L).setMetadata("métadata")
                .setCommitTimestamp(1700000000000L));

        GroupMetadataValue group = new GroupMetadataValue().setProtocolType("consumer").setGeneration(9)
            .setProtocol("range").setLeader("member-1").setCurrentStateTimestamp(1700000000000L).setMembers(List.of(
                new GroupMetadataValue.MemberMetadata().setMemberId("member-1").setGroupInstanceId("instance")
                    .setClientId("client").setClientHost("/127.0.0.1").setRebalanceTimeout(300000)
                    .setSessionTimeout(45000).setSubscription(new byte[] {1, 2, 3}).setAssignment(new byte[] {4}),
                new GroupMetadataValue.MemberMetadata().setMemberId("member-2").setClientId("client")
                    .setClientHost("/127.0.0.1").setRebalanceTimeout(300000).setSessionTimeout(45000)
                    .setSubscription(new byte[0]).setAssignment(new byte[0])));
        for (short version = 0; version <= 4; version++) {
            print("classic", version, new GroupMetadataKey().setGroup("group"), group);
        }
        print("classic-empty", (short) 3, new GroupMetadataKey().setGroup("group"),
            new GroupMetadataValue().setProtocolType("").setGeneration(0).setProtocol(null).setLeader(null)
                .setCurrentStateTimestamp(1700000000000L).setMembers(List.of()));

        print("consumer", (short) 0, new ConsumerGroupMetadataKey().setGroupId("group"),
            new ConsumerGroupMetadataValue().setEpoch(11).setMetadataHash(-987654321L));
        print("consumer-without-hash", (short) 0, new ConsumerGroupMetadataKey().setGroupId("group"),
            new ConsumerGroupMetadataValue().setEpoch(11));
        print("consumer-partition-metadata", (short) 0, new ConsumerGroupPartitionMetadataKey().setGroupId("group"),
            new ConsumerGroupPartitionMetadataValue().setTopics(List.of(
                new ConsumerGroupPartitionMetadataValue.TopicMetadata().setTopicId(TOPIC).setTopicName("topic")
                    .setNumPartitions(3).setPartitionMetadata(List.of()))));
        ApiMessage memberKey = new ConsumerGroupMemberMetadataKey().setGroupId("group").setMemberId("member");
        ConsumerGroupMemberMetadataValue member = new ConsumerGroupMemberMetadataValue().setInstanceId("instance")
            .setRackId("rack").setClientId("client").setClientHost("/127.0.0.1")
            .setSubscribedTopicNames(List.of("a", "b")).setSubscribedTopicRegex("x.*").setRebalanceTimeoutMs(300000)
            .setServerAssignor("uniform");
        print("consumer-member", (short) 0, memberKey, member);
        print("consumer-member-classic", (short) 0, memberKey, member.duplicate().setInstanceId(null).setRackId(null)
            .setSubscribedTopicRegex(null).setServerAssignor(null).setClassicMemberMetadata(
                new ConsumerGroupMemberMetadataValue.ClassicMemberMetadata().setSessionTimeoutMs(45000)
                    .setSupportedProtocols(List.of(new ConsumerGroupMemberMetadataValue.ClassicProtocol()
                        .setName("range").setMetadata(new byte[] {1, 2, 3})))));
        print("consumer-target", (short) 0, new ConsumerGroupTargetAssignmentMetadataKey().setGroupId("group"),
            new ConsumerGroupTargetAssignmentMetadataValue().setAssignmentEpoch(11)
                .setAssignmentTimestamp(1700000000000L));
        print("consumer-target-member", (short) 0,
            new ConsumerGroupTargetAssignmentMemberKey().setGroupId("group").setMemberId("member"),
            new ConsumerGroupTargetAssignmentMemberValue().setTopicPartitions(List.of(
                new ConsumerGroupTargetAssignmentMemberValue.TopicPartition().setTopicId(TOPIC)
                    .setPartitions(List.of(0, 300)))));
        print("consumer-current-member", (short) 0,
            new ConsumerGroupCurrentMemberAssignmentKey().setGroupId("group").setMemberId("member"),
            new ConsumerGroupCurrentMemberAssignmentValue().setMemberEpoch(11).setPreviousMemberEpoch(10)
                .setState((byte) 1)
                .setAssignedPartitions(List.of(new ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions()
                    .setTopicId(TOPIC).setPartitions(List.of(0, 300)).setAssignmentEpochs(List.of(9, 11))))
                .setPartitionsPendingRevocation(List.of(new ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions()
                    .setTopicId(TOPIC).setPartitions(List.of(1)))));
        print("consumer-regex", (short) 0,
            new ConsumerGroupRegularExpressionKey().setGroupId("group").setRegularExpression("x.*"),
            new ConsumerGroupRegularExpressionValue().setTopics(List.of("xa", "xb")).setVersion(12345L)
                .setTimestamp(1700000000000L));
    }

    private static void print(String name, short version, ApiMessage key, ApiMessage value) {
        System.out.println(name + " " + version + " " + hex(MessageUtil.toCoordinatorTypePrefixedByteBuffer(key)) + " "
            + hex(MessageUtil.toVersionPrefixedByteBuffer(version, value)));
    }

    private static String hex(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return HexFormat.of().formatHex(bytes);
    }
}
