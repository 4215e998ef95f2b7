"""A forgotten image does not stay in a set by a copy of it."""

import contextlib
import shutil

import pytest

from infoutil_jax.app.governance import forget
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import random

QUIET = DistillConfig(progress=False)


def first_of(distilled):
    """The name of the image that is kept of the first class."""
    return distilled.records[0]["tiles"][0]["source"]


def test_a_copy_under_another_name_is_told_before_anything_is_written(photo_set):
    folder, _, teacher, distilled = photo_set
    name = first_of(distilled)
    twin = (folder / name).with_name("twin" + (folder / name).suffix)
    shutil.copy(folder / name, twin)
    for path in twin.parent.iterdir():
        if path.name not in (twin.name, (folder / name).name):
            path.unlink()
    source = open_source(f"folder:{folder}", image_size=32)
    made = distill(
        source,
        teacher,
        random(),
        images_per_class=1,
        workdir=distilled.path,
        config=DistillConfig(overwrite=True, progress=False),
    )
    with pytest.raises(InputError, match=r"has the same pixels as .* give both"):
        forget(made.path, [first_of(made)], source, teacher, config=QUIET)
    made.verify()  # it is as it was


def test_a_copy_of_what_was_forgotten_earlier_is_told(photo_set):
    """Of three images of a class two are alike; the third is between them in rank."""
    folder, _, teacher, distilled = photo_set
    one, another, twin = sorted((folder / first_of(distilled)).parent.iterdir())[:3]
    shutil.copy(one, twin)
    for path in twin.parent.iterdir():
        if path not in (one, another, twin):
            path.unlink()
    source = open_source(f"folder:{folder}", image_size=32)
    config = DistillConfig(overwrite=True, progress=False)
    for seed in range(100):
        options = {"workdir": distilled.path, "seed": seed, "config": config}
        made = distill(source, teacher, random(), images_per_class=1, **options)
        name = first_of(made)
        if name.endswith(another.name):
            continue
        with contextlib.suppress(InputError):  # the twin is next
            forget(made.path, [name], source, teacher, config=QUIET)
            break
    before = DistilledDataset.load(made.path)
    kept = first_of(before)
    assert kept.endswith(another.name)
    with pytest.raises(InputError, match=r"has the same pixels as .* give both"):
        forget(made.path, [kept], source, teacher, config=QUIET)
    before.verify()
    (folder / name).unlink()  # and of what stands in its place none is a copy
    now = open_source(f"folder:{folder}", image_size=32)
    forget(made.path, [kept], now, teacher, config=QUIET)
