"""The table of the pool: in parts, resumed, shortened, and never compiled twice."""

import dataclasses
import itertools
import json
from functools import partial

import numpy as np
import pytest
from flax import nnx

from infoutil_jax import scoring
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import infoutil_paper, random, rded
from infoutil_jax.method.utility import gradient_norm
from infoutil_jax.models import as_predict, create
from infoutil_jax.scoring import SELECT, choose_pool, examine, score_pool, stream

KEY, RDED = stream(0, SELECT), rded()


@pytest.fixture(scope="module")
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(scoring, "PART", 64)


def score(digits, teacher, recipe=RDED, **options):
    return score_pool(digits, teacher, recipe, pool=20, progress=False, **options)


def equal(one, other):
    for name, mine, theirs in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_a_pool_depends_on_each_example_alone(digits):
    labels = digits.train.labels
    pool = choose_pool(labels, 10, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[pool]), 10)
    np.testing.assert_array_equal(pool, np.sort(pool))
    assert not np.array_equal(pool, choose_pool(labels, 10, seed=1))
    assert set(pool) <= set(choose_pool(labels, 20, seed=0))
    np.testing.assert_array_equal(choose_pool(labels, None, seed=0), np.arange(len(labels)))
    with pytest.raises(InputError, match="pool is 0 images a class"):
        choose_pool(labels, 0, seed=0)


def test_one_compilation_serves_every_batch_and_every_part(digits, teacher, tmp_path):
    examine.clear_cache()
    score(digits, teacher, batch_size=60)
    score(digits, teacher, batch_size=60, folder=tmp_path)
    score(digits, teacher, dataclasses.replace(RDED, select=random().select), batch_size=60)
    assert examine._cache_size() == 1


def test_parts_make_up_the_whole(digits, teacher, tmp_path):
    recipe = dataclasses.replace(
        RDED, embed=lambda predict, variables, crops, labels: crops[:, 0, 0]
    )
    whole = score(digits, teacher, recipe)
    assert whole.features is not None
    assert len(whole.ids) == 10 * 20 * 5 and (np.diff(whole.ids) >= 0).all()
    equal(score(digits, teacher, recipe, folder=tmp_path), whole)
    assert len(list(tmp_path.rglob("*.npz"))) == 4


