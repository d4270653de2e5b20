# A fresh machine needs Go, make and git; the rest is installed by setup, which
# says what it does first. YES=1 answers its question.

GOARCH  := $(shell go env GOARCH)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sbx

# Packages whose tests start virtual machines. They run one after another, the
# others two at a time.
VM_TESTS := /internal/vmm/|/internal/guest$$|/internal/kernel$$|/internal/template$$|/internal/supervisor$$|/internal/workspace|/test/

# Arguments for "go test", such as: make test ARGS='-run TestSet -v'
ARGS ?=

export CGO_ENABLED = 0
export SBX_TEST_CACHE = $(CACHE)

.DEFAULT_GOAL := help
.PHONY: help build init setup testdeps test unit vmtest lint cross bench demo soak fuzz clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: init ## Build bin/sbx
	go build -trimpath -ldflags '-s -w -X sbx/internal/cli.Version=$(VERSION)' -o bin/sbx ./cmd/sbx

# The guest's first process is embedded in sbx. Nothing in it may depend on the
# commit, so that an unchanged one leaves kernels and snapshots valid.
init:
	GOOS=linux go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o internal/kernel/bin/sbx-init-$(GOARCH) ./cmd/sbx-init

setup: build ## Install what the host lacks, prepare kernel and template
	@bin/sbx setup $$(if [ -n "$(YES)" ] || ! [ -t 0 ]; then echo --yes; fi)

test: setup lint cross unit vmtest ## Run every test

unit: init ## Run the tests that need no virtual machine
	go test -p 2 -timeout 20m $(ARGS) $$(go list ./... | grep -vE '$(VM_TESTS)')

testdeps:
	@scripts/testdeps.sh

vmtest: setup testdeps ## Run the tests that start virtual machines
	env=$$(scripts/testenv.sh '$(CACHE)') && eval "$$env" && \
	go test -count 1 -p 1 -timeout 120m $(ARGS) $$(go list ./... | grep -E '$(VM_TESTS)')

lint: init ## Check format and code: gofmt, go vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted by gofmt:" $$out; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

cross: ## Check that every supported platform builds
	GOOS=linux GOARCH=amd64 go build ./...
	GOOS=linux GOARCH=arm64 go build ./...
	GOOS=darwin GOARCH=arm64 go build ./...

bench: setup ## Measure, and write the tables of docs/performance.md
	go run ./bench $(ARGS)

demo: setup ## Show what a sandbox is, on a copy of this project (or DIR=folder)
	@scripts/demo.sh "$(or $(DIR),.)"

soak: setup testdeps ## Run the end-to-end tests N times, each with 30 kills (N=1 KILLS=30)
	env=$$(scripts/testenv.sh '$(CACHE)') && eval "$$env" && \
	SBX_TEST_KILLS=$(or $(KILLS),30) go test -timeout 0 -count $(or $(N),1) $(ARGS) ./test/...

fuzz: init ## Run every fuzz test for FUZZTIME (1m)
	@set -e; for pkg in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$pkg/*_test.go | cut -d' ' -f2); do \
	    go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),1m) ./$$pkg; done; done

clean: ## Remove what was built (sandboxes and caches stay: see sbx reset)
	rm -rf bin internal/kernel/bin/sbx-init-*
