"""What fixes the shape of a backbone, all but its weights (host)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack


class BackboneOptions(TypedDict, total=False):
    """What can be chosen of a backbone; each has some of these, with defaults of its own."""

    width: int
    """Channels: of every block of a ConvNet, of the first stage of a ResNet."""
    norm: Literal["batch", "instance", "none"]
    """Of a ConvNet."""
    stem: Literal["imagenet", "cifar"] | None
    """Of ResNet and MobileNet-V2; None by the image size."""
    head: Literal["imagenet", "small"] | None
    """Of VGG; None by the image size."""
    dtype: Any
    """Of the computation."""
    remat: bool
    """Computes activations again in the backward pass."""
    dropout: float
    """Of VGG and MobileNet-V2."""
    drop: float
    """Of Swin V2: stochastic depth."""
    patch: int
    """Of Swin V2, in pixels."""
    window: int
    """Of Swin V2, in patches."""


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
        **options: Unpack[BackboneOptions],
    ) -> Architecture:
        """The architecture that `create` makes of these arguments."""
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        pairs = tuple(sorted(options.items()))
        return cls(name, num_classes, (size[0], size[1]), channels, pairs)
