"""What images there are, before any is decoded: which reader lists which source. On the host."""

from pathlib import Path

import numpy as np

from infoutil_jax.data.examples import Examples, Listing
from infoutil_jax.data.folders import list_folder
from infoutil_jax.data.npz import list_npz
from infoutil_jax.data.splits import Wish
from infoutil_jax.data.tfds import list_tfds
from infoutil_jax.errors import InputError


def list_source(spec: str, data_dir: str | None, wish: Wish) -> Listing:
    """Lists the examples of "digits", "folder:PATH", "npz:FILE" or "tfds:NAME".

    Raises:
        InputError: there is no such source, or it is not as it should be.
    """
    kind, _, where = spec.partition(":")
    if spec == "digits":
        return list_digits(wish)
    if kind == "folder" and where:
        return list_folder(Path(where).expanduser(), wish)
    if kind == "npz" and where:
        return list_npz(Path(where).expanduser(), wish)
    if kind == "tfds" and where:
        return list_tfds(where, data_dir, wish)
    place = Path(spec).expanduser()
    near = "folder" if spec and place.is_dir() else "npz" if place.is_file() else ""
    hint = f" (did you mean {near}:{spec}?)" if near else ""
    raise InputError(
        f"unknown source {spec!r}{hint}; it should be digits, folder:PATH, npz:FILE or tfds:NAME"
    )


def list_digits(wish: Wish) -> Listing:
    """scikit-learn's 1,797 hand-written digits, 8x8 grey, 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    if wish != Wish():
        raise InputError("digits has no splits to choose (--train-split, --test-split)")
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    ids = tuple(f"digits/{i:04d}" for i in range(len(pixels)))
    examples = Examples(ids, digits.target.astype(np.int32), pixels.__getitem__)
    return Listing("digits", tuple("0123456789"), examples, None)
