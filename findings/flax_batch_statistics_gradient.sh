#!/usr/bin/env bash
# The statistics that Flax's NNX BatchNorm keeps have no gradient; those of its Linen BatchNorm have.
#
# Versions: flax 0.12.8, jax 0.10.2.
# Input:    four numbers, normalised in training mode; the derivative of the running mean by each.
# Expected: a tenth of a quarter for each, (1 - momentum) / 4, from both: they are one layer, and the
#           documentation of neither speaks of a gradient that stops
#           (https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/normalization.html).
#           A comment in the source keeps NNX's stop for array references, which are off by default.
# Seen:     0.025 from Linen, 0 from NNX. What is differentiated through such statistics, images that
#           are to match a teacher's, say, has no gradient any more after a move from Linen.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    flax==0.12.8 jax==0.10.2
cd "$scratch"
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'END'
import jax
import jax.numpy as jnp
from flax import linen, nnx

images = jnp.array([[1.0], [2.0], [3.0], [4.0]])

layer = linen.BatchNorm(use_running_average=False, momentum=0.9)
variables = layer.init(jax.random.key(0), images)


def of_linen(images):
    _, after = layer.apply(variables, images, mutable=["batch_stats"])
    return after["batch_stats"]["mean"].sum()


def of_nnx(images):
    module = nnx.BatchNorm(1, momentum=0.9, rngs=nnx.Rngs(0))
    module(images)
    return module.mean[...].sum()


assert of_linen(images) == of_nnx(images) == 0.25
found = {
    name: [round(value, 4) for value in jax.grad(of)(images).ravel().tolist()]
    for name, of in (("linen", of_linen), ("nnx", of_nnx))
}
for name, gradient in found.items():
    print(f"{name}: {gradient}")
assert found == {"linen": [0.025] * 4, "nnx": [0.0] * 4}, "it has changed"
END
