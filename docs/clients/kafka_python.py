"""Sends three orders and reads them in a group."""
import sys

from kafka import KafkaConsumer, KafkaProducer

producer = KafkaProducer(bootstrap_servers=sys.argv[1], acks="all")
for n in (1, 2, 3):
    producer.send("orders-kafka-python", key=b"customer-7", value=f"order-{n}".encode())
producer.close()

consumer = KafkaConsumer("orders-kafka-python", bootstrap_servers=sys.argv[1], group_id="billing-kafka-python",
                         auto_offset_reset="earliest")
for _ in range(3):
    record = next(consumer)
    print(record.partition, record.offset, record.value.decode())
consumer.close()  # commits
