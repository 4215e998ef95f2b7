"""What tests of governance share: a set of the digits, photographs, sets written anew."""

import shutil
from pathlib import Path

import jax
import pytest

from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import infoutil_paper, random
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.teacher import Teacher

PHOTOS = Path(__file__).parents[1] / "fixtures" / "imagenette"
OF_THE_FORMAT = {
    *("format", "class_names", "class_folders", "image_shape", "tiles", "files", "sha256")
}


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


@pytest.fixture(scope="session")
def by_rank(digits, teachers, tmp_path_factory):
    """The printed rule: two images a class, scored by one teacher and labelled by another."""
    return distill(
        digits,
        teachers["converged"],
        infoutil_paper(shapley=ShapleyConfig(budget=32, pilot=0)),
        images_per_class=2,
        workdir=tmp_path_factory.mktemp("by_rank") / "set",
        label_teacher=teachers["early"],
        config=DistillConfig(pool=8, progress=False),
    )


@pytest.fixture
def photo_set(tmp_path):
    """A folder of photographs in train/ and test/, a teacher, and a set of whole ones."""
    folder = tmp_path / "photos"
    shutil.copytree(PHOTOS, folder)
    source = open_source(f"folder:{folder}", image_size=32)
    weights = jax.random.normal(jax.random.key(0), (32 * 32 * 3, 3)) / 200
    teacher = Teacher(linear, weights, mean=0.5, std=0.25)
    distilled = distill(
        source,
        teacher,
        random(),
        images_per_class=1,
        workdir=tmp_path / "run" / "distilled",
        config=DistillConfig(progress=False),
    )
    return folder, source, teacher, distilled


@pytest.fixture
def rewritten(tmp_path):
    """Writes a set anew, changed, with checksums that hold: as somebody would who hides it."""

    def write(distilled, *, manifest=None, **changed):
        as_it_was = {
            "images": distilled.images.copy(),
            "labels": distilled.labels,
            "soft_labels": distilled.soft_labels.copy(),
            "class_names": distilled.class_names,
            "records": distilled.records,
        }
        head = {k: v for k, v in distilled.manifest.items() if k not in OF_THE_FORMAT}
        return write_distilled(
            tmp_path / "rewritten",
            **as_it_was | changed,
            manifest=head | (manifest or {}),
            overwrite=True,
        )

    return write


@pytest.fixture
def copied(tmp_path):
    """Copies a set to where a test may change it."""

    def copy(distilled, name="run/distilled"):
        return Path(shutil.copytree(distilled.path, tmp_path / name))

    return copy
