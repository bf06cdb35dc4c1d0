package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	consoleTopic = "console-orders"
	consoleLive  = "console-live"
	consoleEmpty = "console-empty"
	consoleMade  = "console-made"
	consoleTotal = 60
)

// console asks what Redpanda Console asks of a Kafka, with the library that it uses, on a state that it makes itself. It prints
// each question and below it the answer, without what differs from one Kafka to another: addresses, sizes, ids that are drawn, times.
type console struct {
	bootstrap string
	began     int64
	client    *kgo.Client
	admin     *kadm.Client
}

func runConsole(ctx context.Context, bootstrap string, began int64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequestRetries(2))
	if err != nil {
		return err
	}
	defer client.Close()
	c := &console{bootstrap: bootstrap, began: began, client: client, admin: kadm.NewClient(client)}
	member, err := c.arrange(ctx)
	if err != nil {
		return err
	}
	defer member.Close()
	c.overview(ctx)
	c.topics(ctx)
	c.groups(ctx)
	c.messages(ctx)
	c.actions(ctx)
	return nil
}

// arrange makes a topic with records and two groups: one with a member that stays, and one without.
func (c *console) arrange(ctx context.Context) (*kgo.Client, error) {
	configs := map[string]*string{"retention.ms": kadm.StringPtr("86400000")}
	if _, err := c.admin.CreateTopic(ctx, 3, 1, configs, consoleTopic); err != nil {
		return nil, err
	}
	for n := range consoleTotal {
		record := &kgo.Record{
			Topic: consoleTopic, Partition: int32(n % 3), Timestamp: time.UnixMilli(c.began + int64(n)*1000),
			Key: fmt.Appendf(nil, "key-%d", n%7), Value: fmt.Appendf(nil, "value-%d", n),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "trace-%d", n)}},
		}
		if err := c.client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return nil, err
		}
	}
	member, err := kgo.NewClient(kgo.SeedBrokers(c.bootstrap), kgo.ClientID("console-member"), kgo.ConsumerGroup(consoleLive),
		kgo.ConsumeTopics(consoleTopic), kgo.DisableAutoCommit())
	if err != nil {
		return nil, err
	}
	for seen := 0; seen < consoleTotal; {
		fetches := member.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		seen += fetches.NumRecords()
	}
	if err := member.CommitUncommittedOffsets(ctx); err != nil {
		return nil, err
	}
	var at kadm.Offsets
	at.Add(kadm.Offset{Topic: consoleTopic, Partition: 0, At: 4, LeaderEpoch: 0, Metadata: "by hand"})
	at.Add(kadm.Offset{Topic: consoleTopic, Partition: 1, At: 2, LeaderEpoch: -1})
	return member, c.admin.CommitAllOffsets(ctx, consoleEmpty, at)
}

// show prints a question and the sorted lines of its answer.
func show(question string, ask func() ([]string, error)) {
	fmt.Println("#", question)
	lines, err := ask()
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	if err != nil {
		fmt.Println("error:", err)
	}
}

func ours(name string) bool { return strings.HasPrefix(name, "console-") }

func text(value *string) string {
	if value == nil {
		return "null"
	}
	return "'" + *value + "'"
}

func (c *console) overview(ctx context.Context) {
	show("cluster", func() (lines []string, err error) {
		metadata, err := c.admin.BrokerMetadata(ctx)
		for _, broker := range metadata.Brokers {
			lines = append(lines, fmt.Sprintf("broker %d at %s rack %s", broker.NodeID, broker.Host, text(broker.Rack)))
		}
		return append(lines, fmt.Sprintf("controller %d named %v", metadata.Controller, metadata.Cluster != "")), err
	})
	show("version", func() (lines []string, err error) {
		versions, err := c.admin.ApiVersions(ctx)
		versions.Each(func(of kadm.BrokerApiVersions) { lines = append(lines, of.VersionGuess()) })
		return lines, err
	})
	show("acls", func() ([]string, error) {
		request := kmsg.NewPtrDescribeACLsRequest()
		request.ResourceType, request.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
		request.Operation, request.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
		answer, err := request.RequestWith(ctx, c.client)
		if err != nil {
			return nil, err
		}
		return []string{fmt.Sprintf("code %d, %d resources", answer.ErrorCode, len(answer.Resources))}, nil
	})
	show("quotas", func() ([]string, error) {
		found, err := c.admin.DescribeClientQuotas(ctx, false, nil)
		return []string{fmt.Sprint(len(found))}, err
	})
	show("users", func() ([]string, error) {
		found, err := c.admin.DescribeUserSCRAMs(ctx)
		return []string{fmt.Sprint(len(found))}, err
	})
	show("reassignments", func() ([]string, error) {
		found, err := c.admin.ListPartitionReassignments(ctx, nil)
		return []string{fmt.Sprint(len(found))}, err
	})
	show("log dirs", func() (lines []string, err error) {
		dirs, err := c.admin.DescribeAllLogDirs(ctx, nil)
		dirs.Each(func(dir kadm.DescribedLogDir) {
			lines = append(lines, fmt.Sprintf("broker %d error %v capacity %v free %v", dir.Broker, dir.Err, dir.TotalBytes > 0, dir.UsableBytes > 0))
			dir.Topics.Each(func(of kadm.DescribedLogDirPartition) {
				if ours(of.Topic) {
					lines = append(lines, fmt.Sprintf("%s-%d holds %v lag %d future %v", of.Topic, of.Partition, of.Size > 0, of.OffsetLag, of.IsFuture))
				}
			})
		})
		return lines, err
	})
}

