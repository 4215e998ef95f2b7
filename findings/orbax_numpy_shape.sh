#!/usr/bin/env bash
# Orbax: restored into a NumPy array of another shape, an array comes back in its stored shape.
#
# Versions: orbax-checkpoint 0.12.8, jax 0.10.2, numpy 2.4.6.
# Input:    an array of 6 numbers, saved by StandardCheckpointer, and restored with targets of 4
#           and of 8.
# Expected: an error. With a target of JAX, an array or a ShapeDtypeStruct, there is one:
#           "Truncating/padding is disabled".
# Seen:     with a NumPy target no error, and the 6 numbers; the target's shape is not looked at. So
#           a checkpoint of another network is read as if it were this one.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cd "$scratch"
"$scratch/venv/bin/python" - <<'END'
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

checkpointer = ocp.StandardCheckpointer()
where = Path("saved").absolute()
checkpointer.save(where, {"weights": jnp.arange(6.0)})
checkpointer.wait_until_finished()


def restored(target):
    """The shape that comes back, or how the error begins."""
    try:
        return np.shape(checkpointer.restore(where, {"weights": target})["weights"])
    except ValueError as error:
        return str(error).split(":")[0]


for size in (4, 8):
    seen = {
        "NumPy": restored(np.zeros(size, np.float32)),
        "JAX": restored(jnp.zeros(size)),
        "ShapeDtypeStruct": restored(jax.ShapeDtypeStruct((size,), jnp.float32)),
    }
    print(size, seen)
    assert seen["NumPy"] == (6,), "the behaviour has changed"
    assert seen["JAX"] == seen["ShapeDtypeStruct"] == "Requested shape", "the behaviour has changed"
END
echo "as described"
