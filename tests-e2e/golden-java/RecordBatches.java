import java.io.File;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Supplier;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.LeaderChangeMessage;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.FileRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.utils.ByteBufferOutputStream;
import org.apache.kafka.common.utils.ByteUtils;
import org.apache.kafka.common.utils.Crc32C;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.util.Scheduler;
import org.apache.kafka.storage.internals.log.LogConfig;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;
import org.apache.kafka.storage.internals.log.RecordValidationException;
import org.apache.kafka.storage.internals.log.UnifiedLog;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;

/**
 * Has Kafka itself write and judge record batches, for the golden tests of the crate record-batch.
 *
 * batches.txt: batches made by Kafka's builder, each with what Kafka reads in it.
 * verdicts.txt: good and bad produce payloads, each with the error code that a Kafka broker answers, and with the bytes it
 * stores when there is none. A verdict is that of ProduceRequest.validateRecords followed by UnifiedLog.appendAsLeader, on
 * an empty log that begins at offset 100, in leader epoch 7, at a fixed time.
 *
 * Run from the root, with the jars of tests-e2e/clients/kafka/pom.xml in DIR:
 *   mvn -q -f tests-e2e/clients/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=DIR
 *   java -cp 'DIR/*' tests-e2e/golden-java/RecordBatches.java crates/record-batch/fixtures
 */
public class RecordBatches {
    static final long NOW = 1_700_000_000_000L;
    static final HexFormat HEX = HexFormat.of();
    static final Compression[] CODECS = {
        Compression.NONE,
        Compression.gzip().build(),
        Compression.snappy().build(),
        Compression.lz4().build(),
        Compression.zstd().build(),
    };

    public static void main(String[] args) throws Exception {
        Path out = Path.of(args[0]);
        Files.createDirectories(out);
        try (PrintWriter writer = new PrintWriter(out.resolve("batches.txt").toFile(), StandardCharsets.UTF_8)) {
            writer.println("# Written by tests-e2e/golden-java/RecordBatches.java with Kafka 4.3.0. Do not edit.");
            batches(writer);
        }
        try (PrintWriter writer = new PrintWriter(out.resolve("verdicts.txt").toFile(), StandardCharsets.UTF_8)) {
            writer.println("# Written by tests-e2e/golden-java/RecordBatches.java with Kafka 4.3.0. Do not edit.");
            verdicts(writer);
        }
        System.exit(0);
    }

    // --- batches as Kafka writes them ---

    static void batches(PrintWriter out) {
        for (Compression codec : CODECS) {
            String name = codec.type().name;
            for (TimestampType type : new TimestampType[] {TimestampType.CREATE_TIME, TimestampType.LOG_APPEND_TIME}) {
                String prefix = name + "-" + type.name;
                describe(out, prefix + "-plain", build(codec, type, -1, (short) -1, -1, false, RecordBatches::fill));
                describe(out, prefix + "-idempotent", build(codec, type, 4711, (short) 3, 2147483646, false, RecordBatches::fill));
                describe(out, prefix + "-transactional", build(codec, type, Long.MAX_VALUE, Short.MAX_VALUE, 0, true, RecordBatches::fill));
            }
            if (codec.type() == CompressionType.NONE)
                continue;
            describe(out, name + "-bulky", build(codec, TimestampType.CREATE_TIME, -1, (short) -1, -1, false, builder -> {
                // More than one of every codec's blocks.
                byte[] value = new byte[1000];
                for (int i = 0; i < 200; i++) {
                    Arrays.fill(value, (byte) ('a' + i % 26));
                    value[i] = (byte) i;
                    builder.append(NOW + i, bytes("key" + i % 7), value);
                }
            }));
        }
        for (boolean commit : new boolean[] {true, false}) {
            ControlRecordType type = commit ? ControlRecordType.COMMIT : ControlRecordType.ABORT;
            describe(out, "control-" + type.name().toLowerCase(),
                MemoryRecords.withEndTransactionMarker(55, NOW, 9, 4711, (short) 3, new EndTransactionMarker(type, 42)).buffer());
        }
        describe(out, "control-leader-change",
            MemoryRecords.withLeaderChangeMessage(8, NOW, 2, ByteBuffer.allocate(512), new LeaderChangeMessage().setLeaderId(1)).buffer());
        ByteBuffer emptied = ByteBuffer.allocate(100);
        DefaultRecordBatch.writeEmptyHeader(emptied, (byte) 2, 4711, (short) 3, 17, 100, 109, 4,
            TimestampType.CREATE_TIME, NOW, true, false);
        emptied.flip();
        describe(out, "emptied-by-compaction", emptied);
        ByteBuffer tail = ByteBuffer.allocate(1024);
        MemoryRecordsBuilder horizon = new MemoryRecordsBuilder(new ByteBufferOutputStream(tail), (byte) 2,
            Compression.NONE, TimestampType.CREATE_TIME, 200, -1, -1, (short) -1, -1, false, false, 5, 1024, NOW + 86_400_000L);
        horizon.appendWithOffset(203, NOW, bytes("gone"), null);
        horizon.appendWithOffset(207, NOW + 1, bytes("kept"), bytes("v"));
        describe(out, "compacted-with-delete-horizon", horizon.build().buffer());
    }

