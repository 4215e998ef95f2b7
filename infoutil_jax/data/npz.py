"""Arrays of images and labels in one NPZ file, in MedMNIST's layout. NumPy on the host."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from infoutil_jax.data.examples import Examples, Listing
from infoutil_jax.data.splits import (
    Unlabelled,
    Wish,
    check_labels,
    choose_test,
    choose_train,
    not_taken,
)
from infoutil_jax.errors import InputError


def list_npz(path: Path, wish: Wish) -> Listing:
    """Lists an NPZ file of `SPLIT_images` [n, h, w] or [n, h, w, bands] and `SPLIT_labels` [n, 1].

    Classes are numbers, and are called so. Only the splits that are taken are read, into memory;
    nothing is unpickled.

    Raises:
        InputError: the file cannot be read, has no such arrays, has several labels an image, or
            arrays that do not fit.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; it should be an NPZ file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an NPZ file, which is a zip of arrays")
    try:
        with np.load(path, allow_pickle=False) as file:
            return _list(path, file, wish)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _list(path: Path, file: "np.lib.npyio.NpzFile", wish: Wish) -> Listing:
    names = [key.removesuffix("_images") for key in file.files if key.endswith("_images")]
    if not names:
        raise InputError(
            f"{path} holds {', '.join(file.files) or 'nothing'}; it should hold train_images and "
            "train_labels, as MedMNIST's files do"
        )
    train_name = choose_train(str(path), names, wish)
    labels = _labels(path, file, train_name)
    if isinstance(labels, Unlabelled):
        raise InputError(f"split {train_name} of {path} cannot be trained on: {labels}")
    classes = max(int(labels.max(initial=-1)) + 1, 1)
    there = np.unique(labels[labels >= 0])
    for number in np.flatnonzero(there != np.arange(len(there)))[:1]:
        raise InputError(
            f"{train_name}_labels of {path} have a class {classes - 1} and none {number}: classes "
            "should be numbered from 0 on, with images of each"
        )

    def examples(split: str) -> Examples | Unlabelled:
        labels = _labels(path, file, split)
        if isinstance(labels, Unlabelled):
            return labels
        if unlabelled := check_labels(str(path), split, labels, classes):
            return unlabelled
        images = file[f"{split}_images"]
        if images.ndim not in (3, 4) or len(images) != len(labels):
            raise InputError(
                f"{split}_images of {path} is {list(images.shape)}; it should be [n, height, "
                f"width] or [n, height, width, bands] for n = {len(labels)} labels"
            )
        ids = tuple(f"{split}/{i:07d}" for i in range(len(labels)))
        return Examples(ids, labels.astype(np.int32), images.__getitem__)

    train = examples(train_name)
    if isinstance(train, Unlabelled):
        raise InputError(f"split {train_name} of {path} cannot be trained on: {train}")
    test_name, test, reasons = choose_test(str(path), names, train_name, wish, examples)
    taken = (train_name, test_name)
    notes = not_taken(names, taken, reasons)
    class_names = tuple(str(number) for number in range(classes))
    return Listing(path.stem, class_names, train, test, taken, notes)


def _labels(path: Path, file: "np.lib.npyio.NpzFile", split: str) -> np.ndarray | Unlabelled:
    key = f"{split}_labels"
    if key not in file.files:
        return f"there is no {key}"
    labels = file[key]
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(
            f"{key} of {path} has {labels.shape[1]} labels an image; it should have one"
        )
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "iub":
        raise InputError(
            f"{key} of {path} is {labels.dtype} {list(labels.shape)}; it should be integers [n, 1]"
        )
    return np.asarray(labels.reshape(-1).astype(np.int64))
