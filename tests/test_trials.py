"""Students on trial find the candidates that teach."""

import dataclasses

import numpy as np

from infoutil_jax.distill import distill
from infoutil_jax.method.datamodel import Trials
from infoutil_jax.method.recipes import infoutil_measured, random
from infoutil_jax.method.selection import Candidates
from infoutil_jax.trials import held_out, tried

TRIALS = Trials(students=96, shortlist=4, epochs=50, held_out=200, at_once=24, width=8)
RECIPE = dataclasses.replace(random(), trials=TRIALS)


def shortlist(digits, per_class):
    """The first images of each class, every other one a grey square."""
    labels = digits.train.labels
    ids = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)])
    images = np.concatenate([batch for _, batch in digits.train.batches(ids, 64)])
    images[1::2] = 128
    rows = len(ids)
    table = Candidates(
        ids=ids,
        crops=np.zeros(rows, np.int32),
        labels=labels[ids],
        boxes=np.tile(np.int32([0, 0, 8, 8]), (rows, 1)),
        scores=np.zeros(rows, np.float32),
        maps=np.zeros((rows, 1, 1), np.float32),
    )
    return table, images


def test_a_grey_square_teaches_less_than_a_digit(digits, teachers):
    table, crops = shortlist(digits, 4)
    kept = tried(digits, teachers["converged"], RECIPE, table, crops, 1, progress=False)
    np.testing.assert_array_equal(kept.labels, np.arange(10))
    grey = set(table.ids[1::2])
    assert sum(i in grey for i in kept.ids) <= 2  # by chance 5
    assert kept.scores.mean() > 0.2  # points of accuracy above the average candidate's


def test_no_choice_no_trial(digits, teachers):
    table, crops = shortlist(digits, 2)
    kept = tried(digits, teachers["converged"], RECIPE, table, crops, 2, progress=False)
    np.testing.assert_array_equal(kept.ids, table.ids)


def test_there_are_two_students_a_round_at_least(digits, teachers):
    table, crops = shortlist(digits, 8)
    few = dataclasses.replace(TRIALS, students=1, epochs=1)
    recipe = dataclasses.replace(RECIPE, trials=few)
    kept = tried(digits, teachers["converged"], recipe, table, crops, 1, progress=False)
    np.testing.assert_array_equal(kept.labels, np.arange(10))


def test_students_are_tested_on_images_that_did_not_compete(digits, teachers, monkeypatch):
    seen = []

    def recorded(images, labels, test_images, test_labels, **options):
        seen.append((images, labels, test_images, test_labels, options))
        return type("Result", (), {"top1": np.arange(len(images), dtype=float)})

    monkeypatch.setattr("infoutil_jax.trials.train_student", recorded)
    table, crops = shortlist(digits, 8)
    competed = np.flatnonzero(np.arange(len(digits.train)) % 2 == 0)
    recipe = dataclasses.replace(RECIPE, tiles=4)
    teacher = teachers["converged"]
    crops = crops[:, ::2, ::2]  # tiles of 4 x 4
    kept = tried(
        digits, teacher, recipe, table, crops, 4, seed=1, competed=competed, progress=False
    )
    assert len(kept.ids) == 40 and len(set(kept.ids)) == 40
    assert len(seen) == 4  # 96 students, 24 at once, of one round: 8 candidates a class, 4 kept
    images, labels, test_images, test_labels, options = seen[0]
    assert images.shape == (24, 10, 8, 8, 1) and options["tiles"] == 4
    np.testing.assert_array_equal(labels, np.arange(10))
    np.testing.assert_array_equal(np.bincount(test_labels), [20] * 10)
    others = np.concatenate(
        [
            b
            for _, b in digits.train.batches(
                np.flatnonzero(~np.isin(np.arange(len(digits.train)), competed)), 64
            )
        ]
    )
    rows = {row.tobytes() for row in others}
    assert all(image.tobytes() in rows for image in test_images)
    seeds = [seed for call in seen for seed in call[-1]["seeds"]]
    assert len(set(seeds)) == 96


def test_a_recipe_with_trials_distils_to_the_same_set_every_time(digits, teachers, tmp_path):
    recipe = infoutil_measured(students=4, shortlist=3, trial_epochs=2)
    options = {"images_per_class": 2, "pool": 5, "progress": False}
    made, again = (
        distill(digits, teachers["converged"], recipe, workdir=tmp_path / name, **options)
        for name in ("set", "again")
    )
    np.testing.assert_array_equal(again.images, made.images)
    assert again.records == made.records
    assert made.images.shape == (20, 8, 8, 1)
    # Three times as many as are needed would be six; the pool has five.
    assert made.manifest["recipe"]["trials"]["shortlist"] == 3
    utilities = np.array([tile["score"] for r in made.records for tile in r["tiles"]])
    assert (np.diff(utilities.reshape(10, 2), axis=1) <= 0).all()  # best first


def test_where_all_competed_none_of_the_shortlist_tests(digits):
    everything, shortlisted = np.arange(len(digits.train)), np.arange(0, len(digits.train), 2)
    rng = np.random.default_rng
    found = held_out(digits, shortlisted, 100, rng(0), competed=everything)
    expected = held_out(digits, shortlisted, 100, rng(0))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.bincount(held_out(digits, everything, 100, rng(0))[1]).tolist() == [10] * 10