    static void fill(MemoryRecordsBuilder builder) {
        builder.append(NOW, bytes("key"), bytes("value"));
        builder.append(NOW + 500, (byte[]) null, bytes("no key"));
        builder.append(NOW - 3, bytes("tombstone"), (byte[]) null);
        builder.append(NOW + 70, bytes(""), bytes(""), new Header[] {
            new RecordHeader("again", bytes("1")), new RecordHeader("again", bytes("2")),
            new RecordHeader("null", (byte[]) null), new RecordHeader("", bytes("")), new RecordHeader("grüße", new byte[] {0, (byte) 0xff}),
        });
        builder.append(NOW + 70, (byte[]) null, (byte[]) null);
    }

    static void describe(PrintWriter out, String name, ByteBuffer bytes) {
        MutableRecordBatch batch = MemoryRecords.readableRecords(bytes.duplicate()).batches().iterator().next();
        batch.ensureValid();
        out.println();
        out.println("batch " + name);
        out.println("bytes " + hex(bytes));
        out.println("size " + batch.sizeInBytes());
        out.println("offsets " + batch.baseOffset() + ".." + batch.lastOffset() + " next " + batch.nextOffset());
        out.println("leader_epoch " + batch.partitionLeaderEpoch());
        out.println("crc " + batch.checksum());
        out.println("compression " + batch.compressionType().name);
        out.println("timestamp_type " + batch.timestampType().name);
        out.println("transactional " + batch.isTransactional() + " control " + batch.isControlBatch()
            + " delete_horizon " + batch.deleteHorizonMs().isPresent());
        out.println("max_timestamp " + batch.maxTimestamp());
        out.println("producer " + batch.producerId() + " " + batch.producerEpoch() + " " + batch.baseSequence() + ".." + batch.lastSequence());
        out.println("count " + batch.countOrNull());
        for (Record record : batch) {
            out.println("record " + record.offset() + " " + record.timestamp() + " " + hex(record.hasKey() ? record.key() : null)
                + " " + shortHex(record.hasValue() ? record.value() : null));
            for (Header header : record.headers())
                out.println("header " + hex(ByteBuffer.wrap(bytes(header.key()))) + " " + (header.value() == null ? "null" : hex(ByteBuffer.wrap(header.value()))));
            if (batch.isControlBatch() && ControlRecordType.parse(record.key()).toString().matches("COMMIT|ABORT")) {
                EndTransactionMarker marker = EndTransactionMarker.deserialize(record);
                out.println("marker " + marker.controlType().name().toLowerCase() + " " + marker.coordinatorEpoch());
            }
        }
    }

