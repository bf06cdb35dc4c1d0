"""Reads partitions from their beginning to the high watermark with kafka-python, without a group."""

import sys

from kafka import KafkaConsumer, TopicPartition

import lines


def main():
    options = lines.arguments(__doc__, producer=False)
    consumer = KafkaConsumer(bootstrap_servers=options.bootstrap, group_id=None, enable_auto_commit=False, check_crcs=True)
    numbers = options.partition
    if numbers is None:
        numbers = sorted(consumer.partitions_for_topic(options.topic))
    partitions = [TopicPartition(options.topic, number) for number in numbers]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        batches = consumer.poll(timeout_ms=options.timeout_ms)
        if not batches:
            sys.exit(f"nothing for {options.timeout_ms} ms; not at the end of {ends}")
        for batch in batches.values():
            for record in batch:
                lines.seen(record.partition, record.offset, record.key, record.value, record.headers, record.timestamp)
    consumer.close()


main()
