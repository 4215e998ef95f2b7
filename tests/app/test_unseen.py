"""Students are tested on images that their set does not have."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.app.arrivals import followed
from infoutil_jax.app.students import train_students
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, Stream, distill
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import random, rded
from infoutil_jax.training.teacher import Teacher

OTHERS = "was not distilled from"


class BegunError(Exception):
    """Students are about to be trained."""


@pytest.fixture
def begun(monkeypatch):
    """Does all that comes before students are trained."""

    def begin(*arguments, **options):
        raise BegunError

    monkeypatch.setattr("infoutil_jax.app.students.train_student", begin)

    def begun(distilled, source, **options):
        with pytest.raises(BegunError):
            train_students(distilled, source, None, **options)

    return begun


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def noise(place, seed):
    """Two classes of twelve images each, without a test split."""
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        (place / name).mkdir(parents=True)
        for i in range(12):
            np.save(place / name / f"{i}.npy", rng.integers(0, 256, (8, 8, 1), dtype=np.uint8))
    return f"folder:{place}"


@pytest.fixture
def spec(tmp_path):
    return noise(tmp_path / "one", 0)


TEACHER = Teacher(
    linear,
    np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32),
    mean=0.5,
    std=0.3,
    class_names=("a", "b"),
)


def made(source, recipe, place):
    config = DistillConfig(progress=False)
    return distill(source, TEACHER, recipe, images_per_class=2, workdir=place, config=config)


@pytest.mark.parametrize("recipe", [random(), random(tiles=4), rded(num_crops=1)])
def test_test_images_that_are_in_the_set_are_refused(recipe, spec, tmp_path, capsys, begun):
    distilled = made(open_source(spec, seed=3), recipe, tmp_path / "set")
    begun(distilled, open_source(spec, seed=3))
    assert OTHERS not in capsys.readouterr().err
    inside = {tile["source"] for one in distilled.records for tile in one["tiles"]}
    # Of all splits, one that tests on images of the set.
    splits = (open_source(spec, seed=seed) for seed in range(20))
    source = next(one for one in splits if inside & set(one.test.ids))
    count = len(inside & set(source.test.ids))
    with pytest.raises(InputError, match=f"^{count} of the 4 test images of .* are in .*--split-s"):
        train_students(distilled, source, None)
    tested = source.test.take([i for i, one in enumerate(source.test.ids) if one not in inside])
    if len(tested):
        begun(distilled, replace(source, test=tested))
        assert OTHERS in capsys.readouterr().err


def test_other_images_of_the_same_names_are_told_and_tested_on(spec, tmp_path, capsys, begun):
    distilled = made(open_source(spec, seed=3), random(tiles=4), tmp_path / "set")
    begun(distilled, open_source(noise(tmp_path / "two", 1)))
    assert "tiles of the set have names of test images" in capsys.readouterr().err
    for i in range(4):  # now they are of another size, too
        np.save(tmp_path / f"two/a/{i}.npy", np.zeros((7, 7, 1), np.uint8))
    two = open_source(f"folder:{tmp_path / 'two'}", image_size=12)
    begun(distilled, two, progress=False)
    assert not capsys.readouterr().err


def test_a_set_with_repeated_images_is_of_its_source(spec, tmp_path, capsys, begun):
    source = open_source(spec, max_per_class=5)
    distilled = made(source.fill(8), random(tiles=4), tmp_path / "set")
    begun(distilled, source)
    assert OTHERS not in capsys.readouterr().err


def test_a_streams_set_is_looked_at_too(spec, tmp_path, capsys, begun):
    source = open_source(spec, seed=3)
    stream = Stream.open(tmp_path / "set", TEACHER, rded(num_crops=1), images_per_class=10)
    distilled = followed(stream, source, 5, shown=False).distilled
    begun(distilled, source)
    assert OTHERS not in capsys.readouterr().err
    with pytest.raises(InputError, match="4 of the 4 test images"):
        train_students(distilled, replace(source, test=source.train.take([0, 1, 10, 11])), None)