    static ByteBuffer build(Compression codec, TimestampType type, long producerId, short epoch, int sequence, boolean transactional,
                            Consumer<MemoryRecordsBuilder> fill) {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(buffer, (byte) 2, codec, type, 0, NOW + 1000, producerId, epoch, sequence,
            transactional, false, -1, buffer.capacity());
        fill.accept(builder);
        return builder.build().buffer();
    }

    // --- what a broker says to them ---

    static final int LENGTH = 8, MAGIC = 16, CRC = 17, ATTRIBUTES = 21, LAST_OFFSET_DELTA = 23, BASE_TIMESTAMP = 27,
        MAX_TIMESTAMP = 35, PRODUCER_ID = 43, PRODUCER_EPOCH = 51, BASE_SEQUENCE = 53, COUNT = 57, RECORDS = 61;

    static final Map<String, String> PLAIN = Map.of();
    static final Map<String, String> COMPACTED = Map.of("cleanup.policy", "compact");
    static final Map<String, String> APPEND_TIME = Map.of("message.timestamp.type", "LogAppendTime");
    static final Map<String, String> BOUNDED =
        Map.of("message.timestamp.before.max.ms", "1000", "message.timestamp.after.max.ms", "1000");
    static final Map<String, String> SMALL = Map.of("max.message.bytes", "100");

