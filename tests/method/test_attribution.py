"""Patch maps: exact values on small grids, invariances, and any model at all."""

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import edges
from infoutil_jax.method.attribution import (
    GradCam,
    RandomMaps,
    UniformMaps,
    blurred,
    grad_cam,
    patch_shapley,
)
from infoutil_jax.method.patch_game import OUTPUTS, _values
from infoutil_jax.shapley import coalition_design, exact_shapley

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (6, 8, 8, 3))


@pytest.fixture(scope="module")
def labels():
    return jnp.asarray([0, 1, 2, 3, 0, 1])


class Network(linen.Module):
    """Two methods, as Grad-CAM wants them."""

    def setup(self):
        self.first, self.second = linen.Conv(8, (3, 3)), linen.Conv(8, (3, 3), strides=2)
        self.out = linen.Dense(4)

    def features(self, x):
        return linen.relu(self.second(linen.relu(self.first(x))))

    def head(self, maps):
        return self.out(maps.mean((1, 2)))

    def __call__(self, x):
        return self.head(self.features(x))


class Predict:
    """A model of the user's as the library wants it."""

    def __call__(self, variables, images):
        return Network().apply(variables, images)

    def features(self, variables, images):
        return Network().apply(variables, images, method="features")

    def head(self, variables, maps):
        return Network().apply(variables, maps, method="head")


@pytest.fixture(scope="module")
def model():
    return Predict(), Network().init(jax.random.key(7), jnp.zeros((1, 8, 8, 3)))


def by_hand(predict, variables, image, label, grid, baseline, output):
    """Exact Shapley values of one image's patches, masks painted pixel by pixel."""
    rows, columns = edges(image.shape[0], grid[0]), edges(image.shape[1], grid[1])

    def values(masks):
        painted = []
        for mask in np.asarray(masks):
            picture = np.array(np.broadcast_to(baseline, image.shape))
            for player, present in enumerate(mask):
                r, c = divmod(player, grid[1])
                if present:
                    cell = np.s_[rows[r] : rows[r + 1], columns[c] : columns[c + 1]]
                    picture[cell] = np.asarray(image)[cell]
            painted.append(picture)
        logits = predict(variables, jnp.asarray(np.stack(painted)))
        return output(logits, jnp.full(len(painted), label))

    return np.asarray(exact_shapley(values, grid[0] * grid[1])).reshape(grid)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("grid", [(2, 2), (3, 3), (1, 5)])  # 3 and 5 do not divide 8
def test_equals_enumeration_when_the_budget_covers_all(model, images, labels, grid, output):
    design = coalition_design(grid[0] * grid[1], 2 ** (grid[0] * grid[1]))
    maps = patch_shapley(*model, images[:2], labels[:2], design, grid=grid, output=output)
    for i in range(2):
        expected = by_hand(*model, images[i], labels[i], grid, 0.0, OUTPUTS[output])
        np.testing.assert_allclose(maps[i], expected, atol=1e-5)


@pytest.mark.parametrize(
    "baseline",
    [
        0.3,
        np.asarray([0.1, -0.2, 0.3], np.float32),
        np.linspace(-1, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3),
    ],
    ids=["scalar", "colour", "image"],
)
def test_baselines(model, images, labels, baseline):
    design = coalition_design(4, 16)
    maps = patch_shapley(*model, images[:2], labels[:2], design, grid=2, baseline=baseline)
    for i in range(2):
        expected = by_hand(*model, images[i], labels[i], (2, 2), baseline, OUTPUTS["logit"])
        np.testing.assert_allclose(maps[i], expected, atol=1e-5)


def test_baseline_of_each_image_may_be_given_or_computed(model, images, labels):
    design = coalition_design(9, 40)
    computed = patch_shapley(*model, images, labels, design, grid=3, baseline=blurred)
    given_ = patch_shapley(*model, images, labels, design, grid=3, baseline=blurred(images))
    np.testing.assert_allclose(computed, given_, atol=1e-6)
    assert not np.allclose(computed, patch_shapley(*model, images, labels, design, grid=3))


