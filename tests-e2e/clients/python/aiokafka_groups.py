"""aiokafka with groups: three members of every assignor come and go, commits by hand, look-ups by time, administration."""

import argparse
import asyncio
import json
import logging
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

PARTITIONS = 6
BOUND = 60.0
FAST = {"session_timeout_ms": 10_000, "heartbeat_interval_ms": 300, "auto_offset_reset": "earliest",
        "enable_auto_commit": False}
ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor,
             "sticky": StickyPartitionAssignor}
# A commit that meets a rebalance: the records are seen again by whoever owns them next.
REBALANCED = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


def encode(value):
    return json.dumps(value).encode()


def decode(data):
    return json.loads(data)


async def produce(bootstrap, topic, numbers):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type="gzip",
                                value_serializer=encode) as producer:
        answers = [await producer.send(topic, {"n": number}, partition=number % PARTITIONS) for number in numbers]
        for answer in answers:
            await answer


class Member(ConsumerRebalanceListener):
    """A consumer as a task. `owned` follows its rebalance callbacks; what it has seen is committed before it lets go."""

    def __init__(self, bootstrap, topic, group, assignor, seen):
        self.owned = set()
        self.seen = seen
        self.stopping = False
        self.topic = topic
        self.consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, value_deserializer=decode,
                                         partition_assignment_strategy=[assignor], **FAST)

    async def start(self):
        await self.consumer.start()
        self.consumer.subscribe([self.topic], listener=self)
        self.task = asyncio.create_task(self.run())
        return self

    async def on_partitions_revoked(self, revoked):
        self.owned -= {place.partition for place in revoked}

    async def on_partitions_assigned(self, assigned):
        self.owned |= {place.partition for place in assigned}

    async def run(self):
        while not self.stopping:
            batches = await self.consumer.getmany(timeout_ms=100)
            for place, records in batches.items():
                for record in records:
                    self.seen.setdefault(record.value["n"], set()).add((place.partition, record.offset))
            if batches:
                try:
                    await self.consumer.commit()
                except REBALANCED:
                    pass

    async def stop(self):
        self.stopping = True
        await self.task
        await self.consumer.stop()


async def holds(done):
    answer = done()
    return await answer if asyncio.iscoroutine(answer) else answer


async def until(what, members, done):
    deadline = time.monotonic() + BOUND
    while not await holds(done):
        for member in members:
            if member.task.done():
                member.task.result()
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {BOUND} s; owned {[sorted(member.owned) for member in members]}")
        await asyncio.sleep(0.02)


def shared(members):
    owned = [partition for member in members for partition in member.owned]
    sizes = [len(member.owned) for member in members]
    return sorted(owned) == list(range(PARTITIONS)) and max(sizes) - min(sizes) <= 1


async def life(bootstrap, admin, name, scale):
    topic, group, size = f"aio-{name}", f"aio-group-{name}", 60 * scale
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    seen, members, produced = {}, [], 0

    async def load():
        nonlocal produced
        await produce(bootstrap, topic, range(produced, produced + size))
        produced += size
        await until(f"{name}: {produced} records", members, lambda: len(seen) == produced)

    for _ in range(scale):
        while len(members) < 3:
            members.append(await Member(bootstrap, topic, group, ASSIGNORS[name], seen).start())
            await until(f"{name}: {len(members)} members", members, lambda: shared(members))
            await load()
        while len(members) > 1:
            await members.pop(0).stop()
            await until(f"{name}: {len(members)} left", members, lambda: shared(members))
        await load()
    await members[0].stop()
    assert all(len(places) == 1 for places in seen.values()), "one record, two places"
    committed = await admin.list_consumer_group_offsets(group)
    assert sum(place.offset for place in committed.values()) == produced, committed
    return produced


