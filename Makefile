# The one entrance: people and CI run these. The recipes are thin; the work is in infra/.
# `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO := infra/cargo.sh

.PHONY: help build demo kafka test lint fmt doc bench clean bench-freshness soak

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

build: ## the release binary: target/release/agentflow
	@infra/setup/tools.sh build
	@$(CARGO) build --release --locked

demo: build ## the shop: generated events, live metrics, HTTP API (ends with Ctrl-C)
	@"$${CARGO_TARGET_DIR:-target}/release/agentflow" demo

kafka: ## a Kafka broker on 127.0.0.1:9092, data in .cache/kafka-data (ends with Ctrl-C)
	@infra/kafka/broker.sh foreground .cache/kafka-data 9092

test: ## every test: unit, property, whole-system (sets up what they need)
	@infra/setup/tools.sh test
	@infra/test.sh

lint: ## formatting, clippy and rustdoc, warnings are errors
	@infra/setup/tools.sh build
	@cargo fmt --all -- --check
	@$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --document-private-items

fmt: ## format the code
	@cargo fmt --all

doc: ## the API documentation: target/doc
	@infra/setup/tools.sh build
	@$(CARGO) doc --release --locked --workspace --no-deps

bench: ## measurements: tables and JSON under target/bench-results
	@infra/setup/tools.sh build
	@infra/bench.sh

bench-freshness: ## produced to Kafka → visible in a metric: starts a broker, leaves a page with the plot
	@infra/setup/tools.sh test
	@infra/bench-freshness.sh

soak: ## a thousand fault schedules on a real broker (AGENTFLOW_FAULT_SEEDS=FIRST..LAST for others)
	@infra/setup/tools.sh test
	@infra/soak.sh

clean: ## remove build products (keeps .cache)
	@cargo clean
