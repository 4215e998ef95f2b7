"""Images that cannot be kept are not attributed, and the set is the same."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.distillation import DistillConfig, distill, distill_pool, lazily, score_pool
from infoutil_jax.distillation.distill import selected
from infoutil_jax.distillation.examine import Examined
from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates
from infoutil_jax.method.cropping import EveryWindow, ShapleyBoxes
from infoutil_jax.method.recipes import infoutil_clear, infoutil_paper, rded
from infoutil_jax.method.selection import RandomK, TopK
from infoutil_jax.method.shapley_maps import ShapleyConfig

CONFIG = DistillConfig(pool=20, batch_size=16, progress=False)
PRINTED = infoutil_paper(shapley=ShapleyConfig(strategy="kernel", budget=64))


@pytest.fixture
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture
def attributions(monkeypatch):
    """Images that are attributed, batch by batch: those that no `EveryWindow` cuts."""
    counts = []
    attributed = lazily.attributed

    def watching(recipe, bounds, per_class, at_once, attribute):
        def one_round(images):
            counts.append(len(images))
            return attribute(images)

        return attributed(recipe, bounds, per_class, at_once, one_round)

    monkeypatch.setattr(lazily, "attributed", watching)
    return counts


@pytest.mark.parametrize(
    "recipe",
    [
        PRINTED,
        replace(PRINTED, select=TopK("lowest"), tiles=4),
        replace(
            PRINTED,
            crop=ShapleyBoxes(side=0.75, alpha=0.0),
            select=TopK(crops_per_image="all"),
        ),
        infoutil_paper(shapley=ShapleyConfig(budget=64, pilot=8)),
    ],
)
def test_the_set_is_that_of_attributing_all_images(digits, teacher, tmp_path, attributions, recipe):
    budget = {"images_per_class": 1}
    lazy = distill(digits, teacher, recipe, workdir=tmp_path / "a", config=CONFIG, **budget)
    assert 0 < sum(attributions) < 200
    pool = score_pool(digits, teacher, recipe, config=CONFIG)
    assert len(pool.rows.boxes) == 200 * recipe.crop.num_crops
    whole = distill_pool(pool, workdir=tmp_path / "b", **budget)
    np.testing.assert_array_equal(lazy.images, whole.images)
    # Batches of other images round otherwise, on some machines.
    tiles = [[tile for record in one.records for tile in record["tiles"]] for one in (lazy, whole)]
    for mine, theirs in zip(*tiles, strict=True):
        for about in ("map", "score"):
            np.testing.assert_allclose(mine.pop(about), theirs.pop(about), rtol=1e-5, atol=1e-5)
    assert lazy.records == whole.records  # all else, to the letter
    np.testing.assert_allclose(lazy.soft_labels, whole.soft_labels, atol=1e-5)


def test_a_stopped_run_goes_on(digits, teacher, tmp_path, attributions, monkeypatch):
    options = {"per_class": 2, "config": CONFIG}
    whole = score_pool(digits, teacher, PRINTED, folder=tmp_path / "one", **options)
    rounds, original = len(attributions), lazily.best_window

    def stop(recipe, rows):
        raise KeyboardInterrupt

    again = score_pool(digits, teacher, PRINTED, folder=tmp_path / "one", **options)
    monkeypatch.setattr(lazily, "best_window", stop)
    with pytest.raises(KeyboardInterrupt):
        score_pool(digits, teacher, PRINTED, folder=tmp_path / "two", **options)
    monkeypatch.setattr(lazily, "best_window", original)
    late = score_pool(digits, teacher, PRINTED, folder=tmp_path / "two", **options)
    for other in (again, late):
        jax.tree.map(np.testing.assert_array_equal, other.rows, whole.rows)
    assert len(attributions) == 3 * rounds


def test_a_stopped_run_goes_on_with_batches_of_another_size(digits, teacher, tmp_path, monkeypatch):
    """They make rounds of other images, which are not those that are on disk."""

    def scored(folder, batch_size):
        config = replace(CONFIG, batch_size=batch_size)
        return score_pool(digits, teacher, PRINTED, per_class=2, folder=folder, config=config)

    wanted = selected(scored(None, 64), 2).candidates
    attributed = lazily.attributed

    def stopping(recipe, bounds, per_class, at_once, attribute):
        yield next(attributed(recipe, bounds, per_class, at_once, attribute))
        raise KeyboardInterrupt

    monkeypatch.setattr(lazily, "attributed", stopping)
    with pytest.raises(KeyboardInterrupt):
        scored(tmp_path, 16)
    monkeypatch.undo()
    found = selected(scored(tmp_path, 64), 2).candidates
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.crops, wanted.crops)


def test_only_windows_of_maps_that_cost_more_than_they_are_bounded():
    size = (32, 32)
    found = lazily.bounding(PRINTED, size)
    assert isinstance(found.crop, EveryWindow) and found.score == PRINTED.score
    few = infoutil_paper(shapley=ShapleyConfig(budget=32))
    assert lazily.bounding(few, size) is None
    for other in (
        rded(),
        infoutil_clear(mass=0.9),
        replace(PRINTED, select=RandomK()),
        replace(PRINTED, select=TopK("middle")),
        replace(PRINTED, select=TopK(max_quantile=0.9)),
        replace(PRINTED, attribute=lambda *_: None),
    ):
        assert lazily.bounding(other, size) is None


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([(32, 32), (20, 31), (7, 8)]))
@settings(deadline=None, max_examples=10)  # each compiles for its shapes
def test_every_box_is_one_of_the_windows(rows, columns, image_size):
    boxes = ShapleyBoxes(num_crops=3)
    if rows > image_size[0] or columns > image_size[1]:
        return
    maps = jax.random.normal(jax.random.key(rows), (5, rows, columns))
    keys = jax.random.split(jax.random.key(1), 5)
    found = np.asarray(boxes(keys, maps, image_size)).reshape(-1, 4)
    windows = np.asarray(EveryWindow(boxes)(keys, maps, image_size))
    assert (windows == windows[0]).all()
    assert {tuple(box) for box in found} <= {tuple(box) for box in windows[0]}


@dataclass
class Pool:
    """Images of two classes whose scores lie below bounds by a random part."""

    bounds: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def attribute(self, images):
        assert self.seen.isdisjoint(images.tolist())
        self.seen |= set(images.tolist())
        return self.rows(images)

    def rows(self, images):
        zeros = np.zeros(len(images), np.int32)
        scores = self.scores[images].astype(np.float32)
        table = Candidates(images.astype(np.int64), zeros, self.labels[images], scores, {})
        return Examined(
            table, np.zeros((len(images), 4), np.int32), np.zeros((len(images), 1, 1), "f4")
        )

    def __post_init__(self):
        self.seen = set()


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1), st.booleans()), min_size=4, max_size=60),
    st.integers(1, 3),
    st.integers(1, 20),
    st.sampled_from(["highest", "lowest"]),
)
@settings(deadline=None, max_examples=100)
def test_what_is_best_of_all_is_best_of_what_was_attributed(images, per_class, at_once, keep):
    bounds, shares, labels = (np.array(column) for column in zip(*images, strict=True))
    sign = -1 if keep == "lowest" else 1
    pool = Pool(bounds, sign * (bounds - shares), labels.astype(np.int32))
    recipe = replace(PRINTED, select=TopK(keep))
    ids = np.arange(len(bounds))
    told = lazily.Bounds(ids, pool.labels, bounds.astype(np.float64))
    tables = list(lazily.attributed(recipe, told, per_class, at_once, pool.attribute))
    assert sum(len(table.boxes) for table in tables) == len(pool.seen)
    best = TopK(keep).best
    wanted = best(None, pool.rows(ids).candidates, per_class)
    found = best(None, Examined.joined(*tables).candidates, per_class)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.ids, wanted.ids)


def test_a_score_that_is_no_number_is_told(digits, teacher, tmp_path):
    bad = replace(PRINTED, score=lambda predict, variables, crops, labels: jnp.log(labels - 5.0))
    with pytest.raises(InputError, match="is NaN; a score must be a number"):
        distill(digits, teacher, bad, images_per_class=1, workdir=tmp_path / "set", config=CONFIG)
