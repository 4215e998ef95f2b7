"""Images that were forgotten take no part in a pool, and all others are as they were."""

import dataclasses

import numpy as np
import pytest

from infoutil_jax.distillation import DistillConfig, distill, distill_pool, score_pool
from infoutil_jax.distillation.parts import PART
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import random, rded

QUIET = DistillConfig(pool=6, progress=False)


def without(*examples):
    return dataclasses.replace(QUIET, forgotten=examples)


@pytest.fixture(scope="module")
def scored(digits, teachers):
    return score_pool(digits, teachers["early"], rded(), config=QUIET)


def test_other_images_are_scored_as_before(scored, digits, teachers):
    gone = int(scored.rows.candidates.ids[0])
    rows = score_pool(digits, teachers["early"], rded(), config=without(gone)).rows
    assert gone not in rows.candidates.ids
    stayed = np.isin(rows.candidates.ids, scored.rows.candidates.ids)
    before = scored.rows.candidates.ids != gone
    np.testing.assert_array_equal(rows.boxes[stayed], scored.rows.boxes[before])
    np.testing.assert_allclose(
        rows.candidates.scores[stayed], scored.rows.candidates.scores[before], rtol=1e-5
    )
    new = np.unique(rows.candidates.ids[~stayed])  # one more was drawn, of the same class
    assert len(new) == 1 and digits.train.labels[new] == digits.train.labels[gone]


def test_parts_of_a_pool_with_an_image_are_not_taken_for_one_without(
    scored, digits, teachers, tmp_path
):
    gone = int(scored.rows.candidates.ids[0])
    assert PART > 60  # so that the pool is one part, whose name alone tells them apart
    for config in (QUIET, without(gone), without(gone)):
        rows = score_pool(
            digits, teachers["early"], rded(), folder=tmp_path / "parts", config=config
        ).rows
    assert gone not in rows.candidates.ids
    assert len([path for path in (tmp_path / "parts").iterdir() if path.is_dir()]) == 2


def test_a_set_from_a_pool_is_the_one_that_distill_makes(scored, digits, teachers, tmp_path):
    gone = int(scored.rows.candidates.ids[0])
    teacher, config = teachers["early"], without(gone)
    pool = score_pool(digits, teacher, rded(), config=config)
    one = distill_pool(pool, images_per_class=1, workdir=tmp_path / "one")
    other = distill(
        digits, teacher, rded(), images_per_class=1, workdir=tmp_path / "two", config=config
    )
    assert one.manifest == other.manifest
    assert one.manifest["forgotten"] == {
        "examples": [gone],
        "fingerprint": digits.fingerprint_without([gone]),
    }


def test_what_refines_does_not_see_them(digits, teachers, tmp_path):
    seen = []

    def look(key, teacher, images, soft_labels, pool):
        seen.append(np.asarray(pool.images))
        return images, soft_labels

    distill(
        digits,
        teachers["early"],
        dataclasses.replace(random(), refine=look),
        images_per_class=1,
        workdir=tmp_path / "set",
        config=without(3, 5),
    )
    images = digits.train.arrays()[0]
    np.testing.assert_array_equal(seen[0], np.delete(images, [3, 5], axis=0))


def test_a_number_that_no_image_has_is_told(digits, teachers, tmp_path):
    with pytest.raises(InputError, match="1438 training images, numbered from 0"):
        distill(
            digits,
            teachers["early"],
            random(),
            images_per_class=1,
            workdir=tmp_path / "set",
            config=without(1438),
        )
    with pytest.raises(InputError, match="forgotten is"):
        without(-1)
