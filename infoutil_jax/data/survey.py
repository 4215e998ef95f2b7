"""What a whole set's images have in common, from their headers: size, channels, range. Host."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
from PIL import ImageColor

from infoutil_jax.data.examples import Examples
from infoutil_jax.data.index import Index
from infoutil_jax.data.loading import check
from infoutil_jax.data.pixels import Header, View, read_header
from infoutil_jax.errors import InputError

AUTO_SIZES = (32, 64, 128, 224)

Colour = tuple[int, int, int]
Size = tuple[int, int] | Literal["auto"] | None


@dataclass(frozen=True, eq=False)
class Survey:
    """The headers of a split's images, training first, of those that can be read."""

    train: tuple[Examples, list[Header]]
    test: tuple[Examples, list[Header]]

    @classmethod
    def of(
        cls, train: Examples, test: Examples, index: Index, *, skip_unreadable: bool
    ) -> "Survey":
        """Reads every header that the index does not have, and adds it.

        Raises:
            InputError: one cannot be read, and `skip_unreadable` is not set.
        """
        return cls(*(_headers(part, index, skip_unreadable) for part in (train, test)))

    def headers(self) -> list[Header]:
        """All headers."""
        return self.train[1] + self.test[1]

    def named(self) -> Iterator[tuple[str, Header]]:
        """The id of each image, and its header."""
        for part, headers in (self.train, self.test):
            yield from zip(part.ids, headers, strict=True)

    def size(self, wanted: Size) -> tuple[int, int]:
        """The size to bring images to: as wanted, their common one, or what "auto" chooses.

        Raises:
            InputError: sizes differ, and none is wanted.
        """
        if isinstance(wanted, tuple):
            return wanted
        named = list(self.named())
        first = named[0][1].size
        other = next((one for one in named if one[1].size != first), None)
        if other is None:
            return first
        if wanted == "auto":
            short = float(np.median([min(header.size) for _, header in named]))
            side = max([side for side in AUTO_SIZES if side <= short], default=AUTO_SIZES[0])
            return (side, side)
        height, width = other[1].size
        raise InputError(
            f"images differ in size: {named[0][0]} is {first[0]}x{first[1]}, {other[0]} is "
            f"{height}x{width} (height x width); pass image_size, a side in pixels or 'auto'"
        )

    def channels(self, wanted: int | None) -> int:
        """How many channels images have, or those that are wanted where they are there.

        Raises:
            InputError: a channel is wanted that some image lacks, or images differ in their bands.
        """
        named = sorted(self.named(), key=lambda one: one[1].bands)
        (poorest, fewest), (richest, most) = named[0], named[-1]
        if all(header.picture for _, header in named):
            alpha = any(header.alpha for _, header in named)
            there = (1, 2, 3, 4) if alpha else (1, 3)
            if wanted is None or wanted in there:
                return wanted or most.bands
            has = f"{'colour' if most.bands == 3 else 'grey'} and {'' if alpha else 'no '}alpha"
            raise InputError(
                f"channels is {wanted}, but the images have {has}; "
                f"{', '.join(map(str, there[:-1]))} or {there[-1]} would do"
            )
        if wanted is not None and wanted > fewest.bands:
            raise InputError(
                f"channels is {wanted}, but {poorest} has {fewest.bands} bands; "
                f"1 to {fewest.bands} would do"
            )
        # Of a picture one channel is its grey and not its first band; of two, one would be alpha.
        alike = (wanted == 3) if fewest.picture else wanted is not None
        if fewest.bands != most.bands and not alike:
            first = "3" if fewest.picture else f"1 to {fewest.bands}"
            right = f"of all of them the first {first} can be taken (--channels)"
            if fewest.bands == 1:
                right = "they should have one number of bands"
            raise InputError(
                f"images differ in bands: {poorest} has {fewest.bands}, "
                f"{richest} has {most.bands}; {right}"
            )
        return wanted or most.bands

    def own_channels(self) -> int | None:
        """How many channels images have where none are asked for; None where they differ."""
        try:
            return self.channels(None)
        except InputError:
            return None

    def has_alpha(self, channels: int) -> bool:
        """Whether the last of so many channels is alpha, and not a band like the others."""
        return channels in (2, 4) and all(header.picture for header in self.headers())

    def value_range(self, wanted: tuple[float, float] | None) -> tuple[float, float] | None:
        """The values that become 0 and 255: as wanted, or the extremes of the training images.

        None where all images have 8 bits, and so keep their values. Where there are no training
        images of more than 8 bits, the test images' extremes count.

        Raises:
            InputError: a range is wanted, but all images have 8 bits.
        """
        of_train = [header.values for header in self.train[1] if header.values is not None]
        found = of_train or [header.values for header in self.test[1] if header.values is not None]
        if not found:
            if wanted is not None:
                raise InputError(
                    f"value_range is {wanted}, but all images have 8 bits and keep their values"
                )
            return None
        low, high = min(low for low, _ in found), max(high for _, high in found)
        return wanted or (low, high if high > low else low + 1)

    def notes(self, view: View, ranged: bool, flat: int) -> tuple[str, ...]:
        """What is changed of the images, a sentence each.

        Args:
            view: what they are made into.
            ranged: whether some had more than 8 bits.
            flat: how many that have alpha became one colour.
        """
        headers, notes = self.headers(), []
        if ranged:
            low, high = view.value_range
            wide = [header.values for header in headers if header.values is not None]
            note = f"values {low:.10g} to {high:.10g} become 0 to 255 (--value-range)"
            if beyond := sum(values[0] < low or values[1] > high for values in wide):
                note += f"; {beyond} of {len(headers)} images have values beyond, which are clipped"
            notes.append(note)
            if len(wide) < len(headers):
                notes.append(
                    f"{len(headers) - len(wide)} of {len(headers)} images have 8 bits and keep "
                    "their values"
                )
        if blended := self.blended(view.channels):
            colour = "white" if view.background == (255, 255, 255) else f"{view.background}"
            note = (
                f"{blended} of {len(headers)} images have alpha and are blended on {colour} "
                "(--background; --channels 2 or 4 keeps alpha)"
            )
            if flat:
                note += f"; {flat} of them are of one colour then, which another background mends"
            notes.append(note)
        if several := sum(header.frames for header in headers):
            notes.append(
                f"{several} of {len(headers)} images have several frames; the first one is taken"
            )
        return tuple(notes)

    def blended(self, channels: int) -> int:
        """How many images have alpha that is not kept as a channel."""
        return sum(one.alpha for one in self.headers()) if channels in (1, 3) else 0


