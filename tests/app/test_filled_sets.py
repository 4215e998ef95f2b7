"""Sets of a source whose rare class was filled by copies, when images of it are answered for."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from infoutil_jax.app.governance import audit, forget
from infoutil_jax.app.governance.again import source_of
from infoutil_jax.app.governance.explain import explain
from infoutil_jax.app.sets import found_or_distilled
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import rded
from infoutil_jax.training.teacher import Teacher

QUIET = DistillConfig(pool=None, progress=False)
EACH = 4
COLOURS = {"blue": (20, 20, 200), "red": (200, 20, 20)}


def brightest(weights, images):
    return images.mean((1, 2)) @ weights


TEACHER = Teacher(brightest, jnp.eye(3)[:, [2, 0]], mean=(0.5,) * 3, std=(0.25,) * 3, version="1")
RECIPE = rded(tiles=1, num_crops=2)


def images_in(root, seed):
    """Eight blue images and two red ones; two of each to test."""
    rng = np.random.default_rng(seed)
    for split, counts in (("train", (8, 2)), ("test", (2, 2))):
        for (name, colour), count in zip(COLOURS.items(), counts, strict=True):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(colour, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def opened(root):
    return open_source(f"folder:{root}")


@pytest.fixture
def root(tmp_path):
    return images_in(tmp_path / "images", 0)


def made(root, workdir, filled_to=EACH, config=QUIET):
    source = opened(root).fill(filled_to)
    return distill(source, TEACHER, RECIPE, images_per_class=EACH, workdir=workdir, config=config)


def test_it_is_known_by_how_far_it_was_filled(root, tmp_path):
    """Recipes that are compared share a source that is filled for the one of most tiles."""
    source = opened(root)
    for filled_to in (EACH, 4 * EACH):
        distilled = made(root, tmp_path / str(filled_to), filled_to)
        found = source_of(distilled, source)
        assert found.fingerprint() == distilled.manifest["source"]["fingerprint"]
        assert np.bincount(found.train.labels).tolist() == [max(8, filled_to), filled_to]


def test_a_smaller_source_is_not_taken_for_one_whose_image_was_removed(root, tmp_path):
    """Of a filled source nobody can say what it was without the image."""
    distilled = made(root, tmp_path / "set")
    source = opened(root)
    forgotten = source.train.ids[:2]
    forget(distilled.path, list(forgotten), source, TEACHER, config=QUIET)
    assert audit(distilled.path, source, TEACHER, config=QUIET).passed
    other = images_in(tmp_path / "other", 1)
    for folder in (root, other):
        (folder / forgotten[1]).unlink()
        with pytest.raises(InputError, match="was not distilled from"):
            forget(distilled.path, [source.train.ids[3]], opened(folder), TEACHER, config=QUIET)


def test_copies_are_no_images_of_their_own(root, tmp_path):
    distilled = made(root, tmp_path / "set")
    told = explain(distilled, EACH, source=opened(root))
    assert told["class"] == "red" and told["tiles"][0]["class_images"] == 2


def test_what_was_forgotten_is_back_after_overwriting(root, tmp_path):
    """As docs/governance.md says."""
    workdir, source = tmp_path / "set", opened(root).fill(EACH)
    before = made(root, workdir)
    forget(workdir, [source.train.ids[0]], opened(root), TEACHER, config=QUIET)

    def again(config):
        teachers, given = (TEACHER, TEACHER), {"images_per_class": EACH, "seed": 0}
        return found_or_distilled(source, teachers, RECIPE, workdir=workdir, config=config, **given)

    assert "forgotten" in again(QUIET).manifest
    assert again(replace(QUIET, overwrite=True)).digest == before.digest