def test_what_is_on_disk_is_not_scored_again(digits, teacher, tmp_path, monkeypatch):
    whole = score(digits, teacher, folder=tmp_path)
    first, *_, last = sorted(tmp_path.rglob("*.npz"))
    last.unlink()
    scored = []

    def counting(*arguments):
        scored.append(arguments[-1])
        return examine(*arguments)

    monkeypatch.setattr(scoring, "examine", counting)
    equal(score(digits, teacher, folder=tmp_path), whole)
    assert len(scored) == 1
    half = first.read_bytes()[: first.stat().st_size // 2]
    for damaged in (b"not a table", b"", half):
        first.write_bytes(damaged)
        with pytest.raises(InputError, match=r"000000.npz is damaged: remove it"):
            score(digits, teacher, folder=tmp_path)


@pytest.mark.parametrize(("process", "order"), [(0, "02 31"), (1, "13 20")])
def test_each_process_starts_with_its_own_parts_and_helps_where_one_is_late(
    digits, teacher, tmp_path, monkeypatch, process, order
):
    monkeypatch.setattr("jax.process_index", lambda: process)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    saved, save = [], scoring._save

    def keeping(path, rows):
        saved.append(int(path.stem))
        save(path, rows)

    monkeypatch.setattr(scoring, "_save", keeping)
    equal(score(digits, teacher, folder=tmp_path), score(digits, teacher))
    assert saved == [int(number) for number in order.replace(" ", "")]


def test_what_it_took_stands_beside_the_parts(digits, teacher, tmp_path):
    score(digits, teacher, folder=tmp_path / "parts")
    cost = json.loads((tmp_path / "parts.json").read_text())
    assert cost["images"] == 200
    assert cost["images_per_second"] == pytest.approx(200 / cost["seconds"])
    assert 0 <= cost["waiting_for_device"] <= 1 and cost["peak_bytes"] > 2**20
    score(digits, teacher, folder=tmp_path / "parts")  # nothing is left to do, nothing to tell
    assert json.loads((tmp_path / "parts.json").read_text()) == cost


def test_parts_of_another_run_are_not_taken(digits, teachers, tmp_path):
    def run(recipe=RDED, teacher=teachers["converged"], **options):
        return score(digits, teacher, recipe, folder=tmp_path, **options)

    def mine(predict, variables, crops, labels):
        return crops.mean((1, 2, 3))

    def edited(predict, variables, crops, labels):
        return -crops.mean((1, 2, 3))

    edited.__qualname__ = mine.__qualname__
    recipes = [dataclasses.replace(RDED, score=function) for function in (mine, edited)]
    one, other = map(run, recipes)
    np.testing.assert_array_equal(one.scores, -other.scores)
    run(), run(seed=1), run(teacher=teachers["early"]), run(per_class=2)
    assert len(list(tmp_path.iterdir())) == 6


def test_what_a_function_holds_tells_runs_apart(digits, teacher):
    def holding(factor):
        return lambda predict, variables, crops, labels: factor * crops.mean((1, 2, 3))

    def with_default(factor):
        def score(predict, variables, crops, labels, *, factor=factor):
            return factor * crops.mean((1, 2, 3))

        return score

    class Scorer:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, predict, variables, crops, labels):
            return self.factor * crops.mean((1, 2, 3))

    def chosen(factor):
        return partial(gradient_norm, over=(lambda path: "kernel" in path, len)[factor > 1])

    def digest(score, **change):
        recipe = dataclasses.replace(RDED, score=score)
        return scoring._digest(digits, dataclasses.replace(teacher, **change), recipe)

    for make in (holding, with_default, Scorer, chosen):
        assert digest(make(1.0)) == digest(make(1.0)) != digest(make(2.0)), make
    options = {"num_classes": 10, "image_size": 8, "channels": 1, "width": 16}
    one, half = (
        as_predict(create("convnet3", **options, dtype=dtype, rngs=nnx.Rngs(0)))[0]
        for dtype in (None, "bfloat16")
    )
    assert digest(len, predict=one) == digest(len, predict=one) != digest(len, predict=half)


@pytest.mark.parametrize(
    "recipe",
    [
        infoutil_paper(strategy="gaussian", budget=32),
        infoutil_paper(strategy="gaussian", budget=32, keep="lowest"),
        infoutil_paper(strategy="gaussian", budget=32, keep="middle"),
        infoutil_paper(strategy="gaussian", budget=32, cap=0.5),
        infoutil_paper(strategy="gaussian", budget=32, compete="all"),
        RDED,
        random(),
    ],
    ids=itertools.count(),
)
def test_a_shortlist_loses_nothing_that_would_be_selected(digits, teacher, recipe, tmp_path):
    # By any scores: what matters here is how a selection folds.
    recipe = dataclasses.replace(RDED, select=recipe.select)
    whole = score(digits, teacher, recipe)
    short = score(digits, teacher, recipe, folder=tmp_path, per_class=3)
    equal(recipe.select(KEY, short, 3), recipe.select(KEY, whole, 3))
    folds = "random_k" in str(recipe.select) or recipe.select.keywords in (
        {"keep": "lowest"},
        {"keep": "highest", "cap": None, "compete": "best"},
        {"keep": "lowest", "cap": None, "compete": "best"},
    )
    assert len(short.ids) == (30 if folds else len(whole.ids))


def test_a_selection_of_ones_own_sees_every_row(digits, teacher):
    seen = []

    def select(key, candidates, per_class):
        seen.append(len(candidates.ids))
        return RDED.select(key, candidates, per_class)

    recipe = dataclasses.replace(RDED, select=select)
    recipe.select(KEY, score(digits, teacher, recipe, per_class=3), 3)
    assert seen == [1000]
