"""Produces with kafka-python; prints a line for each answer."""

import sys

from kafka import KafkaProducer

import lines


def main():
    options = lines.arguments(__doc__, producer=True)
    producer = KafkaProducer(
        bootstrap_servers=options.bootstrap,
        compression_type=None if options.codec == "none" else options.codec,
        acks=options.acks if options.acks == "all" else int(options.acks),
        enable_idempotence=options.idempotent,
        linger_ms=5,
        delivery_timeout_ms=options.timeout_ms,
        request_timeout_ms=min(options.timeout_ms - 100, 30000),
        max_request_size=8 * 1024 * 1024,
    )
    answers = []
    for n, record in lines.records():
        answers.append((n, producer.send(
            options.topic, value=record["value"], key=record["key"], headers=record["headers"],
            partition=record["partition"], timestamp_ms=record["timestamp"])))
    producer.flush()
    refused = 0
    for n, answer in answers:
        try:
            metadata = answer.get(timeout=options.timeout_ms / 1000)
            lines.acknowledged(n, metadata.partition, metadata.offset)
        except Exception as error:
            refused += 1
            lines.refused(n, repr(error))
    producer.close()
    sys.exit(1 if refused else 0)


main()
