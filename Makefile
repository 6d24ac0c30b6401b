# make demo    everything from a bare clone: packages, build, training on the bundled data
# make test    everything that CI checks
# make golden  the golden-vector tests alone, on $DML_GOLDEN where it is set
# make bench   all benchmarks; NAME=train: one
# make install  program, libraries, headers and dml.pc; PREFIX=/usr/local
MAKEFLAGS += --no-print-directory
BUILD ?= build
JOBS ?= $(shell nproc)
NAME ?=

.PHONY: all deps build demo test unit golden sanitize format check-format bench install clean

all: build

deps:
	@cmake/install-packages.sh

build: deps
	@cmake -S . -B $(BUILD) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log
	@cmake --build $(BUILD) -j $(JOBS)

demo: build
	@examples/demo.sh $(BUILD)/dml

test: check-format build sanitize
	cd $(BUILD) && ctest --output-on-failure

unit: build
	cd $(BUILD) && ctest --output-on-failure

golden: build
	cd $(BUILD) && ctest --output-on-failure -L golden

# The suite once under AddressSanitizer and UndefinedBehaviorSanitizer; fuzzing has its own, and
# what only repeats training many times or builds again is left out.
sanitize: deps
	@cmake -S . -B $(BUILD)-sanitize -DCMAKE_BUILD_TYPE=RelWithDebInfo -DDML_BENCH=OFF \
	    -DDML_SANITIZE=address,undefined >/dev/null
	@cmake --build $(BUILD)-sanitize -j $(JOBS)
	cd $(BUILD)-sanitize && ctest --output-on-failure -E 'combinations|sweep|fuzz|install'

SOURCES = $(shell git ls-files '*.c' '*.h')
format: deps
	clang-format -i $(SOURCES)

check-format: deps
	clang-format --dry-run --Werror $(SOURCES)

bench: build
	@bench/run.sh $(BUILD) $(NAME)

install: build
	cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize
