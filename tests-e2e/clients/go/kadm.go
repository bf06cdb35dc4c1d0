package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// expect says what is not as it should be.
func expect(holds bool, format string, values ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, values...)
}

func (f *franz) topics(ctx context.Context) error {
	topic := "franz-administered"
	configs := map[string]*string{"retention.ms": kadm.StringPtr("3600000"), "cleanup.policy": kadm.StringPtr("compact")}
	created, err := f.admin.CreateTopic(ctx, 2, -1, configs, topic)
	if err != nil {
		return err
	}
	_, again := f.admin.CreateTopic(ctx, 2, -1, nil, topic)
	updated, err := f.admin.UpdatePartitions(ctx, 4, topic)
	if err != nil {
		return err
	}
	var listed kadm.TopicDetails
	// A broker learns of the new partitions after whoever made them has been answered.
	if err := until("four partitions", nil, func() bool {
		listed, err = f.admin.ListTopics(ctx, topic)
		return err != nil || len(listed[topic].Partitions) == 4
	}); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	detail := listed[topic]
	if err := errors.Join(
		expect(errors.Is(again, kerr.TopicAlreadyExists), "made again: %v", again),
		updated.Error(), detail.Err,
		expect(detail.ID == created.ID, "made %v, listed %v", created.ID, detail.ID),
		expect(len(detail.Partitions) == 4, "partitions: %v", detail.Partitions),
	); err != nil {
		return err
	}
	if err := f.config(ctx, topic, "3600000", "DYNAMIC_TOPIC_CONFIG"); err != nil {
		return err
	}
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("7200000")}}
	if err := f.alter(ctx, topic, set); err != nil {
		return err
	}
	if err := f.config(ctx, topic, "7200000", "DYNAMIC_TOPIC_CONFIG"); err != nil {
		return err
	}
	if err := f.alter(ctx, topic, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "retention.ms"}}); err != nil {
		return err
	}
	if err := f.config(ctx, topic, "604800000", "DEFAULT_CONFIG"); err != nil {
		return err
	}
	// A partition is there before its log is: brokers hear of it and make one.
	logs := 0
	for deadline := time.Now().Add(10 * time.Second); logs != 4 && time.Now().Before(deadline); {
		dirs, err := f.admin.DescribeAllLogDirs(ctx, listed.TopicsSet())
		if err != nil {
			return err
		}
		logs = 0
		dirs.Each(func(dir kadm.DescribedLogDir) {
			dir.Topics.Each(func(kadm.DescribedLogDirPartition) { logs++ })
		})
	}
	versions, err := f.admin.ApiVersions(ctx)
	if err != nil {
		return err
	}
	_, err = f.admin.DeleteTopic(ctx, topic)
	return errors.Join(err,
		expect(logs == 4, "%d logs of 4 partitions", logs),
		expect(len(versions) > 0, "no broker told its versions"))
}

func (f *franz) alter(ctx context.Context, topic string, configs []kadm.AlterConfig) error {
	answers, err := f.admin.AlterTopicConfigs(ctx, configs, topic)
	if err != nil {
		return err
	}
	answer, err := answers.On(topic, nil)
	return errors.Join(err, answer.Err)
}

// config waits until the topic's retention is this one from there: a broker learns of a change after whoever made it has been answered.
func (f *franz) config(ctx context.Context, topic, value, source string) error {
	found := ""
	var err error
	if err := until("retention.ms "+value, nil, func() bool {
		found, err = f.retention(ctx, topic)
		return err != nil || found == value+" from "+source
	}); err != nil {
		return fmt.Errorf("%w; it is %s", err, found)
	}
	return err
}

func (f *franz) retention(ctx context.Context, topic string) (string, error) {
	described, err := f.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	resource, err := described.On(topic, nil)
	if err != nil {
		return "", err
	}
	for _, config := range resource.Configs {
		if config.Key == "retention.ms" {
			return fmt.Sprintf("%s from %s", config.MaybeValue(), config.Source), nil
		}
	}
	return "", fmt.Errorf("no retention.ms among %d configs", len(resource.Configs))
}

