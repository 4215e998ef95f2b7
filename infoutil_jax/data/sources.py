"""Where images come from: the built-in digits, a folder, TFDS. NumPy on the host, runs once.

Every image is read and decoded once before `open_source` returns, so a damaged file is known by
name before anything is computed. A source of up to `IN_MEMORY_BYTES` of decoded pixels keeps
them; a larger one decodes again whenever it is asked, and never holds more than a few batches.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import grain
import numpy as np
from jaxtyping import Int, Int32, UInt8
from PIL import UnidentifiedImageError

from infoutil_jax.data import pixels, readers
from infoutil_jax.data.readers import Examples, Listing
from infoutil_jax.errors import InputError

IN_MEMORY_BYTES = 2**30
AUTO_SIZES = (32, 64, 128, 224)
_SPECS = "digits, folder:PATH or tfds:NAME"
_CHUNK = 32  # images a thread takes at a time

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Split:
    """Random access to labelled images of one size; example i keeps its place for ever.

    Attributes:
        labels: class of each example, an index into the source's `class_names`.
        ids: name of each example: a path within the folder, or split and number.
        shape: (height, width, channels) of every image.
    """

    labels: Int32[np.ndarray, " n"]
    ids: tuple[str, ...] = field(repr=False)
    shape: tuple[int, int, int]
    _decode: Callable[[int], UInt8[np.ndarray, "h w c"]] = field(repr=False)
    _pixels: UInt8[np.ndarray, "n h w c"] | None = field(repr=False)
    _threads: int = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> UInt8[np.ndarray, "h w c"]:
        """The pixels of example `index`."""
        return self._decode(index) if self._pixels is None else self._pixels[index]

    def arrays(self) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
        """All images and labels; read-only where the source keeps them in memory."""
        if self._pixels is not None:
            return self._pixels, self.labels
        images = np.empty((len(self), *self.shape), np.uint8)
        for indices, batch in self._batches(np.arange(len(self)), _CHUNK):
            images[indices] = batch
        return images, self.labels

    def batches(
        self, indices: Int[np.ndarray, " k"] | Sequence[int], batch_size: int
    ) -> Iterator[tuple[Int[np.ndarray, " b"], UInt8[np.ndarray, "b h w c"]]]:
        """Yield (indices, images) in the order given, the last batch as short as it comes.

        Memory holds a few batches, however many images there are: threads decode ahead.

        Raises:
            InputError: a batch size below 1, or an index outside the split.
        """
        indices = np.asarray(indices, np.int64)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it should be 1 or more")
        wrong = indices[(indices < 0) | (indices >= len(self))]
        if wrong.size:
            raise InputError(f"index {wrong[0]} is outside the split's 0 to {len(self) - 1}")
        return self._batches(indices, batch_size)

    def _batches(self, indices: np.ndarray, batch_size: int) -> Iterator[tuple[Any, Any]]:
        stream = _threaded(self.image, indices, self._threads)
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            if self._pixels is not None:
                yield batch, self._pixels[batch]
            else:
                yield batch, np.stack([next(stream) for _ in batch])


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
) -> Source:
    """Open "digits", "folder:PATH" or "tfds:NAME" and check every image in it.

    Args:
        spec: "digits" is scikit-learn's 1,797 real 8x8 images. "folder:PATH" holds class
            subfolders, either directly or under train/ and test/ (or val/, validation/).
            "tfds:NAME" is a prepared TensorFlow dataset.
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

    Raises:
        InputError: the source is missing, empty, inconsistent or damaged; the sentence says where.
    """
    if channels not in (None, 1, 2, 3, 4):
        raise InputError(f"channels is {channels}; it should be 1, 2, 3 or 4")
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction}; it should be between 0 and 1")
    if max_per_class is not None and max_per_class < 1:
        raise InputError(f"max_per_class is {max_per_class}; it should be 1 or more")
    listing = _list(spec, data_dir)
    if len(listing.class_names) < 2:
        raise InputError(f"{spec} has {len(listing.class_names)} class; it should have 2 or more")
    parts = _split(listing, seed, test_fraction)
    if max_per_class is not None:
        parts = [_first_per_class(part, seed, max_per_class) for part in parts]

    surveys = [_survey(part, skip_unreadable) for part in parts]
    _check_classes(surveys[0].examples, listing, spec)
    size = _image_size(image_size, surveys)
    if channels is None:
        channels = 3 if any(h.colour for survey in surveys for h in survey.headers) else 1
    shape = (*size, channels)

    total = sum(len(survey.headers) for survey in surveys) * int(np.prod(shape))
    loaded = [_load(s, shape, skip_unreadable, total <= IN_MEMORY_BYTES) for s in surveys]
    splits = [split for split, _ in loaded]
    surveys = [survey for _, survey in loaded]
    _check_classes(surveys[0].examples, listing, spec)
    if not len(splits[1]):
        raise InputError(f"{spec} has no readable test image; it should have at least one")
    return Source(
        spec=spec,
        name=listing.name,
        class_names=listing.class_names,
        image_size=size,
        channels=channels,
        train=splits[0],
        test=splits[1],
        skipped=tuple(sorted(name for survey in surveys for name in survey.skipped)),
        _fingerprint=_fingerprint(listing.class_names, shape, surveys),
    )


def _list(spec: str, data_dir: str | None) -> Listing:
    kind, _, where = spec.partition(":")
    if spec == "digits":
        return readers.list_digits()
    if kind == "folder" and where:
        return readers.list_folder(Path(where).expanduser())
    if kind == "tfds" and where:
        return readers.list_tfds(where, data_dir)
    raise InputError(f"unknown source {spec!r}; it should be {_SPECS}")


def _by_class(part: Examples, seed: int) -> list[np.ndarray]:
    """Each class's examples in a random order of their own: by hash of seed and id.

    So an image added to or removed from the folder moves no other.
    """

    def rank(index: int) -> bytes:
        return hashlib.sha256(b"%d:" % seed + os.fsencode(part.ids[index])).digest()

    order = np.array(sorted(range(len(part.ids)), key=rank), np.int64)
    return [order[part.labels[order] == label] for label in np.unique(part.labels)]


def _split(listing: Listing, seed: int, test_fraction: float) -> list[Examples]:
    if listing.test is not None:
        return [listing.train, listing.test]
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
    return [listing.train.take(np.sort(np.concatenate(part))) for part in (train, test)]


def _first_per_class(part: Examples, seed: int, count: int) -> Examples:
    return part.take(np.sort(np.concatenate([m[:count] for m in _by_class(part, seed)])))


@dataclass(frozen=True)
class _Survey:
    """One split before decoding: its readable examples, their headers, and who was left out."""

    examples: Examples
    headers: list[pixels.Header]
    skipped: tuple[str, ...] = ()

    def without(self, failures: dict[int, InputError], skip_unreadable: bool) -> "_Survey":
        if not failures:
            return self
        if not skip_unreadable:
            more = f" ({len(failures) - 1} more like it)" if len(failures) > 1 else ""
            raise InputError(
                f"{next(iter(failures.values()))}{more}; repair or remove it, "
                "or leave it out with skip_unreadable=True"
            )
        good = [i for i in range(len(self.headers)) if i not in failures]
        return _Survey(
            self.examples.take(np.array(good, np.int64)),
            [self.headers[i] for i in good],
            self.skipped + tuple(self.examples.ids[i] for i in failures),
        )


def _survey(part: Examples, skip_unreadable: bool) -> _Survey:
    headers = _threaded(_tried(partial(_read, part, pixels.read_header)), range(len(part.ids)), 4)
    found = list(headers)
    return _Survey(part, found).without(_failures(found), skip_unreadable)


def _load(
    survey: _Survey, shape: tuple[int, int, int], skip_unreadable: bool, in_memory: bool
) -> tuple[Split, _Survey]:
    """Decode every image once, to know that it can be; keep the pixels where they fit."""
    *size, channels = shape
    count = len(survey.headers)
    images = np.empty((count, *shape), np.uint8) if in_memory else None

    def check(index: int) -> None:
        image = _read(survey.examples, to_pixels, index)
        if images is not None:
            images[index] = image

    to_pixels = partial(pixels.decode, size=tuple(size), channels=channels)
    threads = _threads([header.size for header in survey.headers])
    failures = _failures(_threaded(_tried(check), range(count), threads))
    if images is not None:
        images = np.delete(images, list(failures), axis=0) if failures else images
        images.flags.writeable = False
    survey = survey.without(failures, skip_unreadable)
    part = survey.examples
    decode = partial(_read, part, to_pixels)
    return Split(part.labels, part.ids, shape, decode, images, threads), survey


def _read(part: Examples, use: Callable[[pixels.Encoded], T], index: int) -> T:
    """Fetch an example and use it; what fails carries its name."""
    try:
        return use(part.read(index))
    except Exception as error:  # decoders fail in as many ways as files are damaged
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = "not in a format that Pillow knows"
        raise InputError(f"{part.ids[index]} cannot be read as an image: {reason}") from error


def _tried(function: Callable[[int], T]) -> Callable[[int], T | InputError]:
    def attempt(index: int) -> T | InputError:
        try:
            return function(index)
        except InputError as error:
            return error

    return attempt


def _failures(results: Iterable[Any]) -> dict[int, InputError]:
    return {i: result for i, result in enumerate(results) if isinstance(result, InputError)}


def _threaded(
    function: Callable[[int], T], indices: Sequence[int] | np.ndarray, threads: int
) -> Iterator[T]:
    """Yield function(i) for each index, in order, from threads working a little ahead."""
    chunks = [indices[i : i + _CHUNK] for i in range(0, len(indices), _CHUNK)]
    if not chunks:
        return
    dataset = grain.MapDataset.source(chunks).map(lambda chunk: [function(int(i)) for i in chunk])
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    for results in dataset.to_iter_dataset(ahead):
        yield from results


def _threads(sizes: Sequence[tuple[int, int]]) -> int:
    """Threads to decode with: small images are all interpreter, and threads only queue for it."""
    large = sum(height * width for height, width in sizes) > 64**2 * len(sizes)
    return (os.cpu_count() or 1) if large else 1


def _check_classes(train: Examples, listing: Listing, spec: str) -> None:
    counts = np.bincount(train.labels, minlength=len(listing.class_names))
    if not counts.all():
        name = listing.class_names[int(np.argmin(counts))]
        raise InputError(
            f"class {name!r} of {spec} has no readable training image; it should have at least one"
        )


def _image_size(wanted: Any, surveys: list[_Survey]) -> tuple[int, int]:
    if isinstance(wanted, int):
        wanted = (wanted, wanted)
    if isinstance(wanted, tuple):
        if len(wanted) != 2 or min(wanted) < 1:
            raise InputError(f"image_size is {wanted}; it should be one or two positive integers")
        return wanted
    if wanted not in (None, "auto"):
        raise InputError(f"image_size is {wanted!r}; it should be n, (height, width) or 'auto'")
    sized = [
        (header.size, name)
        for survey in surveys
        for header, name in zip(survey.headers, survey.examples.ids, strict=True)
    ]
    first, first_name = sized[0]
    other, other_name = next((pair for pair in sized if pair[0] != first), sized[0])
    if other == first:
        return first
    if wanted == "auto":
        short = float(np.median([min(size) for size, _ in sized]))
        return (max([n for n in AUTO_SIZES if n <= short], default=AUTO_SIZES[0]),) * 2
    raise InputError(
        f"images differ in size: {first_name} is {first[0]}x{first[1]} and {other_name} is "
        f"{other[0]}x{other[1]} (height x width); pass image_size, a side in pixels or 'auto'"
    )


def _fingerprint(class_names: tuple[str, ...], shape: tuple[int, ...], surveys: Any) -> str:
    digest = hashlib.sha256(json.dumps([class_names, shape]).encode())
    for survey in surveys:
        part = survey.examples
        digest.update(b"split")
        for name, label, header in zip(part.ids, part.labels, survey.headers, strict=True):
            digest.update(json.dumps([name, int(label), header.digest.hex()]).encode())
    return digest.hexdigest()
