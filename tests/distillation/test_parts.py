"""What is resumed is never stale: a part is found again by everything that it depends on."""

import dataclasses
import itertools
import re
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infoutil_jax import provenance
from infoutil_jax.distillation import DistillConfig, parts, pool, score_pool
from infoutil_jax.distillation.examine import examine
from infoutil_jax.errors import InputError
from infoutil_jax.method import recipes, scores
from infoutil_jax.method.attribution import GradCam
from infoutil_jax.method.cropping import RandomResizedBoxes, Union, WholeImage
from infoutil_jax.method.patch_game import computing_in
from infoutil_jax.method.recipes import infoutil_kernel, infoutil_paper, random, rded
from infoutil_jax.method.selection import ByStatistic, Chain, Coreset, Shortlist, TopK, herding
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps
from infoutil_jax.models import as_predict, create
from infoutil_jax.provenance import is_plain
from infoutil_jax.training.teacher import Teacher

CONFIG = DistillConfig(pool=13, batch_size=32, progress=False)  # 130 images: parts of 64, 64, 2
RDED = rded(num_crops=1)
FACTOR = 1.0


def brightness(predict, variables, crops, labels):
    """A score of a user's."""
    return FACTOR * crops.mean((1, 2, 3))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART", 64)


@pytest.fixture
def run(digits, teachers, tmp_path, monkeypatch):
    """Scores a pool with one folder for all runs; `run.images` counts what was examined."""

    def counting(program, shared, images, labels, ids):
        score.images += len(set(ids.tolist()))
        return examine(program, shared, images, labels, ids)

    def score(recipe, teacher=teachers["converged"], *, config=CONFIG, **options):
        score.images = 0
        return score_pool(
            digits, teacher, recipe, folder=tmp_path / "parts", config=config, **options
        ).rows

    monkeypatch.setattr(pool, "examine", counting)
    return score


def mine(version=None, score=brightness):
    return dataclasses.replace(RDED, score=score, version=version)


# --- what resumes ---


@pytest.mark.parametrize(
    "make",
    [
        rded,
        random,
        infoutil_kernel,
        partial(infoutil_paper, shapley=ShapleyConfig(budget=32)),
        partial(recipes.forgetting, np.arange(2000)),
    ],
)
def test_the_packages_own_parts_resume(run, make):
    """Also where the recipe is made anew."""
    first = run(make(), per_class=2)
    assert run.images == 130
    jax.tree.map(np.testing.assert_array_equal, run(make(), per_class=2), first)
    assert run.images == 0


def test_a_function_of_the_users_is_scored_anew_every_time_and_the_reason_is_said_once(run, capsys):
    aloud = dataclasses.replace(CONFIG, progress=True)
    for _ in range(2):
        run(mine(), config=aloud)
        assert run.images == 130
        told = capsys.readouterr().err
        assert told.count("scoring anew, and not to be resumed after a stop") == 1
        assert "the score of recipe 'rded' is a function of yours" in told
        assert 'dataclasses.replace(recipe, version="1")' in told
    run(mine())
    assert run.images == 130 and "anew" not in capsys.readouterr().err


def test_a_version_names_what_a_function_of_the_users_computes(run, capsys):
    run(mine("1"))
    assert run.images == 130
    run(mine("1"), config=dataclasses.replace(CONFIG, progress=True))
    assert run.images == 0 and "anew" not in capsys.readouterr().err
    run(mine("2"))
    assert run.images == 130


@pytest.mark.parametrize("part", ["attribute", "crop", "score", "embed", "select"])
def test_each_part_of_the_users_is_named(digits, teachers, part):
    recipe = dataclasses.replace(RDED, **{part: lambda *arguments: None})
    reason = parts.unnamed(recipe, teachers["converged"])
    assert reason.startswith(f"the {part} of recipe 'rded' is a function of yours")
    named = dataclasses.replace(recipe, version="1")
    assert parts.unnamed(named, teachers["converged"]) is None


def test_what_a_score_reads_may_change_and_old_rows_are_not_mixed_with_new_ones(
    run, tmp_path, monkeypatch
):
    """A global that the function reads is edited after a stop."""
    old = run(mine())
    for path in sorted(tmp_path.rglob("*.npz"))[1:]:
        path.unlink()  # as though it had been stopped after the first part
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    examine.clear_cache()  # another process
    new = run(mine())
    np.testing.assert_allclose(new.candidates.scores, 3 * old.candidates.scores, rtol=1e-5)


def written(source):
    """A score out of a file of the user's."""
    names = {}
    exec(compile(source, "mine.py", "exec"), names)
    return names["score"]


def test_a_blank_line_more_in_the_users_file_changes_nothing(run):
    source = "def score(predict, variables, crops, labels):\n    return crops.mean((1, 2, 3))\n"
    run(mine("1", written(source)))
    assert run.images == 130
    run(mine("1", written("# what I want\n\n" + source)))
    assert run.images == 0


def test_a_predict_of_the_users_needs_a_version_of_the_teachers(run, capsys):
    weights = jax.random.normal(jax.random.key(0), (64, 10)) / 8

    def teacher(version=None):
        def predict(weights, images):
            return images.reshape(len(images), -1) @ weights

        return Teacher(predict, weights, mean=(0.5,), std=(0.5,), version=version)

    for images in (130, 130):
        run(RDED, teacher(), config=dataclasses.replace(CONFIG, progress=True))
        assert run.images == images
        told = capsys.readouterr().err
        assert told.count("the predict of teacher 'user' is a function of yours") == 1
        assert 'Teacher(..., version="1")' in told
    for version, images in (("1", 130), ("1", 0), ("2", 130)):
        run(RDED, teacher(version))
        assert run.images == images


def test_a_predict_in_place_of_ours_needs_a_version_too(run, teachers):
    """What was known of the loaded teacher says nothing of the user's function."""
    ours = teachers["converged"]
    mine = dataclasses.replace(ours, predict=lambda v, images: FACTOR * ours.predict(v, images))
    reason = parts.unnamed(RDED, mine)
    assert reason.startswith("the predict of teacher 'convnet3' is a function of yours")
    for images in (130, 130):
        run(RDED, mine)
        assert run.images == images
    assert parts.unnamed(RDED, ours) is None


# --- what tells runs apart ---


def test_everything_that_a_run_depends_on_tells_it_apart(digits, teachers):
    def name(recipe=RDED, teacher=teachers["converged"], numbers=(0, 13, None)):
        return parts.name_of(digits, teacher, recipe, numbers)

    def replaced(thing, **change):
        return dataclasses.replace(thing, **change)

    names = [
        name(),
        name(teacher=teachers["early"]),
        name(teacher=replaced(teachers["converged"], std=(0.3,))),
        name(teacher=replaced(teachers["converged"], version="another")),
        *(name(numbers=numbers) for numbers in ((1, 13, None), (0, 14, None), (0, 13, 2))),
        name(rded()),
        name(replaced(RDED, tiles=4)),
        name(replaced(RDED, fit="resize")),
        name(replaced(RDED, version="1")),
        name(replaced(RDED, select=TopK("highest"))),
        name(replaced(RDED, select=ByStatistic(np.arange(2000)))),
        name(replaced(RDED, select=ByStatistic(np.arange(2000)[::-1]))),
        name(replaced(RDED, crop=Union(WholeImage(), RandomResizedBoxes()))),
        name(replaced(RDED, score=scores.el2n)),
        name(replaced(RDED, score=scores.GradientNorm("classifier"))),
        name(replaced(RDED, score=scores.GradientNorm("all"))),
    ]
    assert len(set(names)) == len(names)
    assert name() == name(rded(num_crops=1)) == name(replaced(RDED, name="another"))
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in names)


def test_a_run_without_a_version_never_has_the_name_of_another(digits, teachers):
    recipe = mine()
    names = {parts.name_of(digits, teachers["converged"], recipe, (0, 13, None)) for _ in range(3)}
    assert len(names) == 3


