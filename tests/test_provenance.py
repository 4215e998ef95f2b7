"""What a result file says of its making."""

import hashlib
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import provenance
from infoutil_jax.blocks import block_rows


@dataclass(frozen=True)
class Mine:
    grid: int
    output: Any


def test_versions_and_hardware_are_those_of_this_process():
    assert provenance.versions()["jax"] == jax.__version__
    assert provenance.versions()["numpy"] == np.__version__
    assert provenance.hardware()["backend"] == jax.default_backend()
    assert provenance.hardware()["processor"]


def test_functions_are_described_with_their_arguments():
    described = provenance.describe(partial(np.clip, a_min=jnp.zeros(2), a_max=(1, None)))
    assert described == {"function": "clip", "a_min": [0.0, 0.0], "a_max": [1, None]}
    assert provenance.describe({"a": max, 2: 0.5}) == {"a": {"function": "max"}, "2": 0.5}
    assert "object" in provenance.describe(object())


def test_objects_are_described_by_their_fields():
    assert provenance.describe(Mine(3, max)) == {
        "kind": "Mine",
        "grid": 3,
        "output": {"function": "max"},
    }
    assert provenance.describe(partial(np.clip, 3)) == {"function": "clip", "arguments": [3]}
    assert provenance.describe(float("inf")) == "inf"


def mine(x):
    return x


def outer():
    def inner(x):
        return x

    return inner


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, 2.0, "a", None, {"b": [True]}), True),
        (np.ones(3), True),
        (block_rows, True),
        (partial(block_rows, size=3), True),
        (partial(block_rows, size=mine), False),
        (partial(partial(block_rows), count=outer()), False),
        (mine, False),
        (lambda x: x, False),
        (outer(), False),
        (Mine(3, None), False),
        (max, False),
        (object(), False),
    ],
)
def test_what_is_plain_is_told_whole(value, plain):
    """A function of somebody else's may change under its name; one of this package's may not."""
    assert provenance.is_plain(value) == plain


def test_a_large_array_is_told_by_its_digest():
    array = np.arange(130, dtype=np.int32).reshape(2, 65)
    expected = {
        "dtype": "int32",
        "shape": [2, 65],
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }
    assert provenance.describe(partial(np.take, values=array))["values"] == expected
    assert provenance.describe(np.asfortranarray(array)) == expected
    assert provenance.describe(array[0, :64]) == list(range(64))


def test_a_change_of_the_code_changes_its_digest(tmp_path):
    copy = tmp_path / "infoutil_jax"
    shutil.copytree(Path(provenance.__file__).parent, copy)
    assert provenance.code(copy) == provenance.versions()["code"]
    changed = copy / "method" / "scores.py"
    changed.write_text(changed.read_text() + "\n")
    assert provenance.code(copy) != provenance.versions()["code"]
