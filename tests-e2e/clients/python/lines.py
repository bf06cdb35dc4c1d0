"""Records as JSON lines: bytes in base64, one record a line, the same for every client script."""

import argparse
import base64
import json
import sys


def arguments(description, producer):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    if producer:
        parser.add_argument("--codec", default="none", choices=["none", "gzip", "snappy", "lz4", "zstd"])
        parser.add_argument("--acks", default="all", choices=["0", "1", "all"])
        parser.add_argument("--idempotent", action="store_true")
        parser.add_argument("--timeout-ms", type=int, default=30000, help="until a record that got no answer is given up")
    else:
        parser.add_argument("--partition", type=int, action="append", help="default: every partition of the topic")
        parser.add_argument("--timeout-ms", type=int, default=30000, help="without any new record")
    return parser.parse_args()


def decoded(text):
    return None if text is None else base64.b64decode(text)


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def records():
    """(n, record) of each input line, as it comes."""
    for n, line in enumerate(sys.stdin):
        record = json.loads(line)
        record["key"] = decoded(record["key"])
        record["value"] = decoded(record["value"])
        record["headers"] = [(name, decoded(value)) for name, value in record["headers"]]
        yield n, record


def acknowledged(n, partition, offset):
    print(json.dumps({"n": n, "partition": partition, "offset": offset}), flush=True)


def refused(n, error):
    print(json.dumps({"n": n, "error": str(error)}), flush=True)


def seen(partition, offset, key, value, headers, timestamp):
    print(json.dumps({
        "partition": partition,
        "offset": offset,
        "key": encoded(key),
        "value": encoded(value),
        "headers": [[name, encoded(data)] for name, data in headers or []],
        "timestamp": timestamp,
    }))
