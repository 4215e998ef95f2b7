"""Where images come from: the digits, a folder, an NPZ file, TFDS. NumPy on the host, runs once.

Every image is read and decoded once before `open_source` returns, so a damaged file is known by
name before anything is computed; an index of an earlier call spares that. A source of up to
`IN_MEMORY_BYTES` of decoded pixels keeps them; a larger one decodes again whenever it is asked, and
never holds more than a few batches.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infoutil_jax import memory
from infoutil_jax.data.examples import Examples, Listing
from infoutil_jax.data.fingerprint import fingerprint_of
from infoutil_jax.data.index import Index
from infoutil_jax.data.loading import check, read, threads_for
from infoutil_jax.data.pixels import Header, View, decode
from infoutil_jax.data.readers import list_source
from infoutil_jax.data.split import Memory, Split
from infoutil_jax.data.splits import Wish
from infoutil_jax.data.streamed import Fingerprint, Streamed
from infoutil_jax.data.survey import Survey, wanted_colour, wanted_range, wanted_size
from infoutil_jax.errors import InputError

IN_MEMORY_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Source:
    """A labelled image set, cut into train and test.

    Attributes:
        spec: what it was opened from.
        name: a short name for people.
        class_names: name of each label.
        image_size: (height, width) of every image.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; or the bands that there are.
        skipped: ids of the unreadable images that were left out.
        splits: what is trained and tested on, by the names that the place gives its splits.
        notes: what was chosen, passed over or changed on the way, a sentence each.
        value_range: values that became 0 and 255; None where all images have 8 bits.
        alpha: whether the last channel is one.
        filled: of each class that `fill` repeated, how many images it has of its own.
        own_channels: those that its images have where none are asked for; None where they differ.
        options: what `open_source` opens the same source with, beside `spec`; JSON can hold it.
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
    value_range: tuple[float, float] | None = None
    alpha: bool = False
    filled: Mapping[str, int] = field(default_factory=dict)
    own_channels: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _told: Callable[[Sequence[int]], str | None] | None = field(default=None, repr=False)

    def fill(self, per_class: int) -> "Source":
        """The source with the training images of rare classes repeated, in turn.

        A repeated image is an example of its own: what is drawn at random of it, a crop say, is
        drawn anew.

        Args:
            per_class: the least number of training images that a class is to have.
        """
        counts = np.bincount(self.train.labels, minlength=len(self.class_names))
        rare = np.flatnonzero(counts < per_class)
        if not rare.size:
            return self
        more = [
            np.resize(np.flatnonzero(self.train.labels == label), per_class - counts[label])
            for label in rare
        ]
        rows = np.concatenate([np.arange(len(self.train)), *more])
        return replace(
            self,
            train=self.train.take(rows),
            filled={self.class_names[label]: int(counts[label]) for label in rare},
            _fingerprint=hashlib.sha256(f"{self._fingerprint} {per_class}".encode()).hexdigest(),
            _told=None,
        )

    def fingerprint(self) -> str:
        """Sha256 (hex) of classes, size, channels, and each example's split, id, label and bytes.

        The range of values and the background are part of it where they changed an image; where
        the folder lies is not.
        """
        return self._fingerprint

    def fingerprint_without(self, examples: Sequence[int]) -> str | None:
        """The fingerprint of the same source with some training images removed from its place.

        Where the source has no test split of its own, removing an image may move another one
        between the splits; the fingerprint is then another one.

        Args:
            examples: their numbers.

        Returns:
            None of a source whose rare classes were filled.
        """
        return None if self._told is None else self._told(examples)