@pytest.mark.parametrize(("grid", "seed"), [((1, 1), 0), ((2, 3), 1), ((4, 4), 2), ((8, 8), 3)])
def test_maps_sum_to_what_the_image_changes(model, images, labels, grid, seed):
    """Efficiency: sum phi = output on the image less output on the baseline, at any budget."""
    predict, variables = model
    players = grid[0] * grid[1]
    design = coalition_design(players, min(2**players, 40), seed=seed)
    maps = patch_shapley(predict, variables, images, labels, design, grid=grid)
    change = predict(variables, images) - predict(variables, jnp.zeros_like(images))
    expected = np.asarray(change)[np.arange(len(labels)), labels]
    np.testing.assert_allclose(maps.sum((1, 2)), expected, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_chunks_change_nothing(model, images, labels, batch_size):
    design = coalition_design(16, 50)
    whole = patch_shapley(*model, images, labels, design, grid=4)
    chunked = patch_shapley(*model, images, labels, design, grid=4, batch_size=batch_size)
    np.testing.assert_allclose(whole, chunked, atol=1e-5)


def test_labels_default_to_the_prediction(model, images):
    predict, variables = model
    design = coalition_design(4, 16)
    predicted = jnp.argmax(predict(variables, images), axis=-1)
    np.testing.assert_allclose(
        patch_shapley(*model, images, None, design, grid=2),
        patch_shapley(*model, images, predicted, design, grid=2),
        atol=1e-6,
    )


def test_output_may_be_a_function(model, images, labels):
    """Linearity: the margin's map is the difference of two logits' maps."""
    design = coalition_design(4, 16)

    def margin(logits, labels):
        return logits[:, 0] - logits[:, 1]

    def logit_map(label):
        return patch_shapley(*model, images, jnp.full_like(labels, label), design, grid=2)

    np.testing.assert_allclose(
        patch_shapley(*model, images, labels, design, grid=2, output=margin),
        logit_map(0) - logit_map(1),
        atol=1e-5,
    )


def test_one_compilation_serves_every_batch_of_a_shape(model, images, labels):
    design = coalition_design(4, 16)
    _values.clear_cache()
    for shift in range(3):
        patch_shapley(*model, images + shift, labels, design, grid=2)
    assert _values._cache_size() == 1


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        return linen.Dense(4)(x.reshape(len(x), -1))


def linen_model(images):
    module = LinenNet()
    return module.apply, module.init(jax.random.key(0), images)


def equinox_model(images):
    mlp = eqx.nn.MLP(8 * 8 * 3, 4, 8, 1, key=jax.random.key(0))
    arrays, static = eqx.partition(mlp, eqx.is_array)

    def predict(variables, batch):
        return jax.vmap(lambda x: eqx.combine(variables, static)(x.reshape(-1)))(batch)

    return predict, arrays


def plain_model(images):
    weights = jax.random.normal(jax.random.key(0), (8 * 8 * 3, 4))
    return lambda w, x: x.reshape(len(x), -1) @ w, weights


@pytest.mark.parametrize("make", [linen_model, equinox_model, plain_model])
def test_any_model_is_two_things(images, labels, make):
    predict, variables = make(images)
    maps = patch_shapley(predict, variables, images, labels, coalition_design(4, 16), grid=2)
    expected = by_hand(predict, variables, images[0], labels[0], (2, 2), 0.0, OUTPUTS["logit"])
    np.testing.assert_allclose(maps[0], expected, atol=1e-4)


def test_a_linear_model_has_its_closed_form(images, labels):
    """phi of a patch is the inner product of its pixels with their weights."""
    predict, weights = plain_model(images)
    design = coalition_design(16, 40, strategy="kernel")  # least squares: exact where additive
    maps = patch_shapley(predict, weights, images, labels, design, grid=4)
    parts = images * weights.T[labels].reshape(images.shape)
    expected = parts.reshape(6, 4, 2, 4, 2, 3).sum((2, 4, 5))
    np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_grad_cam_of_a_global_average_head(images, labels):
    """With a mean-pool linear head the channel weights are the head's own (Zhou et al. 2016)."""

    class Cam:
        def features(self, variables, x):
            return x[:, ::2, ::2] @ variables["mix"]

        def head(self, variables, maps):
            return maps.mean((1, 2)) @ variables["head"]

    keys = jax.random.split(jax.random.key(1))
    variables = {
        "mix": jax.random.normal(keys[0], (3, 5)),
        "head": jax.random.normal(keys[1], (5, 4)),
    }
    features = Cam().features(variables, images)
    weights = variables["head"].T[labels][:, None, None] / 16
    expected = jax.nn.relu((features * weights).sum(-1))
    maps = grad_cam(Cam(), variables, images, labels, grid=4)
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert grad_cam(Cam(), variables, images, labels, grid=(2, 3)).shape == (6, 2, 3)


def test_grad_cam_as_a_part_of_a_recipe(model, images, labels):
    maps = GradCam(grid=2)(*model, images, labels)
    np.testing.assert_array_equal(maps, grad_cam(*model, images, labels, grid=2))
    assert maps.shape == (6, 2, 2)
    assert np.all(np.asarray(maps) >= 0)


def test_random_maps_follow_the_key_and_uniform_ones_know_nothing(model, images, labels):
    keys = jax.random.split(jax.random.key(2), 6)
    maps = RandomMaps(grid=4)(*model, images, labels, keys)
    some = RandomMaps(grid=4)(*model, images[2:4], labels[2:4], keys[2:4])
    np.testing.assert_array_equal(maps[2:4], some)
    assert abs(float(maps.mean())) < 0.5
    assert not np.any(UniformMaps(grid=4)(*model, images, labels, keys))


@pytest.mark.parametrize("attribute", [GradCam(grid=4), UniformMaps(grid=4), RandomMaps(grid=4)])
def test_the_map_of_one_image_is_the_one_that_it_has_among_others(model, images, labels, attribute):
    keys = jax.random.split(jax.random.key(2), 6)
    maps = attribute(*model, images, labels, keys)
    alone = attribute(*model, images[3:4], labels[3:4], keys[3:4])
    assert maps.shape == (6, 4, 4)
    np.testing.assert_allclose(alone, maps[3:4], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"grid": 3}, "16 players but a 3x3 grid has 9"),
        ({"grid": 9}, "at least one pixel"),
        ({"output": "loss"}, "unknown output 'loss'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"baseline": np.zeros(2, np.float32)}, "baseline of shape"),
    ],
)
def test_bad_arguments_are_told_in_one_sentence(model, images, labels, change, sentence):
    arguments = {"grid": 4, **change}
    with pytest.raises(InputError, match=sentence):
        patch_shapley(*model, images, labels, coalition_design(16, 32), **arguments)


