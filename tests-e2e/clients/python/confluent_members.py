"""Members of many groups in one process, which tell what they own and, in the end, how long they were without records.

Prints one JSON object a line. Reads one line: the end offset of every partition as a JSON list; the groups then read to it,
commit, and leave. Without such a line (end of input) they leave at once.

While they consume, a watcher asks for each group's committed offsets again and again: they never go back, and are never below
what was acknowledged before the question was asked.
"""

import argparse
import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

FINISH_BOUND = 60.0
WATCH_PAUSE = 0.25
# Between commits of a member. One at a time, so that one that is sent again cannot overtake a later one.
COMMIT_PAUSE = 0.2

SETTINGS = {
    "range": {"partition.assignment.strategy": "range"},
    "roundrobin": {"partition.assignment.strategy": "roundrobin"},
    "cooperative-sticky": {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
    "consumer-range": {"group.protocol": "consumer", "group.remote.assignor": "range"},
}

printing = threading.Lock()


def tell(**event):
    with printing:
        print(json.dumps(event | {"at": time.time()}), flush=True)


class Group:
    """What all members of a group that live here have seen and committed."""

    def __init__(self, name, partitions):
        self.name = name
        self.lock = threading.Lock()
        self.next = [0] * partitions  # one past the last record seen
        self.seen = [0] * partitions  # records seen for the first time
        self.again = 0  # records seen more than once
        self.skipped = []  # gaps in what was seen: (partition, from, to)
        self.last = {}  # when the last record came, by partition; under None: from any
        self.pause = {}
        self.acked = [0] * partitions
        self.assignments = 0
        self.refused = {}
        self.wrong = []

    def record(self, partition, offset):
        now = time.time()
        with self.lock:
            if offset < self.next[partition]:
                self.again += 1
            else:
                if offset > self.next[partition]:
                    self.skipped.append((partition, self.next[partition], offset))
                self.next[partition] = offset + 1
                self.seen[partition] += 1
            for key in (partition, None):
                if key in self.last:
                    self.pause[key] = max(self.pause.get(key, 0.0), now - self.last[key])
                self.last[key] = now

    def acknowledge(self, partition, offset):
        with self.lock:
            self.acked[partition] = max(self.acked[partition], offset)

    def refuse(self, error):
        with self.lock:
            self.refused[error] = self.refused.get(error, 0) + 1


class Member(threading.Thread):
    def __init__(self, group, number, settings, topic):
        super().__init__(daemon=True)
        self.group = group
        self.number = number
        self.topic = topic
        self.owned = set()
        self.positions = {}  # where to go on, of partitions owned that have moved since the last commit
        self.pending = False
        self.committed_at = 0.0
        self.stopping = threading.Event()
        self.incremental = settings.get("group.protocol") == "consumer" or \
            settings.get("partition.assignment.strategy") == "cooperative-sticky"
        self.consumer = Consumer(settings | {"group.id": group.name, "on_commit": self.on_commit})

    def on_commit(self, error, partitions):
        self.pending = False
        for partition in partitions or []:
            failed = error or partition.error
            if failed:
                self.group.refuse(failed.name())
                if partition.partition in self.owned:
                    self.positions.setdefault(partition.partition, partition.offset)
            else:
                self.group.acknowledge(partition.partition, partition.offset)

    def on_assign(self, consumer, partitions):
        numbers = {partition.partition for partition in partitions}
        self.owned |= numbers
        self.group.assignments += 1
        consumer.incremental_assign(partitions) if self.incremental else consumer.assign(partitions)
        tell(event="owns", group=self.group.name, member=self.number, partitions=sorted(self.owned))

    def on_revoke(self, consumer, partitions):
        numbers = {partition.partition for partition in partitions}
        self.commit_now(numbers)
        self.give_up(consumer, partitions, numbers)

    def on_lost(self, consumer, partitions):
        self.give_up(consumer, partitions, {partition.partition for partition in partitions})

    def give_up(self, consumer, partitions, numbers):
        self.owned -= numbers
        for number in numbers:
            self.positions.pop(number, None)
        consumer.incremental_unassign(partitions) if self.incremental else consumer.unassign()
        tell(event="owns", group=self.group.name, member=self.number, partitions=sorted(self.owned))

    def offsets(self, numbers):
        return [TopicPartition(self.topic, number, self.positions[number]) for number in sorted(numbers)]

    def commit_now(self, numbers):
        """Waits for the answer; what the group refuses, whoever has the partitions next reads again."""
        offsets = self.offsets(numbers & self.positions.keys())
        if not offsets:
            return
        try:
            self.on_commit(None, self.consumer.commit(offsets=offsets, asynchronous=False))
        except KafkaException as error:
            self.group.refuse(error.args[0].name())

    def commit_soon(self):
        now = time.monotonic()
        if self.pending or not self.positions or now < self.committed_at + COMMIT_PAUSE:
            return
        offsets = self.offsets(self.positions.keys())
        self.positions = {}
        self.pending, self.committed_at = True, now
        self.consumer.commit(offsets=offsets, asynchronous=True)

    def run(self):
        try:
            self.consumer.subscribe([self.topic], on_assign=self.on_assign, on_revoke=self.on_revoke,
                                    on_lost=self.on_lost)
            while not self.stopping.is_set():
                message = self.consumer.poll(0.05)
                if message is not None and not message.error():
                    self.group.record(message.partition(), message.offset())
                    self.positions[message.partition()] = message.offset() + 1
                elif message is not None and not message.error().retriable():
                    self.group.refuse(message.error().name())
                self.commit_soon()
            while self.pending:
                self.consumer.poll(0.05)
            self.commit_now(set(self.positions))
            self.consumer.close()
        except Exception as error:  # noqa: BLE001: told by the main thread
            self.group.wrong.append(repr(error))


class Watcher(threading.Thread):
    """Asks for the committed offsets of each group, with a consumer that is no member.

    Not with librdkafka's admin client: it ends its process (SIGSEGV) when a broker answers that it is not the coordinator, as
    Kafka's do while one moves (confluent-kafka-javascript, issue 374).
    """

    def __init__(self, groups, bootstrap, topic):
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": bootstrap, "log_level": 2, "enable.auto.commit": False}
        self.consumers = {group: Consumer(settings | {"group.id": group.name}) for group in groups}
        self.groups, self.topic = groups, topic
        self.known = {group: [-1] * len(group.next) for group in groups}
        self.stopping = threading.Event()
        self.asked = self.failed = 0

    def look(self, group, timeout):
        with group.lock:
            acked = list(group.acked)
        places = [TopicPartition(self.topic, partition) for partition in range(len(acked))]
        found = self.consumers[group].committed(places, timeout=timeout)
        before = self.known[group]
        for place in found:
            if place.error:
                raise KafkaException(place.error)
            at, offset = place.partition, max(place.offset, -1)
            if offset < before[at]:
                group.wrong.append(f"the committed offset of {at} went from {before[at]} to {offset}")
            if acked[at] and offset < acked[at]:
                group.wrong.append(f"{acked[at]} was acknowledged for {at}, and {offset} is committed")
            before[at] = offset
        return [max(place.offset, 0) for place in found]

    def run(self):
        while not self.stopping.is_set():
            for group in self.groups:
                try:
                    self.look(group, 5)
                    self.asked += 1
                except KafkaException:
                    self.failed += 1
            self.stopping.wait(WATCH_PAUSE)

    def finish(self):
        self.stopping.set()
        self.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--session-ms", type=int, required=True)
    parser.add_argument("groups", nargs="+", help="name=protocol")
    options = parser.parse_args()
    base = {"bootstrap.servers": options.bootstrap, "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "fetch.wait.max.ms": 100, "log_level": 2}
    groups, members = [], []
    for name, protocol in (text.split("=") for text in options.groups):
        group = Group(name, options.partitions)
        groups.append(group)
        settings = base | SETTINGS[protocol]
        if settings.get("group.protocol") != "consumer":
            settings |= {"session.timeout.ms": options.session_ms, "heartbeat.interval.ms": 1_000}
        members += [Member(group, number, settings, options.topic) for number in range(options.members)]
    for member in members:
        member.start()
    watcher = Watcher(groups, options.bootstrap, options.topic)
    watcher.start()

    line = sys.stdin.readline()
    ends = json.loads(line) if line else None
    deadline = time.monotonic() + FINISH_BOUND
    while ends and any(group.next != ends for group in groups):
        behind = {group.name: group.next for group in groups if group.next != ends}
        if time.monotonic() > deadline or any(group.wrong for group in groups):
            tell(event="behind", ends=ends, groups=behind)
            break
        time.sleep(0.02)
    for member in members:
        member.stopping.set()
    for member in members:
        member.join(FINISH_BOUND)
        if member.is_alive():
            member.group.wrong.append("a member does not end")
    watcher.finish()
    for group in groups:
        try:
            committed = watcher.look(group, FINISH_BOUND)
        except KafkaException as error:
            committed = []
            group.wrong.append(f"its offsets cannot be fetched: {error}")
        tell(event="done", group=group.name, seen=group.seen, again=group.again, skipped=group.skipped,
             committed=committed, assignments=group.assignments, refused=group.refused, wrong=group.wrong,
             pause=group.pause.get(None, 0.0),
             partition_pause=max((pause for key, pause in group.pause.items() if key is not None), default=0.0))
    tell(event="watched", asked=watcher.asked, failed=watcher.failed)


main()
