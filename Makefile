# make demo    everything from a bare clone: packages, build, training on the bundled data
# make test    everything that CI checks, but for bare systems
# make golden  the golden-vector tests alone, on $DML_GOLDEN where it is set
# make bench   all benchmarks; NAME=train: one
# make deps-mpi    MPI, for training on many processes; then build again
# make install     program, libraries, headers and dml.pc; PREFIX=/usr/local
# make dist    a tarball of the committed sources, dml-VERSION.tar.gz
# make deb     Debian packages of them: dml, libdml1, libdml-dev, in packages/; dml-cuda where there is
#              a CUDA toolkit with cuDNN
# make test-deb    and their trial on a bare system
# make test-gpu    the GPU backend on a real card
# make test-fresh  the two commands above in bare Debian systems; SUITE=bookworm: in one
MAKEFLAGS += --no-print-directory
BUILD ?= build
JOBS ?= $(shell nproc)
# Some tests wait for processes or for the disk: one more than there are cores.
TEST_JOBS ?= $(shell expr $(JOBS) + 1)
CTEST = TMPDIR=$$($(CURDIR)/tests/support/folder.sh) ctest --output-on-failure
NAME ?=
SUITE ?= bookworm trixie

.PHONY: all packages test-packages deps-mpi program build demo test quick unit golden sanitize levels \
    test-gpu test-fresh format check-format bench install dist deb test-deb clean

all: program

packages:
	@cmake/install-packages.sh

deps-mpi:
	@cmake/install-packages.sh mpi

test-packages:
	@cmake/install-packages.sh test

# What a user needs. `build` adds tests and benchmarks.
program: packages
	@$(call configure,-DDML_TESTS=OFF -DDML_BENCH=OFF)
	@cmake --build $(BUILD) -j $(JOBS)

build: test-packages
	@$(call configure,-DDML_TESTS=ON -DDML_BENCH=ON)
	@cmake --build $(BUILD) -j $(JOBS)

configure = cmake -S . -B $(BUILD) $(1) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || \
    { cat $(BUILD).log; exit 1; }; rm -f $(BUILD).log

demo: program
	@examples/demo.sh $(BUILD)/dml

test: check-format build sanitize levels
	cd $(BUILD) && $(CTEST) -j $(TEST_JOBS)

# The quick tests of the library once for each processor level below the one of `make test`.
levels: build
	@for level in v2 v3; do \
	    DML_LEVEL=$$level $(BUILD)/dml --version >/dev/null 2>&1 || continue; \
	    ! $(BUILD)/dml --version | grep -q "^kernels: x86-64-$$level" || continue; \
	    echo "The suite at x86-64-$$level"; \
	    DML_LEVEL=$$level $(MAKE) quick QUICK='-LE script' || exit 1; \
	done

# Without what repeats training many times, or builds again.
LONG = combinations|ranks|cuda|sweep|trajectory|architectures|of_networks|_train|learning|terms|vit|fuzz
quick: build
	cd $(BUILD) && $(CTEST) -j $(TEST_JOBS) -E '$(LONG)|install|levels|reliability' \
	    $(QUICK)

unit: build
	cd $(BUILD) && $(CTEST) $(CTEST_FLAGS)

golden: build
	cd $(BUILD) && ctest --verbose -L golden

# The suite once under AddressSanitizer and UndefinedBehaviorSanitizer; fuzzing has its own, and
# what only repeats training many times or builds again is left out.
UNSANITIZED = combinations|ranks|sweep|fuzz|install|reliability|trajectory|levels|of_networks
UNSANITIZED := $(UNSANITIZED)|terms|learning|golden_architectures$$
UNSANITIZED := $(UNSANITIZED)|cuda_(golden|back|bf16|classes|device|grouped|prog|transf)
sanitize: test-packages
	@cmake -S . -B $(BUILD)-sanitize -DDML_BENCH=OFF -DDML_SANITIZE=address,undefined \
	    $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(BUILD)-sanitize -j $(JOBS)
	cd $(BUILD)-sanitize && $(CTEST) -j $(TEST_JOBS) -E '$(UNSANITIZED)'

# What needs an NVIDIA card; says so where there is none.
test-gpu: build
	@tests/gpu.sh $(BUILD)

test-fresh: test-packages
	@for suite in $(SUITE); do tests/fresh_machine.sh $$suite || exit 1; done

SOURCES = $(shell find src include tests bench examples -name '*.[ch]')
format: test-packages
	clang-format -i $(SOURCES)

check-format: test-packages
	@cmake/check-format.sh $(SOURCES)

bench: build
	@bench/run.sh $(BUILD) $(NAME)

VERSION := $(shell sed -n 's/^\#define DML_VERSION "\(.*\)"/\1/p' include/dml/core.h)
dist:
	@git archive --format=tar --prefix=dml-$(VERSION)/ HEAD | gzip -n >.dist.new
	@mv .dist.new dml-$(VERSION).tar.gz
	@echo dml-$(VERSION).tar.gz

deb: dist
	@cmake/install-packages.sh deb
	@packaging/make-deb.sh dml-$(VERSION).tar.gz packages

test-deb: deb
	@tests/deb_machine.sh packages

install: program
	cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize
