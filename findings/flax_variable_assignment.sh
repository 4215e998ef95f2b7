#!/usr/bin/env bash
# Under jit, each assignment `variable[...] = value` to a Flax variable takes as long as all of the
# trace before it: a network with many normalisations is traced in quadratic time.
#
# Versions: flax 0.12.8, jax 0.10.2.
# Input:    a function that takes 500 or 1,000 sines in a row and assigns each to a variable.
# Expected: twice as many take twice as long to trace, as they do by `variable.set_value(value)`.
# Seen:     four times as long, and many times as long as by `set_value`. Flax asks for the value's
#           `sharding` with a default; a traced value has none, and JAX, before it raises the
#           AttributeError that the default takes the place of, walks through the whole trace for a
#           message about where the value came from, which nobody reads. NNX's BatchNorm assigns its
#           two running averages so in every step that is traced, and a stream of random numbers its
#           counter at every layer that is made under jit or eval_shape.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    flax==0.12.8 jax==0.10.2
cd "$scratch"
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'END'
import time

import jax
import jax.numpy as jnp
from flax import nnx


def by_item(variable, value):
    variable[...] = value


def by_method(variable, value):
    variable.set_value(value)


def seconds(assign, count):
    def program(x):
        variable = nnx.BatchStat(x)
        for _ in range(count):
            x = jnp.sin(x)
            assign(variable, x)
        return variable[...]

    begin = time.process_time()
    jax.jit(program).trace(jnp.zeros(3))
    return time.process_time() - begin


seconds(by_item, 10), seconds(by_method, 10)
found = {}
for assign in (by_item, by_method):
    few, many = found[assign] = [
        min(seconds(assign, count) for _ in range(3)) for count in (500, 1000)
    ]
    print(f"{assign.__name__}: {few:.3f} s for 500, {many:.3f} s for 1,000, {many / few:.1f} times")
beside = found[by_item][1] / found[by_method][1]
print(f"by item {beside:.0f} times as long as by method")
assert found[by_item][1] / found[by_item][0] > 2.5 and beside > 10, "it has changed"
END
