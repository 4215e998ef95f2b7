"""What the verbs of the command line share: where images come from, and what computes (host)."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from infoutil_jax import files, parallel, ranges
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.errors import InputError

DeviceCount = int | Literal["all"]
CPU_SIDE = 64  # pixels that are kept where there is no accelerator


@dataclass(frozen=True)
class SourceOptions:
    """Where images come from."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """digits, folder:PATH (class subfolders, with or without train/ and test/), npz:FILE
    (MedMNIST's layout), or tfds:NAME."""
    image_size: int | tuple[int, int] | Literal["auto"] = "auto"
    """Side in pixels, or height and width; "auto" is that of the teacher or the set that is there,
    else a common size or one chosen for mixed sizes, without an accelerator at most 64."""
    channels: int | None = None
    """1 grey, 3 colour, 2 and 4 with alpha, or how many bands; by default what the images have."""
    skip_unreadable: bool = False
    """Leave out unreadable images and list them, instead of stopping at the first."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    split_seed: int = 0
    """Of the train/test split, where the source has none."""
    train_split: str | None = None
    """Split to train on; by default train or training."""
    test_split: str | None = None
    """Split to test on; by default the first of test, testing, validation, val, valid and dev that
    has labels, else a fifth of each class."""
    value_range: tuple[float, float] | None = None
    """Values of more than 8 bits that become 0 and 255; by default the lowest and highest of the
    training images."""
    background: str = "white"
    """What transparent images are blended on: a colour's name, or red,green,blue."""
    in_memory: bool | None = None
    """Keep all images decoded in memory; by default up to 1 GiB of them, else they are read anew
    whenever they are needed."""
    verify_images: bool = False
    """Read every image of a folder, and not only those that have changed since a verb read them."""

    def __post_init__(self) -> None:
        ranges.check(self)

    def open(self, shape: tuple[int, int, int] | None = None) -> Source:
        """Opens the source, and says what was left out, passed over and chosen.

        Args:
            shape: height, width and channels of a teacher or a set that is there already: what is
                not asked for otherwise.
        """
        size = self.image_size
        if shape is not None and size == "auto":
            size = shape[:2]
        channels = self.channels
        if shape is not None and channels is None:
            channels = shape[2]
        source = self._open(size, channels)
        if size == "auto" and jax.default_backend() == "cpu" and min(source.image_size) > CPU_SIDE:
            # At full size training would take days.
            print(
                f"no accelerator found: {CPU_SIDE} pixels instead of {min(source.image_size)}; "
                "choose with --image-size"
            )
            source = self._open(CPU_SIDE, channels)
        for note in source.notes:
            print(f"note: {note}", file=sys.stderr)
        for name in source.skipped:
            print(f"skipped, unreadable: {name}", file=sys.stderr)
        print(account(source))
        return source

    def _open(self, size: int | tuple[int, int] | Literal["auto"], channels: int | None) -> Source:
        index = index_of(self.source)
        if index is not None and self.verify_images:
            index.unlink(missing_ok=True)
        return open_source(
            self.source,
            image_size=size,
            channels=channels,
            seed=self.split_seed,
            skip_unreadable=self.skip_unreadable,
            data_dir=self.data_dir,
            train_split=self.train_split,
            test_split=self.test_split,
            value_range=self.value_range,
            background=self.background,
            in_memory=self.in_memory,
            index=index,
        )


@dataclass(frozen=True)
class NamedSource(SourceOptions):
    """Where the images come from that a set was distilled from."""

    source: str
    """What the set was distilled from: digits, folder:PATH, npz:FILE or tfds:NAME, opened with the
    same options."""


@dataclass(frozen=True)
class Originals(SourceOptions):
    """Where the original images are, if they are to be looked at."""

    source: str | None = None  # type: ignore[assignment]
    """What the set was distilled from, opened with the same options."""

    def opened(self, shape: Sequence[int]) -> Source | None:
        """The source, as `open`, with what that says on stderr; None where none is named.

        Args:
            shape: height, width and channels of the set.
        """
        if self.source is None:
            return None
        with redirect_stdout(sys.stderr):
            height, width, channels = shape
            return self.open((height, width, channels))


@dataclass(frozen=True)
class Machines:
    """What computes; devices and processes do not change the set."""

    devices: DeviceCount = "all"
    """Of this machine, that attribute and score; each has a batch in flight."""
    coordinator: str | None = None
    """host:port of the first of several processes that see the same disk, or "auto" under SLURM,
    Open MPI or on a TPU pod."""
    processes: int | None = None
    """How many there are; known to "auto"."""
    process: int | None = None
    """Which this is, from 0; known to "auto"."""
    ray: str | None = None
    """Score parts of the pool as tasks of a Ray cluster: "auto" is the one that this machine
    belongs to, ray://HOST:10001 another one, and "local" starts one here."""

    def __post_init__(self) -> None:
        ranges.check(self)

    @contextmanager
    def joined(self) -> Iterator[parallel.Devices]:
        """Joins the other processes, if any, before anything is computed, and stops with them."""
        if self.coordinator is not None:
            parallel.start(self.coordinator, self.processes, self.process)
        elif self.processes is not None or self.process is not None:
            raise InputError(
                "--processes and --process need --coordinator, host:port of the first."
            )
        with parallel.together():
            yield parallel.devices_of(self.devices)


@dataclass(frozen=True)
class Logs:
    """Where a program reads how far the work is; people see bars where there is a terminal."""

    log_json: Path | None = None
    """Append a line of JSON for every step of every stage: done, total, loss, memory."""
    tensorboard: Path | None = None
    """Write each stage's figures for TensorBoard to this folder."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Has them written meanwhile."""
        from infoutil_jax import progress

        with ExitStack() as stack:
            if self.log_json is not None:
                stack.enter_context(progress.listening(progress.json_lines(self.log_json)))
            if self.tensorboard is not None:
                stack.enter_context(progress.listening(progress.tensorboard(self.tensorboard)))
            yield


def index_of(spec: str) -> Path | None:
    """The file that keeps what the images of a folder are found to be; None for other sources."""
    kind, _, where = spec.partition(":")
    if kind != "folder":
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = os.fsencode(files.real(os.path.expanduser(where)))  # noqa: PTH111, which may raise
    return caches / "infoutil_jax" / "sources" / f"{hashlib.sha256(place).hexdigest()[:16]}.npz"


def default_workdir(source: Source, before: str = "") -> Path:
    """A folder below runs/, another one for each source: folders of one name lie in two places."""
    kind, _, where = source.spec.partition(":")
    if kind != "folder":
        return Path("runs") / f"{before}{source.name}"
    path = os.fsencode(files.real(os.path.expanduser(where)))  # noqa: PTH111, which may raise
    return Path("runs") / f"{before}{source.name}-{hashlib.sha256(path).hexdigest()[:6]}"


def account(source: Source) -> str:
    """How many images there are, of what size, and of each class."""
    height, width = source.image_size
    lines = [
        f"{source.spec}: {len(source.train)} training and {len(source.test)} test images of "
        f"{height}x{width} pixels, {source.channels} channels, {len(source.class_names)} classes"
    ]
    for use, split, name in zip(
        ("train", "test"), (source.train, source.test), source.splits, strict=True
    ):
        counts = np.bincount(split.labels, minlength=len(source.class_names)).tolist()
        lines.append(f"  {use} on {name}: {_classes(source.class_names, counts)}")
    return "\n".join(lines)


def _classes(names: tuple[str, ...], counts: list[int]) -> str:
    """How many images of each class there are; of many classes, of the smallest and largest."""
    if len(names) <= 10:
        return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
    least, most = min(counts), max(counts)
    if least == most:
        return f"{least} images of each class"
    return (
        f"from {least} images of {names[counts.index(least)]} "
        f"to {most} of {names[counts.index(most)]}"
    )
