"""Baselines are InfoUtil or whole images with one part exchanged, and nothing else changed."""

from dataclasses import fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.distill import distill
from infoutil_jax.method import baselines, coresets, selection
from infoutil_jax.method.recipes import infoutil_paper, rded
from infoutil_jax.scoring import score_pool


def same(a, b):
    if isinstance(a, partial) and isinstance(b, partial):
        return (a.func, a.args, a.keywords) == (b.func, b.args, b.keywords)
    return a == b


def exchanged(recipe, base):
    """Names of the parts in which two recipes differ."""
    pairs = ((f.name, getattr(recipe, f.name), getattr(base, f.name)) for f in fields(recipe))
    return {name for name, mine, theirs in pairs if not same(mine, theirs)} - {"name"}


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        (baselines.grad_cam_crops, {"attribute"}),
        (baselines.random_crop_gradient_norm, {"attribute", "crop"}),
        (baselines.shapley_crop_loss, {"score", "select"}),
        (baselines.no_noise, {"crop"}),
    ],
)
def test_an_ablation_exchanges_its_parts_only(recipe, parts):
    assert exchanged(recipe(tiles=4), infoutil_paper(tiles=4, strategy="gaussian")) == parts


def test_ablations_take_the_parts_from_the_methods_themselves():
    mixed = baselines.random_crop_gradient_norm()
    assert same(mixed.crop, rded().crop) and same(mixed.score, infoutil_paper().score)
    assert same(baselines.shapley_crop_loss().select, rded().select)
    assert baselines.shapley_crop_loss().score is rded().score


@pytest.mark.parametrize("choice", ["herding", "k_means", "k_center"])
def test_coresets_keep_what_the_choice_takes_of_the_teachers_features(
    choice, digits, teachers, tmp_path
):
    teacher = teachers["converged"]
    recipe = getattr(baselines, choice)()
    kept = distill(
        digits,
        teacher,
        recipe,
        images_per_class=3,
        workdir=tmp_path / choice,
        pool=20,
        progress=False,
    )
    pool = score_pool(digits, teacher, recipe, pool=20, progress=False)
    members = np.flatnonzero(pool.labels == 4)
    pixels = np.stack([digits.train.image(int(i)) for i in pool.ids[members]])
    scale = np.float32(255) * np.asarray(teacher.std, np.float32)
    normal = (pixels - np.float32(255) * np.asarray(teacher.mean, np.float32)) / scale
    features = teacher.predict.features(
        teacher.variables, jnp.asarray(normal, jnp.float32)
    ).reshape(len(members), -1)
    np.testing.assert_allclose(pool.features[members], features, atol=1e-4)
    seed = int(jax.random.bits(jax.random.fold_in(jax.random.key(0), 3))) % 2**31
    rows = getattr(coresets, choice)(pool.features[members].astype(np.float64), 3, seed)
    expected = pool.ids[members][rows]
    got = [
        r["tiles"][0]["example"] for r, c in zip(kept.records, kept.labels, strict=True) if c == 4
    ]
    assert got == expected.tolist()
    # Whole images: what is kept is the image itself.
    np.testing.assert_array_equal(kept.images[kept.labels == 4][0], digits.train.image(got[0]))


def test_herding_and_k_means_differ_from_random(digits, teachers):
    pool = score_pool(digits, teachers["converged"], baselines.herding(), pool=30, progress=False)
    key = jax.random.key(0)
    kept = {
        tuple(select(key, pool, 5).ids)
        for select in (
            baselines.herding().select,
            baselines.k_means().select,
            baselines.k_center().select,
            selection.random_k,
        )
    }
    assert len(kept) == 4
