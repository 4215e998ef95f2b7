"""Where images come from: the built-in digits, a folder, TFDS. NumPy on the host, runs once.

Every image is read and decoded once before `open_source` returns, so a damaged file is known by
name before anything is computed. A source of up to `IN_MEMORY_BYTES` of decoded pixels keeps
them; a larger one decodes again whenever it is asked, and never holds more than a few batches.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from infoutil_jax.data.examples import Examples, Listing
from infoutil_jax.data.loading import check, read, threads_for
from infoutil_jax.data.pixels import Header, decode, read_header
from infoutil_jax.data.readers import list_source
from infoutil_jax.data.split import Split
from infoutil_jax.data.splits import Wish
from infoutil_jax.errors import InputError

IN_MEMORY_BYTES = 2**30
AUTO_SIZES = (32, 64, 128, 224)


@dataclass(frozen=True, eq=False)
class Source:
    """A labelled image set, cut into train and test.

    Attributes:
        spec: what it was opened from.
        name: a short name for people.
        class_names: name of each label.
        image_size: (height, width) of every image.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        skipped: ids of the unreadable images that were left out.
        splits: what is trained and tested on, by the names that the place gives its splits.
        notes: what was chosen, passed over or changed on the way, a sentence each.
    """

    spec: str
    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    train: Split
    test: Split
    skipped: tuple[str, ...]
    _fingerprint: str = field(repr=False)
    splits: tuple[str, str] = ("train", "test")
    notes: tuple[str, ...] = field(default=(), repr=False)

    def fingerprint(self) -> str:
        """Sha256 (hex) of classes, size, channels, and each example's split, id, label and bytes.

        Where the folder lies is not part of it.
        """
        return self._fingerprint


def open_source(
    spec: str,
    *,
    image_size: int | tuple[int, int] | Literal["auto"] | None = None,
    channels: int | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
    skip_unreadable: bool = False,
    max_per_class: int | None = None,
    data_dir: str | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
) -> Source:
    """Opens "digits", "folder:PATH" or "tfds:NAME" and checks every image in it.

    Args:
        spec: "digits" is scikit-learn's 1,797 real 8x8 images. "folder:PATH" holds class
            subfolders, either directly or in train/ and test/; every image in a class folder or
            below it counts. "tfds:NAME" is a prepared TensorFlow dataset.
        image_size: side or (height, width) to bring every image to: the short side is resized
            with antialiasing, the centre kept. None takes the images as they are and wants them
            all of one size. "auto" does too, and where sizes differ takes the largest of 32, 64,
            128, 224 that is at most the median short side (at least 32).
        channels: 1 to 4; None is 3 if any image is in colour, else 1.
        seed: decides the test split where the source has none, and what `max_per_class` keeps.
        test_fraction: share of each class that is tested on where the source has no test split.
        skip_unreadable: leave damaged images out and list them in `Source.skipped`.
        max_per_class: keep at most that many images of each class in each split; the others are
            not read.
        data_dir: where TFDS keeps its datasets; None is TFDS's default.
        train_split: name of the split to train on; None is train or training, in any case.
        test_split: name of the split to test on; None is the first of test, testing, validation,
            val, valid and dev, in any case, whose labels are known.

    Raises:
        InputError: the source is missing, empty, inconsistent or damaged; the sentence says where.
    """
    if channels not in (None, 1, 2, 3, 4):
        raise InputError(f"channels is {channels}; it should be 1, 2, 3 or 4")
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction}; it should be between 0 and 1")
    if max_per_class is not None and max_per_class < 1:
        raise InputError(f"max_per_class is {max_per_class}; it should be 1 or more")
    wanted = _wanted_size(image_size)
    listing = list_source(spec, data_dir, Wish(train_split, test_split))
    if len(listing.class_names) < 2:
        raise InputError(f"{spec} has {len(listing.class_names)} class; it should have 2 or more")
    if listing.test is None:
        listing = _cut(listing, seed, test_fraction)
    assert listing.test is not None
    parts = [listing.train, listing.test]
    if max_per_class is not None:
        parts = [_first_per_class(part, seed, max_per_class) for part in parts]

    surveys = [_survey(part, skip_unreadable) for part in parts]
    _check_classes(surveys[0][0].labels, listing, spec)
    size = wanted if isinstance(wanted, tuple) else _common_size(surveys, wanted == "auto")
    if channels is None:
        channels = 3 if any(h.colour for _, headers in surveys for h in headers) else 1
    shape = (*size, channels)
    total = sum(len(headers) for _, headers in surveys) * int(np.prod(shape))
    (train, train_headers), (test, test_headers) = (
        _load(part, headers, shape, skip_unreadable, total <= IN_MEMORY_BYTES)
        for part, headers in surveys
    )
    _check_classes(train.labels, listing, spec)
    if not len(test):
        raise InputError(f"{spec} has no readable test image; it should have at least one")
    digests = [header.digest for header in train_headers + test_headers]
    return Source(
        spec=spec,
        name=listing.name,
        class_names=listing.class_names,
        image_size=size,
        channels=channels,
        train=train,
        test=test,
        skipped=tuple(
            sorted({name for part in parts for name in part.ids} - {*train.ids, *test.ids})
        ),
        _fingerprint=_fingerprint(listing.class_names, train, test, digests),
        splits=listing.splits,
        notes=listing.notes,
    )


def _by_class(part: Examples, seed: int) -> list[np.ndarray]:
    """Each class's examples in a random order of their own: by hash of seed and id.

    So an image added to the folder, or removed, changes the split by one image at most.
    """

    def rank(index: int) -> bytes:
        return hashlib.sha256(b"%d:" % seed + os.fsencode(part.ids[index])).digest()

    order = np.array(sorted(range(len(part.ids)), key=rank), np.int64)
    return [order[part.labels[order] == label] for label in np.unique(part.labels)]


def _cut(listing: Listing, seed: int, test_fraction: float) -> Listing:
    """The listing with a share of each class's training images to test on."""
    train, test = [], []
    for members in _by_class(listing.train, seed):
        if len(members) < 2:
            name = listing.class_names[listing.train.labels[members[0]]]
            raise InputError(
                f"class {name!r} of {listing.name} has one image only; it should have two or more "
                "to be split into train and test"
            )
        count = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
        test.append(members[:count])
        train.append(members[count:])
    whole = listing.splits[0] or "each class"
    note = f"no test split with labels: {test_fraction:.0%} of {whole} are tested on (seed {seed})"
    return replace(
        listing,
        train=listing.train.take(np.sort(np.concatenate(train))),
        test=listing.train.take(np.sort(np.concatenate(test))),
        splits=(f"{1 - test_fraction:.0%} of {whole}", f"{test_fraction:.0%} of {whole}"),
        notes=(*listing.notes, note),
    )


