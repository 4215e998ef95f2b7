"""Images from disk in the place of an array: the same pixels, figures and teachers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.sources import open_source
from infoutil_jax.data.streamed import Streamed, fingerprint

CIFAR = Path(__file__).parents[1] / "fixtures" / "cifar10"
PIXELS = np.random.default_rng(0).integers(0, 256, (23, 4, 5, 3), dtype=np.uint8)


def streamed(pixels=PIXELS, **options):
    return Streamed(pixels.__getitem__, np.arange(len(pixels)), pixels.shape[1:], 2, **options)


@given(
    st.one_of(
        st.slices(23),
        st.lists(st.integers(-23, 22), max_size=9).map(lambda rows: np.array(rows, np.int64)),
        st.lists(st.booleans(), min_size=23, max_size=23).map(np.array),
        st.integers(-23, 22),
    )
)
@settings(deadline=None)
def test_it_is_indexed_as_an_array_is(index):
    found = streamed()[index]
    if isinstance(index, slice):
        assert isinstance(found, Streamed)
    assert found.shape == PIXELS[index].shape
    np.testing.assert_array_equal(np.asarray(found), PIXELS[index])


def test_it_has_the_figures_of_an_array():
    images, labels = streamed(), np.arange(23) % 5
    assert (len(images), images.shape, images.ndim) == (23, PIXELS.shape, 4)
    assert (images.dtype, images.nbytes) == (PIXELS.dtype, PIXELS.nbytes)
    assert fingerprint(images, labels) == fingerprint(PIXELS, labels)
    assert channel_statistics(images) == channel_statistics(PIXELS)
    known = streamed(fingerprint="known", labels=labels)
    assert fingerprint(known, labels) == "known"
    # Other labels are another set, whatever was known.
    assert fingerprint(known, labels[::-1]) == fingerprint(PIXELS, labels[::-1])


@pytest.mark.parametrize("indexed", [False, True])
def test_a_source_that_is_not_in_memory_holds_no_images(tmp_path, indexed):
    options = {"index": tmp_path / "i.npz"} if indexed else {}
    kept = open_source(f"folder:{CIFAR}", **options)
    for _ in range(1 + indexed):
        source = open_source(f"folder:{CIFAR}", in_memory=False, **options)
        images, labels = source.train.labelled()
        assert isinstance(images, Streamed)
        wanted = fingerprint(*kept.train.arrays())
        assert images.fingerprint in (wanted, None)
        assert images.fingerprint is not None or indexed
        assert fingerprint(images, labels) == wanted
        np.testing.assert_array_equal(images, kept.train.arrays()[0])
        some = source.train.take([3, 1])
        assert fingerprint(*some.labelled()) == fingerprint(*kept.train.take([3, 1]).arrays())
        for (rows, batch), (_, expected) in zip(
            source.train.batches([5, 0, 2], 2), kept.train.batches([5, 0, 2], 2), strict=True
        ):
            np.testing.assert_array_equal(batch, expected, err_msg=str(rows))


def test_the_choice_is_by_size_and_can_be_forced(monkeypatch):
    monkeypatch.setattr("infoutil_jax.data.sources.IN_MEMORY_BYTES", 1000)
    assert isinstance(open_source(f"folder:{CIFAR}").train.labelled()[0], Streamed)
    forced = open_source(f"folder:{CIFAR}", in_memory=True)
    assert isinstance(forced.train.labelled()[0], np.ndarray)