func configLines(described kadm.ResourceConfigs, err error, keep func(string) bool) ([]string, error) {
	var lines []string
	for _, resource := range described {
		if resource.Err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v %s", resource.Name, resource.Err, resource.ErrMessage))
		}
		for _, config := range resource.Configs {
			if !keep(config.Key) || strings.HasPrefix(config.Key, "thalweg.") {
				continue
			}
			line := fmt.Sprintf("%s %s=%s %s sensitive %v", resource.Name, config.Key, text(config.Value), config.Source, config.Sensitive)
			for _, synonym := range config.Synonyms {
				line += fmt.Sprintf(" < %s=%s %s", synonym.Key, text(synonym.Value), synonym.Source)
			}
			lines = append(lines, line)
		}
	}
	return lines, err
}

func (c *console) topics(ctx context.Context) {
	show("topics", func() (lines []string, err error) {
		topics, err := c.admin.ListTopicsWithInternal(ctx)
		for _, topic := range topics.Sorted() {
			if ours(topic.Topic) || topic.IsInternal {
				lines = append(lines, fmt.Sprintf("%s internal %v partitions %d error %v", topic.Topic, topic.IsInternal, len(topic.Partitions), topic.Err))
			}
		}
		return lines, err
	})
	show("partitions", func() (lines []string, err error) {
		topics, err := c.admin.ListTopics(ctx, consoleTopic, "console-nothing")
		for _, topic := range topics.Sorted() {
			lines = append(lines, fmt.Sprintf("%s error %v", topic.Topic, topic.Err))
		}
		topics.EachPartition(func(of kadm.PartitionDetail) {
			lines = append(lines, fmt.Sprintf("%s-%d leader %d epoch %d replicas %v isr %v offline %v error %v", of.Topic, of.Partition, of.Leader,
				of.LeaderEpoch, of.Replicas, of.ISR, of.OfflineReplicas, of.Err))
		})
		return lines, err
	})
	show("topic configs", func() ([]string, error) {
		described, err := c.admin.DescribeTopicConfigs(ctx, consoleTopic)
		return configLines(described, err, func(string) bool { return true })
	})
	show("configs of no topic", func() ([]string, error) {
		described, err := c.admin.DescribeTopicConfigs(ctx, "console-nothing")
		return configLines(described, err, func(string) bool { return true })
	})
	show("broker configs", func() ([]string, error) {
		shown := []string{"auto.create.topics.enable", "delete.topic.enable", "log.retention.hours", "log.segment.bytes", "message.max.bytes", "num.partitions"}
		described, err := c.admin.DescribeBrokerConfigs(ctx, 1)
		return configLines(described, err, func(name string) bool { return slices.Contains(shown, name) })
	})
	offsets := []struct {
		name string
		list func() (kadm.ListedOffsets, error)
	}{
		{"low watermarks", func() (kadm.ListedOffsets, error) { return c.admin.ListStartOffsets(ctx, consoleTopic) }},
		{"high watermarks", func() (kadm.ListedOffsets, error) { return c.admin.ListEndOffsets(ctx, consoleTopic) }},
		{"offsets at a time", func() (kadm.ListedOffsets, error) {
			return c.admin.ListOffsetsAfterMilli(ctx, c.began+30_500, consoleTopic)
		}},
		{"latest record", func() (kadm.ListedOffsets, error) { return c.admin.ListMaxTimestampOffsets(ctx, consoleTopic) }},
		{"watermarks of no topic", func() (kadm.ListedOffsets, error) { return c.admin.ListEndOffsets(ctx, "console-nothing") }},
	}
	for _, look := range offsets {
		show(look.name, func() (lines []string, err error) {
			listed, err := look.list()
			listed.Each(func(of kadm.ListedOffset) {
				lines = append(lines, fmt.Sprintf("%s-%d %d time %d epoch %d error %v", of.Topic, of.Partition, of.Offset, max(of.Timestamp-c.began, -1), of.LeaderEpoch, of.Err))
			})
			return lines, err
		})
	}
}

func (c *console) groups(ctx context.Context) {
	show("groups", func() (lines []string, err error) {
		groups, err := c.admin.ListGroups(ctx)
		for _, group := range groups.Sorted() {
			if ours(group.Group) {
				lines = append(lines, fmt.Sprintf("%s %s %s at %d", group.Group, group.ProtocolType, group.State, group.Coordinator))
			}
		}
		return lines, err
	})
	show("group details", func() (lines []string, err error) {
		groups, err := c.admin.DescribeGroups(ctx, consoleLive, consoleEmpty, "console-nobody")
		for _, group := range groups.Sorted() {
			lines = append(lines, fmt.Sprintf("%s %s %s %s at %d error %v", group.Group, group.State, group.ProtocolType, group.Protocol, group.Coordinator.NodeID, group.Err))
			for _, member := range group.Members {
				assigned, _ := member.Assigned.AsConsumer()
				join, _ := member.Join.AsConsumer()
				lines = append(lines, fmt.Sprintf("%s %s at %s instance %s joined %v has %v", group.Group, member.ClientID, member.ClientHost,
					text(member.InstanceID), join.Topics, assigned.Topics))
			}
		}
		return lines, err
	})
	show("group offsets", func() (lines []string, err error) {
		c.admin.FetchManyOffsets(ctx, consoleLive, consoleEmpty, "console-nobody").EachError(func(of kadm.FetchOffsetsResponse) {
			lines = append(lines, fmt.Sprintf("%s %v", of.Group, of.Err))
		})
		for group, of := range c.admin.FetchManyOffsets(ctx, consoleLive, consoleEmpty, "console-nobody") {
			of.Fetched.Each(func(at kadm.OffsetResponse) {
				// The library commits the member's id, which is drawn.
				metadata, _, _ := strings.Cut(at.Metadata, "-member-")
				lines = append(lines, fmt.Sprintf("%s %s-%d %d '%s' epoch %d error %v", group, at.Topic, at.Partition, at.At, metadata, at.LeaderEpoch, at.Err))
			})
		}
		return lines, nil
	})
	show("lag", func() (lines []string, err error) {
		lags, err := c.admin.Lag(ctx, consoleLive, consoleEmpty)
		lags.Each(func(of kadm.DescribedGroupLag) {
			for _, partition := range of.Lag.Sorted() {
				owned := partition.Member != nil
				lines = append(lines, fmt.Sprintf("%s %s-%d %d owned %v", of.Group, partition.Topic, partition.Partition, partition.Lag, owned))
			}
		})
		return lines, err
	})
}

func (c *console) messages(ctx context.Context) {
	ends, err := c.admin.ListEndOffsets(ctx, consoleTopic)
	if err != nil {
		show("messages", func() ([]string, error) { return nil, err })
		return
	}
	starts := []struct {
		name string
		at   kgo.Offset
	}{
		{"messages from the oldest", kgo.NewOffset().AtStart()},
		{"messages from an offset", kgo.NewOffset().At(7)},
		{"messages from a time", kgo.NewOffset().AfterMilli(c.began + 40_000)},
		{"the most recent messages", kgo.NewOffset().AtEnd().Relative(-2)},
	}
	for _, start := range starts {
		show(start.name, func() ([]string, error) { return c.read(ctx, start.at, ends) })
	}
}

// read consumes every partition from its start to what was its end.
func (c *console) read(ctx context.Context, start kgo.Offset, ends kadm.ListedOffsets) ([]string, error) {
	partitions, left := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		partitions[end.Partition] = start
		left[end.Partition] = end.Offset
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.bootstrap), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{consoleTopic: partitions}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var lines []string
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return lines, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			lines = append(lines, fmt.Sprintf("%d %03d epoch %d %d %s=%s %s=%s %v", record.Partition, record.Offset, record.LeaderEpoch,
				record.Timestamp.UnixMilli()-c.began, record.Key, record.Value, record.Headers[0].Key, record.Headers[0].Value, record.Attrs.TimestampType()))
			if record.Offset+1 == left[record.Partition] {
				delete(left, record.Partition)
			}
		})
	}
	return lines, nil
}

