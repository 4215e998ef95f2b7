"""The table of the pool: in parts, shortened, and never compiled twice."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import memory
from infoutil_jax.distillation import DistillConfig, Examined, parts, pool, reducing, score_pool
from infoutil_jax.distillation.examine import SELECT, examine, stream
from infoutil_jax.distillation.pool import choose_pool
from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Candidates
from infoutil_jax.method.recipes import infoutil_paper, random, rded
from infoutil_jax.method.selection import ByStatistic, Chain, RandomK, Shortlist, TopK
from infoutil_jax.method.shapley_maps import ShapleyConfig

KEY, RDED = stream(0, SELECT), rded()
CONFIG = DistillConfig(pool=20, progress=False)


@pytest.fixture(scope="module")
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART", 64)


def score(digits, teacher, recipe=RDED, config=CONFIG, **options):
    return score_pool(digits, teacher, recipe, config=config, **options).rows


def equal(one, other):
    for name in ("ids", "crops", "labels", "scores"):
        mine, theirs = getattr(one.candidates, name), getattr(other.candidates, name)
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.maps, other.maps)
    mine, theirs = one.candidates.features, other.candidates.features
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_a_pool_depends_on_each_example_alone(digits):
    labels = digits.train.labels
    chosen = choose_pool(labels, 10, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[chosen]), 10)
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    assert not np.array_equal(chosen, choose_pool(labels, 10, seed=1))
    assert set(chosen) <= set(choose_pool(labels, 20, seed=0))
    np.testing.assert_array_equal(choose_pool(labels, None, seed=0), np.arange(len(labels)))
    with pytest.raises(InputError, match="pool is 0; it must be at least 1"):
        DistillConfig(pool=0)
    with pytest.raises(InputError, match="batch_size is 0"):
        DistillConfig(batch_size=0)


def test_one_compilation_serves_every_batch_and_every_part(digits, teacher, tmp_path):
    examine.clear_cache()
    config = dataclasses.replace(CONFIG, batch_size=60)
    score(digits, teacher, config=config)
    score(digits, teacher, config=config, folder=tmp_path)
    score(digits, teacher, rded(), config)  # an equal recipe is the same program
    score(digits, teacher, dataclasses.replace(RDED, select=random().select), config)
    assert examine._cache_size() == 1


def test_one_program_serves_all_seeds_and_all_teachers_of_one_kind(digits, teachers):
    """Also where coalitions are fitted to the teacher, on images that the seed draws."""
    recipe = infoutil_paper(shapley=ShapleyConfig(budget=32))
    examine.clear_cache()
    tables = [
        score_pool(digits, teachers[stage], recipe, seed=seed, config=CONFIG)
        for stage, seed in (("converged", 0), ("converged", 1), ("early", 0))
    ]
    assert len({table.attribute.prior for table in tables}) == 3
    assert examine._cache_size() == 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Likeness:
    """A score of the user's own, a pytree: how like a picture a crop is."""

    picture: jax.Array

    def __call__(self, predict, variables, crops, labels):
        return jnp.einsum("nhwc,hwc->n", crops, self.picture)


def test_arrays_of_parts_that_are_pytrees_compile_nothing_anew(digits, teacher):
    """What is told of crops is told by each part's own array."""
    examine.clear_cache()
    pictures = [jnp.zeros((8, 8, 1)).at[row].set(1 / 8) for row in (2, 5)]
    tables = [
        score(digits, teacher, dataclasses.replace(RDED, score=Likeness(picture), version=str(row)))
        for row, picture in enumerate(pictures)
    ]
    brightness = dataclasses.replace(RDED, embed=rows_of, version="rows")
    rows = score(digits, teacher, brightness).candidates.features["rows"]
    for row, table in zip((2, 5), tables, strict=True):
        np.testing.assert_allclose(table.candidates.scores, rows[:, row], atol=1e-5)
    assert examine._cache_size() == 2


def rows_of(predict, variables, crops, labels):
    return {"rows": crops[..., 0].mean(2)}


def corners(predict, variables, crops, labels):
    return {"corner": crops[:, 0, 0], "middle": crops[:, 3:5, 3:5]}


def test_parts_make_up_the_whole(digits, teacher, tmp_path):
    recipe = dataclasses.replace(RDED, embed=corners, version="corners")
    whole = score(digits, teacher, recipe)
    assert set(whole.candidates.features) == {"corner", "middle"}
    ids = whole.candidates.ids
    assert len(ids) == 10 * 20 * 5 and (np.diff(ids) >= 0).all()
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

    monkeypatch.setattr(pool, "examine", counting)
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
    saved, save = [], parts.save

    def keeping(path, rows):
        saved.append(int(path.stem))
        save(path, rows)

    monkeypatch.setattr(parts, "save", keeping)
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


@pytest.mark.parametrize(
    ("select", "folds"),
    [
        (TopK("highest"), True),
        (TopK("lowest"), True),
        (RandomK(), True),
        (ByStatistic(np.arange(1438) % 13), True),
        (Chain(Shortlist(1), TopK()), True),
        (TopK("middle"), False),
        (TopK(max_quantile=0.5), False),
    ],
)
def test_what_is_kept_loses_nothing_that_would_be_selected(
    digits, teacher, select, folds, tmp_path
):
    recipe = dataclasses.replace(RDED, select=select)
    whole = score(digits, teacher, recipe)
    short = score(digits, teacher, recipe, folder=tmp_path, per_class=3)
    kept = (rows.follow(select.finalize(KEY, rows.candidates, 3)) for rows in (short, whole))
    equal(*kept)
    assert len(short.boxes) == (30 if folds else len(whole.boxes))


