"""A source that has lost images since keeps the numbers that random draws go by."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from infoutil_jax.data.renumbered import renumbered
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError

PHOTOS = Path(__file__).parents[1] / "fixtures/imagenette"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(PHOTOS, tmp_path / "photos"))


def opened(folder):
    return open_source(f"folder:{folder}", image_size=16)


def test_the_fingerprint_without_images_is_that_of_the_source_once_they_are_gone(folder):
    before = opened(folder)
    assert before.fingerprint_without([]) == before.fingerprint()
    for number in (2, 7):
        (folder / before.train.ids[number]).unlink()
    after = opened(folder)
    assert before.fingerprint_without([2, 7]) == after.fingerprint() != before.fingerprint()
    assert before.fingerprint_without([2]) != after.fingerprint()


def test_a_filled_source_has_no_such_fingerprint(folder):
    assert opened(folder).fill(5).fingerprint_without([0]) is None


def test_images_have_the_numbers_that_they_had(folder):
    before = opened(folder)
    for number in (0, 4, 8):
        (folder / before.train.ids[number]).unlink()
    now = opened(folder)
    found = renumbered(now, [0, 4, 8], before.fingerprint())
    assert len(found.train) == len(before.train) and found.fingerprint() == before.fingerprint()
    for number in (1, 2, 3, 5, 6, 7):
        assert found.train.ids[number] == before.train.ids[number]
        assert found.train.labels[number] == before.train.labels[number]
        np.testing.assert_array_equal(found.train.image(number), before.train.image(number))
    assert found.fingerprint_without([0, 4, 8]) == now.fingerprint()
    assert found.fingerprint_without([0, 3, 4, 8]) == before.fingerprint_without([0, 3, 4, 8])


@pytest.mark.parametrize("missing", [[3, 3], [4, 2], [-1], [99]])
def test_numbers_that_it_cannot_have_had_are_told(folder, missing):
    with pytest.raises(InputError, match="ascending numbers of"):
        renumbered(opened(folder), missing, "x")