def test_backbones_are_told_apart_and_known_again(digits, teachers):
    options = {"num_classes": 10, "image_size": 8, "channels": 1, "width": 16}

    def name(dtype):
        predict, _ = as_predict(create("convnet3", **options, dtype=dtype, rngs=nnx.Rngs(0)))
        teacher = dataclasses.replace(teachers["converged"], predict=predict, version="1")
        return parts.name_of(digits, teacher, RDED, (0, 13, None))

    assert name(None) == name(None) != name("bfloat16")


def test_an_account_of_a_backbone_does_not_depend_on_the_process(teachers):
    """No address in memory is in it."""
    assert not re.search(r"0x[0-9a-f]{6}", str(provenance.describe(teachers["early"].predict)))


def test_code_versions_and_the_size_of_parts_tell_runs_apart(digits, teachers, monkeypatch):
    arguments = digits, teachers["converged"], RDED, (0, 13, None)
    name = parts.name_of(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(parts, "PART", 65)
        assert parts.name_of(*arguments) != name
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "CODE", "edited")
        assert parts.name_of(*arguments) != name
    assert parts.name_of(*arguments) == name


# --- plain values ---


@dataclass(frozen=True)
class OfTheUser:
    number: int = 1

    def __call__(self, *arguments):
        return arguments


@dataclass(frozen=True)
class Derived(WholeImage):
    """Of the user's, though it is derived from one of ours."""


def closure(held):
    return lambda: held


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 0.5, "a", np.arange(3), jnp.ones(2), (1, [2.0, None]), {"a": (1,)}),
        *(scores.el2n, scores.GradientNorm(), GradCam(), ByStatistic(np.arange(3))),
        partial(scores.el2n, 1),
        partial(partial(scores.el2n, (1, 2)), a={"b": scores.cross_entropy}),
        Chain(Shortlist(), Coreset(herding)),
        Union(RandomResizedBoxes(), WholeImage()),
        *(make().per_image for make in recipes.RECIPES.values()),
        *(make().selector for make in recipes.RECIPES.values()),
    ],
    ids=itertools.count(),
)
def test_our_own_parts_and_plain_values_are_plain(value):
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    [
        *(brightness, lambda: 1, closure(1), OfTheUser(), Derived(), object(), OfTheUser),
        *(np.clip, len, jax.nn.relu, nnx.Rngs(0)),
        *([1, brightness], {"a": (brightness,)}),
        partial(brightness),
        partial(scores.el2n, closure(1)),
        partial(partial(scores.el2n), a=OfTheUser()),
        partial(scores.el2n, a=[{"b": partial(brightness)}]),
        scores.GradientNorm(lambda path: True),
        Chain(Shortlist(), lambda key, candidates, n: candidates),
        Coreset(closure(1)),
        Union(WholeImage(), OfTheUser()),
        ShapleyMaps(ShapleyConfig(baseline=lambda images: images)),
        computing_in(brightness, "bfloat16"),  # ours, but it holds the user's
    ],
    ids=itertools.count(),
)
def test_nothing_that_a_user_may_change_is_plain(value):
    assert not is_plain(value)


# --- on disk ---


def test_a_part_comes_back_as_it_was_written(run, tmp_path):
    def embed(predict, variables, crops, labels):
        return {"corner": crops[:, 0, 0], "feature:odd name": labels}

    rows = run(dataclasses.replace(RDED, embed=embed))
    parts.save(tmp_path / "new" / "000000.npz", rows)
    again = parts.load(tmp_path / "new" / "000000.npz")
    assert sorted(again.candidates.features) == ["corner", "feature:odd name"]
    jax.tree.map(np.testing.assert_array_equal, again, rows)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["000000.npz"]


def test_a_part_that_lacks_a_column_is_damaged(tmp_path):
    np.savez(tmp_path / "000000.npz", ids=np.arange(3))
    with pytest.raises(InputError, match=r"000000.npz is damaged: remove it, and run again"):
        parts.load(tmp_path / "000000.npz")
