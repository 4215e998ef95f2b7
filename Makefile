# Targets make .venv when it is missing or pyproject.toml has changed, and nothing twice.
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check
# Tests run on known versions where there is a list of them; users get the ranges of pyproject.toml.
LOCK = $(shell .venv/bin/python -c 'import sys; print("-c requirements.lock" * (sys.version_info[:2] == (3, 11) and sys.platform == "linux"))')

.PHONY: quickstart test lint docs lock clean

quickstart: .venv/installed
	.venv/bin/infoutil quickstart

test: .venv/installed-test lint
	.venv/bin/python -m pytest -n 2 --dist worksteal

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m tools.house

docs: .venv/installed-test
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

lock: .venv/installed-test
	sed -i '/^[^#]/d' requirements.lock
	.venv/bin/python -m pip freeze --exclude-editable >> requirements.lock

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "infoutil_jax needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(PIP) --editable .
	touch $@

.venv/installed-test: pyproject.toml requirements.lock | .venv/bin/python
	$(PIP) $(LOCK) --editable '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build dist site *.egg-info