def open_source(
    spec: str,
    *,
    image_size: int | Sequence[int] | Literal["auto"] | None = None,
    channels: int | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
    skip_unreadable: bool = False,
    max_per_class: int | None = None,
    data_dir: str | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    value_range: Sequence[float | int] | None = None,
    background: str | Sequence[int] = "white",
    in_memory: bool | None = None,
    index: str | Path | None = None,
) -> Source:
    """Opens "digits", "folder:PATH", "npz:FILE" or "tfds:NAME" and checks every image in it.

    Args:
        spec: "digits" is scikit-learn's 1,797 real 8x8 images. "folder:PATH" holds class
            subfolders, either directly or in train/ and test/; every image in a class folder or
            below it counts, pictures as well as arrays (.npy [height, width, bands]). "npz:FILE"
            holds arrays in MedMNIST's layout. "tfds:NAME" is a prepared TensorFlow dataset.
        image_size: side or (height, width) to bring every image to: the short side is resized
            with antialiasing, the centre kept. None takes the images as they are and wants them
            all of one size. "auto" does too, and where sizes differ takes the largest of 32, 64,
            128, 224 that is at most the median short side (at least 32).
        channels: None is 3 if any image is in colour, else 1; 2 and 4 keep alpha as a channel,
            where there is some. Of images with other bands than a picture, None is all of them,
            and any number the first ones.
        seed: decides the test split where the source has none, and what `max_per_class` keeps.
        test_fraction: share of each class that is tested on where the source has no test split.
        skip_unreadable: leave damaged images out and list them in `Source.skipped`.
        max_per_class: keep at most that many images of each class in each split; the others are
            not read.
        data_dir: where TFDS keeps its datasets; None is TFDS's default.
        train_split: name of the split to train on; None is train or training, in any case.
        test_split: name of the split to test on; None is the first of test, testing, validation,
            val, valid and dev, in any case, whose labels are known.
        value_range: values of more than 8 bits (integers or floats) that become 0 and 255; what
            lies beyond is clipped. None is the lowest and the highest value of all training images.
            Images of 8 bits keep their values in any case.
        background: a colour's name or (red, green, blue), 0 to 255, that transparent images are
            blended on; white, as viewers and browsers show them, since they were labelled so.
        in_memory: whether decoded images are kept; None keeps up to `IN_MEMORY_BYTES` of them.
        index: a file that keeps what a folder's images are found to be. The next call with it reads
            only those whose size or time of change is another. It is made where it is not there.

    Raises:
        InputError: the source is missing, empty, inconsistent or damaged; the sentence says where.
    """
    if channels is not None and channels < 1:
        raise InputError(f"channels is {channels}; it should be 1 or more")
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction}; it should be between 0 and 1")
    if max_per_class is not None and max_per_class < 1:
        raise InputError(f"max_per_class is {max_per_class}; it should be 1 or more")
    options: dict[str, Any] = {
        "seed": seed,
        "test_fraction": test_fraction,
        "skip_unreadable": skip_unreadable,
        "max_per_class": max_per_class,
        "data_dir": data_dir,
        "train_split": train_split,
        "test_split": test_split,
        "value_range": value_range,
        "background": background,
    }
    wanted, behind = wanted_size(image_size), wanted_colour(background)
    extremes = wanted_range(value_range)
    listing = list_source(spec, data_dir, Wish(train_split, test_split))
    if len(listing.class_names) < 2:
        raise InputError(f"{spec} has {len(listing.class_names)} class; it should have 2 or more")
    if listing.test is None:
        listing = _cut(listing, seed, test_fraction)
    assert listing.test is not None
    parts = [listing.train, listing.test]
    if max_per_class is not None:
        parts = [_first_per_class(part, seed, max_per_class) for part in parts]
    found = Index.load(None if index is None else Path(index).expanduser())
    survey = Survey.of(parts[0], parts[1], found, skip_unreadable=skip_unreadable)
    _check_classes(survey.train[0].labels, listing, spec)
    size, channels = survey.size(wanted), survey.channels(channels)
    extremes = survey.value_range(extremes)
    view = View(size, channels, behind, extremes or View.value_range)
    needed = len(survey.headers()) * size[0] * size[1] * channels
    if in_memory:
        memory.check(f"{spec} in memory", needed, "choose in_memory=False, or a smaller image_size")
    if in_memory is None:
        in_memory = needed <= IN_MEMORY_BYTES
    (train, train_headers, vanished), (test, test_headers, more) = (
        _load(part, headers, view, found, skip_unreadable, in_memory)
        for part, headers in (survey.train, survey.test)
    )
    _check_classes(train.labels, listing, spec)
    if not len(test):
        raise InputError(f"{spec} has no readable test image; it should have at least one")
    made: dict[str, Any] = {"value_range": extremes} if extremes else {}
    made |= {"background": behind} if survey.blended(channels) else {}
    digests = [header.digest for header in train_headers + test_headers]
    told = partial(fingerprint_of, listing.class_names, train, test, b"".join(digests), made)
    fingerprint = told()
    train, test = found.fingerprinted(fingerprint, train, test)
    found.save()
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
        _fingerprint=fingerprint,
        splits=listing.splits,
        notes=listing.notes + survey.notes(view, extremes is not None, vanished + more),
        value_range=extremes,
        alpha=survey.has_alpha(channels),
        own_channels=survey.own_channels(),
        options=options | {"image_size": list(size), "channels": channels},
        _told=told,
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


def _load(
    part: Examples,
    headers: list[Header],
    view: View,
    index: Index,
    skip_unreadable: bool,
    in_memory: bool,
) -> tuple[Split, list[Header], int]:
    """Decodes every image once, to know that it can be decoded; keeps the pixels where they fit.

    Of what the index says has been decoded, only images with alpha are decoded again, to count
    those that are of one colour on their background.
    """
    shape, count = (*view.size, view.channels), len(headers)
    done = {i for i, known in index.of(part).items() if known.sound and not headers[i].alpha}
    rows = [i for i in range(count) if i not in done]
    images = np.empty((count if in_memory and not done else 0, *shape), np.uint8)
    flat, digest = np.zeros(count, bool), Fingerprint((count, *shape))

    def keep(place: int, image: np.ndarray) -> None:
        flat[place] = headers[place].alpha and bool((image == image[:1, :1]).all())
        if len(images):
            images[place] = image
        elif not done:
            digest.update(image)

    to_pixels = partial(decode, view=view)
    threads = threads_for([header.size for header in headers])
    bad = check(part, to_pixels, keep, rows, threads=threads, skip_unreadable=skip_unreadable)
    if bad:
        good = np.array([i for i in range(count) if i not in bad], np.int64)
        part, headers, flat = part.take(good), [headers[i] for i in good], flat[good]
        images = images[good] if len(images) else images
    index.decoded(part.ids)
    to_split, every = partial(read, part, to_pixels), np.arange(len(headers))
    load = partial(np.asarray, Streamed(to_split, every, shape, threads))
    split = Split(
        labels=part.labels,
        ids=part.ids,
        shape=shape,
        _decode=to_split,
        _memory=Memory(load, images if len(images) else None) if in_memory else None,
        _threads=threads,
        fingerprint=None if bad or done or in_memory else digest.of(part.labels),
    )
    return split, headers, int(flat.sum())


def _check_classes(labels: np.ndarray, listing: Listing, spec: str) -> None:
    counts = np.bincount(labels, minlength=len(listing.class_names))
    if not counts.all():
        name = listing.class_names[int(np.argmin(counts))]
        raise InputError(
            f"class {name!r} of {spec} has no readable training image; it should have at least one"
        )
