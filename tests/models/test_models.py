from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax.errors import InputError
from infoutil_jax.models import (
    BACKBONES,
    Architecture,
    as_predict,
    as_train,
    create,
    create_partly,
    initialise,
    outline,
)


def tiny(name="convnet3", seed=0, **options):
    arguments = {"num_classes": 5, "image_size": (8, 11), "channels": 2, "width": 4} | options
    return create(name, rngs=nnx.Rngs(seed), **arguments)


def images(batch=6, size=(8, 11), channels=2):
    return 3 + 2 * jax.random.normal(jax.random.key(1), (batch, *size, channels))


@pytest.mark.parametrize("name", ["convnet3", "convnet4", "convnet5", "convnet6"])
def test_depth_and_number_of_parameters(name):
    depth = int(name[-1])
    predict, variables = as_predict(tiny(name, image_size=(64, 96), channels=3, width=7))
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    blocks = (27 * 7 + 3 * 7) + (depth - 1) * (63 * 7 + 3 * 7)  # kernel, bias, scale, shift
    assert count == blocks + 7 * (64 >> depth) * (96 >> depth) * 5 + 5
    assert predict(variables, images(2, (64, 96), 3)).shape == (2, 5)


def test_blocks_are_the_textbook_formula():
    predict, variables = as_predict(tiny(norm="none"))
    x = images()
    for i in range(3):
        layer = variables["params"][f"block{i}"]["conv"]
        dims = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=dims)
        x = nnx.avg_pool(jax.nn.relu(x + layer["bias"]), (2, 2), (2, 2))
    assert x.shape == (6, 1, 1, 4)
    head = variables["params"]["classifier"]
    expected = x.reshape(6, -1) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(predict(variables, images()), expected, rtol=1e-4, atol=1e-5)


def test_evaluation_is_per_example_and_training_moves_the_statistics():
    predict, variables = as_predict(tiny())
    apply, _ = as_train(tiny())
    x = images()
    full = predict(variables, x)
    np.testing.assert_allclose(full[:2], predict(variables, x[:2]), atol=1e-6)
    logits, after = apply(variables, x)
    assert np.abs(logits - full).max() > 0.01
    jax.tree.map(np.testing.assert_array_equal, after["params"], variables["params"])
    layer = variables["params"]["block0"]["conv"]
    convolved = (
        jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        + layer["bias"]
    )
    stats = after["batch_stats"]["block0"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * convolved.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * convolved.var((0, 1, 2)), rtol=1e-4)


def test_instance_norm_ignores_each_images_scale():
    predict, variables = as_predict(tiny(norm="instance"))
    assert variables["batch_stats"] == {}
    variables["params"]["block0"]["conv"]["bias"] *= 0
    np.testing.assert_allclose(
        predict(variables, images()), predict(variables, 5 * images()), atol=1e-3
    )


def test_initialisation_is_pytorchs_default():
    _, variables = as_predict(tiny(width=64, channels=3))
    for i, fan_in in enumerate((27, 576, 576)):
        for leaf in variables["params"][f"block{i}"]["conv"].values():
            bound = fan_in**-0.5
            assert np.abs(leaf).max() <= bound
            np.testing.assert_allclose(np.std(leaf), bound / 3**0.5, rtol=0.25)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_predict_compiles_once_for_an_architecture(norm):
    traces = []

    @jax.jit
    def count(variables, x):
        traces.append(1)
        return x

    first, variables = as_predict(tiny(seed=0, norm=norm))
    second, others = as_predict(tiny(seed=1, norm=norm))
    assert first == second and hash(first) == hash(second)
    assert first != as_predict(tiny(width=8, norm=norm))[0]
    static = jax.jit(lambda p, v, x: count(v, p(v, x)), static_argnums=0)
    one, two = static(first, variables, images()), static(second, others, images())
    assert len(traces) == 1 and not np.allclose(one, two)


class Dropping(nnx.Module):
    """What a user may bring: layers in a list, and a dropout with its own random state."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(11)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.dropout(x)


def test_any_nnx_module_works():
    module = Dropping(nnx.Rngs(0))
    predict, variables = as_predict(module)
    apply, _ = as_train(module)
    x = jnp.ones((3, 4))
    module.eval()
    np.testing.assert_allclose(predict(variables, x), module(x), rtol=1e-5)
    once, after = apply(variables, x)
    twice, _ = apply(after, x)
    assert (np.asarray(once) == 0).any() and not np.array_equal(once, twice)
    assert all(np.asarray(leaf).dtype.kind in "fui" for leaf in jax.tree.leaves(variables))


def test_bad_input_is_told():
    with pytest.raises(InputError, match=r"resnet99.*convnet3, convnet4"):
        create("resnet99", num_classes=2, image_size=8, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"8×11 pixels.*convnet4.*16×16"):
        tiny("convnet4")
    with pytest.raises(InputError, match="norm 'group'"):
        tiny(norm="group")
    with pytest.raises(InputError, match="no option 'heads'"):
        tiny(heads=3)
    assert set(BACKBONES) >= {"convnet3", "convnet4", "convnet5", "convnet6"}


TINY = Architecture.of("convnet3", num_classes=5, image_size=(8, 11), channels=2, width=4)


def test_several_seeds_are_as_each_by_itself():
    predict, apply, stacked = initialise(TINY, (3, 0))
    for i, seed in enumerate((3, 0)):
        alone, variables = as_predict(tiny(seed=seed))
        assert predict == alone and apply == as_train(tiny())[0]
        jax.tree.map(
            lambda many, one, i=i: np.testing.assert_allclose(many[i], one, atol=1e-6),
            stacked,
            variables,
        )


def test_outline_is_create_without_the_weights():
    predict, variables = as_predict(tiny())
    alike, shapes = outline(TINY)
    assert predict == alike
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )


def test_an_outline_is_the_callers_own_and_follows_the_backbones(monkeypatch):
    outline(TINY)[1].clear()
    assert outline(TINY)[1]
    three = replace(TINY, image_size=(16, 16))
    four = outline(replace(three, name="convnet4"))[1]
    assert outline(three)[1] != four
    monkeypatch.setitem(BACKBONES, TINY.name, BACKBONES["convnet4"])
    assert outline(three)[1] == four


def test_features_then_head_is_predict():
    predict, variables = as_predict(tiny())
    maps = predict.features(variables, images())
    assert maps.shape == (6, 1, 1, 4)
    np.testing.assert_allclose(
        predict.head(variables, maps), predict(variables, images()), rtol=1e-6
    )


def test_what_is_not_drawn_is_zero_and_the_rest_is_as_create_has_it():
    arguments = {"num_classes": 3, "image_size": 8, "width": 4}
    whole = as_predict(create("convnet3", rngs=nnx.Rngs(5), **arguments))[1]["params"]
    architecture = Architecture.of("convnet3", **arguments)
    partly = create_partly(
        architecture, lambda path: path.startswith("classifier"), rngs=nnx.Rngs(5)
    )
    params = as_predict(partly)[1]["params"]
    zeros = jax.tree.map(np.zeros_like, whole) | {"classifier": whole["classifier"]}
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), params, zeros)
