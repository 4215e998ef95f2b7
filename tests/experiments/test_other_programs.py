"""The programs of a set's README.md: short, and as good as our students on easy images."""

import ast
import glob
import sys

import numpy as np
import PIL.Image
import pytest

from experiments.other_programs import TESTS, accuracy, lines_of, normalised_tests, programs
from infoutil_jax.data.distilled import DistilledDataset, write_distilled
from infoutil_jax.image import mosaic
from infoutil_jax.training.labelled import Labelled
from infoutil_jax.training.supervision import Supervision


@pytest.fixture(scope="module", params=[1, 4], ids=["whole images", "tiles"])
def striped(request, tmp_path_factory):
    """Stripes that lie or stand, with noise: easy, but not for a program that mixes up labels.

    Of four tiles each has a class of its own, which it is taught where tiles are images.
    """
    folder, tiles = tmp_path_factory.mktemp("striped"), request.param
    rng = np.random.default_rng(0)

    def draw(count, side):
        labels = rng.permutation(np.arange(count) % 2)
        stripes = np.where(np.arange(side) % (side // 4) < side // 8, 200.0, 50.0)
        images = np.broadcast_to(stripes[None, :, None, None], (count, side, side, 1)).copy()
        images[labels == 1] = images[labels == 1].swapaxes(1, 2)
        return (images + rng.normal(0, 40, images.shape)).clip(0, 255).astype(np.uint8), labels

    side = 16 if tiles == 1 else 8
    shown, of_tiles = draw(12 * tiles, side)
    images = mosaic.assemble(shown.reshape(12, tiles, side, side, 1), (16, 16))
    training = {"temperature": 4.0, "flip": True, "batch_size": 6, "epochs": 36}
    distilled = write_distilled(
        folder / "set",
        images=images,
        labels=of_tiles.reshape(12, tiles)[:, 0],
        soft_labels=(8 * np.eye(2, dtype=np.float32)[of_tiles]).reshape(12, tiles, 2),
        class_names=("zebra", "a horizon"),  # not in the order of their names
        records=[{}] * 12,
        manifest={"training": training | {"learning_rate": 0.001, "partition": tiles > 1}},
    )
    normalised_tests(distilled, *draw(60, 16), folder / "test.npz")
    return folder


def test_each_library_has_a_program_of_at_most_fifteen_lines(striped):
    found = programs((striped / "set/README.md").read_text())
    assert set(found) == set(TESTS)
    for program in found.values():
        ast.parse(program)
        assert lines_of(program) <= 15


@pytest.mark.parametrize("library", list(TESTS))
def test_a_program_reads_what_our_students_see(striped, library, monkeypatch):
    program = programs((striped / "set/README.md").read_text())[library]
    reading = [
        line for line in program.splitlines() if line.startswith(("files =", "images = np."))
    ]
    known = {"glob": glob, "np": np, "PIL": PIL}
    monkeypatch.chdir(striped / "set")
    exec("\n".join(reading[:2]), known)
    distilled = DistilledDataset.load(striped / "set")
    soft = distilled.soft_labels
    as_students = Supervision(2, soft_labels=soft, tiles=soft.shape[1], mean=(0.5,), std=(0.5,))
    seen, _ = as_students.partitioned(Labelled(distilled.images, distilled.labels))
    # Pillow rounds what it has enlarged along one axis before it goes on along the other.
    np.testing.assert_allclose(known["images"].astype(int), seen.images.astype(int), atol=1)


@pytest.mark.parametrize("library", list(TESTS))
def test_a_program_learns_the_right_classes(striped, library):
    needed = {"PyTorch": "torchvision", "JAX": "flax", "Keras": "keras"}
    pytest.importorskip(needed[library])
    program = programs((striped / "set/README.md").read_text())[library]
    found = accuracy(library, program, striped / "set", striped / "test.npz", sys.executable)
    assert found["top1"] >= 95
