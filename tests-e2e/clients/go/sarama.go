package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

type saramaApplication struct {
	bootstrap []string
	scale     int
	admin     sarama.ClusterAdmin
	producer  sarama.SyncProducer
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V4_3_0_0
	return config
}

func saramaSteps(bootstrap string, scale int) ([]step, error) {
	config := saramaConfig()
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = sarama.CompressionLZ4
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Net.MaxOpenRequests = 1
	s := &saramaApplication{bootstrap: []string{bootstrap}, scale: scale}
	var err error
	if s.admin, err = sarama.NewClusterAdmin(s.bootstrap, saramaConfig()); err != nil {
		return nil, err
	}
	if s.producer, err = sarama.NewSyncProducer(s.bootstrap, config); err != nil {
		return nil, err
	}
	strategy := func(name string, created func() sarama.BalanceStrategy) step {
		return step{name, func(ctx context.Context) error { return s.life(ctx, name, created) }}
	}
	return []step{
		strategy("range", sarama.NewBalanceStrategyRange),
		strategy("sticky", sarama.NewBalanceStrategySticky),
		strategy("roundrobin", sarama.NewBalanceStrategyRoundRobin),
		strategy("cooperative-sticky", sarama.NewBalanceStrategyCooperativeSticky),
		{"administration", s.administration},
	}, nil
}

func (s *saramaApplication) create(topic string, detail sarama.TopicDetail) error {
	detail.ReplicationFactor = -1
	return s.admin.CreateTopic(topic, &detail, false)
}

func (s *saramaApplication) life(ctx context.Context, name string, strategy func() sarama.BalanceStrategy) error {
	topic, group := "sarama-"+name, "sarama-group-"+name
	if err := s.create(topic, sarama.TopicDetail{NumPartitions: partitions}); err != nil {
		return err
	}
	return life{
		join:      func(seen *seen) (member, error) { return s.join(topic, group, strategy(), seen) },
		produce:   func(_ context.Context, numbers []int) error { return s.produce(topic, numbers) },
		committed: func(context.Context) (int64, error) { return s.committed(group, topic) },
		scale:     s.scale,
	}.run(ctx)
}

func (s *saramaApplication) produce(topic string, numbers []int) error {
	messages := []*sarama.ProducerMessage{}
	for _, number := range numbers {
		text := sarama.StringEncoder(strconv.Itoa(number))
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: int32(number % partitions), Key: text, Value: text})
	}
	return s.producer.SendMessages(messages)
}

func (s *saramaApplication) committed(group, topic string) (int64, error) {
	wanted := map[string][]int32{topic: {}}
	for partition := range int32(partitions) {
		wanted[topic] = append(wanted[topic], partition)
	}
	answers, err := s.admin.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{group: wanted})
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for partition, block := range answers[group].Blocks[topic] {
		if block.Err != sarama.ErrNoError {
			return 0, fmt.Errorf("partition %d: %w", partition, block.Err)
		}
		total += max(0, block.Offset)
	}
	return total, nil
}

// saramaMember is a consumer group's member and its handler.
type saramaMember struct {
	ownership
	seen   *seen
	group  sarama.ConsumerGroup
	stopIt context.CancelFunc
	ended  chan struct{}
}

