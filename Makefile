# A thin front to Meson. `make` builds build/brt; `make demo` and `make check` need nothing but Debian 12.
BUILD := build
REFERENCE := $(BUILD)/reference
PEER := $(BUILD)/peer
BRT := $(BUILD)/brt

.PHONY: all demo check parity golden sanitize tsan fuzz isa bench bench-peer install clean

all:
	@scripts/dependencies.sh build
	@scripts/build.sh $(BUILD)

# The main job on six novels: data, three minutes of training, validation, the loss curve, a page of text.
demo:
	@scripts/dependencies.sh demo
	@scripts/build.sh $(BUILD)
	@scripts/demo.sh $(BRT) $(BUILD)/demo

# Every ordinary test, then short runs on imitated processors, with sanitizers and of fuzzers.
check:
	@scripts/dependencies.sh check
	@scripts/check.sh

# Random models against the PyTorch package (installs Debian's PyTorch).
parity: all
	tests/golden/setup_reference.sh $(REFERENCE)
	$(REFERENCE)/bin/python tests/parity/parity.py --brt $(BRT)

# Writes the golden files again.
golden:
	tests/golden/setup_reference.sh $(REFERENCE)
	$(REFERENCE)/bin/python tests/golden/make_golden.py
	$(REFERENCE)/bin/python tests/golden/make_early.py
	$(REFERENCE)/bin/python tests/golden/make_enhanced.py

sanitize:
	@scripts/dependencies.sh sanitize
	@scripts/sanitize.sh address

tsan:
	@scripts/dependencies.sh sanitize
	@scripts/sanitize.sh thread

fuzz:
	@scripts/dependencies.sh sanitize
	@scripts/fuzz.sh 180

# The results with every instruction set, real and imitated.
isa:
	@scripts/dependencies.sh check
	@scripts/build.sh $(BUILD) --werror
	@scripts/isa.sh $(BUILD) kernels attention golden

bench: all
	$(BRT) bench

# brt beside the PyTorch package, in turn (installs PyTorch from PyPI). OPTIONS=--short for a first look.
bench-peer:
	@scripts/dependencies.sh peer
	@scripts/build.sh $(BUILD)
	@bench/setup_peer.sh $(PEER)
	$(PEER)/bin/python bench/bench_peer.py --build $(BUILD) $(OPTIONS)

install: all
	meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-asan build-tsan build-fuzz
