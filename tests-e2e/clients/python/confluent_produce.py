"""Produces with confluent-kafka (librdkafka); prints a line for each answer."""

import sys

from confluent_kafka import Producer

import lines


def main():
    options = lines.arguments(__doc__, producer=True)
    producer = Producer({
        "bootstrap.servers": options.bootstrap,
        "compression.type": options.codec,
        "acks": options.acks,
        "enable.idempotence": options.idempotent,
        "linger.ms": 5,
        "message.timeout.ms": options.timeout_ms,
        "message.max.bytes": 8 * 1024 * 1024,
    })
    refused = 0

    def answer_for(n):
        def answer(error, message):
            nonlocal refused
            if error is not None:
                refused += 1
                lines.refused(n, error)
            else:
                lines.acknowledged(n, message.partition(), message.offset())
        return answer

    for n, record in lines.records():
        place = {name: record[name] for name in ["partition", "timestamp"] if record[name] is not None}
        while True:
            try:
                producer.produce(
                    options.topic, value=record["value"], key=record["key"], headers=record["headers"],
                    on_delivery=answer_for(n), **place)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(options.timeout_ms / 1000 + 5)
    if left:
        sys.exit(f"{left} records without an answer")
    sys.exit(1 if refused else 0)


main()
