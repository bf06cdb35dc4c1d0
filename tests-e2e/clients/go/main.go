// Go applications as users write them, one per argument: each runs its steps against any Kafka and fails at the first that is wrong.
//
//	clients franz|sarama --bootstrap 127.0.0.1:9092 [--scale 10]
//	clients console --bootstrap 127.0.0.1:9092 --began MILLISECONDS     prints what Redpanda Console is told
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

// bound is for everything that waits.
const bound = 60 * time.Second

// step is one thing that an application does with its Kafka.
type step struct {
	name string
	run  func(ctx context.Context) error
}

var applications = map[string]func(bootstrap string, scale int) ([]step, error){
	"franz":  franzSteps,
	"sarama": saramaSteps,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("which application? franz, sarama or console")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ExitOnError)
	bootstrap := flags.String("bootstrap", "127.0.0.1:9092", "where Kafka is")
	scale := flags.Int("scale", 1, "how many times as long")
	began := flags.Int64("began", 0, "the time of the first record that console writes")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	if arguments[0] == "console" {
		ctx, cancel := context.WithTimeout(context.Background(), 4*bound)
		defer cancel()
		return runConsole(ctx, *bootstrap, *began)
	}
	application := applications[arguments[0]]
	if application == nil {
		return fmt.Errorf("there is no application %s", arguments[0])
	}
	steps, err := application(*bootstrap, *scale)
	if err != nil {
		return err
	}
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(context.Background(), 4*bound*time.Duration(*scale))
		began := time.Now()
		err := step.run(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%s: %.1f s\n", step.name, time.Since(began).Seconds())
	}
	return nil
}
