"""Examples in docstrings run and print what they say; skipped: those on a data set of yours."""

import doctest
import importlib
import pkgutil

import pytest

import infoutil_jax

MODULES = [module.name for module in pkgutil.walk_packages(infoutil_jax.__path__, "infoutil_jax.")]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=OPTIONS)
    assert not failed, f"{failed} examples of {name} fail; see the output"


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [finder.find(importlib.import_module(name)) for name in MODULES]
    examples = [example for tests in found for one in tests for example in one.examples]
    assert sum(doctest.SKIP not in example.options for example in examples) >= 15
