"""kafka-python with groups: a pool of worker processes that grows and shrinks, listeners, commits, look-ups, administration.

Runs with 2.x and 3.x, whose admin clients name some calls differently.
"""

import argparse
import json
import multiprocessing
import queue
import time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import OffsetAndMetadata

IS_2 = kafka.__version__.startswith("2.")
PARTITIONS = 8
BOUND = 60.0
FAST = {"session_timeout_ms": 10_000, "heartbeat_interval_ms": 300, "max_poll_interval_ms": 60_000}


def encode(value):
    return json.dumps(value).encode()


def decode(data):
    return json.loads(data)


class Assignment(ConsumerRebalanceListener):
    def __init__(self):
        self.events = []

    def on_partitions_revoked(self, revoked):
        self.events.append(("revoked", len(revoked)))

    def on_partitions_assigned(self, assigned):
        self.events.append(("assigned", len(assigned)))


def worker(bootstrap, topic, group, stop, seen):
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, value_deserializer=decode, **FAST)
    while not stop.is_set():
        for batch in consumer.poll(timeout_ms=200).values():
            for record in batch:
                seen.put((record.partition, record.offset, record.value["n"]))
            consumer.commit()
    consumer.close()


def produce(bootstrap, topic, numbers):
    producer = KafkaProducer(bootstrap_servers=bootstrap, value_serializer=encode, acks="all")
    for number in numbers:
        producer.send(topic, {"n": number}, key=str(number % 50).encode())
    producer.flush()
    producer.close()


def take(seen, have, wanted, what):
    deadline = time.monotonic() + BOUND
    while len(have) < wanted:
        try:
            partition, offset, number = seen.get(timeout=max(0.1, deadline - time.monotonic()))
        except queue.Empty:
            raise SystemExit(f"{what}: {len(have)} of {wanted} within {BOUND} s") from None
        have.setdefault(number, set()).add((partition, offset))
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: {len(have)} of {wanted} within {BOUND} s")


def pool(bootstrap, admin, scale):
    topic, group = "jobs", "pool"
    admin.create_topics([NewTopic(topic, PARTITIONS, -1)])
    seen, have, workers, known = multiprocessing.Queue(), {}, [], {}

    def grow():
        stop = multiprocessing.Event()
        process = multiprocessing.Process(target=worker, args=(bootstrap, topic, group, stop, seen), daemon=True)
        process.start()
        workers.append((process, stop))

    produced = 0
    for step in [grow, grow, grow, grow, "shrink", "kill", grow, "shrink"] + [grow, "shrink", grow, "kill"] * (scale - 1):
        if callable(step):
            step()
        else:
            process, stop = workers.pop(0)
            process.kill() if step == "kill" else stop.set()
            process.join(BOUND)
        produce(bootstrap, topic, range(produced, produced + 200 * scale))
        produced += 200 * scale
        take(seen, have, produced, f"{len(workers)} workers")
        for place, committed in group_offsets(admin, group).items():
            assert committed.offset >= known.get(place, 0), f"{place} went back from {known[place]} to {committed.offset}"
            known[place] = committed.offset
    for process, stop in workers:
        stop.set()
        process.join(BOUND)
    assert sorted(have) == list(range(produced))
    assert all(len(places) == 1 for places in have.values()), "one record, two places"
    total = sum(committed.offset for committed in group_offsets(admin, group).values())
    assert total == produced, (total, produced)
    return produced


def consumer_calls(bootstrap, count):
    topic, group = "jobs", "calls"
    listener = Assignment()
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, value_deserializer=decode, **FAST)
    consumer.subscribe([topic], listener=listener)
    records = []
    deadline = time.monotonic() + BOUND
    while len(records) < count and time.monotonic() < deadline:
        records += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
    assert len(records) == count, (len(records), count)
    assert ("assigned", PARTITIONS) in listener.events, listener.events
    partitions = sorted(consumer.assignment())
    assert len(partitions) == PARTITIONS
    committed = []
    future = consumer.commit_async(callback=lambda offsets, answer: committed.append(answer))
    while not committed and time.monotonic() < deadline:
        consumer.poll(timeout_ms=100)
    assert future.succeeded() and not isinstance(committed[0], Exception), committed
    consumer.commit({partitions[0]: OffsetAndMetadata(1, "by hand", -1)})
    assert consumer.committed(partitions[0], metadata=True).metadata == "by hand"
    first = records[0]
    place = TopicPartition(topic, first.partition)
    found = consumer.offsets_for_times({place: first.timestamp})
    assert found[place].offset == 0, found
    consumer.seek_to_beginning(place)
    assert consumer.position(place) == 0
    consumer.seek_to_end(place)
    end = consumer.position(place)
    assert end == consumer.end_offsets([place])[place]
    consumer.pause(*partitions)
    consumer.seek_to_beginning(*partitions)
    assert not consumer.poll(timeout_ms=1000) and len(consumer.paused()) == PARTITIONS
    consumer.resume(*partitions)
    again = 0
    while again < count and time.monotonic() < deadline:
        again += sum(len(batch) for batch in consumer.poll(timeout_ms=500).values())
    assert again == count, (again, count)
    consumer.close()


def group_offsets(admin, group):
    return admin.list_consumer_group_offsets(group) if IS_2 else admin.list_group_offsets(group)[group]


def group_names(admin):
    if IS_2:
        return {group[0] for group in admin.list_consumer_groups()}
    return {group["group_id"] for group in admin.list_groups()}


def until(what, done):
    deadline = time.monotonic() + BOUND
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {BOUND} s")
        time.sleep(0.02)


def administration(bootstrap, admin):
    assert {"pool", "calls"} <= group_names(admin), group_names(admin)
    described = (admin.describe_consumer_groups if IS_2 else admin.describe_groups)(["pool"])
    assert "Empty" in str(described), described
    (admin.delete_consumer_groups if IS_2 else admin.delete_groups)(["calls"])
    assert "calls" not in group_names(admin)
    admin.create_topics([NewTopic("settings", 1, -1, topic_configs={"retention.ms": "1000000"})])
    assert "1000000" in str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "settings")]))
    admin.create_partitions({"settings": NewPartitions(3)})
    # A broker learns of a change after whoever made it has been answered.
    until("three partitions", lambda: len(admin.describe_topics(["settings"])[0]["partitions"]) == 3)
    admin.delete_topics(["settings"])
    until("no topic", lambda: "settings" not in admin.list_topics())

    place = TopicPartition("jobs", 0)
    reader = KafkaConsumer(bootstrap_servers=bootstrap)
    end = reader.end_offsets([place])[place]
    admin.delete_records({place: end - 1})
    assert reader.beginning_offsets([place])[place] == end - 1
    reader.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--scale", type=int, default=1)
    options = parser.parse_args()
    admin = KafkaAdminClient(bootstrap_servers=options.bootstrap)
    produced = 0
    for name in ["pool", "consumer", "administration"]:
        began = time.monotonic()
        if name == "pool":
            produced = pool(options.bootstrap, admin, options.scale)
        elif name == "consumer":
            consumer_calls(options.bootstrap, produced)
        else:
            administration(options.bootstrap, admin)
        print(f"{name}: {time.monotonic() - began:.1f} s, kafka-python {kafka.__version__}", flush=True)


main()
