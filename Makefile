# A thin front of the CMake presets and of scripts/: nothing is decided here.
#   make             configure and build into build/
#   make run         build, then the first example       make test    every test and check
#   make check       format, lint, arrows                make format  rewrite the sources in the project's format
#   make bench       our speed                           make bench-peers  beside TVM's own runtime and three MPIs
#   make chaos KILLS=10000 SEED=1      the campaign of docs/reliability.md
#   make install DESTDIR= PREFIX=/usr/local              make clean
PREFIX ?= /usr/local
DESTDIR ?=
KILLS ?= 10000
SEED ?= 1

.PHONY: all run test check format bench bench-peers chaos install clean
all:
	@scripts/setup build
	@cmake --preset release
	@cmake --build --preset release

run:
	@scripts/run

test:
	@scripts/test

check:
	@DISCO_STAGES="format checks docs" scripts/test

format:
	@tools/sources.sh | xargs clang-format -i

bench: all
	@bench/run

bench-peers: all
	@scripts/setup tvm
	@bench/run --peers
	@bench/ccl-peers

chaos:
	@scripts/setup build
	@cmake --preset release
	@cmake --build --preset release --target chaos
	@build/tests/chaos/chaos --kills $(KILLS) --seed $(SEED)
	@build/tests/chaos/chaos --saturate 120 --seed $(SEED)

install: all
	@DESTDIR="$(DESTDIR)" cmake --install build --prefix "$(PREFIX)"

clean:
	@rm -rf build build-*