    static void verdicts(PrintWriter out) throws Exception {
        for (Compression codec : CODECS) {
            String name = codec.type().name;
            judge(out, name + "-good", 11, PLAIN, good(codec));
            judge(out, name + "-good-old-version", 6, PLAIN, good(codec));
            judge(out, name + "-log-append-time", 11, APPEND_TIME, good(codec));
            judge(out, name + "-claims-log-append-time", 11, PLAIN, edit(good(codec), b -> attribute(b, 8)));
            judge(out, name + "-claims-log-append-time-without-time", 11, PLAIN,
                edit(good(codec), b -> attribute(b, 8).putLong(MAX_TIMESTAMP, -1)));
            judge(out, name + "-claims-log-append-time-where-it-is", 11, APPEND_TIME, edit(good(codec), b -> attribute(b, 8)));
            judge(out, name + "-compacted", 11, COMPACTED, good(codec));
            judge(out, name + "-compacted-without-keys", 11, COMPACTED, keyless(codec));
            judge(out, name + "-too-large", 11, SMALL, good(codec));
            judge(out, name + "-max-timestamp-unset", 11, PLAIN, edit(good(codec), b -> b.putLong(MAX_TIMESTAMP, -1)));
            judge(out, name + "-max-timestamp-early", 11, PLAIN, edit(good(codec), b -> b.putLong(MAX_TIMESTAMP, NOW - 10)));
            judge(out, name + "-max-timestamp-late", 11, PLAIN, edit(good(codec), b -> b.putLong(MAX_TIMESTAMP, NOW + 900_000)));
            judge(out, name + "-no-timestamps", 11, BOUNDED, made(codec, b -> b.append(-1L, bytes("k"), bytes("v"))));
            judge(out, name + "-too-old", 11, BOUNDED, made(codec, b -> {
                b.append(NOW - 1001, bytes("k"), bytes("v"));
                b.append(NOW, bytes("k"), bytes("v"));
            }));
            judge(out, name + "-too-new", 11, BOUNDED, made(codec, b -> {
                b.append(NOW, bytes("k"), bytes("v"));
                b.append(NOW + 1001, bytes("k"), bytes("v"));
            }));
            judge(out, name + "-just-in-time", 11, BOUNDED, made(codec, b -> {
                b.append(NOW - 1000, bytes("k"), bytes("v"));
                b.append(NOW + 1000, bytes("k"), bytes("v"));
            }));
            judge(out, name + "-one-record-missing", 11, PLAIN,
                edit(good(codec), b -> b.putInt(LAST_OFFSET_DELTA, 3).putInt(COUNT, 4)));
            judge(out, name + "-one-record-too-many", 11, PLAIN,
                edit(good(codec), b -> b.putInt(LAST_OFFSET_DELTA, 1).putInt(COUNT, 2)));
            if (codec.type() != CompressionType.NONE)
                judge(out, name + "-garbage", 11, PLAIN, edit(good(codec), b -> b.putLong(RECORDS, 0x0102030405060708L)));
        }

        Supplier<ByteBuffer> good = () -> good(Compression.NONE);
        for (byte magic : new byte[] {0, 1})
            judge(out, "magic-" + magic, 11, PLAIN, legacy(magic));
        judge(out, "magic-3", 11, PLAIN, edit(good.get(), b -> b.put(MAGIC, (byte) 3)));
        judge(out, "magic-minus-1", 11, PLAIN, edit(good.get(), b -> b.put(MAGIC, (byte) -1)));
        judge(out, "nothing", 11, PLAIN, ByteBuffer.allocate(0));
        for (int cut : new int[] {5, 16, 17, 40, 60, 61, good.get().limit() - 1})
            judge(out, "cut-at-" + cut, 11, PLAIN, slice(good.get(), cut));
        judge(out, "two-batches", 11, PLAIN, join(good.get(), good.get()));
        judge(out, "a-batch-and-half", 11, PLAIN, join(good.get(), slice(good.get(), 70)));
        judge(out, "a-batch-and-5-bytes", 11, PLAIN, join(good.get(), ByteBuffer.allocate(5)));
        judge(out, "a-batch-and-20-zeros", 11, PLAIN, join(good.get(), ByteBuffer.allocate(20)));
        for (int length : new int[] {-1, 0, 13, 14, 48})
            judge(out, "length-" + length, 11, PLAIN, edit(good.get(), b -> b.putInt(LENGTH, length)));
        judge(out, "length-too-long-by-1", 11, PLAIN, edit(good.get(), b -> b.putInt(LENGTH, b.getInt(LENGTH) + 1)));
        judge(out, "length-too-short-by-1", 11, PLAIN, edit(good.get(), b -> b.putInt(LENGTH, b.getInt(LENGTH) - 1)));
        for (long base : new long[] {1, -1, Long.MAX_VALUE})
            judge(out, "base-offset-" + base, 11, PLAIN, edit(good.get(), b -> b.putLong(0, base)));
        judge(out, "base-offset-1-and-wrong-crc", 11, PLAIN, bend(edit(good.get(), b -> b.putLong(0, 1))));
        judge(out, "too-large-and-wrong-crc", 11, SMALL, bend(good.get()));
        judge(out, "wrong-crc", 11, PLAIN, bend(good.get()));
        judge(out, "wrong-crc-and-control", 11, PLAIN, bend(edit(good.get(), b -> attribute(b, 32))));
        for (int code : new int[] {5, 6, 7})
            judge(out, "compression-" + code, 11, PLAIN, edit(good.get(), b -> attribute(b, code)));
        for (int[] pair : new int[][] {{-2, 3}, {-1, 0}, {-1, 3}, {1, 3}, {3, 3}, {2, 0}, {2, -1}, {2, 2}, {2, 4}, {Integer.MAX_VALUE, 3}})
            judge(out, "last-delta-" + pair[0] + "-count-" + pair[1], 11, PLAIN,
                edit(good.get(), b -> b.putInt(LAST_OFFSET_DELTA, pair[0]).putInt(COUNT, pair[1])));
        judge(out, "control", 11, PLAIN, edit(good.get(), b -> attribute(b, 32)));
        judge(out, "control-marker", 11, PLAIN,
            MemoryRecords.withEndTransactionMarker(0, NOW, -1, 4711, (short) 3, new EndTransactionMarker(ControlRecordType.COMMIT, 1)).buffer());
        judge(out, "unused-attributes", 11, PLAIN, edit(good.get(), b -> attribute(b, 0x7f80)));
        judge(out, "delete-horizon", 11, PLAIN, edit(good.get(), b -> attribute(b, 64)));
        judge(out, "idempotent", 11, PLAIN, producer(4711, 3, 0, 0));
        judge(out, "idempotent-without-sequence", 11, PLAIN, producer(4711, 3, -1, 0));
        judge(out, "idempotent-without-epoch", 11, PLAIN, producer(4711, -1, 0, 0));
        judge(out, "producer-id-minus-2", 11, PLAIN, producer(-2, 3, 0, 0));
        judge(out, "epoch-and-sequence-without-id", 11, PLAIN, producer(-1, 3, 0, 0));
        judge(out, "transactional", 11, PLAIN, producer(4711, 3, 0, 16));
        judge(out, "transactional-without-id", 11, PLAIN, producer(-1, -1, -1, 16));

        for (Compression codec : new Compression[] {Compression.NONE, CODECS[1]}) {
            String name = codec.type().name + "-record-";
            judge(out, name + "good", 11, PLAIN, crafted(codec, record(0, 0, 3, 1, 0)));
            judge(out, name + "offset-delta-5", 11, PLAIN, crafted(codec, record(0, 5, 3, 1, 0)));
            judge(out, name + "offset-delta-negative", 11, PLAIN, crafted(codec, record(0, -1, 3, 1, 0)));
            judge(out, name + "offsets-swapped", 11, PLAIN, crafted(codec, record(0, 1, 3, 1, 0), record(0, 0, 3, 1, 0)));
            judge(out, name + "key-length-minus-7", 11, PLAIN, crafted(codec, record(0, 0, -7, 1, 0)));
            judge(out, name + "value-length-minus-7", 11, PLAIN, crafted(codec, record(0, 0, 3, -7, 0)));
            judge(out, name + "header-count-negative", 11, PLAIN, crafted(codec, record(0, 0, 3, 1, -1)));
            judge(out, name + "header-count-2-of-none", 11, PLAIN, crafted(codec, record(0, 0, 3, 1, 2)));
            judge(out, name + "header-count-huge", 11, PLAIN, crafted(codec, record(0, 0, 3, 1, Integer.MAX_VALUE)));
            judge(out, name + "length-0", 11, PLAIN, crafted(codec, new byte[] {0}));
            judge(out, name + "length-negative", 11, PLAIN, crafted(codec, new byte[] {1, 0, 0}));
            judge(out, name + "length-huge", 11, PLAIN, crafted(codec, new byte[] {-1, -1, -1, -1, 15, 0, 0}));
            judge(out, name + "length-endless", 11, PLAIN, crafted(codec, new byte[] {-1, -1, -1, -1, -1, -1, 15, 0, 0}));
            judge(out, name + "unused-bytes", 11, PLAIN, crafted(codec, padded(record(0, 0, 3, 1, 0))));
            judge(out, name + "trailing-byte", 11, PLAIN, edit(crafted(codec, record(0, 0, 3, 1, 0), new byte[] {0}),
                b -> b.putInt(LAST_OFFSET_DELTA, 0).putInt(COUNT, 1)));
            judge(out, name + "header-key-null", 11, PLAIN, crafted(codec, headed(-1)));
            judge(out, name + "header-key-empty", 11, PLAIN, crafted(codec, headed(0)));
            judge(out, name + "timestamp-overflow", 11, PLAIN, edit(crafted(codec, record(Long.MAX_VALUE, 0, 3, 1, 0)),
                b -> b.putLong(MAX_TIMESTAMP, Long.MAX_VALUE)));
        }
    }

    static void judge(PrintWriter out, String name, int version, Map<String, String> config, ByteBuffer payload) throws Exception {
        out.println();
        out.println("payload " + name);
        out.println("bytes " + hex(payload));
        out.println("version " + version);
        config.entrySet().stream().sorted(Map.Entry.comparingByKey()).forEach(e -> out.println("config " + e.getKey() + "=" + e.getValue()));
        File dir = new File(Files.createTempDirectory("golden").toFile(), "golden-0");
        dir.mkdirs();
        LogDirFailureChannel failures = new LogDirFailureChannel(1);
        UnifiedLog log = UnifiedLog.create(dir, new LogConfig(config), 100, 100, new NoScheduler(), new BrokerTopicStats(), new FixedTime(),
            60_000, new ProducerStateManagerConfig(86_400_000, false), 600_000, failures, true, Optional.of(Uuid.ONE_UUID));
        try {
            // The bytes are copied because Kafka stamps them in place.
            ByteBuffer copy = ByteBuffer.allocate(payload.remaining()).put(payload.duplicate()).flip();
            MemoryRecords records = MemoryRecords.readableRecords(copy);
            ProduceRequest.validateRecords((short) version, records);
            log.appendAsLeader(records, 7);
            out.println("code 0 NONE");
            FileRecords stored = (FileRecords) log.read(100, Integer.MAX_VALUE, FetchIsolation.LOG_END, true).records;
            ByteBuffer bytes = ByteBuffer.allocate(stored.sizeInBytes());
            stored.readInto(bytes, 0);
            out.println("stored " + hex(bytes));
        } catch (RecordValidationException e) {
            Errors error = Errors.forException(e.invalidException());
            out.println("code " + error.code() + " " + error.name());
            List<Integer> indices = new ArrayList<>();
            e.recordErrors().forEach(r -> indices.add(r.batchIndex));
            out.println("at_fault " + indices.toString().replaceAll("[\\[\\],]", ""));
        } catch (Throwable e) {
            Errors error = Errors.forException(e);
            out.println("code " + error.code() + " " + error.name());
        } finally {
            log.close();
        }
    }

