"""What compiles is counted."""

import jax
import jax.numpy as jnp

from infoutil_jax.app import compilations


def test_each_program_counts_once():
    before = compilations.so_far()
    function = jax.jit(lambda x: jnp.sin(x) * 3.25 + x)
    x, y = jnp.ones(7), jnp.ones(11)
    between = compilations.so_far()
    for argument in (x, x, y):
        function(argument).block_until_ready()
    found = compilations.so_far().since(between)
    assert found.compiled + found.from_cache == 2 and found.seconds > 0
    assert between.since(before).compiled >= 0
    assert str(found._replace(seconds=12.3)) == "compilation took 12 s"
