# Targets make .venv when it is missing or pyproject.toml has changed, and nothing twice.
PYTHON ?= python3
# Bytecode is made when a module is imported: most never are.
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
# Tests run on known files, by their hashes, where there is a list of them; elsewhere, as users have
# it, on what the ranges of pyproject.toml bring.
LISTED = .venv/bin/python -c 'import platform, sys; sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"))'

.PHONY: quickstart test coverage lint docs lock clean

quickstart: .venv/installed
	.venv/bin/infoutil quickstart

test: .venv/installed-test lint
	.venv/bin/python -m pytest -n 2 --dist worksteal

coverage: .venv/installed-test
	.venv/bin/python -m coverage erase
	.venv/bin/python -m coverage run -m pytest -n 2 --dist worksteal
	.venv/bin/python -m coverage combine --quiet
	.venv/bin/python -m tools.covered

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m tools.house

docs: .venv/installed-test
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

lock: .venv/installed-test
	.venv/bin/python -m tools.lock

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "infoutil_jax needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(PIP) --editable .
	touch $@

.venv/installed-test: pyproject.toml $(wildcard requirements*.lock) | .venv/bin/python
	if $(LISTED); then \
		$(PIP) --require-hashes --requirement requirements-build.lock && \
		$(PIP) --require-hashes --no-deps --no-build-isolation --requirement requirements.lock && \
		$(PIP) --no-deps --no-build-isolation --editable . && \
		{ $(PIP) --require-hashes --no-deps --requirement requirements-torch.lock 2>/dev/null || \
			echo "pip finds no PyTorch without CUDA here: tests with PyTorch are skipped"; }; \
	else \
		$(PIP) --editable '.[test]'; \
	fi
	touch $@ .venv/installed

clean:
	rm -rf .venv build dist site *.egg-info
