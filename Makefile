# What can be done with this repository. `make` alone lists it.

install := tests/support/install
synapses := $(patsubst tests/support/synapse/requirements-%.txt,%,$(wildcard tests/support/synapse/requirements-*.txt))
newest := $(lastword $(sort $(synapses)))
# The program as the tests have it; `cargo build` would compile it again, as without their dependencies
# some others have fewer features.
build_debug = cargo test --locked --no-run --test exposition
debug = $(or $(CARGO_TARGET_DIR),target)/debug/matrix-postgres-exporter
# Tests on real servers wait for a part of their time, and others work meanwhile.
threads := $(shell echo $$((2 * $$(nproc) + 1)))
say = @echo "==> $(1)"

.DEFAULT_GOAL := help

##@ Use

build: ## Build the program: target/release/matrix-postgres-exporter
	cargo build --locked --release

dashboards: ## Generate dashboards/*.json from dashboards/src
	@python=$$($(install)/dashboards.sh) && $$python -B dashboards/src/build.py

alerts: ## Copy rules and dashboards with addresses in them: URL=https://HOST/PATH [GRAFANA=https://HOST] [INTO=FOLDER]
	@alerts/addresses.sh "$(URL)" "$(GRAFANA)" "$(INTO)"

demo: ## Run it with a real Synapse in a temporary directory; Ctrl-C removes all of it
	@deploy/demo/run.sh

drill: ## Cause a fault in the demo and wait for its alert: FAULT=server|connections|archiving|lock|synapse
	@deploy/demo/run.sh --drill "$(FAULT)"

##@ Test

test: ## Run every test; installs what they run on into .deps
	@MAKE="$(MAKE)" tests/stages unit real faults deploy dashboards

test-quick: deps-postgres ## Run the unit tests, and a choice of those on real servers
	@MAKE="$(MAKE)" tests/stages unit real-quick

test-unit: ## Run the tests that need only Rust
	$(call say,unit tests)
	cargo test --locked

test-real: deps ## Run the tests on real servers
	$(call say,tests on real servers)
	@tests/group real $(threads)

# A choice that needs neither Synapse nor every version.
quick := budget:: cli:: connect:: down:: labels:: limits:: names:: refused::

test-real-quick: deps-postgres
	$(call say,some of the tests on real servers)
	cargo test --locked --test real -- --test-threads=$(threads) $(quick)

one: deps ## Run the tests on real servers whose names begin so: TEST=values::replication
	cargo test --locked --test real --test faults -- --test-threads=1 "$(TEST)"

test-faults: deps ## Run the tests of faults that depend on real time, one at a time
	$(call say,tests of faults)
	@tests/group faults 1

test-long: deps deps-deploy ## Run hostile clients for a minute each, and normal operation for an hour
	$(call say,long tests)
	NORMAL_LIFE_SECONDS=3600 cargo test --locked --test deploy normal_life:: -- --nocapture
	DOOR_SECONDS=60 DOOR_TABLES=5000 cargo test --locked --release --test faults door:: -- --test-threads=1 --nocapture

test-normal-life: deps deps-deploy ## Run servers, Synapse and Alertmanager for 90 s: no alert arrives
	$(call say,normal life)
	cargo test --locked --test deploy normal_life::

test-dashboards: deps ## Check the dashboards, and run each query on a real Prometheus
	$(call say,dashboards)
	$(build_debug)
	@python=$$($(install)/dashboards.sh) && $$python -B dashboards/src/build.py --check && \
	  $$python -B dashboards/src/lint.py $(debug)
	dashboards/src/grafana/run.sh schema.mjs $(CURDIR)/dashboards/*.json
	@python=$$($(install)/synapse.sh $(newest)) && $$python -B dashboards/src/live.py $(debug)

dashboards-preview: deps ## Render the dashboards with live data into dashboards/preview
	$(build_debug)
	@command -v chromium >/dev/null || $(install)/apt.sh chromium
	@python=$$($(install)/synapse.sh $(newest)) && $$python -B dashboards/src/preview.py $(debug) dashboards/preview

test-alerts: deps ## Run the tests of alerts and runbooks
	$(call say,tests of alerts)
	cargo test --locked --test alerts --test questions
	cargo test --locked --test real -- promtool:: routes:: runbooks::
	cargo test --locked --test faults pages::

test-promtool: deps ## Run the tests of alerts with promtool 3, which is built with Go
	$(call say,tests of alerts with promtool 3)
	@promtool=$$($(install)/promtool.sh) && PROMTOOL=$$promtool cargo test --locked --test real -- promtool::

test-deploy: deps deps-deploy ## Check what is in deploy/
	$(call say,deployment)
	@tests/group deploy $$(nproc)

##@ Measure

bench: deps-postgres deps-synapse ## Measure the cost on a large Synapse; writes benches/RESULTS.md
	$(call say,benchmark)
	cargo bench --locked --bench large

##@ Maintain

# Their modules come from a macro, which rustfmt does not look into.
definitions := $(wildcard src/collectors/*/*.rs)

format: ## Format every file
	cargo fmt -- $(definitions)

golden: deps-postgres ## Record what each version of PostgreSQL serves: tests/catalog/served.tsv
	UPDATE_GOLDEN=1 cargo test --locked --test real catalogue::every_server_serves_what_is_recorded

lint: ## Check format, clippy's warnings and the dependencies
	$(call say,lint)
	cargo fmt --check -- $(definitions)
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test real --test faults --test deploy -- -D warnings
	@$(install)/cargo-deny.sh check licenses bans sources
	@if timeout 60 $(install)/cargo-deny.sh fetch db >/dev/null 2>&1; \
	then $(install)/cargo-deny.sh check advisories; \
	else echo "==> advisories NOT checked: https://github.com/rustsec/advisory-db cannot be reached"; fi

docs: ## Generate docs/metrics.md, deploy/sql and the PrometheusRules
	cargo run --locked --quiet -- metrics --format markdown >docs/metrics.md.new
	mv docs/metrics.md.new docs/metrics.md
	deploy/generate.sh

deps: deps-postgres deps-daemons deps-synapse ## Install what the tests run on

deps-postgres: ## PostgreSQL of every supported version
	@$(install)/postgres.sh

deps-daemons: ## PgBouncer, Prometheus and Alertmanager
	@command -v openssl >/dev/null || $(install)/apt.sh openssl
	@$(install)/daemons.sh pgbouncer prometheus
	@$(install)/alertmanager.sh

deps-synapse: ## Synapse
	@for version in $(synapses); do $(install)/synapse.sh $$version >/dev/null || exit; done

deps-deploy: ## Checkers of container, Kubernetes and systemd files
	@$(install)/deploy.sh

help: ## List the targets
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test-promtool alerts drill bench build demo format golden one test test-quick test-real-quick test-unit test-real test-faults test-long test-alerts lint docs deps deps-postgres deps-daemons deps-synapse help test-deploy test-normal-life deps-deploy dashboards test-dashboards dashboards-preview
