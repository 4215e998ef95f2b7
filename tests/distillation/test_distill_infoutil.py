"""What the recommended recipe makes of real digits."""

from dataclasses import replace

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import infoutil, infoutil_paper, random
from infoutil_jax.method.shapley_maps import ShapleyConfig


def test_a_set_of_digits_is_the_same_every_time_and_teaches_more_than_random_ones(
    digits, teachers, tmp_path
):
    def made(recipe, name, seed=0):
        return distill(
            digits,
            teachers["converged"],
            recipe,
            images_per_class=1,
            workdir=tmp_path / name,
            seed=seed,
            config=DistillConfig(pool=40, progress=False),
        )

    def accuracy(distilled):
        """Of a learner of another kind: the nearest image's class."""
        images, labels = digits.test.arrays()
        learner = KNeighborsClassifier(1).fit(distilled.images.reshape(10, -1), distilled.labels)
        return learner.score(images.reshape(len(images), -1), labels)

    first, again = (made(infoutil(), name) for name in ("one", "two"))
    np.testing.assert_array_equal(again.images, first.images)
    assert again.records == first.records
    others = [accuracy(made(random(), f"random{seed}", seed)) for seed in range(5)]
    assert accuracy(first) > max(others)


def test_maps_are_fitted_to_the_teacher_and_the_manifest_says_to_what(digits, teachers, tmp_path):
    teacher = teachers["converged"]
    recipe = infoutil_paper(shapley=ShapleyConfig(budget=32))
    config = DistillConfig(pool=6, progress=False)
    made = [
        distill(digits, teacher, one, images_per_class=1, workdir=tmp_path / name, config=config)
        for name, one in (("a", recipe), ("b", recipe))
    ]
    prior = made[0].manifest["attribute"]["prior"]
    assert 0 < prior["rho"] < 1 and prior["linear"] > 0
    assert made[0].manifest["recipe"]["attribute"]["prior"] is None
    assert made[0].manifest["files"] == made[1].manifest["files"]
    kept = replace(recipe, attribute=replace(recipe.attribute, config=ShapleyConfig(pilot=0)))
    alone = distill(
        digits, teacher, kept, images_per_class=1, workdir=tmp_path / "c", config=config
    )
    assert "attribute" not in alone.manifest
