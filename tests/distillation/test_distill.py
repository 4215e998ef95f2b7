"""The conductor: from a source to a set on disk, reproducible, audited, for any model."""

import dataclasses

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.distillation import DistillConfig, distill, distill_pool, score_pool
from infoutil_jax.distillation.labels import label_crops
from infoutil_jax.distillation.manifest import by_teachers
from infoutil_jax.errors import InputError
from infoutil_jax.image.mosaic import split
from infoutil_jax.image.resampling import extract
from infoutil_jax.method.recipes import infoutil, infoutil_kernel, infoutil_paper, random, rded
from infoutil_jax.method.scores import GradientNorm
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.config import Facts
from infoutil_jax.training.teacher import Teacher

CONFIG = DistillConfig(pool=20, progress=False)
FAST = {"config": CONFIG}
EVERYTHING = DistillConfig(pool=None, progress=False)


def few(budget, **options):
    """The printed rule, with few coalitions and a prior that is fitted to nothing."""
    return infoutil_paper(shapley=ShapleyConfig(budget=budget, pilot=0), **options)


@pytest.fixture(scope="module")
def teacher(teachers):
    return teachers["converged"]


@pytest.fixture(scope="module")
def recipe():
    return few(32)


@pytest.fixture(scope="module")
def made(digits, teacher, recipe, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("made") / "set"
    return distill(digits, teacher, recipe, images_per_class=3, workdir=workdir, **FAST)


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def normalised(teacher, images):
    mean, std = np.asarray(teacher.mean), np.asarray(teacher.std)
    return ((np.asarray(images) / 255 - mean) / std).astype(np.float32)


def test_a_budget_of_images_for_every_class(made, digits):
    assert made.images.shape == (30, 8, 8, 1)
    np.testing.assert_array_equal(made.labels, np.repeat(np.arange(10), 3))
    assert made.soft_labels.shape == (30, 1, 10)
    made.verify()


def test_same_seed_same_bytes(made, digits, teacher, recipe, tmp_path):
    workdir = tmp_path / "again"
    distill(digits, teacher, recipe, images_per_class=3, workdir=workdir, **FAST)
    assert files(workdir) == files(made.path)


def test_another_seed_another_set(made, digits, teacher, recipe, tmp_path):
    workdir = tmp_path / "other"
    other = distill(digits, teacher, recipe, images_per_class=3, workdir=workdir, seed=1, **FAST)
    assert not np.array_equal(other.images, made.images)


@pytest.mark.parametrize("batch_size", [7, 200])
def test_the_batch_size_changes_nothing(made, digits, teacher, recipe, tmp_path, batch_size):
    other = distill(
        digits,
        teacher,
        recipe,
        images_per_class=3,
        workdir=tmp_path / "set",
        config=dataclasses.replace(CONFIG, batch_size=batch_size),
    )
    np.testing.assert_array_equal(other.images, made.images)
    np.testing.assert_allclose(other.soft_labels, made.soft_labels, atol=1e-5)

    def scores(distilled):
        return [tile["score"] for record in distilled.records for tile in record["tiles"]]

    np.testing.assert_allclose(scores(other), scores(made), rtol=1e-5)


def test_the_audit_trail_tells_where_every_pixel_comes_from(made, digits, teacher):
    """Source, box, score, label: each can be computed again from the record."""
    for i in (0, 7, 29):
        (tile,) = made.records[i]["tiles"]
        assert digits.train.ids[tile["example"]] == tile["source"]
        assert digits.train.labels[tile["example"]] == made.labels[i]
        source_image = digits.train.image(tile["example"])
        box = np.asarray(tile["box"])[None, None]
        np.testing.assert_array_equal(
            extract(source_image[None], box, (8, 8))[0, 0], made.images[i]
        )
        crop = normalised(teacher, made.images[i : i + 1])
        score = GradientNorm()(teacher.predict, teacher.variables, crop, made.labels[i : i + 1])
        np.testing.assert_allclose(score[0], tile["score"], rtol=1e-4)
        logits = teacher.predict(teacher.variables, crop)
        np.testing.assert_allclose(logits[0], made.soft_labels[i, 0], atol=1e-4)
        assert np.shape(tile["map"]) == (4, 4)


def test_the_highest_scores_of_the_pool_are_kept_in_order(made, digits, teacher, recipe):
    candidates = score_pool(digits, teacher, recipe, **FAST).rows.candidates
    for label in (0, 9):
        of_class = candidates.labels == label
        ids = candidates.ids[of_class]
        best = [candidates.scores[of_class][ids == i].max() for i in np.unique(ids)]
        kept = [made.records[i]["tiles"][0]["score"] for i in np.flatnonzero(made.labels == label)]
        np.testing.assert_allclose(kept, np.sort(best)[::-1][:3], rtol=1e-6)


def test_tiles_at_native_resolution_are_exact_copies(digits, teacher, tmp_path):
    made = distill(
        digits,
        teacher,
        few(32, tiles=4),
        images_per_class=2,
        workdir=tmp_path / "set",
        **FAST,
    )
    assert made.soft_labels.shape == (20, 4, 10)
    tiles = split(made.images, 4)
    for i, record in enumerate(made.records):
        assert [tile["rank"] for tile in record["tiles"]] == list(
            range(4 * (i % 2), 4 * (i % 2) + 4)
        )
        for j, tile in enumerate(record["tiles"]):
            top, left, height, width = tile["box"]
            source_image = digits.train.image(tile["example"])
            np.testing.assert_array_equal(
                tiles[i, j], source_image[top : top + height, left : left + width]
            )


def test_rded_shares_images_strided(digits, teacher, tmp_path):
    made = distill(
        digits, teacher, rded(tiles=4), images_per_class=2, workdir=tmp_path / "set", **FAST
    )
    ranks = [[tile["rank"] for tile in record["tiles"]] for record in made.records[:2]]
    assert ranks == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_each_stage_has_its_own_teacher(digits, teachers, recipe, tmp_path):
    made = distill(
        digits,
        teachers["converged"],
        recipe,
        images_per_class=1,
        workdir=tmp_path / "set",
        label_teacher=teachers["early"],
        **FAST,
    )
    early = teachers["early"]
    expected = early.predict(early.variables, normalised(early, made.images))
    np.testing.assert_allclose(made.soft_labels[:, 0], expected, atol=1e-4)
    assert made.manifest["teacher"]["digest"] != made.manifest["label_teacher"]["digest"]


@pytest.mark.parametrize(
    ("recipe", "scorer"),
    [(infoutil(), "early"), (infoutil_kernel(), "early"), (few(32), "converged")],
)
def test_which_teacher_scores_belongs_to_the_recipe(digits, teachers, recipe, scorer, tmp_path):
    made = distill(
        digits,
        teachers["converged"],
        recipe,
        images_per_class=1,
        workdir=tmp_path / "set",
        label_teacher=teachers["early"],
        **FAST,
    )
    assert made.manifest["teacher"]["digest"] == teachers[scorer].digest()
    assert made.manifest["label_teacher"]["digest"] == teachers["early"].digest()


def test_a_pool_that_another_teacher_scored_is_refused(digits, teachers, recipe, tmp_path):
    """Where the recipe asks the teacher that labels, the set would not be that of `distill`."""
    asks = dataclasses.replace(recipe, scorer="labeller")
    early, converged = teachers["early"], teachers["converged"]
    common = {"images_per_class": 1, "label_teacher": early}
    other = score_pool(digits, converged, asks, **FAST)
    with pytest.raises(InputError, match=r"asks the teacher that labels.*\(early\).*\(converged\)"):
        distill_pool(other, workdir=tmp_path / "refused", **common)
    assert not (tmp_path / "refused").exists()
    scored = score_pool(digits, early, asks, **FAST)
    spent = distill_pool(scored, workdir=tmp_path / "spent", **common)
    whole = distill(digits, converged, asks, workdir=tmp_path / "whole", **common, **FAST)
    assert files(spent.path) == files(whole.path)


def test_a_pool_is_spent_on_several_budgets(made, digits, teacher, recipe, tmp_path):
    """The sets are those that `distill` makes, byte for byte."""
    scored = score_pool(digits, teacher, recipe, **FAST)
    three = distill_pool(scored, images_per_class=3, workdir=tmp_path / "three")
    assert files(three.path) == files(made.path)
    assert len(distill_pool(scored, images_per_class=1, workdir=tmp_path / "one")) == 10
    with pytest.raises(InputError, match="pool of 20"):
        distill_pool(scored, images_per_class=21, workdir=tmp_path / "many")
    with pytest.raises(InputError, match="holds a distilled set already"):
        distill_pool(scored, images_per_class=1, workdir=tmp_path / "one")


def test_labels_do_not_depend_on_the_batch(digits, teacher):
    crops = digits.train.arrays()[0][:50]
    np.testing.assert_allclose(
        label_crops(teacher, crops, (8, 8), 50), label_crops(teacher, crops, (8, 8), 16), atol=1e-5
    )


class Linear(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(x.reshape(len(x), -1))


def linen_model():
    module = Linear()
    return module.apply, module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def equinox_model():
    mlp = eqx.nn.MLP(64, 10, 8, 1, key=jax.random.key(0))
    arrays, static = eqx.partition(mlp, eqx.is_array)

    def predict(variables, images):
        return jax.vmap(lambda x: eqx.combine(variables, static)(x.reshape(-1)))(images)

    return predict, arrays


def plain_function():
    weights = jax.random.normal(jax.random.key(0), (64, 10)) / 8
    return lambda w, x: x.reshape(len(x), -1) @ w, weights


@pytest.mark.parametrize("make", [linen_model, equinox_model, plain_function])
def test_a_model_of_your_own_takes_one_line(digits, make, tmp_path):
    predict, variables = make()
    mine = Teacher(predict, variables, mean=(0.5,), std=(0.5,))
    made = distill(
        digits,
        mine,
        few(20),
        images_per_class=1,
        workdir=tmp_path / "set",
        **FAST,
    )
    made.verify()
    expected = predict(variables, normalised(mine, made.images))
    np.testing.assert_allclose(made.soft_labels[:, 0], expected, atol=1e-4)


def test_a_score_of_your_own_takes_one_replace(digits, teacher, tmp_path):
    def ink(predict, variables, crops, labels):
        return crops.sum((1, 2, 3))

    recipe = dataclasses.replace(few(20), score=ink, name="ink")
    made = distill(digits, teacher, recipe, images_per_class=1, workdir=tmp_path / "set", **FAST)
    plain = distill(digits, teacher, random(), images_per_class=1, workdir=tmp_path / "b", **FAST)
    assert made.images.mean() > plain.images.mean()
    assert made.manifest["recipe"]["name"] == "ink"
    assert "ink" in made.manifest["recipe"]["score"]["function"]


def test_the_manifest_says_what_was_done(made, teacher, digits):
    manifest = made.manifest
    assert manifest["recipe"]["crop"]["alpha"] == 2.0
    assert manifest["recipe"]["attribute"]["config"]["strategy"] == "gaussian"
    assert manifest["source"]["fingerprint"] == digits.fingerprint()
    assert manifest["teacher"]["digest"] == teacher.digest()
    assert {"jax", "numpy", "python"} <= set(manifest["versions"])


@pytest.mark.parametrize("flipped", [True, False, None])
def test_what_a_teacher_never_saw_mirrored_no_student_does(flipped, tmp_path):
    """A folder's name need not tell that its images are letters."""
    facts = Facts((8, 8), 100, 10, "folder:letters")
    teacher = Teacher(lambda w, x: x, {}, mean=0.5, std=0.5, flipped=flipped)
    told = by_teachers(facts, teacher, teacher, 1)["training"]
    assert told["flip"] is (flipped is not False)


@pytest.mark.parametrize("turned", [True, False])
def test_a_set_says_that_its_teacher_saw_turned_images(digits, teachers, tmp_path, turned):
    made = distill(
        digits,
        dataclasses.replace(teachers["converged"], turned=turned),
        random(),
        images_per_class=1,
        workdir=tmp_path / "set",
        config=DistillConfig(progress=False),
    )
    assert made.manifest["training"].get("turn", False) is turned
    assert ("| Turned images |" in (made.path / "README.md").read_text()) is turned
