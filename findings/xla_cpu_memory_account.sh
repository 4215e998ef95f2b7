#!/usr/bin/env bash
# XLA's account of a CPU program's memory leaves out what its fused convolutions take.
#
# Versions: jax 0.10.2, jaxlib 0.10.2, numpy 2.4.6.
# Input:    two convolutions of 128 channels with ReLU on 512 images of 32x32 pixels, then a mean.
#           Each convolution's output is 256 MiB.
# Expected: `compiled.memory_analysis().temp_size_in_bytes`, the "estimated memory requirements" of
#           https://docs.jax.dev/en/latest/jax.stages.html, is about what the process takes: 512 MiB,
#           as it says where XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= turns those fusions off.
# Seen:     less than 1 MiB by that account; the process takes more than 400 MiB.
# Fails when this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cd "$scratch"
cat > account.py <<'END'
import resource

import jax
import jax.numpy as jnp


def taken():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def layer(images, kernel):
    names = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=names)
    return jax.nn.relu(out)


def network(images, first, second):
    return layer(layer(images, first), second).mean((1, 2))


images, first = jnp.ones((512, 32, 32, 3)), jnp.ones((3, 3, 3, 128))
arguments = images, first, jnp.ones((3, 3, 128, 128))
program = jax.jit(network).lower(*arguments).compile()
before = taken()
jax.block_until_ready(program(*arguments))
said = program.memory_analysis().temp_size_in_bytes / 2**20
print(round(said), round(taken() - before))
END
export JAX_PLATFORMS=cpu
read -r said took < <("$scratch/venv/bin/python" account.py)
echo "as it comes: the account says $said MiB, the process takes $took MiB"
read -r full full_took < <(XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= "$scratch/venv/bin/python" account.py)
echo "without these fusions: the account says $full MiB, the process takes $full_took MiB"
[ "$said" -le 1 ] && [ "$took" -ge 400 ] && [ "$full" -ge 500 ] || { echo "it has changed"; exit 1; }
