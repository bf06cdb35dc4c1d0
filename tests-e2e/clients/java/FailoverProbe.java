import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes to every partition of a topic, again and again, with the Java client's defaults, and says how long each went without an
 * acknowledged write. Or reads every partition, and says how long each gave nothing. Commands and answers are those of
 * failover_probe.py: `begin` and `report`.
 *
 * Arguments: address, topic, partitions, milliseconds between two writes to a partition or `read`.
 */
public class FailoverProbe {
    static long[] last;
    static long[] longest;
    static long acked;
    static Map<String, Long> failed = new TreeMap<>();

    public static void main(String[] arguments) throws Exception {
        System.setProperty("log4j2.level", "OFF");
        String topic = arguments[1];
        int partitions = Integer.parseInt(arguments[2]);
        last = new long[partitions];
        longest = new long[partitions];
        Thread commands = new Thread(FailoverProbe::obey);
        commands.setDaemon(true);
        commands.start();
        if (arguments[3].equals("read")) {
            read(arguments[0], topic, partitions);
        } else {
            write(arguments[0], topic, partitions, Long.parseLong(arguments[3]));
        }
    }

    static void read(String address, String topic, int partitions) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties);
        List<TopicPartition> all = IntStream.range(0, partitions).mapToObj(number -> new TopicPartition(topic, number)).toList();
        consumer.assign(all);
        consumer.seekToEnd(all);
        while (true) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                answered(record.partition(), null);
            }
        }
    }

    static void write(String address, String topic, int partitions, long intervalMs) throws InterruptedException {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        properties.put("key.serializer", ByteArraySerializer.class.getName());
        properties.put("value.serializer", ByteArraySerializer.class.getName());
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties);
        long due = System.nanoTime();
        while (true) {
            for (int partition = 0; partition < partitions; partition++) {
                int written = partition;
                producer.send(new ProducerRecord<>(topic, written, null, "probe".getBytes()), (place, error) -> {
                    answered(written, error);
                });
            }
            due = Math.max(due + intervalMs * 1_000_000, System.nanoTime());
            Thread.sleep(Math.max(0, (due - System.nanoTime()) / 1_000_000));
        }
    }

    static synchronized void answered(int partition, Exception error) {
        if (error != null) {
            failed.merge(error.getClass().getSimpleName(), 1L, Long::sum);
            return;
        }
        long now = System.nanoTime();
        if (last[partition] != 0) {
            longest[partition] = Math.max(longest[partition], now - last[partition]);
        }
        last[partition] = now;
        acked++;
    }

    static void obey() {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                System.out.println(line.trim().equals("begin") ? begin() : report());
                System.out.flush();
            }
        } catch (Exception error) {
            error.printStackTrace();
        }
        // What is queued is not waited for: whoever asks has gone.
        Runtime.getRuntime().halt(0);
    }

    static synchronized String begin() {
        longest = new long[longest.length];
        acked = 0;
        failed.clear();
        return "{\"begun\": true}";
    }

    static synchronized String report() {
        long now = System.nanoTime();
        List<String> open = new ArrayList<>();
        List<String> gaps = new ArrayList<>();
        for (int partition = 0; partition < last.length; partition++) {
            long ago = last[partition] == 0 ? 0 : now - last[partition];
            open.add(last[partition] == 0 ? "null" : String.valueOf(ago / 1e6));
            gaps.add(String.valueOf(Math.max(longest[partition], ago) / 1e6));
        }
        String errors = failed.entrySet().stream()
            .map(entry -> "\"" + entry.getKey() + "\": " + entry.getValue())
            .collect(Collectors.joining(", "));
        return "{\"longest\": " + gaps + ", \"open\": " + open + ", \"acked\": " + acked + ", \"failed\": {" + errors + "}, \"full\": 0}";
    }
}
