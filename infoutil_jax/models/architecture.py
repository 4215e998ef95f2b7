"""What fixes the shape of a backbone, all but its weights (host)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """A backbone and what it is made for.

    Attributes:
        name: a key of `BACKBONES`.
        num_classes: outputs.
        image_size: height and width of the images in pixels.
        channels: of the images.
        options: the backbone's own, as pairs of name and value, sorted by name.
    """

    name: str
    num_classes: int
    image_size: tuple[int, int]
    channels: int = 3
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        *,
        num_classes: int,
        image_size: int | tuple[int, int],
        channels: int = 3,
        **options: Any,
    ) -> Architecture:
        """The architecture that `create` makes of these arguments."""
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        pairs = tuple(sorted(options.items()))
        return cls(name, num_classes, (size[0], size[1]), channels, pairs)
