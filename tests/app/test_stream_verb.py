"""`infoutil stream`: a source is taken in once, whatever stops it, and others come later."""

import shutil

import numpy as np
import pytest

from infoutil_jax.app import arrivals
from infoutil_jax.app.arrivals import followed
from infoutil_jax.app.cli import main
from infoutil_jax.app.config import RecipeConfig
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import Stream
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import rded
from infoutil_jax.training.teacher import Teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two days of noise: of the second, one class is new and one is missing."""
    from PIL import Image

    place, rng = tmp_path_factory.mktemp("days"), np.random.default_rng(0)
    for day, names in (("one", "ab"), ("two", "bc")):
        for name in names:
            for number in range(10):
                file = place / day / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(file)
    return place


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


TEACHER = Teacher(
    linear,
    np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32),
    mean=0.5,
    std=0.3,
    class_names=("a", "b", "c", "never"),
)


def opened(place, names=None):
    return Stream.open(place, TEACHER, rded(num_crops=2), images_per_class=1)


def test_sources_of_other_classes_are_taken_in_one_after_the_other(folder, tmp_path):
    one, two = (open_source(f"folder:{folder / day}") for day in ("one", "two"))
    stream = followed(opened(tmp_path / "set"), one, 5, shown=False)
    assert stream.images == 16 and stream.distilled.class_names == ("a", "b")
    stream = followed(stream, two, 5, shown=False)
    assert stream.distilled.manifest["stream"]["images"] == {"a": 8, "b": 16, "c": 8}
    assert stream.distilled.class_names == ("a", "b", "c")
    assert followed(stream, one, 5, shown=False) is stream, "each image comes once"


def test_after_a_stop_the_rest_comes(folder, tmp_path, monkeypatch):
    source = open_source(f"folder:{folder / 'one'}")
    right = followed(opened(tmp_path / "right"), source, 3, shown=False).distilled
    update, updates = Stream.update, []

    def stopping(self, *arguments, **options):
        if len(updates) == 2:
            raise KeyboardInterrupt
        updates.append(self.images)
        return update(self, *arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(arrivals.Stream, "update", stopping)
        followed(opened(tmp_path / "set"), source, 5, shown=False)
    assert updates == [0, 5]
    found = followed(opened(tmp_path / "set"), source, 4, shown=False).distilled
    assert found.digest == right.digest


def test_a_class_that_the_teacher_does_not_know_is_told_first(folder, tmp_path):
    shutil.copytree(folder / "one", tmp_path / "days")
    (tmp_path / "days" / "b").rename(tmp_path / "days" / "moth")
    source = open_source(f"folder:{tmp_path / 'days'}")
    with pytest.raises(InputError, match="has a class 'moth', which the stream's teacher does not"):
        followed(opened(tmp_path / "set"), source, 5, shown=False)
    assert not (tmp_path / "set").exists()


def test_a_few_images_of_a_class_are_taken_in_like_many(folder):
    """At 1 image a class of four tiles, a part of the stream decides nothing about the set."""
    recipe = RecipeConfig("infoutil")
    few = open_source(f"folder:{folder / 'one'}", image_size=(32, 32), max_per_class=3)
    many = open_source(f"folder:{folder / 'one'}", image_size=(32, 32))
    assert recipe.build(few, 1, arriving=True) == recipe.build(many, 1, arriving=True)
    assert recipe.build(few, 1, arriving=True).tiles == 4
    assert recipe.build(few, 1).tiles == 1, "a set of its own, which no class fills with four"


def test_the_command_says_what_it_has_done_and_goes_on(teacher_dir, tmp_path, capsys):
    place = tmp_path / "set"
    asked = ["stream", "digits", "--teacher", str(teacher_dir), "--workdir", str(place)]
    asked += ["--recipe", "rded", "--images-per-class", "2", "--arriving", "700"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    found = DistilledDataset.load(place)
    found.verify()
    count = found.manifest["source"]["train_images"]
    assert f"taken in now: {count} images" in said and f"digest: {found.digest}" in said
    assert f"next: infoutil student {place} digits" in said
    assert not found.manifest["training"]["flip"], "by the name of what came"
    assert main(asked) == 0
    assert "taken in now: 0 images" in capsys.readouterr().out
    assert main([*asked, "--seed", "1"]) == 2
    assert "was begun with another seed" in capsys.readouterr().err
    about = [str(place), "--source", "digits", "--teacher", str(teacher_dir)]
    for verb in (["audit"], ["forget", "--source-id", "digits/0"]):
        assert main([*verb, *about]) == 2
        assert "can be verified and explained, but not made again" in capsys.readouterr().err
    assert main([*asked[:6], "--images-per-class", "0"]) == 2
    assert "--images-per-class" in capsys.readouterr().err
