// Sends three orders and reads them in a group.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, topic := context.Background(), "orders-go"
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Args[1]), kgo.AllowAutoTopicCreation(),
		kgo.ConsumerGroup("billing-go"), kgo.ConsumeTopics(topic),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for n := 1; n <= 3; n++ {
		record := &kgo.Record{Topic: topic, Key: []byte("customer-7"), Value: fmt.Appendf(nil, "order-%d", n)}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			log.Fatal(err)
		}
	}

	for left := 3; left > 0; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Println(record.Partition, record.Offset, string(record.Value))
			left--
		})
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		log.Fatal(err)
	}
}
