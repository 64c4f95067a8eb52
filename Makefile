# GaussianMRI for developers. Users: see README.md.
#
#   make demo       the whole job on a synthetic scan: environment, kernels, DICOM, fit, oblique planes, comparison
#   make test       the tests but the slow ones; it says how many those are
#   make test-all   every test, as before a change is accepted
#                   (those that need a GPU, shared scans or Slicer's libraries are skipped where there are none)
#   make test-oldest  `make test` with the oldest versions that pyproject.toml allows, on Python 3.10 in an environment of
#                   its own (7 GB of disk: the old torch comes with CUDA)
#   make bench      quality, kernels and fits, measured; results in Testing/Benchmarks/results
#   make fuzz       5,000 damaged files of every kind, and kills at random moments: nothing may crash, hang or lie
#   make test-gpu   the tests that need a CUDA GPU, in the environment of $(PYTHON), nothing is installed
#   make lint       ruff, mypy, clang-format
#   make docs       the documentation as a site in build/site; a link that leads nowhere is an error
#   make package    source archive and wheel in dist, and the wheel installed into an empty environment
#   make cross      the kernels compiled for Windows, macOS and Linux on ARM, and run there by wine and qemu where those are
#   make sanitize   kernels under the address and undefined-behaviour sanitizers
#   make clean      removes what the targets above made
#
# PYTHON chooses the interpreter (3.10 to 3.13). Packages that it already has, torch above all, are used and not
# fetched again.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out

comma := ,
READY := $(VENV)/.ready
SLICER := $(VENV)/.slicer
TOOLS := $(VENV)/.tools
SITE := $(VENV)/.site
BUILD := $(VENV)/.build
ZIG := $(VENV)/.zig
RUN := $(VENV)/bin/python
# With OLDEST the lower bounds of pyproject.toml take the place of the pinned versions.
BOUNDS := grep -oE '"[A-Za-z0-9_-]+(\[[a-z0-9]+\])?[>=]=[0-9.]+"' pyproject.toml | sed -E 's/"|\[[^]]*\]//g; s/>=/==/' | sort -u
CONSTRAINTS = $(if $(OLDEST),$(BOUNDS),cat constraints.txt)
# Files of tests side by side, each process with one thread of torch; a test that is about threads asks for them itself.
TESTS := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=2 --dist=loadfile
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt
CPP_FILES := find csrc Testing/Native -name '*.cpp' -o -name '*.h' -o -name '*.cuh'

.PHONY: demo test test-all test-oldest fuzz bench report test-gpu lint format docs package cross sanitize clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(RUN) -m GaussianMRILib info
	$(RUN) -m GaussianMRILib demo $(OUT)/demo

test: $(READY) $(SLICER)
	$(TESTS) -m "not slow" $(ARGS)

test-all: $(READY) $(SLICER)
	$(TESTS) $(ARGS)

test-oldest:
	$(MAKE) test VENV=.venv-oldest PYTHON=python3.10 OLDEST=yes

fuzz: $(READY)
	$(RUN) -m Testing.Fuzz $(ARGS)
	$(RUN) -m Testing.Fuzz.kills

bench: $(READY) $(SLICER)
	$(RUN) -m Testing.Benchmarks $(ARGS)

report: $(READY)
	$(RUN) -m Testing.Benchmarks.report

test-gpu:
	$(PYTHON) -m pytest Testing/Python -m gpu -rs $(ARGS)

lint: $(TOOLS)
	$(RUN) -m ruff check
	$(RUN) -m mypy
	$(CPP_FILES) | xargs $(VENV)/bin/clang-format --dry-run --Werror

format: $(TOOLS)
	$(RUN) -m ruff check --fix
	$(CPP_FILES) | xargs $(VENV)/bin/clang-format -i

docs: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

package: $(BUILD)
	$(RUN) -m pytest Testing/Packaging/test_wheel.py $(ARGS)

cross: $(ZIG)
	$(RUN) -m pytest Testing/Packaging/test_cross.py $(ARGS)

# Address and undefined-behaviour sanitizers: the CPU kernels by their native tests, the CUDA ones by their emulation.
sanitize: $(TOOLS)
	$(VENV)/bin/cmake -S . -B build/sanitize -DGAUSSIANMRI_SANITIZE=ON -DGAUSSIANMRI_BUILD_TESTING=ON
	$(VENV)/bin/cmake --build build/sanitize --parallel 2
	$(VENV)/bin/ctest --test-dir build/sanitize --output-on-failure
	$(RUN) -m pytest Testing/Python/test_cuda_sanitize.py $(ARGS)

# The environment lies on top of the interpreter's own packages: what is there is not installed again, and with a
# torch there the pinned version of torch does not apply.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.10 to 3.13 is needed; choose one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@$(CONSTRAINTS) > $(VENV)/constraints.txt
	@if [ -z "$(OLDEST)" ] && $(PYTHON) -c 'import torch' 2> /dev/null; then \
	  $(PYTHON) -c 'import sysconfig as s; print(*{s.get_path("purelib"), s.get_path("platlib")}, sep="\n")' \
	    > "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/interpreter.pth"; \
	  sed -i.pinned '/^torch[ =]/d' $(VENV)/constraints.txt; \
	fi
	$(PIP) ".[test$(if $(OLDEST),,$(comma)sr)]"
	@touch $@

# What the tests of the modules run on: Slicer's scene libraries and Qt, 250 MB to fetch. They are wheels for certain
# systems and Pythons; the other tests do without.
$(SLICER): $(READY)
	@failed=; for package in slicer-core PySide6_Essentials; do \
	  $(PIP) --only-binary :all: $$package || { \
	    failed=yes; echo "$$package cannot be installed here: the tests that need it are skipped."; }; \
	done; [ $$failed ] || touch $@

$(TOOLS): $(READY)
	$(PIP) --ignore-installed ruff mypy clang-format cmake
	@touch $@

$(SITE): $(READY)
	$(PIP) mkdocs-material
	@touch $@

$(BUILD): $(READY)
	$(PIP) build "scikit-build-core>=0.10"
	@touch $@

$(ZIG): $(READY)
	$(PIP) ziglang
	@touch $@

clean:
	rm -rf $(VENV) .venv-oldest build dist $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