    static ByteBuffer good(Compression codec) {
        return made(codec, b -> {
            b.append(NOW, bytes("one"), bytes("first value"), new Header[] {new RecordHeader("h", bytes("x"))});
            b.append(NOW + 5, bytes("two"), (byte[]) null);
            b.append(NOW + 2, bytes("three"), bytes("the third value"));
        });
    }

    static ByteBuffer keyless(Compression codec) {
        return made(codec, b -> {
            b.append(NOW, (byte[]) null, bytes("first"));
            b.append(NOW, bytes("key"), bytes("second"));
            b.append(NOW, (byte[]) null, bytes("third"));
        });
    }

    static ByteBuffer made(Compression codec, Consumer<MemoryRecordsBuilder> fill) {
        return build(codec, TimestampType.CREATE_TIME, -1, (short) -1, -1, false, fill);
    }

    static ByteBuffer producer(long id, int epoch, int sequence, int flags) {
        return edit(good(Compression.NONE),
            b -> attribute(b, flags).putLong(PRODUCER_ID, id).putShort(PRODUCER_EPOCH, (short) epoch).putInt(BASE_SEQUENCE, sequence));
    }

    static ByteBuffer legacy(byte magic) {
        ByteBuffer buffer = ByteBuffer.allocate(1000);
        MemoryRecordsBuilder builder = MemoryRecords.builder(buffer, magic, Compression.NONE, TimestampType.CREATE_TIME, 0);
        builder.append(magic == 0 ? -1 : NOW, bytes("k"), bytes("v"));
        return builder.build().buffer();
    }

    /** A record with an empty header list, whatever it says its count is. */
    static byte[] record(long timestampDelta, int offsetDelta, int key, int value, int headerCount) {
        ByteBuffer body = ByteBuffer.allocate(100);
        body.put((byte) 0);
        ByteUtils.writeVarlong(timestampDelta, body);
        ByteUtils.writeVarint(offsetDelta, body);
        ByteUtils.writeVarint(key, body);
        body.put(new byte[Math.max(key, 0)]);
        ByteUtils.writeVarint(value, body);
        body.put(new byte[Math.max(value, 0)]);
        ByteUtils.writeVarint(headerCount, body);
        return prefixed(body.flip());
    }

