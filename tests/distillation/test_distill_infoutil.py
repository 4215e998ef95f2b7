"""What the recommended recipe makes of real digits."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import infoutil, random


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
