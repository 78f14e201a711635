# Thin: set-up (tools/setup, tools/packages), then meson. `make help` lists the targets.
BUILD ?= build
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: help build run check check-long bench install accept accuracy format lint clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14

build: ## build/plimsoll, after installing what is missing
	@tools/setup build
	@tools/configure $(BUILD)
	@ninja -C $(BUILD) -j $(JOBS) plimsoll

run: build ## plan Qwen3-32B GPTQ-INT4 on two V100 16 GB
	@echo
	@$(BUILD)/plimsoll plan Qwen/Qwen3-32B --quant gptq-int4 --on "2x v100-sxm2-16gb, nvlink, ram 64GiB"

check: ## every test, twice where sanitizers help; under five minutes
	@tools/setup build check
	@tools/check $(BUILD)

check-long: ## minutes of fuzzing, valgrind, failing allocations, the whole comparison with the engine
	@tools/setup build check long
	@tools/check $(BUILD) long

bench: build ## time and memory of whole processes
	@tools/setup long
	@bench/bench.sh $(BUILD)

install: build ## program, library, headers, man pages, completion: PREFIX, DESTDIR
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD)

accept: build ## take today's output as the expected one (then review the diff)
	@tests/golden/run.py $(BUILD)/plimsoll --accept
	@tests/golden/run.py $(BUILD)/plimsoll --accept --docs

accuracy: build ## docs/accuracy.md anew: minutes, every group is left out of a fit
	@tools/accuracy $(BUILD)/plimsoll .

format: ## clang-format what changed since the last commit
	@tools/setup long
	@git diff --name-only --diff-filter=d HEAD -- '*.c' '*.h' | xargs -r clang-format -i

lint: build ## cppcheck, clang-tidy, long functions and files
	@tools/setup check long
	@tools/lint $(BUILD)

clean: ## remove what was built
	rm -rf $(BUILD) $(BUILD)-asan
