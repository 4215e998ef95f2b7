# Both targets make .venv when it is missing or pyproject.toml has changed, and nothing twice.
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: quickstart test lint clean

quickstart: .venv/installed
	.venv/bin/infoutil quickstart

test: .venv/installed-test lint
	.venv/bin/python -m pytest -n 2 --dist worksteal

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "infoutil_jax needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(PIP) --editable .
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build dist *.egg-info