def test_a_selection_of_ones_own_sees_every_row(digits, teacher):
    seen = []

    def select(key, candidates, per_class):
        seen.append(len(candidates.ids))
        return RDED.selector.finalize(key, candidates, per_class)

    recipe = dataclasses.replace(RDED, select=select)
    recipe.selector.finalize(KEY, score(digits, teacher, recipe, per_class=3).candidates, 3)
    assert seen == [1000]


@pytest.mark.parametrize(
    ("select", "told"), [(TopK(), 0), (TopK("middle"), 1), (lambda key, rows, n: rows, 1)]
)
def test_that_memory_grows_with_the_images_is_told_once(digits, teacher, select, told, capsys):
    recipe = dataclasses.replace(RDED, select=select)
    config = dataclasses.replace(CONFIG, progress=True)
    score(digits, teacher, recipe, config, per_class=3)
    assert capsys.readouterr().err.count("more images need more memory") == told


@pytest.mark.parametrize(("select", "per_class"), [(TopK(), None), (TopK("middle"), 3)])
def test_a_table_that_may_not_fit_is_told_by_its_first_batch(
    digits, teacher, select, per_class, capsys, monkeypatch
):
    """Of each of 200 images: 5 rows of ids, crop, label, score, box and a map of one number."""
    recipe = dataclasses.replace(RDED, select=select)
    config = dataclasses.replace(CONFIG, progress=True, batch_size=60)
    needed = 2 * 200 * 5 * (8 + 4 + 4 + 4 + 16 + 4)
    for left, told in ((needed, 0), (needed - 1, 1)):
        monkeypatch.setattr(pool.memory, "available", lambda left=left: left)
        score(digits, teacher, recipe, config, per_class=per_class)
        assert capsys.readouterr().err.count("memory may not suffice: the table") == told
    monkeypatch.setattr(pool.memory, "available", lambda: 1)
    score(digits, teacher, dataclasses.replace(RDED, select=TopK()), config, per_class=3)
    assert "the table" not in capsys.readouterr().err, "what is reduced does not grow"


def test_a_batch_that_may_not_fit_is_told_before_it_is_computed(
    digits, teacher, capsys, monkeypatch
):
    """By what the compiler says that the program needs, which grows with the batch."""
    needed = []
    for batch_size in (50, 100):
        config = dataclasses.replace(CONFIG, progress=True, batch_size=batch_size)
        for left, told in ((2**40, 0), (1, 1)):
            monkeypatch.setattr(memory, "left", lambda left=left: (left, "the device"))
            score(digits, teacher, RDED, config, per_class=3)
            said = capsys.readouterr().err
            found = re.findall(
                rf"a batch of {batch_size} images needs about ([\d.]+) MiB and the device has "
                r"0 MiB left; a smaller batch_size needs less",
                said,
            )
            assert len(found) == told
        needed += map(int, found)
    assert 1.5 * needed[0] <= needed[1] <= 2.5 * needed[0]


def examined(count, first):
    """A table of so many examples of four classes, a row each."""
    ids = np.arange(first, first + count)
    scores = np.random.default_rng(first).normal(size=count).astype(np.float32)
    labels = (ids % 4).astype(np.int32)
    candidates = Candidates(ids, np.zeros(count, np.int32), labels, scores, {})
    boxes = np.repeat(ids[:, None], 4, axis=1).astype(np.int32)
    return Examined(candidates, boxes, np.zeros((count, 1, 1), np.float32))


def test_while_tables_come_little_is_held():
    """Fifty tables of a hundred rows: never more than what is kept and as many new rows again."""
    held, keep = [], reducing.keeping(dataclasses.replace(RDED, select=TopK()), 0, 3, False)

    def counting(rows):
        held.append(len(rows.boxes))
        return keep(rows)

    rows = reducing.folded((examined(100, 100 * n) for n in range(50)), counting)
    assert len(rows.boxes) == 12 and max(held) <= 112 and len(held) == 51
    np.testing.assert_array_equal(rows.boxes[:, 0], rows.candidates.ids)


def test_boxes_and_maps_follow_the_chosen_rows():
    rows = examined(8, 0)
    chosen = TopK().finalize(None, rows.candidates, 1)._replace(scores=np.arange(4, dtype="f4"))
    kept = rows.follow(chosen)
    np.testing.assert_array_equal(kept.boxes[:, 0], chosen.ids)
    np.testing.assert_array_equal(kept.candidates.scores, np.arange(4))
    with pytest.raises(InputError, match="returned crop 0 of example 99, which is not among"):
        rows.follow(chosen._replace(ids=np.array([0, 99, 1, 2])))


def test_a_pool_is_spent_by_no_recipe_that_scores_otherwise(digits, teachers):
    """Crops are scored at the size of a tile, so that other tiles have other scores."""
    config = DistillConfig(pool=2, progress=False)
    scored = score_pool(digits, teachers["converged"], RDED, config=config)
    other = dataclasses.replace(scored, recipe=dataclasses.replace(RDED, select=RandomK()))
    assert other.rows is scored.rows
    for recipe in (dataclasses.replace(RDED, tiles=4), rded(num_crops=2)):
        with pytest.raises(InputError, match=r"scores otherwise .* replace the selector alone"):
            dataclasses.replace(scored, recipe=recipe)