func (s *saramaApplication) join(topic, group string, strategy sarama.BalanceStrategy, seen *seen) (member, error) {
	config := saramaConfig()
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	joined, err := sarama.NewConsumerGroup(s.bootstrap, group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &saramaMember{ownership: ownership{held: map[int32]bool{}}, seen: seen, group: joined, stopIt: stop, ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		// An eager strategy ends each call with a rebalance.
		for ctx.Err() == nil {
			if err := joined.Consume(ctx, []string{topic}, m); err != nil {
				m.fail(err)
				return
			}
		}
	}()
	return m, nil
}

func (m *saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.gain(claim.Partition())
	defer m.lose(claim.Partition())
	for message := range claim.Messages() {
		number, err := strconv.Atoi(string(message.Value))
		if err != nil || string(message.Key) != string(message.Value) {
			return fmt.Errorf("not a record of ours: %v", message)
		}
		m.seen.add(number, place{message.Partition, message.Offset})
		session.MarkMessage(message, "")
		if len(claim.Messages()) == 0 {
			session.Commit()
		}
	}
	return nil
}

func (m *saramaMember) stop() error {
	m.stopIt()
	<-m.ended
	return errors.Join(m.group.Close(), m.failed())
}

func (s *saramaApplication) administration(context.Context) error {
	topic, retention := "sarama-administered", "3600000"
	configs := map[string]*string{"retention.ms": &retention}
	if err := s.create(topic, sarama.TopicDetail{NumPartitions: 2, ConfigEntries: configs}); err != nil {
		return err
	}
	again := s.create(topic, sarama.TopicDetail{NumPartitions: 2})
	if err := s.admin.CreatePartitions(topic, 4, nil, false); err != nil {
		return err
	}
	var topics map[string]sarama.TopicDetail
	var err error
	// A broker learns of the new partitions after whoever made them has been answered.
	if err := until("four partitions", nil, func() bool {
		topics, err = s.admin.ListTopics()
		return err != nil || topics[topic].NumPartitions == 4
	}); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}}
	longer := "7200000"
	change := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &longer}}
	altered := s.admin.IncrementalAlterConfig(sarama.TopicResource, topic, change, false)
	var entries []sarama.ConfigEntry
	if err := until("the new retention", nil, func() bool {
		entries, err = s.admin.DescribeConfig(resource)
		return err != nil || len(entries) == 1 && entries[0].Value == longer
	}); err != nil {
		return fmt.Errorf("%w; configs %+v", err, entries)
	}
	if err != nil {
		return err
	}
	policy := "compact"
	whole := s.admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"cleanup.policy": &policy}, false)
	deleted := s.admin.DeleteRecords("sarama-range", map[int32]int64{0: 5})
	places := map[string]map[int32]int64{"sarama-range": {0: sarama.OffsetOldest, 1: sarama.OffsetNewest, 2: 0}}
	offsets, err := s.admin.ListOffsets(places, nil)
	if err != nil {
		return err
	}
	groups, err := s.admin.ListConsumerGroups()
	if err != nil {
		return err
	}
	described, err := s.admin.DescribeConsumerGroups([]string{"sarama-group-range"})
	if err != nil {
		return err
	}
	brokers, _, err := s.admin.DescribeCluster()
	if err != nil {
		return err
	}
	dirs, err := s.admin.DescribeLogDirs([]int32{brokers[0].ID()})
	if err != nil {
		return err
	}
	removed := s.admin.DeleteConsumerGroup("sarama-group-sticky")
	nobody := s.admin.DeleteConsumerGroup("sarama-nobody")
	at := offsets["sarama-range"]
	return errors.Join(altered, whole, deleted, removed, s.admin.DeleteTopic(topic),
		expect(errors.Is(again, sarama.ErrTopicAlreadyExists), "made again: %v", again),
		expect(topics[topic].NumPartitions == 4, "listed: %+v", topics[topic]),
		expect(at[0].Offset == 5 && at[1].Offset == int64(recordsOf(s.scale)/partitions) && at[2].Offset == 0, "offsets: %+v %+v %+v", at[0], at[1], at[2]),
		expect(groups["sarama-group-range"] == "consumer", "groups: %v", groups),
		expect(described[0].State == "Empty" && described[0].Err == sarama.ErrNoError, "described: %+v", described[0]),
		expect(len(dirs[brokers[0].ID()]) > 0, "log dirs: %v", dirs),
		expect(errors.Is(nobody, sarama.ErrGroupIDNotFound), "deleting nobody: %v", nobody),
	)
}
