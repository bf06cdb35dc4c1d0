"""Creates topics, each given as name:partitions:replicas[:config=value,...], and waits until every partition has a leader."""

import argparse
import sys
import time

from confluent_kafka.admin import AdminClient, NewTopic


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("topics", nargs="+")
    options = parser.parse_args()
    wanted = []
    for text in options.topics:
        name, partitions, replicas, *configs = text.split(":", 3)
        config = dict(pair.split("=", 1) for pair in configs[0].split(",")) if configs else {}
        wanted.append(NewTopic(name, int(partitions), int(replicas), config=config))
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    for answer in admin.create_topics(wanted, request_timeout=30).values():
        answer.result()
    deadline = time.monotonic() + 30
    while not all(has_leaders(admin, topic) for topic in wanted):
        if time.monotonic() > deadline:
            sys.exit("topics without leaders after 30 s")
        time.sleep(0.05)


def has_leaders(admin, topic):
    found = admin.list_topics(timeout=10).topics.get(topic.topic)
    return found is not None and len(found.partitions) == topic.num_partitions and all(
        partition.leader >= 0 for partition in found.partitions.values())


main()
