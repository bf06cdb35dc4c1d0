# One line per target; the work itself is cargo or `cargo xtask`. Everything is built with the one release profile.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/thalweg/target
SEED ?=
TRACE ?=
ARGS ?=

.PHONY: help setup run cluster cluster-stop test e2e test-long check lint fmt codegen bench failover-bench fuzz sim core-seeds core-states planted oracle clean chaos power-loss replay shrink

help: ; @grep -E '^## ' $(firstword $(MAKEFILE_LIST)) | cut -c4-

## make run            set up, build and serve everything in one process (ARGS="--topic orders:3")
run: ; cargo xtask setup run && cargo run --release --package admin-cli --bin thalweg -- dev $(ARGS)
## make cluster        3 metadata-controllers, 3 storage-nodes, 2 protocol-gateways in the background
cluster: ; cargo xtask setup run && cargo xtask cluster start $(ARGS)
## make cluster-stop   stop them (the data stays under .thalweg/cluster)
cluster-stop: ; cargo xtask cluster stop
## make test           set up, house rules, every test, five minutes of chaos, ten losses of power, planted bugs
test: ; cargo xtask test
## make e2e            only the tests with real processes and real Kafka clients
e2e: ; cargo xtask test e2e
## make test-long      the same at length: all of the real input, ten times the records, rebalances and kills, 500 seeds of groups, all core states, 10,000 damaged files
test-long: ; E2E_FULL=1 cargo xtask test e2e && $(CARGO_TARGET_DIR)/release/sim run --groups --seeds 500 --first 1 && $(CARGO_TARGET_DIR)/release/core-states \
	&& THALWEG_CORRUPTIONS=10000 cargo test --release --package segment-log --test log -- --nocapture every_damage
## make check          format, clippy, layers, tidy, generated code; licences and advisories where cargo-deny is installed
check: ; cargo xtask check
## make lint           the part of check that needs no compiler
lint: ; cargo xtask check --quick
## make fmt            format
fmt: ; cargo fmt --all
## make codegen        regenerate the Kafka codec from its schemas
codegen: ; cargo xtask codegen
## make bench          the benches of docs/performance.md
bench: ; cargo xtask setup run && cargo bench --workspace $(ARGS)
## make failover-bench what faults cost writers, beside Apache Kafka (ROUNDS=3 ONLY=kill,stop,hole,controller,gateway,restart,lost,cold SYSTEMS=ours,kafka)
failover-bench: ; cargo xtask setup test && cargo build --release --workspace --bins && cargo bench --package tests-e2e --bench failover
## make fuzz           ten million hostile frames against the gateway (make test: a hundred thousand)
fuzz: ; FUZZ_FRAMES=10000000 cargo test --release --package gateway-core --test fuzz -- --nocapture
## make sim SEED=n     the whole cluster in one thread, from one seed (no SEED: seeds 1 to 200; ARGS="--first 1000 --minutes 10": others)
sim: ; cargo xtask setup run && cargo build --release --workspace --bins && $(CARGO_TARGET_DIR)/release/sim run $(if $(SEED),--seed $(SEED)) $(ARGS)
## make core-seeds     replication's cores alone, a hundred thousand short runs (ARGS="--first 1000 --seeds 5000", "--seed 7 --verbose")
core-seeds: ; cargo run --release --package replication-model --bin core-seeds -- $(ARGS)
## make core-states    replication's cores alone, every state within small bounds (ARGS="records=2 elections=2 fencings=2 held=1")
core-states: ; cargo run --release --package replication-model --bin core-states -- $(ARGS)
## make replay TRACE=f a run that failed and was kept, once more (ARGS="--step 5000" or "--until 12000": the processes there)
replay: ; cargo xtask setup run && cargo build --release --package sim && $(CARGO_TARGET_DIR)/release/sim replay $(TRACE) $(ARGS)
## make shrink TRACE=f the same with fewer faults, clients and partitions, as long as it fails in the same way
shrink: ; cargo xtask setup run && cargo build --release --package sim && $(CARGO_TARGET_DIR)/release/sim shrink $(TRACE) $(ARGS)
## make chaos MINUTES=n SEED=n   real processes under every kind of fault, judged by what their clients saw (ARGS="--only KillAll,DiskLoss")
chaos: ; cargo xtask setup test && cargo build --release --workspace --bins && $(CARGO_TARGET_DIR)/release/chaos run --minutes $(or $(MINUTES),5) --seed $(or $(SEED),1) $(ARGS)
## make power-loss CYCLES=n SEED=n   the power of one node, a minority or all goes, again and again
power-loss: ; cargo xtask setup test && cargo build --release --workspace --bins && $(CARGO_TARGET_DIR)/release/chaos power-loss --cycles $(or $(CYCLES),200) --seed $(or $(SEED),1) $(ARGS)
## make planted        bugs planted in the cores: the simulator must find each five times (make test: once), the model each once
planted: ; PLANTED_ROUNDS=5 cargo test --release --workspace --features sim/planted,replication-model/planted --test planted -- --nocapture
## make oracle         a real Apache Kafka on 127.0.0.1, to compare with by hand
oracle: ; cargo xtask setup test && cargo run --release --package tests-e2e --bin oracle
## make setup          what make test needs, without running it
setup: ; cargo xtask setup test
clean: ; cargo clean
