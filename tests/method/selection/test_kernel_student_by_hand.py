"""A kernel student in closed form, and whom it may choose."""

import jax
import numpy as np
import pytest

from infoutil_jax.method.selection.kernel_student import (
    arc_cosine,
    choose,
    losses,
    toggled,
    untaught,
)
from infoutil_jax.method.selection.most_useful import sharpness


def test_candidates_that_have_nothing_in_common_add_up():
    """Of ridge r each shifts the judge's answers by kernel * (taught - 1/3) / (1 + r)."""
    taught, judged, ridge = (
        np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]),
        np.array([[0.9, 0.4]]),
        0.5,
    )
    with jax.enable_x64(True):
        student = untaught(np.eye(2), judged, taught, np.array([2]), ridge=ridge)
        one = toggled(student, 0)
        found = losses(one, np.array([1]))
    np.testing.assert_allclose(one.answers[:, 0], 0.9 * (taught[0] - 1 / 3) / (1 + ridge))
    log_odds = 3 * judged @ (taught - 1 / 3) / (1 + ridge)
    expected = np.log(np.exp(log_odds).sum()) - log_odds[0, 2]
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_how_long_a_row_is_does_not_matter_to_the_kernel():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4))
    for scale in (1e-6, 1e-3, 1e3):
        np.testing.assert_allclose(arc_cosine(scale * a, b), arc_cosine(a, b), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_few_candidates_is_filled_from_its_own(seed):
    """Whatever candidates of other classes would teach."""
    labels = np.array([0, 0, 0, 0, 0, 1, 2, 2])
    seen = np.random.default_rng(seed).normal(size=(8, 4))
    with jax.enable_x64(True):
        kernel = arc_cosine(seen, seen)
        student = untaught(kernel, kernel, np.eye(3)[labels], labels)
    chosen, _ = choose(student, labels, 1, 4)
    np.testing.assert_array_equal(labels[chosen], [0, 1, 2])


def test_a_class_of_as_many_as_are_chosen_is_kept_whole_though_it_teaches_the_wrong_thing():
    """No candidate is chosen twice, as one to be forgotten, where that would lower the loss."""
    labels, taught = np.array([0, 0, 1, 1, 1]), np.array([1, 1, 1, 1, 1])
    seen = np.random.default_rng(0).normal(size=(5, 4))
    with jax.enable_x64(True):
        kernel = arc_cosine(seen, seen)
        student = untaught(kernel, kernel, np.eye(2)[taught], labels)
    chosen = choose(student, labels, 2, 4)[0].tolist()
    assert len(set(chosen)) == 4 and {0, 1} <= set(chosen)


@pytest.mark.parametrize("seed", [42, 59])
def test_after_a_sweep_that_exchanged_everything_there_is_another(seed):
    """It goes on until no exchange of one candidate lowers the loss: with these seeds, twice."""
    labels = np.repeat([0, 1], 8)
    seen = np.random.default_rng(seed).normal(size=(16, 3))
    with jax.enable_x64(True):
        kernel = arc_cosine(seen, seen)
        student = untaught(kernel, kernel, np.eye(2)[labels], labels)
        first, chosen = (choose(student, labels, 1, sweeps)[0] for sweeps in (0, 8))
        assert (first != chosen).all()
        for old in chosen.tolist():
            taught = toggled(toggled(student, chosen[0]), chosen[1])
            members = np.flatnonzero(labels == labels[old])
            assert members[losses(taught, members, instead_of=old).argmin()] == old


def test_sharpness_lies_between_a_hundredth_and_a_hundred():
    """Whoever is always right, or always wrong, cannot be too sure, or too modest, of it."""
    log_p = np.log(np.array([[0.5001, 0.4999], [0.4999, 0.5001]]))
    assert sharpness(log_p, np.array([0, 1])) == pytest.approx(100, rel=1e-3)
    assert sharpness(log_p, np.array([1, 0])) == pytest.approx(0.01, rel=1e-3)
