"""What is resumed is never stale: parts are found again by plain data, or by a version."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from flax import nnx

from infoutil_jax.distillation import DistillConfig, parts, pool, score_pool
from infoutil_jax.distillation.examine import examine
from infoutil_jax.method.recipes import infoutil_paper, rded
from infoutil_jax.method.scores import GradientNorm
from infoutil_jax.method.selection import TopK
from infoutil_jax.models import as_predict, create

FACTOR = 1.0
CONFIG = DistillConfig(pool=6, progress=True)


def mine(predict, variables, crops, labels):
    """A score of the user's that reads a global."""
    return FACTOR * crops.mean((1, 2, 3))


@pytest.fixture
def scored(digits, teachers, tmp_path, monkeypatch):
    """Scores a pool in `tmp_path`; gives the rows, and how many batches were examined."""
    count = []

    def counting(*arguments):
        count.append(0)
        return examine(*arguments)

    monkeypatch.setattr(pool, "examine", counting)

    def run(recipe, teacher=teachers["converged"], **options):
        before = len(count)
        found = score_pool(digits, teacher, recipe, folder=tmp_path, config=CONFIG, **options)
        return found.rows.candidates.scores, len(count) - before

    return run


def test_what_is_plain_data_is_resumed(scored, teachers, capsys):
    assert scored(rded())[1] == 1
    assert scored(rded())[1] == 0
    assert scored(rded(num_crops=3))[1] == 1
    assert scored(rded(), seed=1)[1] == 1
    assert scored(rded(), teachers["early"])[1] == 1
    assert scored(rded(), per_class=2)[1] == 1
    assert scored(dataclasses.replace(rded(), select=TopK("middle")))[1] == 1
    assert "scoring anew" not in capsys.readouterr().err


def test_a_function_of_the_users_is_scored_anew_and_it_is_said_why(scored, monkeypatch, capsys):
    """Editing a global that it reads must not mix old parts with new ones."""
    recipe = dataclasses.replace(rded(), score=mine)
    before, examined = scored(recipe)
    assert examined == 1
    assert capsys.readouterr().err.count("scoring anew, and not to be resumed after a stop") == 1
    monkeypatch.setitem(globals(), "FACTOR", -2.0)
    examine.clear_cache()  # as in another process
    after, examined = scored(recipe)
    assert examined == 1
    np.testing.assert_allclose(after, -2 * before, rtol=1e-6)
    said = capsys.readouterr().err
    assert "the score of recipe 'rded' is a function of yours" in said and "version=" in said


def test_with_a_version_it_is_resumed_until_the_version_changes(scored, capsys):
    source = "def score(predict, variables, crops, labels):\n    return crops.mean((1, 2, 3))\n"

    def versioned(blank_lines, version):
        found = {}
        exec(compile("\n" * blank_lines + source, "mine.py", "exec"), found)
        return dataclasses.replace(rded(), score=found["score"], version=version)

    assert scored(versioned(0, "1"))[1] == 1
    assert scored(versioned(1, "1"))[1] == 0  # a blank line more changes nothing
    assert scored(versioned(0, "2"))[1] == 1
    assert "scoring anew" not in capsys.readouterr().err


def test_a_model_of_the_users_needs_a_version_too(scored, teachers, capsys):
    teacher = dataclasses.replace(
        teachers["converged"], predict=lambda v, x: teachers["converged"].predict(v, x)
    )
    unnamed = dataclasses.replace(teacher, version=None)
    assert [scored(rded(), unnamed)[1] for _ in range(2)] == [1, 1]
    assert "the predict of teacher 'convnet3' is a function of yours" in capsys.readouterr().err
    named = dataclasses.replace(teacher, version="mine 1")
    assert [scored(rded(), named)[1] for _ in range(2)] == [1, 0]
    assert scored(rded(), dataclasses.replace(teacher, version="mine 2"))[1] == 1


def test_a_network_of_another_precision_is_another_run(digits, teachers):
    """What `load_teacher` knows of a teacher tells its networks apart."""
    options = {"num_classes": 10, "image_size": 8, "channels": 1, "width": 16}
    predict = as_predict(create("convnet3", **options, rngs=nnx.Rngs(0)))[0]
    one = dataclasses.replace(teachers["converged"], predict=predict, version="float32")
    half = dataclasses.replace(one, version="bfloat16")
    names = [parts.name_of(digits, teacher, rded(), (0,)) for teacher in (one, one, half)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    "change",
    [
        {"score": mine},
        {"score": partial(mine)},
        {"score": GradientNorm(wrt=lambda path: "kernel" in path)},
        {"select": lambda key, rows, n: rows},
        {"crop": lambda keys, maps, size: maps},
    ],
)
def test_every_part_of_the_users_is_noticed(teachers, change):
    (name,) = change
    reason = parts.unnamed(dataclasses.replace(infoutil_paper(), **change), teachers["converged"])
    assert f"the {name} of recipe 'infoutil_paper'" in reason
    versioned = dataclasses.replace(infoutil_paper(), **change, version="1")
    assert parts.unnamed(versioned, teachers["converged"]) is None
