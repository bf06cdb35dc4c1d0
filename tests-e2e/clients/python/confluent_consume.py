"""Reads partitions from their beginning to the high watermark with confluent-kafka (librdkafka), without a group."""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

import lines


def main():
    options = lines.arguments(__doc__, producer=False)
    consumer = Consumer({
        "bootstrap.servers": options.bootstrap,
        # The library wants a name even when nothing is ever committed under it.
        "group.id": "unused",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "check.crcs": True,
    })
    partitions = options.partition
    if partitions is None:
        partitions = sorted(consumer.list_topics(options.topic, timeout=10).topics[options.topic].partitions)
    ends = {}
    for partition in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(options.topic, partition), timeout=10)
        if high > low:
            ends[partition] = high
    consumer.assign([TopicPartition(options.topic, partition, OFFSET_BEGINNING) for partition in ends])
    while ends:
        message = consumer.poll(options.timeout_ms / 1000)
        if message is None:
            sys.exit(f"nothing for {options.timeout_ms} ms; not at the end of {ends}")
        if message.error():
            if message.error().code() != KafkaError._PARTITION_EOF:
                sys.exit(str(message.error()))
            # The end offset may belong to a control record that is never shown.
            ends.pop(message.partition(), None)
            continue
        lines.seen(message.partition(), message.offset(), message.key(), message.value(), message.headers(), message.timestamp()[1])
    consumer.close()


main()