async def consumer_calls(bootstrap, count):
    topic, places = "aio-range", [TopicPartition("aio-range", partition) for partition in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id="aio-calls", value_deserializer=decode, **FAST)
    await consumer.start()
    records = []

    async def read(count):
        records.clear()
        deadline = time.monotonic() + BOUND
        while len(records) < count and time.monotonic() < deadline:
            records.extend(record for batch in (await consumer.getmany(timeout_ms=500)).values() for record in batch)
        assert len(records) == count, (len(records), count)

    await read(count)
    assert consumer.assignment() == set(places)
    # One awaited, and several in the background, as a service does that goes on reading meanwhile.
    await consumer.commit({places[0]: (1, "by hand")})
    assert await consumer.committed(places[0]) == 1
    commits = [asyncio.create_task(consumer.commit({place: 2 + n})) for n, place in enumerate(places)]
    assert await asyncio.gather(*commits) == [None] * PARTITIONS
    assert [await consumer.committed(place) for place in places] == [2 + n for n in range(PARTITIONS)]
    first = min(records, key=lambda record: record.timestamp)
    place = TopicPartition(topic, first.partition)
    found = await consumer.offsets_for_times({place: first.timestamp})
    assert found[place].offset == 0 and found[place].timestamp == first.timestamp, found
    late = await consumer.offsets_for_times({place: first.timestamp + 3_600_000})
    assert late[place] is None, late
    assert await consumer.beginning_offsets(places) == dict.fromkeys(places, 0)
    ends = await consumer.end_offsets(places)
    assert sum(ends.values()) == count, (ends, count)
    await consumer.seek_to_end(*places)
    assert [await consumer.position(place) for place in places] == [ends[place] for place in places]
    consumer.pause(*places)
    await consumer.seek_to_beginning(*places)
    assert await consumer.getmany(timeout_ms=1000) == {} and consumer.paused() == set(places)
    consumer.resume(*places)
    await read(count)
    consumer.seek(place, 3)
    assert (await consumer.getone(place)).offset == 3
    await consumer.seek_to_committed(place)
    assert await consumer.position(place) == 2 + place.partition
    await consumer.stop()


# A broker learns of a change after whoever made it has been answered.
async def described(admin, count):
    [topic] = await admin.describe_topics(["aio-settings"])
    return len(topic["partitions"]) == count


async def gone(admin):
    return "aio-settings" not in await admin.list_topics()


async def administration(bootstrap, admin):
    groups = {group[0]: group[1] for group in await admin.list_consumer_groups()}
    assert groups.get("aio-calls") == "consumer", groups
    [answer] = await admin.describe_consumer_groups(["aio-calls"])
    assert answer.groups[0][:3] == (0, "aio-calls", "Empty"), answer
    assert {"aio-range", "aio-sticky"} <= set(await admin.list_topics())
    assert (await admin.describe_cluster())["brokers"]
    answer = await admin.create_topics([NewTopic("aio-settings", 1, 1, topic_configs={"retention.ms": "1000000"})])
    assert answer.topic_errors[0][:2] == ("aio-settings", 0), answer
    resource = ConfigResource(ConfigResourceType.TOPIC, "aio-settings", configs={"retention.ms": None})
    [answer] = await admin.describe_configs([resource])
    assert "1000000" in str(answer), answer
    [answer] = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "aio-settings", configs={"retention.ms": "2000000"})])
    assert answer.resources[0][0] == 0, answer
    await admin.create_partitions({"aio-settings": NewPartitions(3)})
    await until("three partitions", [], lambda: described(admin, 3))
    await admin.delete_topics(["aio-settings"])
    await until("no topic", [], lambda: gone(admin))
    place = TopicPartition("aio-range", 0)
    assert await admin.delete_records({place: RecordsToDelete(before_offset=7)}) == {place: 7}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    assert await consumer.beginning_offsets([place]) == {place: 7}
    await consumer.stop()


async def run(bootstrap, scale):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    produced = 0
    for name in [*ASSIGNORS, "consumer", "administration"]:
        began = time.monotonic()
        if name == "consumer":
            await consumer_calls(bootstrap, produced)
        elif name == "administration":
            await administration(bootstrap, admin)
        else:
            produced = await life(bootstrap, admin, name, scale)
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
    await admin.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--scale", type=int, default=1)
    options = parser.parse_args()
    # It warns of every rebalance.
    logging.disable(logging.WARNING)
    asyncio.run(run(options.bootstrap, options.scale))


main()
