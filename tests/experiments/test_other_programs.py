"""The programs of a set's README.md: short, and as good as our students on easy images."""

import ast
import sys

import numpy as np
import pytest

from experiments.other_programs import TESTS, accuracy, lines_of, normalised_tests, programs
from infoutil_jax.data.distilled import write_distilled


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    """Stripes that lie or stand, with noise: easy, but not for a program that mixes up labels."""
    folder = tmp_path_factory.mktemp("striped")
    rng = np.random.default_rng(0)

    def draw(count):
        labels = np.arange(count) % 2
        stripes = np.where(np.arange(16) % 4 < 2, 200.0, 50.0)[None, :, None, None]
        images = np.broadcast_to(stripes, (count, 16, 16, 1)).copy()
        images[labels == 1] = images[labels == 1].swapaxes(1, 2)
        return (images + rng.normal(0, 40, images.shape)).clip(0, 255).astype(np.uint8), labels

    images, labels = draw(12)
    training = {"temperature": 4.0, "flip": True, "batch_size": 6, "epochs": 12}
    distilled = write_distilled(
        folder / "set",
        images=images,
        labels=labels,
        soft_labels=(8 * np.eye(2, dtype=np.float32)[labels])[:, None],
        class_names=("zebra", "a horizon"),  # not in the order of their names
        records=[{}] * 12,
        manifest={"training": training | {"learning_rate": 0.001}},
    )
    normalised_tests(distilled, *draw(60), folder / "test.npz")
    return folder


def test_each_library_has_a_program_of_at_most_fifteen_lines(striped):
    found = programs((striped / "set/README.md").read_text())
    assert set(found) == set(TESTS)
    for program in found.values():
        ast.parse(program)
        assert lines_of(program) <= 15


@pytest.mark.parametrize("library", list(TESTS))
def test_a_program_learns_the_right_classes(striped, library):
    needed = {"PyTorch": "torchvision", "JAX": "flax", "Keras": "keras"}
    pytest.importorskip(needed[library])
    program = programs((striped / "set/README.md").read_text())[library]
    found = accuracy(library, program, striped / "set", striped / "test.npz", sys.executable)
    assert found["top1"] >= 95
