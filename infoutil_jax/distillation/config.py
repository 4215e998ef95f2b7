"""How distilling runs, apart from the method and the budget (host)."""

from __future__ import annotations

from dataclasses import dataclass

from infoutil_jax import ranges
from infoutil_jax.distillation.engines import Engine
from infoutil_jax.parallel import Devices


@dataclass(frozen=True)
class DistillConfig:
    """How distilling runs.

    Attributes:
        pool: training images of a class that compete (paper: 300); None for all.
        batch_size: images in flight at once on each device. Every batch is filled up to it, so
            that one compilation serves all.
        devices: share each batch (`parallel.devices_of`); None for the first.
        engine: spreads parts of the pool over machines (`Ray`, or a function of yours, see
            `distillation.engines`); None scores here.
        overwrite: replace a distilled set that is already there.
        licence: under which the set may be used, for its manifest and README.md; None says nothing.
        forgotten: training images, by number, that take no part, as if the source did not have
            them; all others keep their numbers, by which random draws are made (see `forget`).
        progress: show a progress line: images a second, the share of time that the host waits for
            the device, and the most memory used; and say once what cannot be resumed after a
            stop, or needs memory that grows with the images. False is silent.
        by_class: images of each class, 1 to `images_per_class`: the first in rank of those that the
            recipe chooses. None: as many of each.

    Raises:
        InputError: a number out of its range.
    """

    pool: int | None = 300
    batch_size: int = 64
    devices: Devices | None = None
    engine: Engine | None = None
    overwrite: bool = False
    licence: str | None = None
    forgotten: tuple[int, ...] = ()
    progress: bool = True
    by_class: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        ranges.check(self)


@dataclass(frozen=True)
class StreamConfig:
    """How a stream runs (`Stream`).

    Attributes:
        name: of what arrives, for the set's manifest and README.md. Of digits and letters ("mnist",
            say) mirror images are not shown to students.
        batch_size: images in flight at once. Every batch is filled up to it, so that one
            compilation serves all.
        licence: as in `DistillConfig`.

    Raises:
        InputError: a number out of its range.
    """

    name: str = "a stream"
    batch_size: int = 64
    licence: str | None = None

    def __post_init__(self) -> None:
        ranges.check(self)
