# Everything runs in .venv, made from the pinned versions in constraints.txt.
#
#   PYTHON    the interpreter that makes .venv (3.11 or newer)
#   WORKERS   how many processes share the tests

PYTHON  ?= python3
WORKERS ?= 2

BIN   := .venv/bin
STAMP := .venv/.installed
# Published operators, which one study audits; what builds the documentation.
COMPARE := .venv/.compare
DOCS := .venv/.docs
# One thread for each test process: more would only compete for the cores.
# pytest-benchmark is left out because it warns when the tests are spread over
# processes, and a warning is an error.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:benchmark \
	-n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-browser lint docs studies studies-full figures report corpus bench clean

help: ## say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		while IFS='|' read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

demo: $(STAMP) ## run the demonstration and write its figures to demo/
	$(BIN)/gradconv demo -o demo

test: $(STAMP) ## run the tests, but for the slow ones
	$(PYTEST)

test-all: $(STAMP) ## run all tests; those of a GPU skip where there is none
	$(PYTEST) -m "not browser"
	$(MAKE) test-browser

test-browser: $(STAMP) ## test the report in a headless Chromium
	@command -v chromedriver > /dev/null || { \
		echo "the tests of the report need chromium and chromedriver, which are not here;" >&2; \
		echo "Debian, as root: apt-get install chromium chromium-driver" >&2; \
		exit 1; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:benchmark -m browser \
		tests/test_report_browser.py

lint: $(STAMP) ## check style, format, types and the order of the layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

studies: $(COMPARE) ## run every study at a small size, in build/studies/small/
	$(BIN)/gradconv study --all --size small --workers 2

studies-full: $(COMPARE) ## run every study at full size, in build/studies/full/
	$(BIN)/gradconv study --all --size full --workers 2

figures: $(STAMP) ## draw the figures and tables of a paper from stored data, in build/figures/
	$(BIN)/gradconv figures --style one-column
	$(BIN)/gradconv figures --style two-column

report: $(STAMP) ## make the report of stored data, build/report.html
	$(BIN)/gradconv report -o build/report.html

docs: $(DOCS) ## build the documentation in build/docs; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

corpus: $(STAMP) ## make a corpus of 144 photographs from Debian packages, in corpus/
	$(BIN)/python studies/corpus/prepare.py corpus

bench: $(STAMP) ## run the benchmarks
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.layer
	$(BIN)/python -m benchmarks.small_meshes
	$(BIN)/python -m benchmarks.multilevel
	$(BIN)/python -m benchmarks.samples
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.scaling

clean: ## remove what the other targets made, but for .venv
	rm -rf demo build dist .benchmarks .coverage .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -path ./.venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# The stamp is touched last, so an installation that was cut short starts again.
# The two variables hold the build's own requirements to the same pins (older
# and newer pip read different ones).
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "gradconv needs Python 3.11 or newer, and $(PYTHON) is not:" >&2; \
		$(PYTHON) --version >&2; \
		echo "name another one, for example: make PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/python -m pip install --disable-pip-version-check \
		-c constraints.txt -e '.[dev]'
	touch $@

$(COMPARE): $(STAMP)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/python -m pip install --disable-pip-version-check \
		-c constraints.txt -e '.[compare]'
	touch $@

# What builds the documentation; the tests do without.
$(DOCS): $(STAMP)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(BIN)/python -m pip install --disable-pip-version-check \
		-c constraints.txt -e '.[docs]'
	touch $@