func (f *franz) offsets(ctx context.Context) error {
	topic := "franz-offsets"
	if _, err := f.admin.CreateTopic(ctx, partitions, -1, nil, topic); err != nil {
		return err
	}
	before := time.Now().UnixMilli()
	numbers := make([]int, 60)
	for n := range numbers {
		numbers[n] = n
	}
	if err := f.produce(ctx, topic, numbers); err != nil {
		return err
	}
	var del kadm.Offsets
	del.AddOffset(topic, 0, 4, -1)
	gone, err := f.admin.DeleteRecords(ctx, del)
	if err != nil {
		return err
	}
	answer, _ := gone.Lookup(topic, 0)
	looks := []struct {
		name string
		list func() (kadm.ListedOffsets, error)
		sum  int64
	}{
		{"start", func() (kadm.ListedOffsets, error) { return f.admin.ListStartOffsets(ctx, topic) }, 4},
		{"end", func() (kadm.ListedOffsets, error) { return f.admin.ListEndOffsets(ctx, topic) }, 60},
		{"committed end", func() (kadm.ListedOffsets, error) { return f.admin.ListCommittedOffsets(ctx, topic) }, 60},
		{"largest time", func() (kadm.ListedOffsets, error) { return f.admin.ListMaxTimestampOffsets(ctx, topic) }, -1},
		{"since before", func() (kadm.ListedOffsets, error) { return f.admin.ListOffsetsAfterMilli(ctx, before, topic) }, 4},
		{"since later", func() (kadm.ListedOffsets, error) { return f.admin.ListOffsetsAfterMilli(ctx, before+3_600_000, topic) }, 60},
		{"local start", func() (kadm.ListedOffsets, error) { return f.admin.ListLocalLogStartOffsets(ctx, topic) }, 4},
	}
	for _, look := range looks {
		listed, err := look.list()
		if err = errors.Join(err, listed.Error()); err != nil {
			return fmt.Errorf("%s: %w", look.name, err)
		}
		sum := int64(0)
		listed.Each(func(offset kadm.ListedOffset) { sum += offset.Offset })
		if look.sum >= 0 && sum != look.sum {
			return fmt.Errorf("%s: the offsets add up to %d, not %d", look.name, sum, look.sum)
		}
	}
	return errors.Join(gone.Error(), expect(answer.LowWatermark == 4, "deleted up to %d", answer.LowWatermark))
}

func (f *franz) groups(ctx context.Context) error {
	topic, group := "franz-offsets", "franz-by-hand"
	var at kadm.Offsets
	for partition := range int32(partitions) {
		at.Add(kadm.Offset{Topic: topic, Partition: partition, At: 4, LeaderEpoch: -1, Metadata: "by hand"})
	}
	if err := f.admin.CommitAllOffsets(ctx, group, at); err != nil {
		return err
	}
	found, err := f.admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	one, _ := found.Lookup(topic, 3)
	lags, err := f.admin.Lag(ctx, group, "franz-group-range")
	if err != nil {
		return err
	}
	listed, err := f.admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	kept := at.TopicsSet()
	forgotten, err := f.admin.DeleteOffsets(ctx, group, kept)
	if err != nil {
		return err
	}
	empty, err := f.admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	_, deleted := f.admin.DeleteGroup(ctx, "franz-group-range")
	_, nobody := f.admin.DeleteGroup(ctx, "franz-nobody")
	described, err := f.admin.DescribeGroups(ctx, "franz-group-range", "franz-group-cooperative-sticky")
	if err != nil {
		return err
	}
	mine, other := lags[group], lags["franz-group-range"]
	sticky := described["franz-group-cooperative-sticky"]
	_, isListed := listed[group]
	return errors.Join(
		expect(one.At == 4 && one.Metadata == "by hand", "committed %v", one),
		// One partition's first four records were deleted.
		expect(mine.Lag.Total() == 60-6*4, "the lag is %d", mine.Lag.Total()),
		expect(other.Lag.Total() == 0 && other.State == "Empty", "of nobody's group: %d, %s", other.Lag.Total(), other.State),
		expect(isListed, "not listed: %v", listed.Groups()),
		forgotten.Error(),
		expect(len(empty) == 0, "after deleting offsets: %v", empty),
		deleted,
		expect(errors.Is(nobody, kerr.GroupIDNotFound), "deleting nobody: %v", nobody),
		expect(sticky.Err == nil && sticky.State == "Empty" && sticky.ProtocolType == "consumer", "described: %+v", sticky),
	)
}
