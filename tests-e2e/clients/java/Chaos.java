// Kafka's Java client under faults: two producers, a reader that assigns itself and seeks, and a group of two, all writing a journal.
//
// What a line of the journal is, is said in tests-e2e/chaos/src/journal.rs. Runs until a line `stop` is read; the producers then end and
// `# producers are done` is told. `finish OFFSET...`, one end of the log for each partition, lets the readers read to there and ends.
// Exit status 0: they all got there.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Chaos {
    static final long FINISH_BOUND_MS = 90_000;
    static final int UNDER_WAY_MAX = 1000;
    static final int DELIVERY_MS = 30_000;
    /** How far behind the newest record a seek may go, so that readers do not fall ever further behind. */
    static final int SEEK_BACK_MAX = 1000;

    static String bootstrap;
    static String topic;
    static int partitions;
    static long pauseMs;
    static AtomicLong values;
    static AtomicInteger clients;
    static volatile boolean stopping;
    static volatile long[] ends;
    static volatile boolean failed;

    /** What the library logs to standard output goes elsewhere. */
    static final PrintStream JOURNAL = System.out;

    static synchronized void tell(String line) {
        JOURNAL.println(line);
    }

    static String name(int partition) {
        return topic + "-" + partition;
    }

    static void produce(long seed, boolean idempotent) {
        Random chance = new Random(seed);
        while (!stopping) {
            try {
                oneProducer(chance, idempotent);
            } catch (KafkaException | InterruptedException ended) {
                tell("# a producer ended: " + ended);
            }
        }
    }

    static void oneProducer(Random chance, boolean idempotent) throws InterruptedException {
        int client = clients.incrementAndGet();
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("key.serializer", StringSerializer.class);
        settings.put("value.serializer", StringSerializer.class);
        settings.put("acks", "all");
        settings.put("enable.idempotence", idempotent);
        settings.put("linger.ms", 5);
        settings.put("request.timeout.ms", 10_000);
        settings.put("delivery.timeout.ms", DELIVERY_MS);
        settings.put("max.block.ms", 5_000);
        AtomicInteger underWay = new AtomicInteger();
        String delivery = idempotent ? "idempotent" : "plain";
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            while (!stopping) {
                for (int left = 1 + chance.nextInt(10); left > 0 && underWay.get() < UNDER_WAY_MAX; left--) {
                    long value = values.incrementAndGet();
                    int partition = chance.nextInt(partitions);
                    tell("send " + client + " " + System.nanoTime() + " " + name(partition) + " " + value + " " + delivery);
                    underWay.incrementAndGet();
                    // What goes wrong before the record is taken comes through the callback too, or is thrown; then nobody knows.
                    producer.send(new ProducerRecord<>(topic, partition, null, Long.toString(value)), (where, error) -> {
                        underWay.decrementAndGet();
                        String outcome = error != null ? "indeterminate"
                            : where.hasOffset() ? "acknowledged@" + where.offset() : "acknowledged";
                        tell("sent " + value + " " + System.nanoTime() + " " + outcome);
                    });
                }
                Thread.sleep(pauseMs);
            }
        }
    }

    static Properties consumerSettings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("key.deserializer", StringDeserializer.class);
        settings.put("value.deserializer", StringDeserializer.class);
        settings.put("fetch.max.wait.ms", 100);
        settings.put("default.api.timeout.ms", 20_000);
        return settings;
    }

    static void read(int client, KafkaConsumer<String, String> consumer, AtomicLongArray reached) {
        long start = System.nanoTime();
        ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
        if (records.isEmpty()) {
            return;
        }
        StringBuilder line = new StringBuilder();
        line.append(client).append(' ').append(start).append(' ').append(System.nanoTime()).append(" polled uncommitted");
        for (ConsumerRecord<String, String> record : records) {
            line.append(' ').append(name(record.partition())).append('@').append(record.offset()).append('=').append(record.value());
            reached.accumulateAndGet(record.partition(), record.offset() + 1, Math::max);
        }
        tell(line.toString());
    }

    static boolean isThere(AtomicLongArray reached) {
        long[] wanted = ends;
        if (wanted == null) {
            return false;
        }
        for (int partition = 0; partition < wanted.length; partition++) {
            if (reached.get(partition) < wanted[partition]) {
                return false;
            }
        }
        return true;
    }

    interface Turn {
        void take();
    }

    /** Takes turns until all is read; whatever a client throws on the way is told, and tried again. */
    static void untilThere(String who, AtomicLongArray reached, Turn turn) {
        long bound = 0;
        while (!isThere(reached)) {
            if (ends != null && bound == 0) {
                bound = System.currentTimeMillis() + FINISH_BOUND_MS;
            }
            if (bound != 0 && System.currentTimeMillis() > bound) {
                tell("! " + who + " has not caught up: it is at " + reached);
                failed = true;
                return;
            }
            try {
                turn.take();
            } catch (OffsetOutOfRangeException lost) {
                tell("! " + who + " was told: " + lost.getMessage());
                failed = true;
                return;
            } catch (KafkaException error) {
                tell("# " + who + " was told: " + String.valueOf(error).replace('\n', ' '));
            }
        }
    }

    static void seek(long seed) {
        Random chance = new Random(seed);
        int client = clients.incrementAndGet();
        Properties settings = consumerSettings();
        settings.put("enable.auto.commit", false);
        // Nothing is ever deleted here: a position that is out of range is a lost record.
        settings.put("auto.offset.reset", "none");
        AtomicLongArray reached = new AtomicLongArray(partitions);
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings);
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        consumer.assign(all);
        for (TopicPartition partition : all) {
            seekTo(client, consumer, partition, 0);
        }
        untilThere("the reader that assigns itself", reached, () -> {
            read(client, consumer, reached);
            if (ends == null && chance.nextInt(30) == 0) {
                TopicPartition partition = all.get(chance.nextInt(partitions));
                seekTo(client, consumer, partition, Math.max(0, reached.get(partition.partition()) - chance.nextInt(SEEK_BACK_MAX)));
            }
        });
        consumer.close();
    }

    static void seekTo(int client, KafkaConsumer<String, String> consumer, TopicPartition partition, long offset) {
        consumer.seek(partition, offset);
        long moment = System.nanoTime();
        tell(client + " " + moment + " " + moment + " sought " + name(partition.partition()) + " " + offset);
    }

    static void member(AtomicLongArray reached) {
        int client = clients.incrementAndGet();
        Properties settings = consumerSettings();
        settings.put("group.id", "java");
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", 6_000);
        settings.put("heartbeat.interval.ms", 1_000);
        settings.put("auto.commit.interval.ms", 1_000);
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings);
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> revoked) {}

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
                long moment = System.nanoTime();
                String names = assigned.stream().map(p -> " " + name(p.partition())).collect(Collectors.joining());
                tell(client + " " + moment + " " + moment + " assigned" + names);
            }
        });
        untilThere("group java", reached, () -> read(client, consumer, reached));
        consumer.close();
    }

    static Thread start(Runnable what) {
        Thread thread = new Thread(what);
        thread.start();
        return thread;
    }

    public static void main(String[] arguments) throws Exception {
        System.setOut(System.err);
        Properties options = new Properties();
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            options.put(arguments[at].substring(2), arguments[at + 1]);
        }
        bootstrap = options.getProperty("bootstrap");
        topic = options.getProperty("topic");
        partitions = Integer.parseInt(options.getProperty("partitions"));
        pauseMs = (long) (1000 * Double.parseDouble(options.getProperty("pause", "0.05")));
        int first = Integer.parseInt(options.getProperty("first"));
        long seed = Long.parseLong(options.getProperty("seed"));
        clients = new AtomicInteger(first);
        values = new AtomicLong(first * 1_000_000L);
        AtomicLongArray shared = new AtomicLongArray(partitions);
        List<Thread> producers = List.of(start(() -> produce(seed, true)), start(() -> produce(seed + 1, false)));
        List<Thread> readers = List.of(start(() -> seek(seed + 2)), start(() -> member(shared)), start(() -> member(shared)));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.trim().split(" ");
            stopping = true;
            for (Thread producer : producers) {
                producer.join();
            }
            if (words[0].equals("stop")) {
                tell("# producers are done");
            } else {
                long[] wanted = new long[partitions];
                for (int partition = 0; partition < partitions; partition++) {
                    wanted[partition] = Long.parseLong(words[1 + partition]);
                }
                ends = wanted;
                break;
            }
        }
        stopping = true;
        if (ends == null) {
            ends = new long[partitions];
        }
        for (Thread reader : readers) {
            reader.join();
        }
        System.exit(failed ? 1 : 0);
    }
}
