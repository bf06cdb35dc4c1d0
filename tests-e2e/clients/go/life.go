package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	partitions     = 6
	recordsPerStep = 60
)

// member is one consumer of a group, at work since it was made.
type member interface {
	owned() []int32
	// failed is what ended it, if it ended by itself.
	failed() error
	stop() error
}

// life is what a group goes through: three members come, two go, and all that is produced meanwhile is seen and committed.
type life struct {
	join      func(seen *seen) (member, error)
	produce   func(ctx context.Context, numbers []int) error
	committed func(ctx context.Context) (int64, error)
	scale     int
}

// recordsOf is how many records a life has: a step after each join and one when a member is alone, who is the first of three in the
// next round.
func recordsOf(scale int) int {
	return recordsPerStep * scale * (3*scale + 1)
}

func (l life) run(ctx context.Context) error {
	seen := &seen{places: map[int]map[place]bool{}}
	var members []member
	defer func() {
		for _, member := range members {
			member.stop()
		}
	}()
	produced := 0
	produce := func() error {
		count := recordsPerStep * l.scale
		numbers := make([]int, count)
		for n := range numbers {
			numbers[n] = produced + n
		}
		produced += count
		if err := l.produce(ctx, numbers); err != nil {
			return fmt.Errorf("producing: %w", err)
		}
		return until(fmt.Sprintf("%d records at %d members", produced, len(members)), members, func() bool {
			return seen.count() == produced
		})
	}
	leave := func() error {
		first := members[0]
		members = members[1:]
		return first.stop()
	}
	for range l.scale {
		for len(members) < 3 {
			joined, err := l.join(seen)
			if err != nil {
				return fmt.Errorf("joining: %w", err)
			}
			members = append(members, joined)
			if err := until(fmt.Sprintf("%d members share", len(members)), members, func() bool { return shared(members) }); err != nil {
				return err
			}
			if err := produce(); err != nil {
				return err
			}
		}
		for len(members) > 1 {
			if err := leave(); err != nil {
				return fmt.Errorf("leaving: %w", err)
			}
			if err := until(fmt.Sprintf("%d members are left", len(members)), members, func() bool { return shared(members) }); err != nil {
				return err
			}
		}
		if err := produce(); err != nil {
			return err
		}
	}
	if err := leave(); err != nil {
		return fmt.Errorf("leaving: %w", err)
	}
	if err := seen.check(); err != nil {
		return err
	}
	committed, err := l.committed(ctx)
	if err == nil && committed != int64(produced) {
		err = fmt.Errorf("%d of %d records are committed", committed, produced)
	}
	return err
}

// shared holds when every partition has one owner and nobody has two more than another.
func shared(members []member) bool {
	var all []int32
	fewest, most := partitions, 0
	for _, member := range members {
		owned := member.owned()
		all = append(all, owned...)
		fewest, most = min(fewest, len(owned)), max(most, len(owned))
	}
	slices.Sort(all)
	return slices.Equal(all, []int32{0, 1, 2, 3, 4, 5}) && most-fewest <= 1
}

func until(what string, members []member, done func() bool) error {
	deadline := time.Now().Add(bound)
	for !done() {
		owned := [][]int32{}
		for _, member := range members {
			if err := member.failed(); err != nil {
				return fmt.Errorf("%s: a member ended: %w", what, err)
			}
			owned = append(owned, member.owned())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v; owned %v", what, bound, owned)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

type place struct {
	partition int32
	offset    int64
}

// seen holds where each number was found. A record may be seen twice after a rebalance, but only ever in one place.
type seen struct {
	mutex  sync.Mutex
	places map[int]map[place]bool
}

func (s *seen) add(number int, at place) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.places[number] == nil {
		s.places[number] = map[place]bool{}
	}
	s.places[number][at] = true
}

func (s *seen) count() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.places)
}

func (s *seen) check() error {
	for number, places := range s.places {
		if len(places) != 1 {
			return fmt.Errorf("record %d is in %d places", number, len(places))
		}
	}
	return nil
}

// ownership is the set of partitions that a member's callbacks have given it.
type ownership struct {
	mutex sync.Mutex
	held  map[int32]bool
	error error
}

func (o *ownership) gain(partitions ...int32) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	for _, partition := range partitions {
		o.held[partition] = true
	}
}

func (o *ownership) lose(partitions ...int32) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	for _, partition := range partitions {
		delete(o.held, partition)
	}
}

func (o *ownership) fail(err error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.error = err
}

func (o *ownership) owned() []int32 {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	held := []int32{}
	for partition := range o.held {
		held = append(held, partition)
	}
	slices.Sort(held)
	return held
}

func (o *ownership) failed() error {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.error
}
