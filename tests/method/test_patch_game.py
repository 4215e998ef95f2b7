"""What coalitions of patches are worth, painted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import edges
from infoutil_jax.method.patch_game import OUTPUTS, computing_in, painted, patch_game
from infoutil_jax.shapley import coalition_design, shapley_values


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (5, 7, 6, 2))


@pytest.fixture(scope="module")
def variables():
    return jax.random.normal(jax.random.key(1), (84, 3)) / 9


def predict(variables, images):
    return jnp.tanh(images.reshape(len(images), -1) @ variables)


@pytest.mark.parametrize("grid", [(2, 3), (3, 2), (7, 1)])  # 2 and 3 do not divide 7
def test_present_patches_show_the_image_absent_ones_the_baseline(images, grid):
    masks = np.random.default_rng(0).random((4, grid[0] * grid[1])) < 0.5
    shown = painted(jnp.asarray(masks)[:, None], images, jnp.full_like(images, 9.0), grid)
    rows, columns = edges(7, grid[0]), edges(6, grid[1])
    for coalition, player in np.ndindex(*masks.shape):
        r, c = divmod(player, grid[1])
        cell = np.s_[:, rows[r] : rows[r + 1], columns[c] : columns[c + 1]]
        expected = images[cell] if masks[coalition, player] else jnp.full_like(images[cell], 9.0)
        np.testing.assert_array_equal(shown[coalition][cell], expected)


def test_one_image_is_painted_as_it_is_among_others(images):
    mask, absent = jnp.asarray([True, False, False, True, True, False]), jnp.zeros_like(images)
    among = painted(mask, images, absent, (2, 3))
    np.testing.assert_array_equal(painted(mask, images[3], absent[3], (2, 3)), among[3])


def test_classes_are_predicted_a_batch_at_a_time_by_what_is_compiled_once(images, variables):
    seen = []

    def watching(variables, images):
        seen.append(len(images))
        return predict(variables, images)

    for each in (images, -images):
        labels = patch_game(watching, variables, each, None, grid=2, batch_size=2).labels
        np.testing.assert_array_equal(labels, predict(variables, each).argmax(1))
    assert seen == [2]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_coalition_is_worth_the_output_on_what_it_shows(images, variables, output, batch_size):
    labels = jnp.asarray([0, 1, 2, 0, 1])
    masks = np.random.default_rng(0).random((9, 6)) < 0.5
    game = patch_game(
        *(predict, variables, images, labels),
        grid=(2, 3),
        baseline=0.5,
        output=output,
        batch_size=batch_size,
    )
    values = game(masks)
    for coalition, mask in enumerate(masks):
        shown = painted(jnp.asarray(mask), images, jnp.full_like(images, 0.5), (2, 3))
        expected = OUTPUTS[output](predict(variables, shown), labels)
        np.testing.assert_allclose(values[coalition], expected, atol=1e-5)


def test_another_precision_is_seen_by_the_model_and_not_by_who_asks(images, variables):
    seen = []

    def watching(variables, images):
        seen.append((variables["kernel"].dtype, variables["step"].dtype, images.dtype))
        return predict(variables["kernel"], images)

    cheap = computing_in(watching, "bfloat16")
    assert computing_in(watching, "bfloat16") is cheap
    masks = np.ones((1, 6), bool)
    given = {"kernel": variables, "step": jnp.asarray(3)}
    values = patch_game(cheap, given, images, None, grid=(2, 3))(masks)
    assert {(a.name, b.name, c.name) for a, b, c in seen} == {("bfloat16", "int32", "bfloat16")}
    exact = patch_game(predict, variables, images, None, grid=(2, 3))(masks)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, exact, atol=0.03)
    assert (values != exact).any()


def test_without_labels_the_predicted_class_is_explained(images, variables):
    masks = np.ones((1, 6), bool)
    values = patch_game(predict, variables, images, None, grid=(2, 3))(masks)
    np.testing.assert_allclose(values[0], predict(variables, images).max(1), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"grid": (2, 2)}, "has 6 players but a 2x2 grid has 4"),
        ({"grid": (8, 1)}, "does not fit images of 7x6"),
        ({"grid": (2, 3), "output": "loss"}, "unknown output 'loss'"),
        ({"grid": (2, 3), "baseline": np.zeros(3)}, "does not fit images of shape"),
        ({"grid": (2, 3), "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_arguments_are_told_in_a_sentence(images, variables, options, sentence):
    with pytest.raises(InputError, match=sentence):
        patch_game(predict, variables, images, None, **options)(np.ones((1, 6), bool))


@pytest.mark.parametrize(("batch_size", "in_flight"), [(1, 1), (4, 3), (11, 10), (100, 45)])
def test_as_many_masked_images_are_in_flight_as_the_batch_has_room(
    images, variables, batch_size, in_flight
):
    """Of nine coalitions of five images: of two blocks, a batch of 4 shows the larger, of three."""
    most = []

    def watching(variables, images):
        most.append(len(images))
        return predict(variables, images)

    labels = np.zeros(5, int)
    game = patch_game(watching, variables, images, labels, grid=(2, 3), batch_size=batch_size)
    game(np.ones((9, 6), bool))
    assert max(most) == in_flight


def test_each_image_may_have_coalitions_of_its_own(images, variables):
    game = patch_game(predict, variables, images, None, grid=(2, 3))
    masks = np.random.default_rng(1).random((4, 2, 6)) < 0.5
    which = jnp.asarray([4, 0, 0, 2])
    values = game.values_of(which, jnp.asarray(masks))
    for lane, image in enumerate(which):
        np.testing.assert_allclose(values[lane], game(masks[lane])[:, image], atol=1e-5)


def test_a_game_is_a_pytree_that_reads_as_the_theory_does(images, variables):
    game = patch_game(predict, variables, images, None, grid=(2, 3))
    design = coalition_design(6, 64)
    phi = jax.jit(shapley_values)(game, design)
    assert len(game) == 5 and phi.shape == (6, 5)
    everything, nothing = game(np.array([[True] * 6, [False] * 6]))
    np.testing.assert_allclose(phi.sum(0), everything - nothing, atol=1e-5)
