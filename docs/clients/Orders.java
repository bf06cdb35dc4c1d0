import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Sends three orders and reads them in a group. */
public class Orders {
    public static void main(String[] arguments) {
        var topic = "orders-java";
        Map<String, Object> sending = Map.of("bootstrap.servers", arguments[0]);
        try (var producer = new KafkaProducer<>(sending, new StringSerializer(), new StringSerializer())) {
            for (int n = 1; n <= 3; n++) {
                producer.send(new ProducerRecord<>(topic, "customer-7", "order-" + n));
            }
        }

        Map<String, Object> reading = Map.of(
            "bootstrap.servers", arguments[0], "group.id", "billing-java",
            "group.protocol", "consumer", "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (int left = 3; left > 0;) {
                for (var record : consumer.poll(Duration.ofSeconds(30))) {
                    System.out.println(record.partition() + " " + record.offset() + " " + record.value());
                    left--;
                }
            }
            consumer.commitSync();
        }
    }
}
