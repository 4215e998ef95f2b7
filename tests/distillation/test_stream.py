"""A stream's set is that of all images so far, however they were cut into batches."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest

from infoutil_jax.data.distilled import DistilledDataset, write_distilled
from infoutil_jax.distillation import DistillConfig, Stream, StreamConfig, distill, reserve
from infoutil_jax.distillation import stream as module
from infoutil_jax.errors import InputError
from infoutil_jax.method import features, scores, selection
from infoutil_jax.method.recipes import infoutil, infoutil_paper, random, rded
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.refine.recipes import infoutil_refined
from infoutil_jax.training.teacher import Teacher

QUIET = StreamConfig(batch_size=16)
RDED = rded(num_crops=2)
# The recommended one, with a score that compiles quickly.
USEFUL = replace(
    infoutil(num_crops=1, shortlist=8, judges=5),
    score=scores.cross_entropy,
    embed=features.StudentFeatures(width=4),
)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def teacher_of(seed, names=tuple("0123456789")):
    weights = jax.random.normal(jax.random.key(seed), (64, len(names))) / 8
    return Teacher(linear, weights, mean=0.3, std=0.35, class_names=names)


TEACHER, LABELLER = teacher_of(0), teacher_of(1)


@pytest.fixture(scope="module")
def arrivals(digits):
    """110 digits in random order: some of each class."""
    order = np.random.default_rng(0).permutation(len(digits.train))[:110]
    return replace(digits, train=digits.train.take(order))


def opened(folder, recipe=RDED, **options):
    given = {"images_per_class": 2, "label_teacher": LABELLER, "config": QUIET, **options}
    return Stream.open(folder, TEACHER, recipe, **given)


def taken_in(stream, source, *cuts, origin=None):
    """The stream after all images of a source, in batches between the cuts."""
    images, labels = source.train.arrays()
    edges = [stream.images, *cuts, len(labels)]
    for start, end in pairwise(edges):
        names = source.train.ids[start:end]
        stream = stream.update(images[start:end], labels[start:end], names, origin=origin)
    return stream


def of_labels(source, wanted):
    return replace(
        source, train=source.train.take(np.flatnonzero(np.isin(source.train.labels, wanted)))
    )


# --- what the set is


RECIPES = {"rded": replace(RDED, tiles=4), "random": random(), "infoutil": USEFUL}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_how_images_are_cut_into_batches_changes_nothing(recipe, arrivals, tmp_path):
    """One batch, many, and `distill` of all of them at once make the same set."""
    budget = 1 if recipe.tiles == 4 else 2
    at_once = taken_in(opened(tmp_path / "a", recipe, images_per_class=budget), arrivals).distilled
    parts = opened(tmp_path / "b", recipe, images_per_class=budget)
    parts = taken_in(parts, arrivals, 1, 97).distilled
    assert at_once.digest == parts.digest
    whole = distill(
        arrivals,
        TEACHER,
        recipe,
        images_per_class=budget,
        workdir=tmp_path / "c",
        label_teacher=LABELLER,
        config=DistillConfig(pool=None, batch_size=16, progress=False),
    )
    np.testing.assert_array_equal(parts.images, whole.images)
    np.testing.assert_array_equal(parts.soft_labels, whole.soft_labels)
    np.testing.assert_array_equal(parts.labels, whole.labels)
    assert parts.records == whole.records and parts.class_names == whole.class_names


def test_after_every_update_the_set_verifies_and_is_that_of_all_images_so_far(arrivals, tmp_path):
    images, labels = arrivals.train.arrays()
    stream = opened(tmp_path / "set")
    for start in range(0, 110, 37):
        stream = stream.update(images[start : start + 37], labels[start : start + 37])
        stream.distilled.verify()
        anew = opened(tmp_path / f"anew{start}")
        anew = anew.update(images[: start + 37], labels[: start + 37])
        assert stream.distilled.digest == anew.distilled.digest


def test_no_image_is_needed_again_and_memory_does_not_grow(arrivals, tmp_path):
    stream, sizes = opened(tmp_path / "set"), []
    images, labels = (array.copy() for array in arrivals.train.arrays())
    for _ in range(3):
        batch = images.copy()
        stream = stream.update(batch, labels)
        batch[:] = 0
        sizes.append((len(stream.state.reserve.crops), stream.file.stat().st_size))
    assert stream.images == 330 and sizes[0][0] == 20
    assert sizes[0][0] == sizes[2][0] and sizes[2][1] < sizes[0][1] + 100
    assert stream.distilled.images.any((1, 2, 3)).all()


# --- classes that come late


def test_a_late_class_takes_its_place_in_the_order(arrivals, tmp_path):
    early, late = of_labels(arrivals, [0, 4, 7]), of_labels(arrivals, [2])
    stream = taken_in(opened(tmp_path / "set"), early)
    before = stream.distilled
    assert before.class_names == ("0", "4", "7") and before.soft_labels.shape == (6, 1, 3)
    images, labels = late.train.arrays()
    stream = stream.update(images[:1], labels[:1])
    assert stream.distilled.class_names == before.class_names, "one image is too few"
    assert stream.distilled.manifest["stream"]["waiting"] == ["2"]
    stream = stream.update(images[1:], labels[1:])
    after = stream.distilled
    after.verify()
    assert after.class_names == ("0", "2", "4", "7")
    assert after.manifest["stream"] == {
        "images": {n: int((arrivals.train.labels == int(n)).sum()) for n in "0247"},
        "waiting": [],
    }
    folders = sorted(path.name for path in (after.path / "images").iterdir())
    assert folders == after.manifest["class_folders"]
    np.testing.assert_array_equal(after.images[[0, 1, 4, 5, 6, 7]], before.images)
    np.testing.assert_array_equal(
        after.soft_labels[[0, 1, 4, 5, 6, 7]][..., [0, 2, 3]], before.soft_labels
    )


def test_logits_are_the_labellers_of_the_classes_that_are_there(arrivals, tmp_path):
    found = taken_in(opened(tmp_path / "set", random()), of_labels(arrivals, [3, 8])).distilled
    said = linear(LABELLER.variables, LABELLER.normalise(found.images))
    np.testing.assert_allclose(found.soft_labels[:, 0], said[:, [3, 8]], rtol=1e-4, atol=1e-5)


def test_the_recommended_recipe_streams_while_classes_are_missing(arrivals, tmp_path):
    stream = taken_in(opened(tmp_path / "set", USEFUL), of_labels(arrivals, [1, 6, 9]))
    assert stream.distilled.class_names == ("1", "6", "9")


def test_there_is_no_set_before_two_classes_are_full(arrivals, tmp_path):
    stream = taken_in(opened(tmp_path / "set"), of_labels(arrivals, [5]))
    assert stream.distilled is None and not (tmp_path / "set").exists()
    assert "1 classes have come, 1 classes are in the set" in repr(stream)


# --- going on


def test_a_stream_goes_on_where_it_was(arrivals, tmp_path):
    images, labels = arrivals.train.arrays()
    opened(tmp_path / "set").update(images[:60], labels[:60], arrivals.train.ids[:60], origin="a")
    again = opened(tmp_path / "set")
    assert (again.images, again.taken("a"), again.taken("b")) == (60, 60, 0)
    again = taken_in(again, arrivals, 80, origin="b")
    assert (again.taken("a"), again.taken("b")) == (60, 50)
    right = taken_in(opened(tmp_path / "right"), arrivals)
    assert again.distilled.digest == right.distilled.digest


def test_an_update_that_dies_between_state_and_set_is_finished(arrivals, tmp_path, monkeypatch):
    images, labels = arrivals.train.arrays()
    stream = opened(tmp_path / "set").update(images[:60], labels[:60])

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "write_distilled", die)
        stream.update(images[60:], labels[60:])
    there = DistilledDataset.load(tmp_path / "set")
    there.verify()
    assert there.manifest["source"]["train_images"] == 60
    assert opened(tmp_path / "set").distilled.manifest["source"]["train_images"] == 110


def test_an_earlier_object_of_a_stream_takes_no_more(arrivals, tmp_path):
    images, labels = arrivals.train.arrays()
    first = opened(tmp_path / "set")
    second = first.update(images[:60], labels[:60])
    for old, count in ((first, 0), (opened(tmp_path / "set"), 60)):
        if count:
            second.update(images[60:], labels[60:])
        before = second.file.read_bytes()
        with pytest.raises(InputError, match=f"this object is of when it had {count}: go on with"):
            old.update(images, labels)
        assert second.file.read_bytes() == before


def test_nothing_that_arrives_changes_nothing(tmp_path):
    stream = opened(tmp_path / "set")
    assert stream.update(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64)) is stream
    assert not stream.file.exists()


# --- what is told


def test_the_set_says_how_it_was_made_and_names_no_image(arrivals, tmp_path):
    config = StreamConfig("digits of a camera", 16, "cc0-1.0")
    found = taken_in(opened(tmp_path / "set", config=config), arrivals).distilled
    assert found.manifest["source"]["name"] == "digits of a camera"
    assert found.manifest["licence"] == "cc0-1.0" and not found.manifest["training"]["flip"]
    assert sum(found.manifest["stream"]["images"].values()) == 110
    assert not set(arrivals.train.ids) & set(re.findall(r'"([^"]*)"', json.dumps(found.manifest)))
    assert (
        "| Source | digits of a camera, 110 training images"
        in (found.path / "README.md").read_text()
    )
    assert {tile["source"] for one in found.records for tile in one["tiles"]} < set(
        arrivals.train.ids
    )


REFUSED = {
    "cannot stream: its selection compares all crops at once": {"select": selection.TopK("middle")},
    "refines pixels by all images, which a stream does not keep": {
        "refine": infoutil_refined().refine
    },
    "fits its prior to images of the whole pool": {
        "attribute": infoutil_paper(shapley=ShapleyConfig()).attribute
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_recipe_that_cannot_stream_says_why(message, tmp_path):
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "set", replace(RDED, **REFUSED[message]))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "was begun with another seed: open it with the same"),
        ({"images_per_class": 3}, "was begun with another images_per_class"),
        ({"label_teacher": TEACHER}, "was begun with another label_teacher"),
        ({"label_teacher": replace(LABELLER, mean=0.9)}, "was begun with another label_teacher"),
        ({"label_teacher": replace(LABELLER, version="2")}, "was begun with another label_teacher"),
        ({"label_teacher": teacher_of(1, tuple("ab"))}, "know other classes: give two"),
        ({"label_teacher": replace(TEACHER, class_names=None)}, None),
        ({"images_per_class": 0}, "images_per_class is 0; it must be at least 1"),
    ],
)
def test_it_is_opened_with_what_it_was_begun_with(change, message, arrivals, tmp_path):
    images, labels = arrivals.train.arrays()
    first = opened(tmp_path / "set", label_teacher=TEACHER if message is None else LABELLER)
    first.update(images[:60], labels[:60])
    if message is None:
        assert opened(tmp_path / "set", **change).images == 60
        return
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "set", **change)


def test_a_stream_that_knows_its_teachers_by_their_digests_goes_on(arrivals, tmp_path):
    images, labels = arrivals.train.arrays()
    kept = opened(tmp_path / "set").update(images[:60], labels[:60])
    about = kept.plan.about()
    about |= {role: about[role]["digest"] for role in ("teacher", "label_teacher")}
    reserve.save(kept.file, kept.state, about)
    assert opened(tmp_path / "set").images == 60


def test_a_teacher_names_its_classes(tmp_path):
    with pytest.raises(InputError, match="does not name its classes"):
        Stream.open(tmp_path / "set", replace(TEACHER, class_names=None), RDED)


IMAGES, LABELS = np.zeros((3, 8, 8, 1), np.uint8), np.zeros(3, np.int64)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((IMAGES.astype(np.float32), LABELS), "images are float32"),
        ((IMAGES[..., 0], LABELS), r"images are uint8 \[3, 8, 8\]; they should be uint8"),
        ((IMAGES, LABELS[:2]), "they should be 3 integers"),
        ((IMAGES, LABELS + 0.5), "labels are float64"),
        ((IMAGES, np.array([0, 10, 0])), "label 1 is 10; it should be 0 to 9"),
        ((IMAGES, LABELS, ["a"]), "1 names for 3 images; it should be one each"),
        ((np.zeros((3, 8, 8, 3), np.uint8), LABELS), "but those of the stream at .* are"),
    ],
)
def test_a_batch_that_does_not_fit_changes_nothing(batch, message, arrivals, tmp_path, unchecked):
    images, labels = arrivals.train.arrays()
    stream = opened(tmp_path / "set").update(images[:60], labels[:60])
    before = stream.file.read_bytes(), stream.distilled.digest
    with pytest.raises(InputError, match=message):
        stream.update(*batch)
    assert (stream.file.read_bytes(), stream.distilled.digest) == before


def test_a_teacher_of_other_images_or_other_logits_is_told(tmp_path):
    few = replace(TEACHER, class_names=("a", "b"))
    with pytest.raises(InputError, match="gives 10 logits for 2 names of classes"):
        Stream.open(tmp_path / "set", few, RDED).update(IMAGES, LABELS)
    small = replace(TEACHER, image_size=(4, 4))
    with pytest.raises(InputError, match="takes images of 4×4 pixels but the stream has 8×8"):
        Stream.open(tmp_path / "set", small, RDED).update(IMAGES, LABELS)


def test_another_set_is_left_alone(tmp_path, arrivals):
    images, labels = arrivals.train.arrays()
    chosen = np.array([np.flatnonzero(labels == label)[0] for label in range(10)])
    write_distilled(
        tmp_path / "set",
        images=images[chosen],
        labels=labels[chosen],
        soft_labels=np.eye(10, dtype=np.float32)[:, None],
        class_names=tuple("0123456789"),
        records=[{}] * 10,
        manifest={},
    )
    with pytest.raises(InputError, match="holds a distilled set already"):
        opened(tmp_path / "set")


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive"])
def test_a_damaged_state_is_told(damage, arrivals, tmp_path):
    images, labels = arrivals.train.arrays()
    stream = opened(tmp_path / "set").update(images[:60], labels[:60])
    stream.file.write_bytes(damage)
    with pytest.raises(InputError, match="is not the state of a stream as it was written"):
        opened(tmp_path / "set")
    stream.distilled.verify()