func (c *console) actions(ctx context.Context) {
	show("create a topic", func() ([]string, error) {
		answer, err := c.admin.CreateTopic(ctx, 2, -1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, consoleMade)
		lines, _ := configLines(kadm.ResourceConfigs{{Name: "made", Configs: configsOf(answer)}}, nil, func(string) bool { return true })
		return append(lines, fmt.Sprintf("partitions %d replicas %d '%s'", answer.NumPartitions, answer.ReplicationFactor, answer.ErrMessage)), err
	})
	show("create it again", func() ([]string, error) {
		answer, err := c.admin.CreateTopic(ctx, 2, -1, nil, consoleMade)
		return []string{answer.ErrMessage}, err
	})
	show("create a wrong one", func() ([]string, error) {
		answer, err := c.admin.CreateTopic(ctx, 2, -1, map[string]*string{"retention.ms": kadm.StringPtr("soon")}, "console-wrong")
		return []string{answer.ErrMessage}, err
	})
	show("add partitions", func() (lines []string, err error) {
		answers, err := c.admin.UpdatePartitions(ctx, 4, consoleMade)
		for _, answer := range answers.Sorted() {
			lines = append(lines, fmt.Sprintf("%s %v '%s'", answer.Topic, answer.Err, answer.ErrMessage))
		}
		return lines, err
	})
	show("alter configs", func() (lines []string, err error) {
		answers, err := c.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
			{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("1000000")},
			{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")},
		}, consoleMade)
		for _, answer := range answers {
			lines = append(lines, fmt.Sprintf("%s %v '%s'", answer.Name, answer.Err, answer.ErrMessage))
		}
		if err != nil {
			return lines, err
		}
		var more []string
		// A broker learns of a change after whoever made it has been answered.
		err = until("the new configs", nil, func() bool {
			described, _ := c.admin.DescribeTopicConfigs(ctx, consoleMade)
			more, _ = configLines(described, nil, func(name string) bool { return name == "retention.ms" || name == "cleanup.policy" })
			return slices.ContainsFunc(more, func(line string) bool { return strings.Contains(line, "1000000") })
		})
		return append(lines, more...), err
	})
	show("alter configs wrongly", func() (lines []string, err error) {
		answers, err := c.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "no.such", Value: kadm.StringPtr("1")}}, consoleMade)
		for _, answer := range answers {
			lines = append(lines, fmt.Sprintf("%s %v '%s'", answer.Name, answer.Err, answer.ErrMessage))
		}
		return lines, err
	})
	show("delete records", func() (lines []string, err error) {
		var at kadm.Offsets
		at.AddOffset(consoleTopic, 0, 5, -1)
		at.AddOffset(consoleTopic, 1, 5000, -1)
		answers, err := c.admin.DeleteRecords(ctx, at)
		answers.Each(func(of kadm.DeleteRecordsResponse) {
			lines = append(lines, fmt.Sprintf("%s-%d %d %v", of.Topic, of.Partition, of.LowWatermark, of.Err))
		})
		return lines, err
	})
	show("move a partition", func() ([]string, error) {
		var request kadm.AlterPartitionAssignmentsReq
		request.Assign(consoleMade, 0, []int32{1})
		answers, err := c.admin.AlterPartitionAssignments(ctx, request)
		if err != nil {
			return nil, err
		}
		return nil, answers.Error()
	})
	c.groupActions(ctx)
	show("delete the topic", func() ([]string, error) {
		answer, err := c.admin.DeleteTopic(ctx, consoleMade)
		return []string{answer.ErrMessage}, err
	})
	show("delete it again", func() ([]string, error) {
		answer, err := c.admin.DeleteTopic(ctx, consoleMade)
		return []string{answer.ErrMessage}, err
	})
}

func configsOf(answer kadm.CreateTopicResponse) []kadm.Config {
	var configs []kadm.Config
	for _, config := range answer.Configs {
		configs = append(configs, config)
	}
	return configs
}

func (c *console) groupActions(ctx context.Context) {
	var at, two kadm.Offsets
	at.AddOffset(consoleTopic, 2, 9, -1)
	two.AddOffset(consoleTopic, 0, 0, -1)
	two.AddOffset("console-nothing", 0, 0, -1)
	for _, group := range []string{consoleEmpty, consoleLive} {
		show("edit offsets of "+group, func() (lines []string, err error) {
			answers, err := c.admin.CommitOffsets(ctx, group, at)
			answers.Each(func(of kadm.OffsetResponse) {
				lines = append(lines, fmt.Sprintf("%s-%d %d %v", of.Topic, of.Partition, of.At, of.Err))
			})
			return lines, err
		})
		show("delete offsets of "+group, func() (lines []string, err error) {
			answers, err := c.admin.DeleteOffsets(ctx, group, two.TopicsSet())
			for topic, partitions := range answers {
				for partition, answer := range partitions {
					lines = append(lines, fmt.Sprintf("%s-%d %v", topic, partition, answer))
				}
			}
			return lines, err
		})
	}
	for _, group := range []string{consoleEmpty, consoleLive, "console-nobody"} {
		show("delete "+group, func() ([]string, error) {
			_, err := c.admin.DeleteGroup(ctx, group)
			return nil, err
		})
	}
}
