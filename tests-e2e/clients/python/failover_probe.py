"""Writes to every partition of a topic, again and again, with librdkafka's defaults, and says how long each went without an
acknowledged write.

Commands are lines of standard input; each is answered with a line of JSON:

  begin                            the longest gaps are counted from here on
  report                           what was seen since: `longest` and `open` gap of each partition in ms, `acked`, `failed` by error
  create NAME PARTITIONS REPLICAS  creates a topic, asking again until it is there: `created_ms`
  fill MIB                         writes so much in large records, as fast as it goes: `filled_ms`
"""

import argparse
import json
import os
import queue
import sys
import threading
import time

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

BETWEEN_POLLS_S = 0.002
FILL_RECORD_BYTES = 100_000


def say(**answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Probe:
    def __init__(self, options):
        self.options = options
        self.producers = [Producer({"bootstrap.servers": options.bootstrap}) for _ in range(options.producers)]
        self.admin = AdminClient({"bootstrap.servers": options.bootstrap})
        self.answers = [self.answer_for(partition) for partition in range(options.partitions)]
        self.last = [None] * options.partitions
        self.begin()

    def begin(self):
        self.longest = [0.0] * self.options.partitions
        self.acked = 0
        self.failed = {}
        self.full = 0

    def answer_for(self, partition):
        def answer(error, _message):
            if error is not None:
                self.failed[error.name()] = self.failed.get(error.name(), 0) + 1
                return
            now = time.monotonic()
            if self.last[partition] is not None:
                self.longest[partition] = max(self.longest[partition], now - self.last[partition])
            self.last[partition] = now
            self.acked += 1
        return answer

    def write(self):
        for partition, answer in enumerate(self.answers):
            producer = self.producers[partition % len(self.producers)]
            try:
                producer.produce(self.options.topic, value=b"probe", partition=partition, on_delivery=answer)
            except BufferError:
                self.full += 1

    def report(self):
        now = time.monotonic()
        since = [None if last is None else (now - last) * 1000 for last in self.last]
        longest = [max(gap * 1000, ago or 0) for gap, ago in zip(self.longest, since)]
        say(longest=longest, open=since, acked=self.acked, failed=self.failed, full=self.full)

    def create(self, name, partitions, replicas):
        began = time.monotonic()
        while True:
            try:
                topic = NewTopic(name, int(partitions), int(replicas))
                for answer in self.admin.create_topics([topic]).values():
                    answer.result()
                break
            except KafkaException as error:
                # An answer that was lost; the topic is there.
                if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                    break
                time.sleep(0.02)
        say(created_ms=(time.monotonic() - began) * 1000)

    def fill(self, mib):
        began = time.monotonic()
        value = os.urandom(FILL_RECORD_BYTES)
        producer = self.producers[0]
        for n in range(int(mib) * 1024 * 1024 // FILL_RECORD_BYTES):
            while True:
                try:
                    producer.produce(self.options.topic, value=value, partition=n % self.options.partitions)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(120)
        say(filled_ms=(time.monotonic() - began) * 1000, left=left)

    def obey(self, command):
        name, *words = command.split()
        if name == "create":
            threading.Thread(target=self.create, args=words, daemon=True).start()
        elif name == "begin":
            self.begin()
            say(begun=True)
        else:
            getattr(self, name)(*words)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--producers", type=int, required=True)
    parser.add_argument("--interval-ms", type=int, required=True)
    probe = Probe(parser.parse_args())
    commands = queue.SimpleQueue()

    def read():
        for line in sys.stdin:
            commands.put(line)
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            probe.write()
            due = max(due + probe.options.interval_ms / 1000, now)
        # One is waited for; the others' answers are there then or the next time.
        for producer in probe.producers:
            producer.poll(BETWEEN_POLLS_S if producer is probe.producers[0] else 0)
        while not commands.empty():
            command = commands.get()
            if command is None:
                # What is queued is not waited for: whoever asks has gone.
                os._exit(0)
            probe.obey(command)


main()