def _headers(part: Examples, index: Index, skip_unreadable: bool) -> tuple[Examples, list[Header]]:
    headers = {i: known.header for i, known in index.of(part).items()}
    new: dict[int, Header] = {}
    unread = [i for i in range(len(part.ids)) if i not in headers]
    check(part, read_header, new.__setitem__, unread, threads=4, skip_unreadable=skip_unreadable)
    index.add(part, new)
    headers |= new
    if len(headers) == len(part.ids):
        return part, [headers[i] for i in range(len(part.ids))]
    good = np.array(sorted(headers), np.int64)
    return part.take(good), [headers[int(i)] for i in good]


def wanted_size(image_size: Any) -> Size:
    """Checks what is asked for as `image_size`: (height, width), "auto" or None."""
    if image_size is None:
        return None
    if image_size == "auto":
        return "auto"
    pair = isinstance(image_size, (tuple, list))  # JSON knows lists alone
    sides = tuple(image_size) if pair else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(
            f"image_size is {image_size!r}; it should be a side, (height, width) or 'auto'"
        )
    return sides


def wanted_colour(background: Any) -> Colour:
    """Checks what is asked for as `background`: a name that Pillow knows, or red, green, blue."""
    try:
        if isinstance(background, str) and "," in background and "(" not in background:
            background = [int(part) for part in background.split(",")]
        found = ImageColor.getrgb(background) if isinstance(background, str) else background
        red, green, blue = (int(part) for part in found)
        if all(0 <= part <= 255 for part in (red, green, blue)):
            return red, green, blue
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"background is {background!r}; it should be a name of a colour, or red, green and blue, "
        "0 to 255 each, as 255,255,255"
    )


def wanted_range(value_range: Any) -> tuple[float, float] | None:
    """Checks what is asked for as `value_range`: a lower and a higher number, or None."""
    if value_range is None:
        return None
    try:
        low, high = (float(value) for value in value_range)
        if isfinite(low) and isfinite(high) and low < high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise InputError(f"value_range is {value_range!r}; it should be a number and a higher one")