    static byte[] headed(int keyLength) {
        ByteBuffer body = ByteBuffer.allocate(100);
        body.put(new byte[] {0, 0, 0, 1, 1, 2});
        ByteUtils.writeVarint(keyLength, body);
        ByteUtils.writeVarint(-1, body);
        return prefixed(body.flip());
    }

    static byte[] padded(byte[] record) {
        ByteBuffer body = ByteBuffer.allocate(100).put(record, 1, record.length - 1).put((byte) 0);
        return prefixed(body.flip());
    }

    static byte[] prefixed(ByteBuffer body) {
        ByteBuffer record = ByteBuffer.allocate(200);
        ByteUtils.writeVarint(body.remaining(), record);
        record.put(body).flip();
        byte[] bytes = new byte[record.remaining()];
        record.get(bytes);
        return bytes;
    }

    /** A batch out of records that Kafka's builder would not make. */
    static ByteBuffer crafted(Compression codec, byte[]... records) throws Exception {
        var stream = new ByteBufferOutputStream(1000);
        try (var compressed = codec.wrapForOutput(stream, (byte) 2)) {
            for (byte[] record : records)
                compressed.write(record);
        }
        ByteBuffer block = stream.buffer().duplicate().flip();
        ByteBuffer head = slice(good(codec), RECORDS);
        return edit(join(head, block), b -> b.putInt(LENGTH, b.limit() - 12).putInt(LAST_OFFSET_DELTA, records.length - 1)
            .putInt(COUNT, records.length).putLong(MAX_TIMESTAMP, NOW));
    }

    static ByteBuffer attribute(ByteBuffer batch, int flags) {
        return batch.putShort(ATTRIBUTES, (short) (batch.getShort(ATTRIBUTES) | flags));
    }

    /** Changes a batch and makes its CRC right again. */
    static ByteBuffer edit(ByteBuffer batch, Consumer<ByteBuffer> change) {
        ByteBuffer copy = ByteBuffer.allocate(batch.remaining()).put(batch.duplicate()).flip();
        change.accept(copy);
        copy.putInt(CRC, (int) Crc32C.compute(copy, ATTRIBUTES, copy.limit() - ATTRIBUTES));
        return copy;
    }

    /** Makes its CRC wrong. */
    static ByteBuffer bend(ByteBuffer batch) {
        return batch.putInt(CRC, batch.getInt(CRC) ^ 1);
    }

    static ByteBuffer slice(ByteBuffer batch, int length) {
        return batch.duplicate().limit(length).slice();
    }

    static ByteBuffer join(ByteBuffer first, ByteBuffer second) {
        return ByteBuffer.allocate(first.remaining() + second.remaining()).put(first.duplicate()).put(second.duplicate()).flip();
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** "null" for null, "-" for nothing. */
    static String hex(ByteBuffer buffer) {
        if (buffer == null)
            return "null";
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes.length == 0 ? "-" : HEX.formatHex(bytes);
    }

    /** Long fields by length and CRC-32C. */
    static String shortHex(ByteBuffer field) {
        if (field == null || field.remaining() < 100)
            return hex(field);
        return field.remaining() + ":" + Crc32C.compute(field, 0, field.remaining());
    }

    static class FixedTime implements Time {
        public long milliseconds() {
            return NOW;
        }

        public long nanoseconds() {
            return NOW * 1_000_000;
        }

        public void sleep(long ms) {
        }

        public void waitObject(Object object, Supplier<Boolean> condition, long deadlineMs) {
        }
    }

    static class NoScheduler implements Scheduler {
        static final ScheduledExecutorService NEVER = Executors.newScheduledThreadPool(1);

        public void startup() {
        }

        public void shutdown() {
        }

        public ScheduledFuture<?> schedule(String name, Runnable task, long delayMs, long periodMs) {
            return NEVER.schedule(() -> { }, 1, TimeUnit.DAYS);
        }

        public void resizeThreadPool(int size) {
        }
    }
}
