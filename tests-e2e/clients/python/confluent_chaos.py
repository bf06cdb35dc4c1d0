"""librdkafka under faults: two producers, a reader that assigns itself and seeks, and a group of two, all writing a journal.

What a line of the journal is, is said in tests-e2e/chaos/src/journal.rs. Runs until a line `stop` is read; the producers then end and
`# producers are done` is told. `finish OFFSET...`, one end of the log for each partition, lets the readers read to there and ends.
Exit status 0: they all got there.
"""

import argparse
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

FINISH_BOUND = 90.0
UNDER_WAY_MAX = 1000
FLUSH_BOUND = 60.0
# How far behind the newest record a seek may go, so that readers do not fall ever further behind.
SEEK_BACK_MAX = 1000

writing = threading.Lock()
stopping = threading.Event()
ends = []
finishing = threading.Event()


def now():
    return time.monotonic_ns()


def tell(*words):
    with writing:
        sys.stdout.write(" ".join(map(str, words)) + "\n")


class Names:
    """Numbers that nobody has had: one for each life of a client, one for each record."""

    def __init__(self, first):
        self.first = first
        self.client = first
        self.value = first * 1_000_000
        self.lock = threading.Lock()

    def next_client(self):
        with self.lock:
            self.client += 1
            return self.client

    def next_value(self):
        with self.lock:
            self.value += 1
            return self.value


def produce(options, names, seed, idempotent):
    chance = random.Random(seed)
    while not stopping.is_set():
        one_producer(options, names, chance, idempotent)


def one_producer(options, names, chance, idempotent):
    client = names.next_client()
    dead = threading.Event()
    producer = Producer(
        {
            "bootstrap.servers": options.bootstrap,
            "enable.idempotence": idempotent,
            "acks": "all",
            # message.timeout.ms stays at five minutes, longer than any fault: where it passes, librdkafka begins a new epoch for the
            # whole producer, and appends once more in other partitions what may be there already (its issue 4953).
            "linger.ms": 5,
            "error_cb": lambda error: error.fatal() and dead.set(),
        }
    )

    def delivered(value):
        def outcome(error, message):
            if error is None:
                at = message.offset()
                told = f"acknowledged@{at}" if at is not None and at >= 0 else "acknowledged"
            else:
                # The library may have tried before, so whatever it says of the last try, nobody knows.
                told = "indeterminate"
                if error.fatal() or error.code() == KafkaError._FATAL:
                    dead.set()
            tell("sent", value, now(), told)

        return outcome

    delivery = "idempotent" if idempotent else "plain"
    while not stopping.is_set() and not dead.is_set():
        for _ in range(chance.randint(1, 10)):
            if len(producer) >= UNDER_WAY_MAX:
                break
            value = names.next_value()
            partition = chance.randrange(options.partitions)
            tell("send", client, now(), f"{options.topic}-{partition}", value, delivery)
            try:
                producer.produce(options.topic, str(value), partition=partition, on_delivery=delivered(value))
            except (KafkaException, BufferError):
                tell("sent", value, now(), "failed")
                dead.set()
        producer.poll(0)
        time.sleep(options.pause)
    if dead.is_set():
        producer.purge()
    producer.flush(FLUSH_BOUND)


def line_of(options, messages):
    return " ".join(f"{options.topic}-{m.partition()}@{m.offset()}={int(m.value())}" for m in messages)


def read(options, client, consumer, reached):
    """One poll; the records that came."""
    start = now()
    messages = consumer.consume(500, 0.2)
    records = [message for message in messages if message.error() is None]
    for message in messages:
        if message.error() is not None:
            told = "!" if message.error().code() == KafkaError._AUTO_OFFSET_RESET else "#"
            tell(told, "a consumer was told:", str(message.error()).replace("\n", " "))
    if records:
        tell(client, start, now(), "polled uncommitted", line_of(options, records))
    for record in records:
        reached[record.partition()] = max(reached[record.partition()], record.offset() + 1)
    return records


def is_there(reached):
    return finishing.is_set() and all(at >= end for at, end in zip(reached, ends))


def seek(options, names, seed):
    chance = random.Random(seed)
    client = names.next_client()
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": f"none-{client}",
            "enable.auto.commit": False,
            # Nothing is ever deleted here: a position that is out of range is a lost record.
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
        }
    )
    reached = [0] * options.partitions

    def assign():
        positions = [max(0, at - chance.randrange(SEEK_BACK_MAX)) for at in reached]
        consumer.assign([TopicPartition(options.topic, p, at) for p, at in enumerate(positions)])
        moment = now()
        for partition, at in enumerate(positions):
            tell(client, moment, moment, "sought", f"{options.topic}-{partition}", at)

    assign()
    bound = None
    while not is_there(reached):
        bound = bound or (finishing.is_set() and time.monotonic() + FINISH_BOUND)
        if bound and time.monotonic() > bound:
            return lagging("the reader that assigns itself", reached)
        read(options, client, consumer, reached)
        if finishing.is_set():
            continue
        if chance.random() < 0.03:
            partition = chance.randrange(options.partitions)
            at = max(0, reached[partition] - chance.randrange(SEEK_BACK_MAX))
            try:
                consumer.seek(TopicPartition(options.topic, partition, at))
                moment = now()
                tell(client, moment, moment, "sought", f"{options.topic}-{partition}", at)
            except KafkaException:
                assign()
        elif chance.random() < 0.005:
            assign()
    consumer.close()


def member(options, names, group, reached):
    client = names.next_client()
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "auto.commit.interval.ms": 1000,
            "fetch.wait.max.ms": 100,
            "partition.assignment.strategy": options.assignor,
        }
    )

    def assigned(_, partitions):
        moment = now()
        tell(client, moment, moment, "assigned", *(f"{p.topic}-{p.partition}" for p in partitions))

    consumer.subscribe([options.topic], on_assign=assigned)
    bound = None
    while not is_there(reached):
        bound = bound or (finishing.is_set() and time.monotonic() + FINISH_BOUND)
        if bound and time.monotonic() > bound:
            return lagging(f"group {group}", reached)
        read(options, client, consumer, reached)
    consumer.close()


failed = threading.Event()


def lagging(who, reached):
    tell("!", who, "has not caught up: it is at", reached, "of", ends)
    failed.set()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--assignor", default="range")
    options = parser.parse_args()
    names = Names(options.first)
    producers = [
        threading.Thread(target=produce, args=(options, names, options.seed + n, idempotent))
        for n, idempotent in enumerate([True, False])
    ]
    shared = [0] * options.partitions
    readers = [threading.Thread(target=seek, args=(options, names, options.seed + 2))]
    readers += [threading.Thread(target=member, args=(options, names, "librdkafka", shared)) for _ in range(2)]
    for thread in producers + readers:
        thread.start()
    for line in sys.stdin:
        words = line.split()
        if words == ["stop"]:
            stopping.set()
            for thread in producers:
                thread.join()
            tell("# producers are done")
            sys.stdout.flush()
        elif words[:1] == ["finish"]:
            ends.extend(map(int, words[1:]))
            finishing.set()
            break
    stopping.set()
    finishing.set()
    for thread in producers + readers:
        thread.join()
    sys.stdout.flush()
    sys.exit(1 if failed.is_set() else 0)


main()
