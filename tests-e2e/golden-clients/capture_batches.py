"""Writes down the produce payloads of real clients, for the golden tests of the crate record-batch.

A small broker with one topic of one partition answers just enough of the protocol for the client scripts of
tests-e2e/clients to produce to it. Each script is given the same records, once per codec.

Run from the root, with the packages of tests-e2e/clients/python/requirements.txt, and with those of
tests-e2e/clients/node/package.json in NODE_MODULES:
    python tests-e2e/golden-clients/capture_batches.py NODE_MODULES > crates/record-batch/fixtures/clients.txt
"""

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading

NOW = 1_700_000_000_000
TOPIC = "golden"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
CLIENTS = {
    "librdkafka": [sys.executable, "tests-e2e/clients/python/confluent_produce.py"],
    "kafka-python": [sys.executable, "tests-e2e/clients/python/kafka_python_produce.py"],
    "kafkajs": ["node", "tests-e2e/clients/node/produce.js"],
}

PRODUCE, FETCH, METADATA, FIND_COORDINATOR, API_VERSIONS, INIT_PRODUCER_ID = 0, 1, 3, 10, 18, 22
# librdkafka does not use batches without Fetch v4, nor lz4 without FindCoordinator.
SERVED = {
    PRODUCE: (3, 7), FETCH: (4, 10), METADATA: (1, 4), FIND_COORDINATOR: (0, 0), API_VERSIONS: (0, 0), INIT_PRODUCER_ID: (0, 1),
}
UNSUPPORTED_VERSION = 35


def record(key, value, headers, milliseconds):
    encoded = lambda data: None if data is None else base64.b64encode(data).decode()
    return json.dumps({
        "key": encoded(key), "value": encoded(value), "headers": [[name, encoded(data)] for name, data in headers],
        "partition": 0, "timestamp": NOW + milliseconds,
    })


def records(codec):
    # Longer than any codec's block, where that does not make the fixture long.
    long = 100 if codec == "none" else 10_000
    return [*SHORT_RECORDS, record(b"long", b"0123456789" * long, [], 71)]


SHORT_RECORDS = [
    record(b"key", b"value", [], 0),
    record(None, b"no key", [("again", b"1"), ("again", b"2"), ("other", b"\x00\xff")], 500),
    record(b"tombstone", None, [], -3),
    record(b"", b"", [], 70),
]


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        size = struct.calcsize(form)
        self.at += size
        return struct.unpack(form, self.data[self.at - size:self.at])[0]

    def bytes(self, form):
        length = self.number(form)
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at]


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Broker:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.payloads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        stream = connection.makefile("rb")
        while len(prefix := stream.read(4)) == 4:
            request = Reader(stream.read(struct.unpack(">i", prefix)[0]))
            key, version, correlation = request.number(">h"), request.number(">h"), request.number(">i")
            request.bytes(">h")
            answer = struct.pack(">i", correlation) + self.answer(key, version, request)
            connection.sendall(struct.pack(">i", len(answer)) + answer)

    def answer(self, key, version, request):
        if key == API_VERSIONS:
            error = 0 if version == 0 else UNSUPPORTED_VERSION
            return struct.pack(">h", error) + array([struct.pack(">hhh", k, *versions) for k, versions in SERVED.items()])
        if key == METADATA:
            throttle = struct.pack(">i", 0) if version >= 3 else b""
            broker = struct.pack(">i", 1) + string("127.0.0.1") + struct.pack(">i", self.port) + struct.pack(">h", -1)
            cluster = string("golden") if version >= 2 else b""
            one = array([struct.pack(">i", 1)])
            partition = struct.pack(">hii", 0, 0, 1) + one + one
            topic = struct.pack(">h", 0) + string(TOPIC) + b"\0" + array([partition])
            return throttle + array([broker]) + cluster + struct.pack(">i", 1) + array([topic])
        if key == INIT_PRODUCER_ID:
            return struct.pack(">ihqh", 0, 0, 4711, 3)
        if key == PRODUCE:
            request.bytes(">h")
            request.number(">h")
            request.number(">i")
            topics = []
            for _ in range(request.number(">i")):
                topic, partitions = request.bytes(">h").decode(), []
                for _ in range(request.number(">i")):
                    index = request.number(">i")
                    self.payloads.append((version, request.bytes(">i")))
                    start = struct.pack(">q", 0) if version >= 5 else b""
                    partitions.append(struct.pack(">ihqq", index, 0, 100, -1) + start)
                topics.append(string(topic) + array(partitions))
            return array(topics) + struct.pack(">i", 0)
        raise ValueError(f"request {key} was not expected")


def capture(name, command, codec, idempotent, node_modules):
    broker = Broker()
    arguments = ["--bootstrap", f"127.0.0.1:{broker.port}", "--topic", TOPIC, "--codec", codec]
    subprocess.run(
        command + arguments + (["--idempotent"] if idempotent else []), input="\n".join(records(codec)) + "\n", text=True, check=True,
        stdout=subprocess.DEVNULL, timeout=60, env={**os.environ, "NODE_PATH": node_modules})
    for version, payload in broker.payloads:
        print(f"\npayload {name}-{codec}{'-idempotent' if idempotent else ''}")
        print(f"bytes {payload.hex()}\nversion {version}")


def main():
    print("# Written by tests-e2e/golden-clients/capture_batches.py. Do not edit.")
    for name, command in CLIENTS.items():
        for codec in CODECS:
            capture(name, command, codec, False, sys.argv[1])
        capture(name, command, "none", True, sys.argv[1])


main()