def test_grad_cam_says_what_it_needs(images, labels):
    with pytest.raises(InputError, match="features"):
        grad_cam(*plain_model(images), images, labels, grid=2)

    class Flat:
        def features(self, variables, x):
            return x.reshape(len(x), -1)

        def head(self, variables, features):
            return features[:, :4]

    with pytest.raises(InputError, match=r"shape \(6, \d+\); Grad-CAM needs maps"):
        grad_cam(Flat(), {}, images, labels, grid=2)

    class Headless:
        features = Flat.features

    with pytest.raises(InputError, match="give a predict with the methods"):
        grad_cam(Headless(), {}, images, labels, grid=2)


class Pixels:
    """Its last maps are the pixels; the two classes are their mean and its opposite."""

    def features(self, variables, x):
        return x

    def head(self, variables, maps):
        return maps.mean((1, 2)) * jnp.array([1.0, -1.0])


@pytest.mark.parametrize("attribute", [GradCam, UniformMaps, RandomMaps])
def test_a_patch_has_a_pixel_at_least_on_either_axis(attribute):
    given_ = Pixels(), {}, jnp.ones((2, 5, 3, 1)), jnp.array([0, 1]), jax.random.split(KEY, 2)
    assert attribute(grid=(5, 3))(*given_).shape == (2, 5, 3)
    for grid in ((6, 3), (5, 4), (0, 3), (5, 0)):
        with pytest.raises(InputError, match="every patch needs at least one pixel"):
            attribute(grid=grid)(*given_)


def test_maps_have_the_papers_grid_by_default_and_those_of_no_attribution_one_patch():
    assert (GradCam().grid, RandomMaps().grid, UniformMaps().grid) == (4, 4, 1)
