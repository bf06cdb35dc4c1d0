package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type franz struct {
	bootstrap string
	scale     int
	admin     *kadm.Client
	producer  *kgo.Client
}

func franzSteps(bootstrap string, scale int) ([]step, error) {
	// Idempotent and acknowledged by all: the defaults.
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, err
	}
	f := &franz{bootstrap: bootstrap, scale: scale, admin: kadm.NewClient(client), producer: client}
	balancer := func(name string, options ...kgo.Opt) step {
		return step{name, func(ctx context.Context) error { return f.life(ctx, name, options) }}
	}
	return []step{
		balancer("cooperative-sticky", kgo.Balancers(kgo.CooperativeStickyBalancer())),
		balancer("range", kgo.Balancers(kgo.RangeBalancer())),
		balancer("server-side", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()),
		{"by itself", f.byItself},
		{"kadm topics", f.topics},
		{"kadm offsets", f.offsets},
		{"kadm groups", f.groups},
	}, nil
}

func (f *franz) life(ctx context.Context, name string, options []kgo.Opt) error {
	topic, group := "franz-"+name, "franz-group-"+name
	if _, err := f.admin.CreateTopic(ctx, partitions, -1, nil, topic); err != nil {
		return err
	}
	return life{
		join:      func(seen *seen) (member, error) { return f.join(topic, group, options, seen) },
		produce:   func(ctx context.Context, numbers []int) error { return f.produce(ctx, topic, numbers) },
		committed: func(ctx context.Context) (int64, error) { return f.committed(ctx, group) },
		scale:     f.scale,
	}.run(ctx)
}

func (f *franz) produce(ctx context.Context, topic string, numbers []int) error {
	records := []*kgo.Record{}
	for _, number := range numbers {
		text := []byte(strconv.Itoa(number))
		headers := []kgo.RecordHeader{{Key: "trace", Value: text}}
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(number % partitions), Value: text, Headers: headers})
	}
	return f.producer.ProduceSync(ctx, records...).FirstErr()
}

func (f *franz) committed(ctx context.Context, group string) (int64, error) {
	offsets, err := f.admin.FetchOffsets(ctx, group)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	offsets.Each(func(offset kadm.OffsetResponse) { total += offset.At })
	return total, offsets.Error()
}

// franzMember commits what it has seen before it lets a rebalance go on.
type franzMember struct {
	ownership
	client *kgo.Client
	stopIt context.CancelFunc
	ended  chan struct{}
}

func (f *franz) join(topic, group string, options []kgo.Opt, seen *seen) (member, error) {
	m := &franzMember{ownership: ownership{held: map[int32]bool{}}, ended: make(chan struct{})}
	lose := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.lose(lost[topic]...) }
	options = append([]kgo.Opt{
		kgo.SeedBrokers(f.bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, gained map[string][]int32) { m.gain(gained[topic]...) }),
		kgo.OnPartitionsRevoked(lose), kgo.OnPartitionsLost(lose),
	}, options...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	m.client = client
	ctx, stop := context.WithCancel(context.Background())
	m.stopIt = stop
	go func() {
		defer close(m.ended)
		if err := m.consume(ctx, seen); err != nil {
			m.fail(err)
		}
	}()
	return m, nil
}

func (m *franzMember) consume(ctx context.Context, seen *seen) error {
	for {
		fetches := m.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		var wrong error
		fetches.EachRecord(func(record *kgo.Record) {
			number, err := strconv.Atoi(string(record.Value))
			if err != nil || len(record.Headers) != 1 || string(record.Headers[0].Value) != string(record.Value) {
				wrong = fmt.Errorf("not a record of ours: %v", record)
			}
			seen.add(number, place{record.Partition, record.Offset})
		})
		if wrong != nil {
			return wrong
		}
		// A commit that meets a rebalance: the records are seen again by whoever owns them next.
		err := m.client.CommitUncommittedOffsets(context.Background())
		if err != nil && !errors.Is(err, kerr.RebalanceInProgress) {
			return fmt.Errorf("committing: %w", err)
		}
		m.client.AllowRebalance()
	}
}

func (m *franzMember) stop() error {
	m.stopIt()
	<-m.ended
	m.client.CloseAllowingRebalance()
	return m.failed()
}

// byItself is a consumer with nothing set but its group: it commits by itself, and a second one goes on where it ended.
func (f *franz) byItself(ctx context.Context) error {
	topic, group := "franz-by-itself", "franz-by-itself"
	if _, err := f.admin.CreateTopic(ctx, partitions, -1, nil, topic); err != nil {
		return err
	}
	for round := range 2 {
		numbers := make([]int, 100*f.scale)
		for n := range numbers {
			numbers[n] = round*len(numbers) + n
		}
		if err := f.produce(ctx, topic, numbers); err != nil {
			return err
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic))
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for len(seen) < len(numbers) {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return fmt.Errorf("round %d, %d seen: %w", round, len(seen), err)
			}
			fetches.EachRecord(func(record *kgo.Record) { seen[string(record.Value)] = true })
		}
		for _, number := range numbers {
			if !seen[strconv.Itoa(number)] {
				return fmt.Errorf("round %d: no record %d", round, number)
			}
		}
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
		client.Close()
	}
	return f.pauseAndSeek(ctx, topic)
}

// pauseAndSeek reads partitions without a group.
func (f *franz) pauseAndSeek(ctx context.Context, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.FetchMaxWait(200*time.Millisecond), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().AtEnd().Relative(-5), 1: kgo.NewOffset().At(3)},
	}))
	if err != nil {
		return err
	}
	defer client.Close()
	client.PauseFetchPartitions(map[string][]int32{topic: {1}})
	first := map[int32]int64{}
	read := func(partition int32) error {
		for {
			fetches := client.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				return err
			}
			fetches.EachRecord(func(record *kgo.Record) {
				if _, known := first[record.Partition]; !known {
					first[record.Partition] = record.Offset
				}
			})
			if _, known := first[partition]; known {
				return nil
			}
		}
	}
	if err := read(0); err != nil {
		return err
	}
	ends, err := f.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	end, _ := ends.Lookup(topic, 0)
	if _, known := first[1]; known || first[0] != end.Offset-5 {
		return fmt.Errorf("partition 1 is paused, and 0 begins 5 before %d: %v", end.Offset, first)
	}
	client.ResumeFetchPartitions(map[string][]int32{topic: {1}})
	if err := read(1); err != nil {
		return err
	}
	if first[1] != 3 {
		return fmt.Errorf("partition 1 begins at %d", first[1])
	}
	clear(first)
	client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {1: {Epoch: -1, Offset: 7}}})
	if err := read(1); err != nil {
		return err
	}
	if first[1] != 7 {
		return fmt.Errorf("after seeking, partition 1 begins at %d", first[1])
	}
	return nil
}
