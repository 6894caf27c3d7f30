# Thin: every target installs what is missing, then hands over to Meson or to one script.
# make run [DIR=/some/tree]   make test   make check   make bench [BENCH=first]   make soak   make format   make install
# make fuzz [SECONDS=60] [TARGET=name]
SHELL := /bin/bash
DIR ?=
BENCH ?= first
TARGET ?=
PREFIX ?= /usr/local
RELEASE := build/release
DEBUG := build/debug

.PHONY: all run test check bench soak fuzz format install deps clean
all: $(RELEASE)/.configured
	ninja -C $(RELEASE)

deps:
	@tools/deps.sh

run: all
	test/cluster/first_light.sh $(RELEASE)/prog/opendfs $(DIR)

test:
	tools/test.sh quick

check:
	tools/test.sh full

soak:
	tools/test.sh soak

fuzz:
	@tools/fuzz.sh $(or $(SECONDS),60) '$(TARGET)'

bench: all
	tools/bench.sh $(BENCH) $(RELEASE)

format: deps
	clang-format -i $$(git ls-files '*.c' '*.h')

install: all
	meson install -C $(RELEASE) --no-rebuild

clean:
	rm -rf $(RELEASE) $(DEBUG) build/asan build/tsan build/fuzz

# Configured again whenever the list of files changes: sources are found by name (tools/sources.py).
$(RELEASE)/.configured: FORCE | deps
	@tools/configure.sh $(RELEASE) --buildtype=release --prefix=$(PREFIX)
.PHONY: FORCE
FORCE:
