"""confluent-kafka (librdkafka) with groups: every assignor of the classic protocol and the consumer protocol (KIP-848)."""

import argparse
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 6
BOUND = 60.0

CLASSIC = {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 300}
PROTOCOLS = {
    "range": CLASSIC | {"partition.assignment.strategy": "range"},
    "roundrobin": CLASSIC | {"partition.assignment.strategy": "roundrobin"},
    "cooperative-sticky": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "static": CLASSIC | {"partition.assignment.strategy": "range"},
    "consumer": {"group.protocol": "consumer"},
    "consumer-range": {"group.protocol": "consumer", "group.remote.assignor": "range"},
}


class Member:
    """A consumer in a thread of its own. `owned` follows its rebalance callbacks."""

    def __init__(self, bootstrap, topic, group, number, settings, seen, static=False):
        config = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                  "enable.auto.commit": False} | settings
        if static:
            config["group.instance.id"] = f"instance-{number}"
        self.owned = set()
        self.errors = []
        self._seen = seen
        self._stopping = threading.Event()
        self._consumer = Consumer(config)
        self._incremental = settings.get("group.protocol") == "consumer" or \
            settings.get("partition.assignment.strategy") == "cooperative-sticky"
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _assigned(self, consumer, partitions):
        self.owned |= {partition.partition for partition in partitions}
        consumer.incremental_assign(partitions) if self._incremental else consumer.assign(partitions)

    def _revoked(self, consumer, partitions):
        self.owned -= {partition.partition for partition in partitions}
        consumer.incremental_unassign(partitions) if self._incremental else consumer.unassign()

    def _run(self):
        try:
            while not self._stopping.is_set():
                message = self._consumer.poll(0.1)
                if message is None:
                    continue
                if message.error():
                    raise RuntimeError(message.error())
                self._seen.setdefault(message.value(), set()).add((message.partition(), message.offset()))
                self._consumer.commit(message, asynchronous=True)
            self._consumer.close()
        except Exception as error:  # noqa: BLE001: shown by `until`
            self.errors.append(error)

    def stop(self):
        self._stopping.set()
        self._thread.join(BOUND)
        if self._thread.is_alive():
            raise SystemExit("a consumer does not end")


def until(what, members, done):
    deadline = time.monotonic() + BOUND
    while not done():
        for member in members:
            if member.errors:
                raise SystemExit(f"{what}: {member.errors}")
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {BOUND} s; owned {[sorted(member.owned) for member in members]}")
        time.sleep(0.02)


def produce(bootstrap, topic, numbers):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in numbers:
        producer.produce(topic, str(number).encode(), partition=number % PARTITIONS)
    assert producer.flush(BOUND) == 0


def shared(members):
    owned = [partition for member in members for partition in member.owned]
    sizes = [len(member.owned) for member in members]
    return sorted(owned) == list(range(PARTITIONS)) and max(sizes) - min(sizes) <= 1


def life(bootstrap, admin, name, settings, scale):
    topic, group, size = f"life-{name}", f"group-{name}", 60 * scale
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result()
    seen, members, produced = {}, [], 0
    for count in range(1, 4):
        members.append(Member(bootstrap, topic, group, count, settings, seen, static=name == "static"))
        until(f"{name}: {count} members", members, lambda: shared(members))
        produce(bootstrap, topic, range(produced, produced + size))
        produced += size
        until(f"{name}: {produced} records", members, lambda: len(seen) == produced)
    described = admin.describe_consumer_groups([group])[group].result()
    assert len(described.members) == 3, described
    if name == "static":
        # A static member that goes and comes back in time costs no rebalance.
        before = [set(member.owned) for member in members[1:]]
        gone = members.pop(0)
        gone.stop()
        members.insert(0, Member(bootstrap, topic, group, 1, settings, seen, static=True))
        until("static: it is back", members, lambda: shared(members))
        assert [set(member.owned) for member in members[1:]] == before
    else:
        for _ in range(scale):
            while len(members) > 1:
                members.pop(0).stop()
                until(f"{name}: {len(members)} left", members, lambda: shared(members))
            if scale > 1:
                members.append(Member(bootstrap, topic, group, 3, settings, seen))
                until(f"{name}: two again", members, lambda: shared(members))
    produce(bootstrap, topic, range(produced, produced + size))
    produced += size
    until(f"{name}: {produced} records", members, lambda: len(seen) == produced)
    assert all(len(places) == 1 for places in seen.values())
    for member in members:
        member.stop()
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    committed = reader.committed([TopicPartition(topic, partition) for partition in range(PARTITIONS)], timeout=BOUND)
    reader.close()
    assert sum(partition.offset for partition in committed) == produced, committed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--only")
    parser.add_argument("--scale", type=int, default=1)
    options = parser.parse_args()
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    for name, settings in PROTOCOLS.items():
        if options.only in (None, name):
            began = time.monotonic()
            life(options.bootstrap, admin, name, settings, options.scale)
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


main()
