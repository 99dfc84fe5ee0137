# Everything a person does with this tree. `make help` lists it.
# Set-up is part of each target: a machine with git, make and Python 3.11 (venv, pip) is enough, without root.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PROTOS := $(wildcard proto/*/v1/*.proto)
CARGO  := $(shell command -v cargo)
NATIVE := $(if $(CARGO),$(VENV)/.native)
CRATE  := resolver/front/native
BUILT  := $(CURDIR)/build/native
JAVAC   = $(or $(firstword $(wildcard $(addsuffix /bin/javac,$(JAVA_HOME)) /usr/lib/jvm/*17*/bin/javac)),javac)
GO      = $(or $(shell command -v go),/usr/local/go/bin/go)
SITE    = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

.DEFAULT_GOAL := help
.PHONY: help demo test check lint style crate types drift bench native fuzz cluster cassandra h2spec clients proto lock baseline clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## a node with a million registrations, and nodes below it that join, fail and come back
	$(BIN)/topnode demo

test: $(VENV)/.dev $(NATIVE) ## all tests that this machine can run; what it cannot is listed at the end
	$(BIN)/pytest -n 3 --dist loadgroup --no-loadscope-reorder

check: $(NATIVE) lint types drift ## what CI runs: lint, types, drift, and all tests with every service required
	CI=true $(BIN)/pytest -n 3 --dist loadgroup --no-loadscope-reorder --durations=40 --durations-min=5

lint: style $(if $(CARGO),crate) ## ruff, the import arrow, buf; where cargo is, its fmt and clippy

style: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory build/proto-deps
	$(BIN)/buf lint
	$(BIN)/buf breaking proto --against proto/baseline.binpb

# PyO3 is told what maturin tells it, so that what was compiled for the wheel is not compiled again.
crate: PYO3 = $(addprefix PYO3_BUILD_EXTENSION_MODULE=1 PYO3_CONFIG_FILE=,$(firstword $(wildcard $(BUILT)/maturin/*.txt)))
crate:
	cargo fmt --check --manifest-path $(CRATE)/Cargo.toml
	cargo fmt --check --manifest-path $(CRATE)/fuzz/Cargo.toml
	cargo fmt --check --manifest-path loadtest/rust/Cargo.toml
	$(PYO3) CARGO_TARGET_DIR=$(BUILT) cargo clippy --quiet --locked --release --all-targets \
	  --manifest-path $(CRATE)/Cargo.toml -- -D warnings

# Cargo builds one thing at a time.
ifneq ($(filter check,$(MAKECMDGOALS)),)
crate: | $(NATIVE)
endif

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

drift: $(VENV)/.dev ## is what is generated the same as what is committed?
	$(BIN)/pytest tests/habits/test_generated.py
	$(BIN)/python -m nodes.reference --check

bench: $(VENV)/.dev $(NATIVE) ## benchmarks: tables here, JSON in build/bench*.json
	$(BIN)/python -m loadtest.bench --json build/bench.json
	$(BIN)/python -m loadtest.federation --json build/bench-federation.json
	$(BIN)/python -m loadtest.native --json build/bench-native.json
	$(BIN)/python -m loadtest.abuse --json build/bench-abuse.json
	$(BIN)/python -m loadtest.ring --json build/bench-ring.json

native: $(VENV)/.native ## the native front (needs cargo; test, check and bench build it where that is)

fuzz: export FUZZ_SECONDS := $(or $(FUZZ_SECONDS),60)
fuzz: ## fuzz what the native front reads, each target for FUZZ_SECONDS (60); needs cargo and a C++ compiler
	$(CRATE)/fuzz/run $(TARGET)

cluster: $(VENV)/.run ## Redis, Cassandra and a top-level node on this machine, until Ctrl-C
	$(BIN)/python -m deploy.cluster

cassandra: ## bring the jars of a real Cassandra (needs Java 17 and Maven); deploy/cassandra/README.md
	$(PYTHON) -m deploy.cassandra jars

h2spec: ## build h2spec, which tests how HTTP/2 is spoken (needs Go 1.18; versions are pinned beside go.mod)
	cd tests/services/h2spec && GOBIN=$(CURDIR)/build $(GO) install github.com/summerwind/h2spec/cmd/h2spec

clients: build/clients/grpc-go build/clients/grpc-java/compiled ## build clients in Go and Java for tests (needs Go 1.19, Java 17, Maven)

proto: $(VENV)/.dev build/proto-deps ## generate the Python code of proto/ and the table of reasons
	$(BIN)/python -m grpc_tools.protoc -I proto -I $(SITE) --python_out=. --pyi_out=. $(PROTOS)
	$(BIN)/python -m grpc_tools.protoc -I proto -I $(SITE) --grpc_python_out=. $(filter-out %/octets.proto,$(PROTOS))
	$(BIN)/python -m nodes.reference

baseline: build/proto-deps ## at a release: what later changes of proto/ must not break
	$(BIN)/buf build proto -o proto/baseline.binpb

lock: $(VENV)/.dev ## resolve the ranges of pyproject.toml into exact versions with hashes
	echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes \
	  --python-version 3.11 --upgrade -o requirements.lock pyproject.toml -
	echo 'setuptools>=77' | $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes \
	  --python-version 3.11 --upgrade --group dev -o requirements-dev.lock pyproject.toml -

clean: ## forget everything that was built here
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(VENV)

build/clients/grpc-go: $(wildcard tests/services/grpc_go/*)
	cd tests/services/grpc_go && CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o $(CURDIR)/$@ .

build/clients/grpc-java/compiled: $(wildcard tests/services/grpc_java/*)
	rm -rf $(@D)
	mvn -q -B -f tests/services/grpc_java/pom.xml -Djars=$(CURDIR)/$(@D)/lib package
	$(JAVAC) --release 17 -proc:none -cp '$(@D)/lib/*' -d $(@D)/classes tests/services/grpc_java/*.java
	@touch $@

# google/rpc/status.proto, for buf, which cannot read it out of an installed package.
build/proto-deps: $(VENV)/.dev
	mkdir -p $@/google/rpc
	cp $(SITE)/google/rpc/status.proto $@/google/rpc/
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "topnode needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Cargo is never fetched: where it is missing everything works on grpcio.
$(VENV)/.native: $(wildcard $(CRATE)/src/*.rs $(CRATE)/src/*/*.rs) $(CRATE)/Cargo.toml $(CRATE)/Cargo.lock $(CRATE)/requirements.lock | $(VENV)/.dev
	@command -v cargo >/dev/null || { echo "the native front needs cargo (https://rustup.rs)"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(CRATE)/requirements.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" CARGO_TARGET_DIR=$(BUILT) $(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --force-reinstall ./$(CRATE)
	@touch $@
