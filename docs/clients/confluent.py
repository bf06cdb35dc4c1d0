"""Sends three orders and reads them in a group."""
import sys

from confluent_kafka import Consumer, Producer

servers = {"bootstrap.servers": sys.argv[1]}
producer = Producer(servers | {"enable.idempotence": True})
for n in (1, 2, 3):
    producer.produce("orders-confluent", key="customer-7", value=f"order-{n}")
producer.flush()

consumer = Consumer(servers | {"group.id": "billing-confluent", "auto.offset.reset": "earliest"})
consumer.subscribe(["orders-confluent"])
for _ in range(3):
    message = consumer.poll(timeout=30)
    print(message.partition(), message.offset(), message.value().decode())
consumer.close()  # commits
