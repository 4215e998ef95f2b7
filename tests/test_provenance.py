"""What a result file says of its making."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from infoutil_jax import provenance
from infoutil_jax.method.recipes import infoutil_paper


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


def test_a_recipe_fits_into_json():
    described = {name: provenance.describe(part) for name, part in vars(infoutil_paper()).items()}
    assert json.loads(json.dumps(described))["crop"]["num_crops"] == 5


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
    changed = copy / "method" / "utility.py"
    changed.write_text(changed.read_text() + "\n")
    assert provenance.code(copy) != provenance.versions()["code"]
