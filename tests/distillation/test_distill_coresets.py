"""Coresets of real digits: what the choice takes of the teacher's features, as whole images."""

import jax
import numpy as np
import pytest

from infoutil_jax.distillation import DistillConfig, distill, score_pool
from infoutil_jax.method import recipes, selection

CONFIG = DistillConfig(pool=20, progress=False)


@pytest.mark.parametrize("choice", ["herding", "k_means", "k_center"])
def test_coresets_keep_what_the_choice_takes_of_the_teachers_features(
    choice, digits, teachers, tmp_path
):
    teacher = teachers["converged"]
    recipe = getattr(recipes, choice)()
    kept = distill(
        digits,
        teacher,
        recipe,
        images_per_class=3,
        workdir=tmp_path / choice,
        config=CONFIG,
    )
    pool = score_pool(digits, teacher, recipe, config=CONFIG).rows.candidates
    members = np.flatnonzero(pool.labels == 4)
    pixels = np.stack([digits.train.image(int(i)) for i in pool.ids[members]])
    seen = teacher.predict.features(teacher.variables, teacher.normalise(pixels))
    features = pool.features["teacher"][members]
    np.testing.assert_allclose(features, np.reshape(seen, (len(members), -1)), atol=1e-4)
    seed = int(jax.random.bits(jax.random.fold_in(jax.random.key(0), 3))) % 2**31
    rows = getattr(selection, choice)(features.astype(np.float64), 3, seed)
    expected = pool.ids[members][rows]
    got = [
        r["tiles"][0]["example"] for r, c in zip(kept.records, kept.labels, strict=True) if c == 4
    ]
    assert got == expected.tolist()
    # Whole images: what is kept is the image itself.
    np.testing.assert_array_equal(kept.images[kept.labels == 4][0], digits.train.image(got[0]))


def test_herding_and_k_means_differ_from_random(digits, teachers):
    recipe = recipes.herding()
    pool = score_pool(digits, teachers["converged"], recipe, config=CONFIG).rows.candidates
    choices = (recipes.herding(), recipes.k_means(), recipes.k_center(), recipes.random())
    key = jax.random.key(0)
    kept = {tuple(chosen.selector.finalize(key, pool, 5).ids) for chosen in choices}
    assert len(kept) == 4