def _first_per_class(part: Examples, seed: int, count: int) -> Examples:
    return part.take(np.sort(np.concatenate([m[:count] for m in _by_class(part, seed)])))


def _survey(part: Examples, skip_unreadable: bool) -> tuple[Examples, list[Header]]:
    """The examples of `part` whose header can be read, and these headers."""
    headers: dict[int, Header] = {}
    good = check(part, read_header, headers.__setitem__, threads=4, skip_unreadable=skip_unreadable)
    return part.take(good), [headers[int(i)] for i in good]


def _load(
    part: Examples,
    headers: list[Header],
    shape: tuple[int, int, int],
    skip_unreadable: bool,
    in_memory: bool,
) -> tuple[Split, list[Header]]:
    """Decodes every image once, to know that it can be decoded; keeps the pixels where they fit."""
    images = np.empty((len(headers) if in_memory else 0, *shape), np.uint8)
    to_pixels = partial(decode, size=shape[:2], channels=shape[2])
    threads = threads_for([header.size for header in headers])
    keep = images.__setitem__ if in_memory else lambda index, image: None
    good = check(part, to_pixels, keep, threads=threads, skip_unreadable=skip_unreadable)
    if len(good) < len(headers):
        part, headers = part.take(good), [headers[i] for i in good]
        images = images[good] if in_memory else images
    images.flags.writeable = False
    split = Split(
        labels=part.labels,
        ids=part.ids,
        shape=shape,
        _decode=partial(read, part, to_pixels),
        _pixels=images if in_memory else None,
        _threads=threads,
    )
    return split, headers


def _check_classes(labels: np.ndarray, listing: Listing, spec: str) -> None:
    counts = np.bincount(labels, minlength=len(listing.class_names))
    if not counts.all():
        name = listing.class_names[int(np.argmin(counts))]
        raise InputError(
            f"class {name!r} of {spec} has no readable training image; it should have at least one"
        )


def _wanted_size(image_size: Any) -> tuple[int, int] | Literal["auto"] | None:
    if image_size is None:
        return None
    if image_size == "auto":
        return "auto"
    sides = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(
            f"image_size is {image_size!r}; it should be a side, (height, width) or 'auto'"
        )
    return sides


def _common_size(surveys: list[tuple[Examples, list[Header]]], choose: bool) -> tuple[int, int]:
    """The size that all images have, or where they differ, the one that "auto" chooses."""
    sizes = [header.size for _, headers in surveys for header in headers]
    names = [name for part, _ in surveys for name in part.ids]
    other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if other is None:
        return sizes[0]
    if choose:
        short = float(np.median([min(size) for size in sizes]))
        side = max([side for side in AUTO_SIZES if side <= short], default=AUTO_SIZES[0])
        return (side, side)
    raise InputError(
        f"images differ in size: {names[0]} is {sizes[0][0]}x{sizes[0][1]}, {names[other]} is "
        f"{sizes[other][0]}x{sizes[other][1]} (height x width); pass image_size, a side in pixels "
        "or 'auto'"
    )


def _fingerprint(
    class_names: tuple[str, ...], train: Split, test: Split, digests: list[bytes]
) -> str:
    whole = hashlib.sha256(json.dumps([class_names, train.shape, len(train), len(test)]).encode())
    labels = np.concatenate([train.labels, test.labels])
    for name, label, digest in zip(train.ids + test.ids, labels, digests, strict=True):
        whole.update(json.dumps([name, int(label), digest.hex()]).encode())
    return whole.hexdigest()
